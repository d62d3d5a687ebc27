//! The command line as a user meets it: exit codes, streams, messages, files.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::{ends, has_adapter, ran};
use fusebench::kernels::ALL;
use serde_json::Value;

/// A cell that takes milliseconds.
const SMALL: &str = "^layer_norm/thread/f32/r7d31$";

fn fusebench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusebench"));
    // Nothing that was tuned on this machine.
    command.env("XDG_DATA_HOME", "/nonexistent");
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    fusebench(arguments).output().expect("the program starts")
}

/// A machine without any adapter.
fn bare(arguments: &[&str]) -> Output {
    let mut command = fusebench(arguments);
    command.env("VK_DRIVER_FILES", "/nonexistent").env("WGPU_BACKEND", "vulkan");
    command.output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn listing_needs_no_adapter() {
    let listed = bare(&["list"]);
    ends(&listed, 0, &[]);
    assert!(stdout(&listed).contains("layer_norm (normalize)"));
    assert_eq!(stderr(&listed), "");
    let cells: Value = serde_json::from_slice(&bare(&["list", "--json"]).stdout).expect("JSON");
    let ids: Vec<&str> =
        cells.as_array().unwrap().iter().map(|cell| cell["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"layer_norm/thread/f32/r257d1408"), "{ids:?}");
}

#[test]
fn without_an_adapter_running_is_an_environment_error_with_advice() {
    for command in ["run", "check", "devices"] {
        let out = bare(&[command]);
        ends(&out, 3, &["no graphics adapter", "scripts/bench"]);
        assert_eq!(stdout(&out), "");
    }
}

#[test]
fn a_filter_that_selects_nothing_says_what_is_near() {
    ends(&output(&["run", "layr_norm"]), 4, &["layr_norm", "did you mean layer_norm"]);
    let other_dtype = output(&["check", "weighted_sum/row", "--dtype", "i8"]);
    ends(&other_dtype, 4, &["not of this --dtype or --variant", "list weighted_sum/row"]);
    ends(&output(&["list", "r7d31"]), 4, &["--preset smoke"]);
    ends(&output(&["list", "("]), 2, &["not a regular expression"]);
}

#[test]
fn unknown_names_are_usage_errors_that_list_the_known() {
    ends(&output(&["run", "--dtype", "f64"]), 2, &["f64", "f16"]);
    ends(&output(&["run", "--preset", "huge"]), 2, &["huge", "smoke"]);
    ends(&output(&["run", "--variant", "fast"]), 2, &["fast", "flash"]);
    ends(&output(&["run", "--max-time", "-1"]), 2, &["above 0"]);
    ends(&output(&["frobnicate"]), 2, &["frobnicate"]);
}

#[test]
fn an_overlay_that_matches_no_kernel_names_near_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    ends(&overlaid(dir.path(), &[]), 2, &["no .wgsl file"]);
    write(dir.path(), "normalize/layernorm.wgsl", "// x");
    ends(&overlaid(dir.path(), &[]), 2, &["normalize/layernorm", "normalize/layer_norm"]);
    ends(&overlaid(Path::new("/nonexistent"), &[]), 2, &["/nonexistent"]);
}

#[test]
fn an_unwritable_result_is_found_before_anything_is_measured() {
    if !has_adapter("an_unwritable_result_is_found_before_anything_is_measured") {
        return;
    }
    let started = Instant::now();
    let out = output(&["run", SMALL, "--preset", "smoke", "-o", "/nonexistent/out.json"]);
    ends(&out, 2, &["/nonexistent/out.json"]);
    assert_eq!(stdout(&out), "");
    assert!(started.elapsed().as_secs_f64() < 5.0, "found after measuring");
    ran("an_unwritable_result_is_found_before_anything_is_measured");
}

#[test]
fn an_unknown_device_is_a_usage_error_that_lists_the_known() {
    if !has_adapter("an_unknown_device_is_a_usage_error_that_lists_the_known") {
        return;
    }
    ends(&output(&["run", "-d", "voodoo2"]), 2, &["voodoo2", "0 ("]);
    ends(&output(&["run", "-d", "99"]), 2, &["99", "0 ("]);
    ran("an_unknown_device_is_a_usage_error_that_lists_the_known");
}

#[test]
fn a_run_writes_a_result_file_of_the_contract() {
    let test = "a_run_writes_a_result_file_of_the_contract";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("planted-secret.json");
    let path = file.to_str().expect("UTF-8");
    let out = output(&["run", SMALL, "--preset", "smoke", "--max-time", "0.4", "-o", path]);
    ends(&out, 0, &[]);
    assert_eq!(stderr(&out), "", "nothing but results");
    assert!(stdout(&out).contains("r7d31"));
    let text = fs::read_to_string(&file).expect("a result file");
    assert!(!text.contains("planted-secret"), "a path is in the result");
    let run: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&run["format_version"], &run["complete"]), (&1.into(), &true.into()));
    let row = &run["rows"][0];
    assert_eq!(row["status"], "ok");
    for key in ["time", "rate", "accuracy", "work", "shape"] {
        assert!(row[key].is_object(), "{key}: {row}");
    }
    assert!(row["time"]["median"].as_f64().unwrap() > 0.0);
    assert!(row["accuracy"]["passed"].as_bool().unwrap());
    assert!(run["environment"]["peaks"].as_array().unwrap().len() > 3);
    assert!(!file.with_extension("json.partial.jsonl").exists(), "no partial file is left");
    ran(test);
}

