//! What may happen to a run from outside and below: killed workers, endless shaders, Ctrl-C.

#![cfg(all(feature = "cli", target_os = "linux"))]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{has_adapter, ran, skipped};
use fusebench::kernels::ALL;
use serde_json::Value;

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_fusebench"))
        .args(arguments)
        // Nothing that was tuned on this machine.
        .env("FUSEBENCH_TUNING", "/nonexistent/tuning.json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("kill exists").success());
}

/// The worker of a supervisor, once there is one other than `not`.
fn worker(supervisor: &Child, not: Option<u32>) -> u32 {
    let pid = supervisor.id();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        let children = fs::read_to_string(&path).unwrap_or_default();
        let found = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        if let Some(pid) = found.into_iter().find(|pid| Some(*pid) != not) {
            return pid;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("no worker started");
}

/// Waits until the partial file holds the header and `rows` rows.
fn wait_for_rows(file: &Path, rows: usize) {
    let partial = format!("{}.partial.jsonl", file.display());
    let started = Instant::now();
    while fs::read_to_string(&partial).unwrap_or_default().lines().count() <= rows {
        assert!(started.elapsed() < Duration::from_secs(60), "no row {rows} in {partial}");
        sleep(Duration::from_millis(5));
    }
}

fn finish(child: Child) -> Output {
    child.wait_with_output().expect("it ends")
}

fn rows(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("a result file")).expect("JSON")
}

fn with_status<'a>(run: &'a Value, status: &str) -> Vec<&'a Value> {
    let rows = run["rows"].as_array().expect("rows");
    rows.iter().filter(|row| row["status"] == status).collect()
}

#[test]
fn a_worker_killed_from_outside_costs_one_row() {
    let test = "a_worker_killed_from_outside_costs_one_row";
    if !has_adapter(test) {
        return;
    }
    for (name, word) in [("-KILL", "SIGKILL"), ("-SEGV", "SIGSEGV")] {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("out.json");
        let path = file.to_str().expect("UTF-8");
        let filter = "^(layer_norm|rms_norm)/thread/f32";
        let run = ["run", filter, "--preset", "smoke", "--max-time", "0.3", "-o", path];
        let child = start(&run);
        wait_for_rows(&file, 2);
        signal(worker(&child, None), name);
        let out = finish(child);
        assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
        let run = rows(&file);
        let errors = with_status(&run, "error");
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert!(errors[0]["reason"].as_str().unwrap().contains(word), "{}", errors[0]["reason"]);
        assert!(with_status(&run, "ok").len() > 10 && run["complete"] == true);
    }
    ran(test);
}

#[test]
fn a_device_lost_inside_a_worker_costs_one_row() {
    let test = "a_device_lost_inside_a_worker_costs_one_row";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.json");
    let path = file.to_str().expect("UTF-8");
    let id = "layer_norm/thread/f32/r7d31";
    let out = Command::new(env!("CARGO_BIN_EXE_fusebench"))
        .args([
            "run",
            "^layer_norm/thread/f32",
            "--preset",
            "smoke",
            "--max-time",
            "0.3",
            "-o",
            path,
        ])
        .env("FUSEBENCH_TEST_LOSE_DEVICE", id)
        .output()
        .expect("the program starts");
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let run = rows(&file);
    let errors = with_status(&run, "error");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["id"], id);
    assert!(errors[0]["reason"].as_str().unwrap().contains("device was lost"), "{:?}", errors[0]);
    assert!(with_status(&run, "ok").len() > 5 && run["complete"] == true);
    ran(test);
}

#[test]
fn three_workers_lost_in_a_row_end_the_run_with_the_rows_so_far() {
    let test = "three_workers_lost_in_a_row_end_the_run_with_the_rows_so_far";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.json");
    let path = file.to_str().expect("UTF-8");
    let run = ["run", "^layer_norm/thread/f32", "--preset", "smoke", "--max-time", "4", "-o", path];
    let child = start(&run);
    wait_for_rows(&file, 1);
    let mut last = None;
    for lost in 1..=3 {
        let pid = worker(&child, last);
        signal(pid, "-KILL");
        last = Some(pid);
        // The third ends the run, which takes the partial file away.
        if lost < 3 {
            wait_for_rows(&file, 1 + lost);
        }
    }
    let out = finish(child);
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let run = rows(&file);
    assert_eq!((with_status(&run, "error").len(), &run["complete"]), (3, &false.into()));
    assert!(!with_status(&run, "ok").is_empty());
    ran(test);
}

