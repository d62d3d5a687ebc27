//! `scripts/bench` and `scripts/test` on machines that exist only as folders: every distribution's
//! package manager is a stub that logs its call and puts the files of the packages in place.
#![cfg(unix)]

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{env, fs};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// What the scripts may call besides what a machine is given; a tool missing here is a dependency
/// that a bare machine may lack as well.
const TOOLS: &[&str] = &[
    "cat", "date", "dirname", "env", "grep", "mkdir", "mktemp", "rm", "sed", "sh", "sort", "tr",
    "uniq",
];

const APT: &str = "apt-get -o DPkg::Lock::Timeout=120 install -qq -y --no-install-recommends";

/// Logs the call, then installs what the named packages hold.
const PACKAGE_MANAGER: &str = r#"
echo "${0##*/} $*" >>"$MACHINE/calls"
for package; do
    case $package in
    libvulkan1 | vulkan-loader | vulkan-icd-loader) : >"$MACHINE/root/usr/lib/libvulkan.so.1" ;;
    mesa-vulkan-drivers | vulkan-swrast | mesa-vulkan-swrast | libvulkan_lvp)
        : >"$MACHINE/root/usr/lib/libvulkan_lvp.so"
        echo '{ "ICD": { "library_path": "libvulkan_lvp.so" } }' \
            >"$MACHINE/root/usr/share/vulkan/icd.d/lvp_icd.json" ;;
    gcc) "$MOVE" "$MACHINE/packed/cc" "$MACHINE/bin/cc" ;;
    spirv-tools) "$MOVE" "$MACHINE/packed/spirv-val" "$MACHINE/bin/spirv-val" ;;
    esac
done
"#;

/// Answers as cargo would after a successful build; `cargo test` plays the GPU tests.
const CARGO: &str = r#"
case $1 in
--version) echo "cargo ${CARGO_VERSION:-1.95.0} (stub)" ;;
test) printf "${GPU_TESTS:-}" >>"$FUSEBENCH_TEST_LOG" ;;
esac
[ "$1" != "${BROKEN:-}" ]
"#;

/// fusebench on a machine whose only device is the software one.
const PROGRAM: &str = r#"
case $1 in
devices) [ -e "$MACHINE/root/usr/lib/libvulkan_lvp.so" ] || exit 3 ;;
run) echo "$@"; exit "${RUN_STATUS:-0}" ;;
esac
"#;

struct Machine {
    directory: PathBuf,
    shell: Vec<PathBuf>,
    variables: HashMap<&'static str, String>,
}

impl Machine {
    /// A machine with Rust and a shell, run by root, and nothing else.
    fn bare(name: &str, shell: &[PathBuf], os_release: &str) -> Self {
        let shell_name = shell[0].file_name().unwrap().to_str().unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("setup_scripts-{name}-{shell_name}"));
        let _ = fs::remove_dir_all(&directory);
        let machine = Machine { directory, shell: shell.to_vec(), variables: HashMap::new() };
        for folder in ["bin", "home", "tmp", "root/etc", "root/usr/lib", "target/release"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        fs::create_dir_all(machine.path("root/usr/share/vulkan/icd.d")).unwrap();
        for tool in TOOLS {
            symlink(find(tool).expect(tool), machine.path("bin").join(tool)).unwrap();
        }
        machine.write("calls", "");
        machine.write("root/etc/os-release", os_release);
        machine.stub("bin/uname", "echo Linux");
        machine.stub("bin/id", "echo 0");
        machine.stub("bin/cargo", CARGO);
        machine.stub("bin/rustc", "");
        machine.stub("packed/cc", "echo /usr/lib/crt1.o");
        machine.stub("packed/spirv-val", "");
        machine.stub("target/release/fusebench", PROGRAM);
        for manager in ["apt-get", "dnf", "pacman", "apk", "zypper"] {
            machine.stub(&format!("bin/{manager}"), PACKAGE_MANAGER);
        }
        machine
    }