#[test]
fn formats_go_to_stdout() {
    let test = "formats_go_to_stdout";
    if !has_adapter(test) {
        return;
    }
    let check = |extra: &[&str]| {
        let out = output(&[&["check", SMALL, "--preset", "smoke"], extra].concat());
        ends(&out, 0, &[]);
        stdout(&out)
    };
    let json: Value = serde_json::from_str(&check(&["-o", "-"])).expect("JSON");
    assert_eq!(json["rows"][0]["status"], "ok");
    assert!(json["rows"][0].get("time").is_none(), "check takes no time");
    assert!(check(&["--format", "csv"]).starts_with("id,"));
    assert!(check(&["--format", "markdown"]).contains("| "));
    assert!(!check(&[]).contains('\u{1b}'), "no colour where there is no terminal");
    assert!(check(&["--color", "always"]).contains('\u{1b}'));
    ran(test);
}

#[test]
fn a_shader_that_does_not_compile_is_shown_with_its_line() {
    let test = "a_shader_that_does_not_compile_is_shown_with_its_line";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "normalize/layer_norm.wgsl", "\n\nfn broken( { }\n");
    let out = overlaid(dir.path(), &[SMALL, "--preset", "smoke"]);
    ends(&out, 1, &["fn broken( { }", "wgsl:3:", "^"]);
    assert!(stdout(&out).contains("error"));
    ran(test);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = fusebench(&["list", "--preset", "sweep", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    ends(&out, 0, &[]);
    assert_eq!(stderr(&out), "");
}

#[test]
fn every_mutant_of_a_kernel_is_killed_and_named() {
    let test = "every_mutant_of_a_kernel_is_killed_and_named";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("planted-secret.json");
    let path = file.to_str().expect("UTF-8");
    let out = output(&["check", "--mutants", "^rms_norm/thread/f32/r7d31", "-o", path]);
    ends(&out, 0, &[]);
    assert_eq!(stderr(&out), "", "nothing but results");
    let rms_norm = ALL.iter().find(|entry| entry.name == "rms_norm").expect("in the registry");
    let all = rms_norm.kernel.spec().mutants.len();
    let verdict = format!("{all} mutants: {all} killed, 0 survived");
    assert!(stdout(&out).contains(&verdict), "{}", stdout(&out));
    let text = fs::read_to_string(&file).expect("a result file");
    assert!(!text.contains("planted-secret"), "a path is in the result");
    let run: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(run["complete"], true);
    assert_eq!(run["environment"]["preset"], "smoke", "what suits mutants is the default");
    for mutant in run["mutants"].as_array().expect("mutants") {
        assert_eq!((&mutant["outcome"], &mutant["kernel"]), (&"killed".into(), &"rms_norm".into()));
        assert!(mutant["killed_by"]["rule"].is_string(), "{mutant}");
        assert!(mutant["cell"].as_str().expect("a cell").starts_with("rms_norm/"), "{mutant}");
    }
    assert!(!file.with_extension("json.partial.jsonl").exists(), "no partial file is left");
    ran(test);
}

/// `check --mutants` of two probes of which the first, whose first mutant turns `= params.word`
/// into `= 1u + params.word`, runs this text.
fn mutants_of(body: &str) -> (Output, Value) {
    let dir = tempfile::tempdir().expect("a folder");
    let entry = ALL.iter().find(|entry| entry.name == "launch_overhead").expect("in the registry");
    let shader = entry.wgsl.replace("y[0] = params.word;", body);
    assert_ne!(shader, entry.wgsl);
    write(dir.path(), "probe/launch_overhead.wgsl", &shader);
    let filter = "^(launch_overhead|write)/";
    let out = overlaid(dir.path(), &[filter, "--mutants", "-o", "-"]);
    let run: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let mutants = run["mutants"].as_array().expect("mutants");
    assert!(mutants.len() > 1 && run["complete"] == true, "the rest is tried all the same: {run}");
    let mut others = mutants.iter().filter(|mutant| mutant["kernel"] == "write");
    assert!(others.all(|mutant| mutant["outcome"] == "killed"), "{run}");
    (out, run)
}

#[test]
fn a_mutant_that_survives_or_proves_nothing_is_a_finding() {
    let test = "a_mutant_that_survives_or_proves_nothing_is_a_finding";
    if !has_adapter(test) {
        return;
    }
    for (body, outcome, kernel) in [
        ("y[0] =params.word; // = params.word", "survived", None),
        ("y[0] =params.word;", "broken", None),
        ("y[0] = params.word + 1u;", "untried", Some("G0: 1 elements")),
    ] {
        let (out, run) = mutants_of(body);
        ends(&out, 1, &[]);
        assert_eq!(run["mutants"][0]["outcome"], outcome, "{run}");
        let failure = run["kernels"][0]["failure"].as_str();
        assert_eq!(failure.is_some(), kernel.is_some(), "{run}");
        assert!(failure.unwrap_or_default().contains(kernel.unwrap_or_default()), "{run}");
    }
    ran(test);
}

#[test]
fn a_mutant_that_takes_its_worker_down_is_killed_and_the_next_ones_are_tried() {
    let test = "a_mutant_that_takes_its_worker_down_is_killed_and_the_next_ones_are_tried";
    if !has_adapter(test) {
        return;
    }
    let mut command = fusebench(&["check", "--mutants", "^(launch_overhead|write)/", "-o", "-"]);
    command.env("FUSEBENCH_TEST_LOSE_DEVICE", "launch_overhead/single/f32/n1#0");
    let out = command.output().expect("the program starts");
    ends(&out, 0, &[]);
    let run: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let mutants = run["mutants"].as_array().expect("mutants");
    assert_eq!(mutants[0]["killed_by"]["rule"], "error", "{run}");
    assert!(mutants[0]["reason"].as_str().expect("one").contains("device was lost"), "{run}");
    assert!(mutants.len() > 1 && run["complete"] == true, "{run}");
    assert!(mutants[1..].iter().all(|mutant| mutant["killed_by"]["rule"] != "error"), "{run}");
    ran(test);
}

#[test]
fn mutants_need_kernels_and_a_file_that_can_be_written() {
    let out = output(&["check", "--mutants", "^pipeline_mosei_mult/mid/f32"]);
    ends(&out, 4, &["only pipelines", "fusebench list"]);
    ends(&output(&["check", "--mutants", "layr_norm"]), 4, &["did you mean layer_norm"]);
    ends(&bare(&["check", "--mutants", "layer_norm"]), 3, &["no graphics adapter"]);
    if has_adapter("mutants_need_kernels_and_a_file_that_can_be_written") {
        let out = output(&["check", "--mutants", "layer_norm", "-o", "/nonexistent/out.json"]);
        ends(&out, 2, &["/nonexistent/out.json"]);
        ran("mutants_need_kernels_and_a_file_that_can_be_written");
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a family")).expect("a folder");
    fs::write(path, text).expect("a shader");
}

fn overlaid(dir: &Path, arguments: &[&str]) -> Output {
    let dir = dir.to_str().expect("UTF-8");
    output(&[&["check", "--kernels", dir], arguments].concat())
}

/// At such widths no bound of a sum in f16 could fail: what it is timed on has to be exact too.
#[test]
fn what_sums_in_f16_is_verified_before_it_is_timed_at_real_shapes() {
    let test = "what_sums_in_f16_is_verified_before_it_is_timed_at_real_shapes";
    if !has_adapter(test) {
        return;
    }
    let filters = [
        "^linear/register/f16acc/m77n768k768$",
        "^cross_attention/(flash|unfused)/f16acc/b1h12q32k257d64$",
    ];
    let run = |more: &[&str]| {
        let common = ["run", "--max-time", "0.2", "--variant", "register,flash,unfused"];
        output(&[&common[..], &filters, more].concat())
    };
    let said = run(&["--format", "csv"]);
    ends(&said, 0, &[]);
    assert_eq!(stdout(&said).matches(",ok,").count(), 3, "{}", stdout(&said));
    // The twin: the last vector of a dot product and the last key are lost.
    let folder = tempfile::tempdir().expect("a folder");
    for (kernel, right, wrong) in [
        ("project/linear", "q < params.k / 4u; q++", "q + 1u < params.k / 4u; q++"),
        ("attend/cross_attention", "min(len[batch_of(row)], params.keys)", "(params.keys - 1u)"),
    ] {
        let path = format!("{kernel}.wgsl");
        let shader = fs::read_to_string(Path::new("kernels").join(&path)).expect("a shader");
        assert!(shader.contains(right), "{path} has no `{right}`");
        let to = folder.path().join(&path);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::write(to, shader.replace(right, wrong)).expect("written");
    }
    let said = run(&["--format", "csv", "--kernels", folder.path().to_str().expect("UTF-8")]);
    ends(&said, 1, &[]);
    assert_eq!(stdout(&said).matches(",wrong,").count(), 3, "{}", stdout(&said));
    ran(test);
}
