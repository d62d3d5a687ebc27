//! `ci/recipe.sh` in a repository of its own: what slows down or is wrong is red, what changes
//! nothing is green.

#![cfg(all(unix, feature = "cli"))]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{has_adapter, ran};
use fusebench::kernels::ALL;

/// Some milliseconds on a CPU driver, long against what else a sample holds.
const CELL: &str = "^rms_norm/thread/f32/r577d1024$";
/// The second of two passes, as the strategy runs it where d % 8 = 0.
const WRITE: &str = "\
    for (var i = 0u; i < eighths; i++) {
        let v = from_storage8(x8[base + i]);
        let gain = from_storage8(g8[i]);
        y4[2u * (base + i)] = to_storage4(v[0] * scale * gain[0]);
        y4[2u * (base + i) + 1u] = to_storage4(v[1] * scale * gain[1]);
    }";

/// A repository with one kernel, its first commit tagged `base`.
struct Repository {
    folder: tempfile::TempDir,
    shader: PathBuf,
    text: String,
}

impl Repository {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = ALL.iter().find(|entry| entry.name == "rms_norm").expect("in the registry");
        let shader = folder.path().join(format!("kernels/{}.wgsl", entry.path()));
        fs::create_dir_all(shader.parent().expect("a family")).expect("a folder");
        fs::write(&shader, entry.wgsl).expect("a shader");
        let repository = Repository { folder, shader, text: entry.wgsl.to_owned() };
        repository.git(&["init", "--quiet"]);
        repository.commit("base");
        repository
    }

    fn git(&self, arguments: &[&str]) {
        let named = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
        let out = Command::new("git")
            .args(named)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("git");
        assert!(out.status.success(), "{}", text(&out));
    }

    fn commit(&self, tag: &str) {
        self.git(&["add", "kernels"]);
        self.git(&["commit", "--quiet", "-m", tag]);
        self.git(&["tag", tag]);
    }

    /// The base with one text replaced, as a commit of its own.
    fn change(&self, tag: &str, from: &str, to: &str) {
        let changed = self.text.replace(from, to);
        assert_ne!(changed, self.text, "the shader says `{from}`");
        fs::write(&self.shader, changed).expect("a shader");
        self.commit(tag);
    }

    fn recipe(&self, base: &str, head: &str, program: &str) -> Output {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/recipe.sh");
        Command::new("sh")
            .arg(recipe)
            .args([base, head, CELL])
            .current_dir(self.folder.path())
            .env("FUSEBENCH", program)
            // There is no such file.
            .env("FUSEBENCH_NOISE", self.folder.path().join("noise.json"))
            .output()
            .expect("a shell")
    }

    fn compare(&self, head: &str) -> Output {
        self.recipe("base", head, env!("CARGO_BIN_EXE_fusebench"))
    }

    fn result(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(".fusebench/out").join(name)).ok()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn a_slow_down_of_a_tenth_is_red_once_it_is_found_again() {
    let test = "a_slow_down_of_a_tenth_is_red_once_it_is_found_again";
    if !has_adapter(test) {
        return;
    }
    let repository = Repository::new();
    // A fifth of the second of two passes twice.
    let again = WRITE.replace("i < eighths", "i < eighths / 5u");
    repository.change("slow", WRITE, &format!("{again}\n    {WRITE}"));
    let out = repository.compare("slow");
    let comment = repository.result("comment.md").unwrap_or_default();
    // Where other programs take the cores the first look may not suffice; then nothing may be said.
    if comment.contains("UNCLEAR") {
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        return common::skipped(test, "the machine is too busy to tell a tenth");
    }
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(comment.starts_with("<!-- fusebench -->\n") && comment.contains("SLOWER"), "{comment}");
    let again = repository.result("confirmed.json").expect("measured again");
    assert!(again.contains("\"reason\": \"confirmed\""), "{again}");
    let junit = repository.result("junit.xml").expect("a test report");
    assert!(junit.contains("PerformanceRegression"), "{junit}");
    ran(test);
}

