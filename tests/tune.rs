//! Tuning: what it keeps, what later runs make of it, and what it refuses.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{ends, has_adapter, ran, text};
use serde_json::Value;

const FILTER: &str = "^softmax/.*/f32/r3n";

fn fusebench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusebench"));
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the program starts")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

#[test]
fn a_run_takes_the_winner_with_its_constants_and_says_so() {
    let test = "a_run_takes_the_winner_with_its_constants_and_says_so";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let tuning = dir.path().join("folder/to/make/tuning.json");
    let (file, out) = (tuning.to_str().unwrap(), dir.path().join("out.json"));
    let tune = ["tune", FILTER, "--preset", "smoke", "--tuning", file];
    ends(&fusebench(&tune), 0, &["tuned, 0 tuned before"]);
    let mut kept = json(&tuning);
    let winners = kept["devices"][0]["winners"].as_array().expect("winners").clone();
    assert!(!winners.is_empty());
    assert!(winners.iter().all(|w| w["tried"].as_u64() > Some(1)), "{winners:?}");
    // Nothing is left to do the second time.
    ends(&fusebench(&tune), 0, &["0 tuned,", &format!("{} tuned before", winners.len())]);
    // Another winner, planted: the run has to take it and nothing else.
    for winner in kept["devices"][0]["winners"].as_array_mut().expect("winners") {
        winner["variant"] = Value::from("thread");
        winner["constants"] = serde_json::json!({ "WG": 16.0 });
    }
    fs::write(&tuning, kept.to_string()).expect("written");
    let run = |more: &[&str]| {
        let common =
            ["run", FILTER, "--preset", "smoke", "--max-time", "0.3", "--tuning", file, "-o"];
        let output = fusebench(&[&common[..], &[out.to_str().unwrap()], more].concat());
        (text(&output.stderr), text(&output.stdout), json(&out)["rows"].as_array().unwrap().clone())
    };
    let (told, table, rows) = run(&[]);
    assert!(told.contains("won (tuned here)"), "{told}");
    assert!(table.contains("thread WG=16") && table.contains("rivals of the winner"), "{table}");
    assert!(rows.iter().all(|row| row["tuned"] == true && row["constants"]["WG"] == 16.0));
    assert!(rows.iter().any(|row| row["status"] == "ok"), "{rows:?}");
    let (told, _, rows) = run(&["--untuned"]);
    assert!(!told.contains("won"), "{told}");
    assert!(rows.iter().all(|row| row.get("tuned").is_none() && row.get("constants").is_none()));
    ran(test);
}

#[test]
fn a_planted_winner_is_verified_like_any_cell() {
    let test = "a_planted_winner_is_verified_like_any_cell";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tuning.json");
    let filter = "^softmax/thread/f32/r3n5$";
    let common = [filter, "--preset", "smoke", "--tuning", path.to_str().unwrap()];
    ends(&fusebench(&[&["tune"], &common[..]].concat()), 0, &["1 tuned"]);
    let mut kept = json(&path);
    let winner = &mut kept["devices"][0]["winners"][0];
    // No device allows so large a workgroup.
    winner["constants"] = serde_json::json!({ "WG": 1e5 });
    fs::write(&path, kept.to_string()).expect("written");
    let run = fusebench(&[&["run", "--max-time", "0.3"], &common[..]].concat());
    ends(&run, 1, &[]);
    assert!(text(&run.stdout).contains("1 error"), "{}", text(&run.stdout));
    // Of another text of the shader it is out of date: the kernel runs as listed.
    let winner = &mut kept["devices"][0]["winners"][0];
    winner["shader"] = Value::from("0123456789abcdef");
    fs::write(&path, kept.to_string()).expect("written");
    let run = fusebench(&[&["run", "--max-time", "0.3"], &common[..]].concat());
    ends(&run, 0, &["1 winners are of shaders that changed"]);
    ran(test);
}

#[test]
fn what_is_no_tuning_file_is_refused_before_anything_runs() {
    let test = "what_is_no_tuning_file_is_refused_before_anything_runs";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tuning.json");
    let file = path.to_str().unwrap();
    for (content, why) in [("{", "EOF"), ("[]", "invalid"), (r#"{"tuning_version": 7}"#, "is 7")] {
        fs::write(&path, content).expect("written");
        for command in ["tune", "run"] {
            let output = fusebench(&[command, FILTER, "--preset", "smoke", "--tuning", file]);
            ends(&output, 2, &["tuning.json is not a tuning file", why, "fusebench tune"]);
        }
        assert_eq!(fs::read_to_string(&path).expect("still there"), content);
    }
    ends(&fusebench(&["tune", "^nothing/like/it"]), 4, &["did you mean"]);
    ends(&fusebench(&["tune", "pipeline_.*", "--tuning", file]), 4, &["nothing to tune"]);
    ends(&fusebench(&["tune", FILTER, "--budget", "0"]), 2, &["above 0"]);
    if cfg!(target_os = "linux") {
        let nowhere = "/proc/nowhere/tuning.json";
        let output = fusebench(&["tune", FILTER, "--preset", "smoke", "--tuning", nowhere]);
        ends(&output, 2, &["cannot keep winners in /proc", "another path with --tuning"]);
    }
    ran(test);
}

#[test]
fn time_that_is_up_leaves_the_rest_for_the_next_time() {
    let test = "time_that_is_up_leaves_the_rest_for_the_next_time";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tuning.json");
    let common = ["tune", FILTER, "--preset", "smoke", "--tuning", path.to_str().unwrap()];
    let short = fusebench(&[&common[..], &["--budget", "0.0001"]].concat());
    ends(&short, 4, &["left; winners are in", "the same command goes on"]);
    ends(&fusebench(&common), 0, &["0 tuned before", "0 left"]);
    ran(test);
}
