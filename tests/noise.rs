//! What `selftest` learns of the noise of cells and sessions, and what comparisons make of it.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{ends, has_adapter, ran, reference, text};
use fusebench::kernels::ALL;
use fusebench::record::{Run, to_json};
use serde_json::{Value, json};

/// A cell that takes microseconds.
const ID: &str = "layer_norm/thread/f32/r7d31";
const SMALL: &str = "^layer_norm/thread/f32/r7d31$";

fn fusebench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusebench"));
    command.args(arguments).stdin(Stdio::null());
    // Neither history nor noise of this machine counts.
    command.env("XDG_DATA_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-data"));
    command.output().expect("the program starts")
}

fn selftest(noise: &Path, more: &[&str]) -> Output {
    let noise = noise.to_str().expect("UTF-8");
    let always = ["selftest", SMALL, "--preset", "smoke", "--quick", "--noise", noise];
    fusebench(&[&always[..], more].concat())
}

fn content(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// A file that knows one cell.
fn plant(path: &Path, fingerprint: &str, id: &str, noise: f64) {
    let cell = json!({ "id": id, "checks": "safe", "sample_s": 0.005, "noise": noise,
        "measured": "2026-01-01T00:00:00Z" });
    let here = json!({ "fingerprint": fingerprint, "cells": [cell] });
    let file = json!({ "noise_version": 1, "fingerprints": [here] });
    fs::write(path, file.to_string()).expect("written");
}

#[test]
fn what_a_selftest_keeps_decides_a_verdict_on_its_own_fingerprint_alone() {
    const TEST: &str = "what_a_selftest_keeps_decides_a_verdict_on_its_own_fingerprint_alone";
    if !has_adapter(TEST) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let noise = dir.path().join("folder/to/make/noise.json");
    // One cell cannot condemn a machine, so the exit code is 0.
    let says = ["kept the noise of 1 cell in", noise.to_str().expect("UTF-8")];
    ends(&selftest(&noise, &[]), 0, &says);
    let mut kept = content(&noise);
    let own = &kept["fingerprints"][0]["cells"][0];
    assert_eq!((&own["id"], &own["sample_s"]), (&ID.into(), &0.005.into()));
    assert!(own["noise"].as_f64().expect("a number") > 0.0, "{own}");

    let head = dir.path().join("kernels");
    fs::create_dir_all(head.join("normalize")).expect("a folder");
    let layer_norm = ALL.iter().find(|entry| entry.name == "layer_norm").expect("a kernel");
    let shader = format!("{}\n// Nothing changed.\n", layer_norm.wgsl);
    fs::write(head.join("normalize/layer_norm.wgsl"), shader).expect("a file");
    let ab = |more: &[&str]| {
        let (head, noise) = (head.to_str().expect("UTF-8"), noise.to_str().expect("UTF-8"));
        let sides = ["ab", "--base", "builtin", "--head", head, "--control", "0"];
        let cell = [SMALL, "--preset", "smoke", "--quick", "--inject", "100", "--noise", noise];
        let output = fusebench(&[&sides[..], &cell, &["--format", "json"], more].concat());
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), found["rows"][0].clone())
    };
    // Twice 0.5 in logarithms is 172 %, more than the head is slowed down by.
    kept["fingerprints"][0]["cells"][0]["noise"] = 0.5.into();
    fs::write(&noise, kept.to_string()).expect("written");
    let (code, row) = ab(&[]);
    assert_eq!((code, &row["verdict"], &row["noise"]), (Some(0), &"SAME".into(), &0.5.into()));
    let floor = row["ratio"]["floor"].as_f64().expect("a floor");
    assert!((floor - 1_f64.exp_m1()).abs() < 1e-9, "{row}");
    // The user's own floor goes before what was learnt.
    let (code, row) = ab(&["--floor", "1"]);
    assert_eq!((code, &row["verdict"]), (Some(1), &"SLOWER".into()), "{row}");
    let here = kept["fingerprints"][0]["fingerprint"].take();
    kept["fingerprints"][0]["fingerprint"] = "00000000-00000000".into();
    fs::write(&noise, kept.to_string()).expect("written");
    let (code, row) = ab(&[]);
    assert_eq!((code, &row["verdict"]), (Some(1), &"SLOWER".into()), "{row}");
    assert!(row.get("noise").is_none(), "{row}");

    // Another selftest adds to what is there; one with a slowed head says nothing of noise.
    ends(&selftest(&noise, &["--inject", "100"]), 0, &[]);
    assert_eq!(content(&noise), kept);
    ends(&selftest(&noise, &[]), 0, &[]);
    let both = content(&noise);
    assert_eq!(both["fingerprints"][0], kept["fingerprints"][0]);
    assert_eq!(both["fingerprints"][1]["fingerprint"], here);
    ran(TEST);
}

