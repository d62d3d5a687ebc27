//! `ab` and `selftest` as a user meets them: verdicts, exit codes, messages, files.

#![cfg(all(feature = "cli", unix))]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{ends, has_adapter, ran};
use fusebench::kernels::ALL;
use serde_json::Value;

/// A cell that takes microseconds.
const ID: &str = "layer_norm/thread/f32/r7d31";
const SMALL: &str = "^layer_norm/thread/f32/r7d31$";

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_fusebench")
}

fn fusebench(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    // Nothing that was learnt on this machine counts; there is no such file.
    command.env("FUSEBENCH_NOISE", concat!(env!("CARGO_TARGET_TMPDIR"), "/no/noise.json"));
    command
}

/// `ab` of one small cell without a control arm.
fn ab(base: &str, head: &str, more: &[&str]) -> Output {
    let always = ["ab", "--base", base, "--head", head, "--preset", "smoke", "--quick"];
    let mut command = fusebench(&always);
    if !more.contains(&"--control") {
        command.args(["--control", "0"]);
    }
    command.args(more).arg(SMALL).output().expect("the program starts")
}

/// A folder with the shader of the small cell, put through `edit`.
fn folder(edit: impl Fn(&str) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), &edit(layer_norm()));
    dir
}

fn put(dir: &Path, shader: &str) {
    fs::create_dir_all(dir.join("normalize")).expect("a folder");
    fs::write(dir.join("normalize/layer_norm.wgsl"), shader).expect("a file");
}

fn layer_norm() -> &'static str {
    ALL.iter().find(|entry| entry.name == "layer_norm").expect("a kernel").wgsl
}

fn commented(shader: &str) -> String {
    format!("{shader}\n// Nothing changed.\n")
}

/// The variance in the place of its inverse root, in every strategy: wrong, and it still compiles.
fn corrupted(shader: &str) -> String {
    assert!(shader.contains("inverseSqrt("), "what is corrupted");
    shader.replace("inverseSqrt(", "abs(")
}

fn rows(file: &Path) -> (Value, Vec<Value>) {
    let found: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let rows = found["rows"].as_array().expect("rows").clone();
    (found, rows)
}

fn path(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().expect("UTF-8")
}