#[test]
fn an_accuracy_fault_is_red_at_once() {
    let test = "an_accuracy_fault_is_red_at_once";
    if !has_adapter(test) {
        return;
    }
    let repository = Repository::new();
    repository.change("wrong", WRITE, &WRITE.replace("* scale", "* 1.01 * scale"));
    let out = repository.compare("wrong");
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let comment = repository.result("comment.md").expect("a comment");
    assert!(comment.contains("WRONG"), "{comment}");
    assert_eq!(repository.result("confirmed.json"), None, "nothing to measure again");
    assert!(repository.result("junit.xml").expect("a test report").contains("WrongResult"));
    ran(test);
}

#[test]
fn a_change_of_words_is_green() {
    let test = "a_change_of_words_is_green";
    if !has_adapter(test) {
        return;
    }
    let repository = Repository::new();
    repository.change("words", "// One invocation a row", "// One invocation for each row");
    let out = repository.compare("words");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let junit = repository.result("junit.xml").expect("a test report");
    assert!(junit.contains("failures=\"0\" errors=\"0\""), "{junit}");
    ran(test);
}

#[test]
fn what_cannot_be_compared_says_so_and_still_leaves_a_comment() {
    let repository = Repository::new();
    let out = repository.recipe("nothing", "base", "true");
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("no revision nothing"), "{}", text(&out));
    let out = repository.recipe("base", "base", "false");
    assert_eq!(out.status.code(), Some(1), "the program's own code: {}", text(&out));
    let comment = repository.result("comment.md").expect("a comment");
    assert!(comment.contains("nothing was compared (exit code 1)"), "{comment}");
}

/// A stand-in for the program and for cargo that notes what it is asked.
const STUB: &str = "#!/bin/sh\necho \"$0 $*\" >>\"$CALLS\"\n";

#[test]
fn a_change_beyond_the_shaders_builds_each_revision_once() {
    use std::os::unix::fs::PermissionsExt;
    let repository = Repository::new();
    fs::write(repository.folder.path().join("program.rs"), "").expect("a file");
    repository.git(&["add", "program.rs"]);
    repository.commit("program");
    let tools = tempfile::tempdir().expect("a folder");
    let path = |name: &str| tools.path().join(name);
    let build = "mkdir -p \"$CARGO_TARGET_DIR/release\"\n\
                 cp \"$STUB\" \"$CARGO_TARGET_DIR/release/fusebench\"\n";
    for (name, text) in [("stub", STUB.to_owned()), ("cargo", format!("{STUB}{build}"))] {
        fs::write(path(name), text).expect("a stub");
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).expect("a stub");
    }
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/recipe.sh");
    let run = || {
        fs::write(path("calls"), "").expect("a file");
        let search = format!("{}:{}", tools.path().display(), std::env::var("PATH").expect("one"));
        let out = Command::new("sh")
            .arg(&recipe)
            .args(["base", "program", "--quick"])
            .current_dir(repository.folder.path())
            .env("PATH", search)
            .env("CALLS", path("calls"))
            .env("STUB", path("stub"))
            .env_remove("FUSEBENCH")
            .output()
            .expect("a shell");
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        fs::read_to_string(path("calls")).expect("a file")
    };
    let first = run();
    assert_eq!(first.matches("cargo build --release --locked").count(), 2, "{first}");
    let compared = first.lines().find(|line| line.contains(" ab ")).expect("a comparison");
    let programs = compared.matches("/.fusebench/cache/fusebench-").count();
    assert_eq!(programs, 3, "itself and both sides: {compared}");
    assert!(compared.contains(" --quick -o .fusebench/out/comparison.json"), "{compared}");
    let second = run();
    assert_eq!(second.matches("cargo").count(), 0, "both are kept: {second}");
}