    /// A Debian where all but the driver is in place.
    fn without_driver(name: &str, shell: &[PathBuf]) -> Self {
        let machine = Machine::bare(name, shell, "ID=debian\n");
        machine.stub("bin/cc", "echo /usr/lib/crt1.o");
        machine.stub("bin/spirv-val", "");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// A stub sees the machine's PATH alone: nothing can reach the real package manager.
    fn stub(&self, name: &str, body: &str) {
        let (machine, mv) = (self.directory.display(), find("mv").unwrap());
        let head = format!("#!/bin/sh\nMACHINE='{machine}' MOVE='{}'", mv.display());
        self.write(name, &format!("{head}\n{body}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn set(&mut self, variable: &'static str, value: impl Into<String>) -> &mut Self {
        self.variables.insert(variable, value.into());
        self
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        Command::new(&self.shell[0])
            .args(&self.shell[1..])
            .arg(Path::new(REPOSITORY).join("scripts").join(script))
            .args(arguments)
            .current_dir(self.path("home"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("FUSEBENCH_SETUP_ROOT", self.path("root"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .envs(&self.variables)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn expect(&self, script: &str, status: i32, message: &str) {
        let output = self.run(script, &[]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{:?}\n{out}{err}", self.shell);
        assert!((out.clone() + &err).contains(message), "no “{message}” in\n{out}{err}");
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn find(tool: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(tool)).find(|it| it.is_file())
}

/// Every shell of this machine that is some system's `sh`: dash is Debian's, bash Fedora's, busybox
/// Alpine's.
fn shells() -> Vec<Vec<PathBuf>> {
    let mut shells: Vec<_> =
        ["dash", "bash"].into_iter().filter_map(find).map(|it| vec![it]).collect();
    shells.extend(find("busybox").map(|it| vec![it, "sh".into()]));
    if shells.is_empty() { vec![vec![find("sh").unwrap()]] } else { shells }
}

#[test]
fn each_distribution_installs_what_it_lacks_and_only_once() {
    let apt = format!("{APT} libvulkan1 mesa-vulkan-drivers gcc libc6-dev spirv-tools");
    let dnf = "dnf install -q -y --setopt=install_weak_deps=False \
               vulkan-loader mesa-vulkan-drivers gcc spirv-tools";
    let pacman = "pacman -Syu --needed --noconfirm \
                  vulkan-icd-loader vulkan-swrast gcc spirv-tools";
    let apk = "apk add --no-cache vulkan-loader mesa-vulkan-swrast gcc musl-dev spirv-tools";
    let zypper = "zypper --non-interactive install --no-recommends \
                  libvulkan1 libvulkan_lvp gcc spirv-tools";
    let cases = [
        ("ID=debian", vec!["apt-get update -qq", &apt]),
        ("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian", vec!["apt-get update -qq", &apt]),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", vec!["apt-get update -qq", &apt]),
        ("ID=fedora", vec![dnf]),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", vec![dnf]),
        ("ID=arch", vec![pacman]),
        ("ID=alpine", vec![apk]),
        ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"", vec![zypper]),
    ];
    for ((os_release, expected), shell) in cases.iter().zip(shells().iter().cycle()) {
        let machine = Machine::bare("once", shell, os_release);
        machine.expect("test", 0, "no Vulkan driver is installed");
        assert_eq!(&machine.calls(), expected, "{os_release}");

        let start = Instant::now();
        machine.expect("test", 0, "GPU tests: 0 ran");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(&machine.calls(), expected, "the second run must install nothing");
    }
}

/// The counterpart of the test above: the log does show a second installation where there is one.
#[test]
fn a_driver_that_vanished_is_installed_again() {
    for shell in shells() {
        let machine = Machine::without_driver("again", &shell);
        let expected =
            ["apt-get update -qq".to_owned(), format!("{APT} libvulkan1 mesa-vulkan-drivers")];
        machine.expect("bench", 0, "running");
        assert_eq!(machine.calls(), expected);
        machine.remove("root/usr/lib/libvulkan_lvp.so");
        machine.expect("bench", 0, "running");
        assert_eq!(machine.calls(), [expected.clone(), expected].concat());
    }
}

#[test]
fn arch_is_upgraded_only_where_it_has_no_package_list() {
    for shell in shells() {
        let machine = Machine::bare("arch", &shell, "ID=arch\n");
        machine.write("root/var/lib/pacman/sync/core.db", "");
        machine.expect("bench", 0, "");
        let expected = "pacman -S --needed --noconfirm vulkan-icd-loader vulkan-swrast gcc";
        assert_eq!(machine.calls(), [expected]);
    }
}

#[test]
fn sudo_or_doas_is_asked_only_by_those_who_are_not_root() {
    let elevate = r#"echo "${0##*/}" >>"$MACHINE/calls"; exec "$@""#;
    for shell in shells() {
        let machine = Machine::without_driver("sudo", &shell);
        machine.stub("bin/sudo", elevate);
        machine.stub("bin/doas", elevate);
        let first_call = |user: &str| {
            machine.stub("bin/id", &format!("echo {user}"));
            let _ = fs::remove_file(machine.path("root/usr/lib/libvulkan_lvp.so"));
            machine.write("calls", "");
            machine.expect("bench", 0, "running");
            machine.calls()[0].clone()
        };
        assert_eq!(first_call("0"), "apt-get update -qq");
        assert_eq!(first_call("1000"), "sudo");
        machine.remove("bin/sudo");
        assert_eq!(first_call("1000"), "doas");

        machine.remove("bin/doas");
        machine.remove("root/usr/lib/libvulkan_lvp.so");
        machine.write("calls", "");
        machine.expect("bench", 3, "as root, run: apt-get update");
        assert!(machine.calls().is_empty());
    }
}

#[test]
fn a_machine_that_cannot_be_set_up_is_told_what_to_do() {
    for shell in shells() {
        let mut machine = Machine::bare("hopeless", &shell, "ID=plan9\n");
        machine.expect("bench", 3, "libvulkan1 mesa-vulkan-drivers gcc libc6-dev");
        machine.remove("root/etc/os-release");
        machine.expect("bench", 3, "unknown distribution");
        assert!(machine.calls().is_empty());

        machine.write("root/etc/os-release", "ID=fedora\n");
        machine.stub("bin/dnf", "echo 'mirror on fire'; exit 1");
        machine.expect("bench", 3, "mirror on fire");
        machine.stub("bin/dnf", "");
        machine.expect("bench", 3, "the packages are installed, but still: no Vulkan driver");
        machine.set("FUSEBENCH_NO_SETUP", "1").expect("bench", 0, "no Vulkan driver is installed");

        machine.set("CARGO_VERSION", "1.63.0").expect("bench", 2, "1.63.0 (stub) found, 1.");
        machine.remove("bin/cargo");
        machine.expect("bench", 2, "https://rustup.rs");
    }
}

#[test]
fn other_systems_bring_their_driver() {
    for shell in shells() {
        for system in ["Darwin", "MINGW64_NT-10.0", "FreeBSD"] {
            let machine = Machine::bare("system", &shell, "");
            machine.stub("bin/uname", &format!("echo {system}"));
            machine.expect("bench", 0, "run -o");
            assert!(machine.calls().is_empty());
        }
    }
}

/// A manifest counts when the library it names exists, wherever the loader would look for both.
#[test]
fn a_driver_is_a_manifest_whose_library_exists() {
    let usual = "root/usr/share/vulkan/icd.d/x.json";
    let cases = [
        (usual, "/opt/x.so", "root/opt/x.so"),
        (usual, "../../x.so", "root/usr/share/vulkan/icd.d/../../x.so"),
        (usual, "libx.so", "root/usr/lib64/libx.so"),
        (usual, "libx.so", "root/usr/lib/quad-linux-gnu/libx.so"),
        ("root/etc/vulkan/icd.d/x.json", "libx.so", "root/usr/lib/libx.so"),
        ("root/usr/local/share/vulkan/icd.d/x.json", "libx.so", "root/usr/local/lib/libx.so"),
        ("home/.local/share/vulkan/icd.d/x.json", "/opt/x.so", "root/opt/x.so"),
    ];
    let ld_conf = "# Multiarch support\n/usr/lib/quad-linux-gnu\n";
    for ((manifest, named, library), shell) in cases.into_iter().zip(shells().iter().cycle()) {
        let machine = Machine::without_driver("manifest", shell);
        machine.stub("target/release/fusebench", "exit 0");
        machine.write("root/usr/lib/libvulkan.so.1", "");
        machine.write("root/etc/ld.so.conf.d/quad.conf", ld_conf);
        machine.write(manifest, &format!("{{\n  \"ICD\": {{ \"library_path\" : \"{named}\" }} }}"));
        machine.write(library, "");
        machine.expect("bench", 0, "");
        assert!(machine.calls().is_empty(), "{manifest} {named}: {:?}", machine.calls());

        machine.remove(library);
        machine.expect("bench", 0, "no Vulkan driver");
        assert_eq!(machine.calls().len(), 2, "{manifest} without {library}");
    }
}

#[test]
fn a_list_of_drivers_in_the_environment_is_final() {
    for shell in shells() {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            let mut machine = Machine::without_driver("list", &shell);
            machine.expect("bench", 0, "running");
            let calls = machine.calls();
            let driver = machine.path("root/usr/share/vulkan/icd.d/lvp_icd.json");
            machine.set(variable, format!("/none.json:{}", driver.display()));
            machine.expect("bench", 0, "");
            machine.set(variable, "/none.json").expect("bench", 3, "correct or unset it");
            assert_eq!(machine.calls(), calls);
        }
    }
}

/// Mesa's driver for a card that is not there looks like a driver until a program asks it.
#[test]
fn a_driver_without_its_device_gets_the_software_driver() {
    for shell in shells() {
        let machine = Machine::without_driver("idle", &shell);
        machine.write("root/usr/lib/libvulkan.so.1", "");
        machine.write("root/usr/lib/libvulkan_radeon.so", "");
        let manifest = r#"{"ICD": {"library_path": "libvulkan_radeon.so"}}"#;
        machine.write("root/usr/share/vulkan/icd.d/radeon_icd.json", manifest);
        machine.expect("bench", 0, "no Vulkan device answers");
        assert_eq!(machine.calls().len(), 2);
        machine.expect("bench", 0, "run -o");
        assert_eq!(machine.calls().len(), 2);
    }
}

#[test]
fn bench_passes_arguments_and_exit_code_through() {
    for shell in shells() {
        let mut machine = Machine::without_driver("bench", &shell);
        let stdout = |machine: &Machine, arguments: &[&str]| {
            text(&machine.run("bench", arguments).stdout).trim_end().to_owned()
        };
        let local = format!("run -o {REPOSITORY}/results/local.json");
        assert_eq!(stdout(&machine, &[]), local);
        assert_eq!(
            stdout(&machine, &["--quick", "two words"]),
            format!("{local} --quick two words")
        );
        assert_eq!(stdout(&machine, &["-o", "-"]), "run -o -");
        assert_eq!(stdout(&machine, &["-ofile"]), "run -ofile");
        machine.set("FUSEBENCH_OUTPUT", "file");
        assert_eq!(stdout(&machine, &["x"]), "run x");
        machine.set("RUN_STATUS", "130").expect("bench", 130, "run");
        machine.set("BROKEN", "build").expect("bench", 2, "the build failed");
    }
}

#[test]
fn test_counts_gpu_tests_and_names_what_failed() {
    let log = "ran a\\nran b\\nskipped d: no adapter\\nskipped e::f: x: f16\\nskipped g: x: f16\\n";
    let oracle = "ran a\\nskipped b: run scripts/oracles\\n";
    for shell in shells() {
        let mut machine = Machine::without_driver("count", &shell);
        machine.expect("test", 0, "GPU tests: 0 ran, 0 skipped");
        machine.set("CI", "false").expect("test", 0, "GPU tests: 0 ran, 0 skipped");
        machine.set("CI", "true").expect("test", 1, "no GPU test ran");
        machine.set("GPU_TESTS", "ran a\\n").expect("test", 0, "GPU tests: 2 ran, 0 skipped");
        machine.set("GPU_TESTS", oracle).expect("test", 1, "for want of an oracle");
        machine.set("GPU_TESTS", log).expect("test", 1, "for want of an adapter");
        machine.set("CI", "").expect("test", 0, "GPU tests: 4 ran, 6 skipped");
        machine.expect("test", 0, "4 x: f16");
        machine.set("BROKEN", "clippy").expect("test", 1, "lints FAILED");
        assert_eq!(fs::read_dir(machine.path("tmp")).unwrap().count(), 0, "the log must not stay");
    }
}