#[test]
fn a_slow_down_is_found_and_confirmed_and_does_not_come_back_without_it() {
    const TEST: &str = "a_slow_down_is_found_and_confirmed_and_does_not_come_back_without_it";
    if !has_adapter(TEST) {
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    let file = out.path().join("ab.json");
    let file_name = file.to_str().unwrap();
    let head = folder(commented);
    let slowed = ab("builtin", path(&head), &["--inject", "100", "-o", file_name]);
    ends(&slowed, 1, &["SLOWER", ID, "1 cell: 1 SLOWER"]);
    let (whole, found) = rows(&file);
    assert_eq!((whole["complete"].as_bool(), found.len()), (Some(true), 1));
    assert_eq!(found[0]["verdict"], "SLOWER");
    assert!(found[0]["ratio"]["low"].as_f64().unwrap() > 1.2, "{}", found[0]["ratio"]);
    assert_eq!(found[0]["injected"], 1.0);
    let told = fs::read_to_string(&file).unwrap();
    assert!(!told.contains(path(&head)) && !told.contains(file_name), "a path in the file");

    let again = ab("builtin", path(&head), &["--inject", "100", "--confirm", file_name]);
    ends(&again, 1, &["SLOWER", "found again", "confirms"]);
    let other = ab("builtin", path(&head), &["--confirm", file_name]);
    ends(&other, 0, &["UNCLEAR", "SLOWER before, not again now"]);
    let silenced = ["--inject", "100", "--fail-on", "none", "--format", "markdown"];
    ends(&ab("builtin", path(&head), &silenced), 0, &["### fusebench ab", "**SLOWER**"]);
    ran(TEST);
}

#[test]
fn the_same_shader_needs_no_measuring() {
    const TEST: &str = "the_same_shader_needs_no_measuring";
    if !has_adapter(TEST) {
        return;
    }
    let same = folder(str::to_owned);
    let output = ab("builtin", path(&same), &["--format", "json"]);
    ends(&output, 0, &[]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = &found["rows"][0];
    assert_eq!((&row["verdict"], &row["reason"]), (&"SAME".into(), &"identical".into()));
    assert!(row.get("blocks").is_none() && row.get("ratio").is_none());
    ran(TEST);
}

#[test]
fn a_wrong_side_gets_no_time() {
    const TEST: &str = "a_wrong_side_gets_no_time";
    if !has_adapter(TEST) {
        return;
    }
    let (wrong, broken) = (folder(corrupted), folder(|_| "not WGSL".to_owned()));
    let right = folder(commented);
    for head in [&wrong, &broken] {
        let output = ab(path(&right), path(head), &["--format", "json"]);
        ends(&output, 1, &[]);
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let row = &found["rows"][0];
        assert_eq!((&row["verdict"], &row["reason"]), (&"WRONG".into(), &"failed".into()));
        assert!(row.get("head_median").is_none() && row.get("blocks").is_none());
    }
    let base = ab(path(&wrong), path(&right), &["--fail-on", "wrong,slower,unclear"]);
    ends(&base, 5, &["UNCLEAR", "the base gives no right answer"]);
    ends(&ab(path(&wrong), path(&right), &[]), 0, &["UNCLEAR", "fusebench check"]);
    ran(TEST);
}

#[test]
fn a_device_lost_under_the_head_costs_that_row() {
    const TEST: &str = "a_device_lost_under_the_head_costs_that_row";
    if !has_adapter(TEST) {
        return;
    }
    let head = folder(commented);
    for (side, code, says) in [("head", 1, "WRONG"), ("base", 0, "UNCLEAR")] {
        let arguments =
            ["ab", "--base", "builtin", "--head", path(&head), "--preset", "smoke", "--quick"];
        let mut command = fusebench(&arguments);
        command.args(["--control", "0", SMALL]);
        command.env("FUSEBENCH_TEST_LOSE_DEVICE", format!("{ID}@{side}"));
        ends(&command.output().expect("the program starts"), code, &[says, "lost"]);
    }
    ran(TEST);
}

#[test]
fn sides_that_are_none_are_usage_errors() {
    let right = folder(commented);
    let nothing = tempfile::tempdir().expect("a folder");
    let says = ["--base", "no folder, no file and no git revision"];
    ends(&ab("no-such-revision", "builtin", &[]), 2, &says);
    ends(&ab("builtin", path(&nothing), &[]), 2, &["--head", "no .wgsl file"]);
    fs::create_dir(nothing.path().join("normalize")).expect("a folder");
    fs::write(nothing.path().join("normalize/layernorm.wgsl"), "").expect("a file");
    let says = ["--head", "matches no kernel", "normalize/layer_norm"];
    ends(&ab("builtin", path(&nothing), &[]), 2, &says);
    ends(&ab("/bin/true", "/bin/true", &[]), 2, &["/bin/true", "no fusebench binary"]);
    ends(&ab("/bin/true", path(&right), &[]), 2, &["--base is a program"]);
    ends(&ab("builtin", path(&right), &["--inject", "0"]), 2, &["above 0"]);
    ends(&ab("builtin", path(&right), &["--control", "2"]), 2, &["from 0 to 1"]);
    let confirm = ["--confirm", "/nonexistent.json"];
    ends(&ab("builtin", path(&right), &confirm), 2, &["--confirm", "/nonexistent.json"]);
}

#[test]
fn sides_without_a_cell_in_common_compare_nothing() {
    let other = tempfile::tempdir().expect("a folder");
    fs::create_dir(other.path().join("normalize")).expect("a folder");
    let softmax = ALL.iter().find(|entry| entry.name == "softmax").expect("a kernel");
    fs::write(other.path().join("normalize/softmax.wgsl"), softmax.wgsl).expect("a file");
    let right = folder(commented);
    ends(&ab(path(&other), path(&right), &[]), 4, &["no cell is on both sides"]);
}

#[test]
fn a_pipeline_is_compared_as_a_whole() {
    const TEST: &str = "a_pipeline_is_compared_as_a_whole";
    if !has_adapter(TEST) {
        return;
    }
    let pipelines = "^pipeline_imagebind_contrastive/infonce/(f32|i8)/";
    let compare = |head: &tempfile::TempDir, more: &[&str]| {
        let sides = ["ab", "--base", "builtin", "--head", path(head), "--preset", "smoke"];
        let mut command = fusebench(&sides);
        command.args(["--quick", "--control", "0", "--format", "json", pipelines]).args(more);
        let output = command.output().expect("the program starts");
        let found = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        (output, found["rows"].as_array().cloned().unwrap_or_default())
    };
    // One stage of many has another text, and all of them are slowed down.
    let (output, rows) = compare(&folder(commented), &["--inject", "100"]);
    ends(&output, 1, &[]);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((&row["verdict"], &row["family"]), (&"SLOWER".into(), &"pipeline".into()));
        assert!(row.get("accuracy_changed").is_none(), "{row}");
    }
    let (output, rows) = compare(&folder(str::to_owned), &[]);
    ends(&output, 0, &[]);
    assert!(rows.len() == 2 && rows.iter().all(|row| row["reason"] == "identical"), "{rows:?}");
    let (output, rows) = compare(&folder(corrupted), &[]);
    ends(&output, 1, &[]);
    for row in &rows {
        let why = row["why"].as_str().unwrap_or_default();
        assert!(row["verdict"] == "WRONG" && why.contains("stage `normalise "), "{row}");
    }
    // A folder without any of their kernels has none of them.
    let other = tempfile::tempdir().expect("a folder");
    fs::create_dir(other.path().join("normalize")).expect("a folder");
    let softmax = ALL.iter().find(|entry| entry.name == "softmax").expect("a kernel");
    fs::write(other.path().join("normalize/softmax.wgsl"), softmax.wgsl).expect("a file");
    ends(&compare(&other, &[]).0, 4, &["no cell is on both sides"]);
    ran(TEST);
}

#[test]
fn a_revision_is_compared_with_the_shaders_it_had() {
    const TEST: &str = "a_revision_is_compared_with_the_shaders_it_had";
    if !has_adapter(TEST) {
        return;
    }
    let repository = tempfile::tempdir().expect("a folder");
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let mut command = Command::new("git");
        command.current_dir(repository.path()).args(who).args(arguments);
        assert!(command.output().expect("git").status.success(), "{arguments:?}");
    };
    git(&["init", "--quiet"]);
    put(&repository.path().join("kernels"), &corrupted(layer_norm()));
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "wrong"]);
    put(&repository.path().join("kernels"), &commented(layer_norm()));
    git(&["commit", "--quiet", "-am", "right"]);
    let run = |base: &str, head: &str| {
        let mut command = fusebench(&["ab", "--base", base, "--head", head]);
        command.current_dir(repository.path());
        command.args(["--preset", "smoke", "--quick", "--control", "0", SMALL]);
        command.output().expect("the program starts")
    };
    ends(&run("HEAD~1", "HEAD"), 0, &["revision", "UNCLEAR", "the base gives no right answer"]);
    ends(&run("HEAD", "HEAD~1"), 1, &["WRONG"]);
    ends(&run("HEAD", "kernels"), 0, &["SAME", "the same shader"]);
    ends(&run("HEAD~7", "HEAD"), 2, &["HEAD~7", "git says"]);
    ran(TEST);
}