#[test]
fn a_file_of_another_kind_or_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let noise = dir.path().join("noise.json");
    let path = noise.to_str().expect("UTF-8");
    let ab = ["ab", "--base", "builtin", "--head", "builtin", SMALL, "--noise", path];
    let sessions = ["selftest", SMALL, "--preset", "smoke", "--sessions", "2", "--noise", path];
    for (text, why) in [
        (r#"{"noise_version": 2, "fingerprints": []}"#, "is 2, not 1"),
        (r#"{"tuning_version": 1, "devices": []}"#, "noise_version"),
        ("not JSON", "expected"),
    ] {
        fs::write(&noise, text).expect("written");
        let says = ["noise.json does not hold the noise of cells", why, "fusebench selftest"];
        ends(&fusebench(&ab), 2, &says);
        ends(&fusebench(&sessions), 2, &says);
        ends(&selftest(&noise, &[]), 2, &says);
        assert_eq!(fs::read_to_string(&noise).expect("still there"), text);
    }
    // A file where a folder should be: nothing is measured first.
    let below = noise.join("noise.json");
    ends(&selftest(&below, &[]), 2, &["noise.json", "cannot read"]);
}

#[test]
fn the_noise_of_a_cell_raises_the_floor_of_compare_on_its_own_fingerprint_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, run: &Run| {
        let path = dir.path().join(name);
        fs::write(&path, to_json(run)).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let mut run = reference(3);
    let base = write("base.json", &run);
    let (id, other) = (run.rows[2].id.clone(), run.rows[1].id.clone());
    let time = run.rows[2].time.as_mut().expect("timed");
    time.samples.iter_mut().chain([&mut time.median]).for_each(|seconds| *seconds *= 1.6);
    (time.low, time.high) = (time.median, time.median);
    let slow = write("slow.json", &run);
    let noise = dir.path().join("noise.json");
    let compare = |more: &[&str]| {
        let known = ["compare", &base, &slow, "--noise", noise.to_str().expect("UTF-8")];
        fusebench(&[&known[..], more].concat())
    };
    ends(&compare(&[]), 1, &["1 SLOWER, 2 SAME"]);
    let known = |fingerprint: &str, id: &str| plant(&noise, fingerprint, id, 0.3);
    known(&run.environment.fingerprint, &id);
    ends(&compare(&[]), 0, &["3 SAME", "floor of 1 cell raised"]);
    let found: Value =
        serde_json::from_slice(&compare(&["--format", "json"]).stdout).expect("JSON");
    let rows = found["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["id"] == id.as_str()).expect("the cell");
    let floor = row["floor"].as_f64().expect("a floor");
    assert!((floor - 0.6_f64.exp_m1()).abs() < 1e-9 && row["raised_by_own_noise"] == true, "{row}");
    // Another cell, or the same one elsewhere, changes nothing.
    known(&run.environment.fingerprint, &other);
    ends(&compare(&[]), 1, &["1 SLOWER"]);
    known("00000000-00000000", &id);
    ends(&compare(&[]), 1, &["1 SLOWER"]);
}

#[test]
fn sessions_are_compared_as_stored_results_and_the_rate_decides_the_exit_code() {
    const TEST: &str = "sessions_are_compared_as_stored_results_and_the_rate_decides_the_exit_code";
    let dir = tempfile::tempdir().expect("a folder");
    let noise = dir.path().join("noise.json");
    ends(&selftest(&noise, &["--sessions", "1"]), 2, &["--sessions"]);
    ends(&selftest(&noise, &["--sessions", "2", "--inject", "5"]), 2, &["cannot be used with"]);
    let nothing = ["selftest", "no_such_kernel", "--sessions", "2"];
    ends(&fusebench(&nothing), 4, &["no_such_kernel"]);
    if !has_adapter(TEST) {
        return;
    }
    let judged = |noise: &Path| {
        let output = selftest(noise, &["--sessions", "3", "--format", "json"]);
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&found["kind"], &found["sessions"]), (&"selftest".into(), &3.into()));
        assert_eq!((&found["suites"]["n"], &found["cells"]["n"]), (&2.into(), &2.into()));
        let rows = found["comparisons"].as_array().expect("a list").iter();
        let alarmed = rows.filter(|one| {
            let verdict = one["rows"][0]["verdict"].as_str();
            matches!(verdict, Some("SLOWER" | "FASTER"))
        });
        assert_eq!(found["suites"]["k"], alarmed.count());
        let valid = found["valid"].as_bool().expect("an answer");
        assert_eq!(output.status.code(), Some(if valid { 0 } else { 5 }), "{found}");
        (found, text(&output.stderr))
    };
    let (found, told) = judged(&noise);
    assert!(told.contains("session 3 of 3") && !noise.exists(), "{told}");
    let (high, k) = (&found["suites"]["high"], &found["suites"]["k"]);
    // 0 of 2: up to 65.8 % by Wilson's interval.
    let wilson = high.as_f64().expect("a bound");
    assert!(k != 0 || (wilson - 0.6576).abs() < 1e-3, "{found}");
    // With all the noise there may be nothing alarms.
    let fingerprint = &found["comparisons"][0]["base"]["fingerprint"];
    plant(&noise, fingerprint.as_str().expect("a fingerprint"), ID, 5.0);
    let (found, _) = judged(&noise);
    assert_eq!((&found["suites"]["k"], &found["valid"]), (&0.into(), &true.into()), "{found}");
    ran(TEST);
}