#[test]
fn an_endless_shader_costs_only_its_own_rows() {
    let test = "an_endless_shader_costs_only_its_own_rows";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let entry = ALL.iter().find(|entry| entry.name == "rms_norm").expect("in the registry");
    // Long rounds, because llvmpipe leaves a loop after 65,536 of them.
    let guard = "if (row >= params.rows) { return; }";
    let round = "s = (s * 1664525u + 1013904223u) >> 1u; ".repeat(20);
    let spin = format!("while (s != 0xffffffffu) {{ {round} y[row] = to_storage(f32(s)); }}");
    let endless = entry.wgsl.replacen(guard, &format!("{guard} var s = row; {spin}"), 1);
    assert_ne!(endless, entry.wgsl, "the shader guards its rows");
    let shader = dir.path().join("kernels/normalize/rms_norm.wgsl");
    fs::create_dir_all(shader.parent().unwrap()).expect("a folder");
    fs::write(shader, endless).expect("a shader");
    let file = dir.path().join("out.json");
    let (path, kernels) = (file.to_str().unwrap(), dir.path().join("kernels"));
    let filter = "^(layer_norm|rms_norm)/thread/f32/r(65537d5|65d257)$";
    let out = finish(start(&[
        "check",
        filter,
        "--preset",
        "smoke",
        "--kernels",
        kernels.to_str().unwrap(),
        "--patience",
        "2",
        "-o",
        path,
    ]));
    assert_eq!(out.status.code(), Some(1));
    let run = rows(&file);
    let fine = with_status(&run, "ok");
    assert_eq!(fine.len(), 2, "{run}");
    assert!(fine.iter().all(|row| row["kernel"] == "layer_norm"));
    let rows = run["rows"].as_array().expect("rows");
    let reasons: Vec<&str> = rows.iter().filter_map(|row| row["reason"].as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().any(|why| why.contains("no progress for 2 s")), "{reasons:?}");
    ran(test);
}

#[test]
fn an_interrupt_leaves_a_valid_file() {
    let test = "an_interrupt_leaves_a_valid_file";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.json");
    let path = file.to_str().expect("UTF-8");
    let child = start(&["run", "^layer_norm/thread", "--preset", "smoke", "-o", path]);
    wait_for_rows(&file, 2);
    let interrupted = Instant::now();
    signal(child.id(), "-INT");
    let out = finish(child);
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(interrupted.elapsed() < Duration::from_secs(10), "ends after the current sample");
    let run = rows(&file);
    assert_eq!(run["complete"], false);
    assert!(with_status(&run, "ok").len() >= 2);
    assert!(run["rows"].as_array().unwrap().len() < 20, "the rest was not measured");
    ran(test);
}

#[test]
fn a_second_interrupt_ends_at_once_and_keeps_the_rows() {
    let test = "a_second_interrupt_ends_at_once_and_keeps_the_rows";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.json");
    let path = file.to_str().expect("UTF-8");
    let child = start(&["run", "^layer_norm/thread", "--preset", "smoke", "-o", path]);
    wait_for_rows(&file, 1);
    // A worker that cannot answer, as in a hanging driver.
    let stopped = worker(&child, None);
    signal(stopped, "-STOP");
    signal(child.id(), "-INT");
    sleep(Duration::from_millis(200));
    signal(child.id(), "-INT");
    let out = finish(child);
    signal(stopped, "-KILL");
    assert_eq!(out.status.code(), Some(130));
    let partial = dir.path().join("out.json.partial.jsonl");
    let run = fusebench::record::read(&partial).expect("a partial file is a result");
    assert!(!run.complete && !run.rows.is_empty());
    ran(test);
}

#[test]
fn loops_that_the_driver_would_leave_early_are_refused_with_the_reason() {
    let test = "loops_that_the_driver_would_leave_early_are_refused_with_the_reason";
    if !has_adapter(test) {
        return;
    }
    let cells = "^cross_attention/(flash|subgroup_block)/f32/b1h32g8q32k6404d128e128$";
    let output = finish(start(&["run", cells, "--format", "json", "--quick"]));
    let run: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    if !run["environment"]["device"]["name"].as_str().is_some_and(|n| n.starts_with("llvmpipe")) {
        skipped(test, "only llvmpipe leaves loops early");
        return;
    }
    let refused = with_status(&run, "unsupported");
    assert_eq!(refused.len(), 1, "{run}");
    assert_eq!(refused[0]["variant"], "flash");
    let reason = refused[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("leaves them after 65535"), "{reason}");
    ran(test);
}