/// A program that stands between the supervisor and a worker.
fn wrapper(dir: &Path, worker: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = worker ]; then {worker}; else exec '{}' \"$@\"; fi\n",
        program()
    );
    let file = dir.join("other-fusebench");
    fs::write(&file, script).expect("a script");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
    file
}

#[test]
fn two_programs_are_compared_in_workers_of_their_own() {
    const TEST: &str = "two_programs_are_compared_in_workers_of_their_own";
    if !has_adapter(TEST) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let other = wrapper(dir.path(), &format!("exec '{}' worker", program()));
    let other = other.to_str().unwrap();
    let more = ["--inject", "100", "--control", "1", "--format", "json"];
    let output = ab(program(), other, &more);
    ends(&output, 1, &[]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["rows"][0]["verdict"], "SLOWER");
    assert_eq!((&found["base"]["kind"], &found["control"]["n"]), (&"binary".into(), &1.into()));
    ran(TEST);
}

#[test]
fn a_program_of_another_protocol_is_refused() {
    const TEST: &str = "a_program_of_another_protocol_is_refused";
    if !has_adapter(TEST) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let swap = "sed -u 's/\"protocol\":[0-9]*/\"protocol\":1/'";
    let other = wrapper(dir.path(), &format!("{swap} | '{}' worker", program()));
    let output = ab(program(), other.to_str().unwrap(), &[]);
    ends(&output, 2, &["other-fusebench", "protocol", "not 1"]);
    ran(TEST);
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    const TEST: &str = "an_interrupt_keeps_what_was_measured";
    if !has_adapter(TEST) {
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    let (file, head) = (out.path().join("ab.json"), folder(commented));
    let arguments = ["ab", "--base", "builtin", "--head", path(&head), "--preset", "smoke"];
    let mut command = fusebench(&arguments);
    command.args(["--control", "0", "-o", file.to_str().unwrap(), "layer_norm/thread/f32"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let partial = out.path().join("ab.json.partial.jsonl");
    // The header is written before anything is verified.
    let started = std::time::Instant::now();
    while fs::read_to_string(&partial).unwrap_or_default().is_empty() {
        assert!(started.elapsed().as_secs() < 60, "no header");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill").success());
    let output = child.wait_with_output().expect("it ends");
    ends(&output, 130, &["incomplete"]);
    let (whole, found) = rows(&file);
    assert_eq!(whole["complete"], false);
    assert!(found.iter().any(|row| row["reason"] == "interrupted"), "{found:?}");
    assert!(!partial.exists());
    ran(TEST);
}

#[test]
fn a_selftest_measures_everything_against_itself() {
    const TEST: &str = "a_selftest_measures_everything_against_itself";
    if !has_adapter(TEST) {
        return;
    }
    let kept = tempfile::tempdir().expect("a folder");
    let run = |more: &[&str]| {
        let mut command = fusebench(&["selftest", "--preset", "smoke", "--quick", SMALL]);
        command.env("FUSEBENCH_NOISE", kept.path().join("noise.json"));
        command.args(["--format", "json"]).args(more).output().expect("the program starts")
    };
    let output = run(&[]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["kind"], &found["control"]["n"]), (&"selftest".into(), &1.into()));
    assert_eq!(found["rows"][0]["blocks"].as_array().map(Vec::len), Some(50));
    // One cell alone cannot condemn a machine.
    ends(&output, 0, &[]);
    let found: Value = serde_json::from_slice(&run(&["--inject", "100"]).stdout).expect("JSON");
    assert_eq!(found["control"]["verdicts"], 1);
    assert_eq!(found["rows"][0]["verdict"], "SLOWER");
    ran(TEST);
}
