//! Results over time as a user meets them: `history` and `compare`, on files alone.

#![cfg(feature = "history")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use common::{has_adapter, ran, reference};
use fusebench::record::{Row, Run, Status, fingerprint, read, to_json};
use fusebench::rng;
use rusqlite::Connection;
use serde_json::Value;

/// A folder with a store and files of runs that differ as told.
struct Place {
    folder: tempfile::TempDir,
    base: Run,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder"), base: reference(6) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run of the `day`th day, changed.
    fn run(&self, day: i64, change: impl FnOnce(&mut Run)) -> Run {
        let mut run = self.base.clone();
        let start: jiff::Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let started = start + jiff::SignedDuration::from_hours(24 * day);
        run.environment.started = started.to_string();
        run.environment.fusebench.commit = format!("c{day:03}");
        change(&mut run);
        run.environment.fingerprint = fingerprint(&run.environment);
        run
    }

    fn write(&self, name: &str, run: &Run) -> String {
        let path = self.path(name);
        fs::write(&path, to_json(run)).expect("a writable folder");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusebench"));
        command.args(arguments).stdin(Stdio::null());
        command.env("FUSEBENCH_STORE", self.path("store/history.sqlite"));
        command.env("FUSEBENCH_NOISE", self.path("noise.json"));
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// What is printed by a command that ends with `code`.
    #[track_caller]
    fn prints(&self, arguments: &[&str], code: i32) -> String {
        let output = self.output(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        out + &err
    }

    /// The JSON that a command prints that ends with `code`.
    #[track_caller]
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    #[track_caller]
    fn is_sound(&self) -> i64 {
        let store = Connection::open(self.path("store/history.sqlite")).expect("the store");
        let check: String =
            store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
        assert_eq!(check, "ok");
        let count = "SELECT count(*) FROM cell";
        store.query_row(count, [], |row| row.get(0)).expect("cells")
    }
}

/// Multiplies every time of a row.
fn scale(row: &mut Row, factor: f64) {
    let time = row.time.as_mut().expect("a timed row");
    for value in [&mut time.median, &mut time.low, &mut time.high] {
        *value *= factor;
    }
    time.samples.iter_mut().for_each(|sample| *sample *= factor);
}

/// Moves every row a little, differently on each day.
fn noise(run: &mut Run, day: i64) {
    for (at, row) in run.rows.iter_mut().enumerate() {
        let z = f64::from(rng::normal(5, at as u32, day as u32));
        scale(row, (0.01 * z).exp());
    }
}

#[test]
fn a_newcomer_is_told_what_to_do_next() {
    let place = Place::new();
    let text = place.prints(&["history", "show"], 2);
    assert!(text.contains("there is no history") && text.contains("history add"), "{text}");
    let file = place.write("a.json", &place.run(0, |_| ()));
    let text = place.prints(&["history", "add", &file], 0);
    assert!(text.contains("a.json: added") && text.contains(": 1 run, "), "{text}");
    let text = place.prints(&["history", "add", &file, &file], 0);
    assert_eq!(text.matches("known already").count(), 2, "{text}");
    let text = place.prints(&["history", "show", "no_such_kernel"], 4);
    assert!(text.contains("no_such_kernel"), "{text}");
    let text = place.prints(&["history", "changes"], 0);
    assert!(text.contains("not looked at: 16 runs"), "{text}");
}

#[test]
fn one_bad_file_adds_none_and_names_it() {
    let place = Place::new();
    let good = place.write("good.json", &place.run(0, |_| ()));
    let mut bad = place.run(1, |_| ());
    bad.rows[1].time.as_mut().expect("timed").samples[0] = -1.0;
    let bad = place.write("bad.json", &bad);
    let text = place.prints(&["history", "add", &good, &bad], 2);
    assert!(text.contains("bad.json") && text.contains("rows[1].time.samples[0]"), "{text}");
    assert!(!place.path("store").exists());
}

#[test]
fn a_step_is_found_and_a_new_driver_starts_a_new_segment() {
    let place = Place::new();
    let mut files = Vec::new();
    for day in 0..56 {
        let run = place.run(day, |run| {
            noise(run, day);
            if day >= 20 {
                scale(&mut run.rows[0], 1.2);
            }
            if day >= 40 {
                run.environment.device.driver_info = "Mesa 99".to_owned();
                // Slower as well, but with another driver that is no change of this series.
                scale(&mut run.rows[1], 1.5);
            }
        });
        files.push(place.write(&format!("{day}.json"), &run));
    }
    let mut arguments = vec!["history", "add"];
    arguments.extend(files.iter().map(String::as_str));
    place.prints(&arguments, 0);
    let text = place.prints(&["history", "changes"], 0);
    assert!(text.contains("1 SLOWER, 0 FASTER"), "{text}");
    assert!(text.contains("environment changed: driver version Mesa 22.3.6"), "{text}");
    assert!(text.contains("between commits c019 and c020"), "{text}");
    let json = place.json(&["history", "changes", "--format", "json"], 0);
    assert_eq!(json["changes"][0]["id"], place.base.rows[0].id.as_str());
    assert_eq!(json["changes"][0]["first_after"]["commit"], "c020");
    let only = format!("^{}$", place.base.rows[0].id);
    let text = place.prints(&["history", "show", &only, "--last", "99"], 0);
    assert!(text.contains("c019") && text.contains("environment changed"), "{text}");
    let line = text.lines().find(|line| line.contains('▁')).expect("a sparkline");
    assert!(line.contains('|'), "{line}");
    let text = place.prints(&["history", "prune", "--keep", "5"], 0);
    assert!(text.contains("dropped 46 of 56 runs"), "{text}");
    place.is_sound();
    let text = place.prints(&["history", "rebuild", &files[0]], 2);
    assert!(text.contains("--force"), "{text}");
    arguments[1] = "rebuild";
    assert!(place.prints(&arguments, 0).contains("56 runs"));
    place.is_sound();
}

#[test]
fn a_killed_writer_leaves_a_sound_history_and_whole_runs() {
    let place = Place::new();
    let file = place.write("0.json", &place.run(0, |_| ()));
    place.prints(&["history", "add", &file], 0);
    let cells = place.is_sound();
    let mut killed = 0;
    for day in 1..40 {
        let file = place.write("next.json", &place.run(day, |_| ()));
        let mut child =
            place.command(&["history", "add", &file]).stdout(Stdio::null()).spawn().expect("it");
        thread::sleep(Duration::from_micros(600 * day as u64));
        child.kill().expect("it can be killed");
        killed += i32::from(!child.wait().expect("it ends").success());
        assert_eq!(place.is_sound() % cells, 0, "half a run");
    }
    assert!(killed > 0, "nothing was killed in time");
    place.prints(&["history", "show"], 0);
}

#[cfg(unix)]
#[test]
fn a_full_disk_adds_nothing_and_says_so() {
    let place = Place::new();
    let first = place.write("0.json", &place.run(0, |_| ()));
    place.prints(&["history", "add", &first], 0);
    let before = place.is_sound();
    let mut arguments = Vec::new();
    for day in 1..30 {
        arguments.push(place.write(&format!("{day}.json"), &place.run(day, |_| ())));
    }
    // The store may hardly grow, and the signal that tells of it is ignored. Blocks of 512 bytes.
    let size = fs::metadata(place.path("store/history.sqlite")).expect("the store").len();
    let blocks = size / 512 + 8;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" history add \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_fusebench")])
        .args(&arguments)
        .env("FUSEBENCH_STORE", place.path("store/history.sqlite"))
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("nothing was changed: free some space"), "{text}");
    assert_eq!(place.is_sound(), before);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    place.prints(&[&["history", "add"], &arguments[..]].concat(), 0);
}

#[test]
fn comparing_tells_slower_wrong_and_changed_accuracy_by_exit_code() {
    let place = Place::new();
    let base = place.write("base.json", &place.run(0, |_| ()));
    let same = place.write("same.json", &place.run(1, |_| ()));
    let slow = place.write("slow.json", &place.run(1, |run| scale(&mut run.rows[2], 1.6)));
    let odd = place.write(
        "odd.json",
        &place.run(1, |run| {
            let accuracy = run.rows[0].accuracy.as_mut().expect("judged");
            accuracy.nmse += 1e-9;
        }),
    );
    let wrong = place.write(
        "wrong.json",
        &place.run(1, |run| {
            let row = &mut run.rows[0];
            (row.status, row.time, row.rate) = (Status::Wrong, None, None);
            row.reason = Some("G1: off".to_owned());
            row.time_trusted = None;
        }),
    );
    let text = place.prints(&["compare", &base, &same], 0);
    assert!(text.contains("not interleaved") && text.contains("single-run"), "{text}");
    let text = place.prints(&["compare", &base, &slow], 1);
    assert!(text.contains("1 SLOWER, 5 SAME") && text.contains("+60.0 %"), "{text}");
    place.prints(&["compare", &base, &slow, "--fail-on", "none"], 0);
    place.prints(&["compare", &slow, &base], 0);
    let text = place.prints(&["compare", &base, &wrong, "--format", "markdown"], 1);
    assert!(text.contains("WRONG") && text.contains("G1: off"), "{text}");
    let verified = place.base.rows[0].accuracy.as_ref().expect("judged").verified.clone();
    let (code, says) = match verified.as_str() {
        "all" => (1, "accuracy changed: nmse"),
        _ => (0, "not compared"),
    };
    let text = place.prints(&["compare", &base, &odd, "--fail-on", "accuracy-change"], code);
    assert!(text.contains(says), "{text}");
    let json = place.json(&["compare", &base, &slow, "--format", "json"], 1);
    let rows = json["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["verdict"] == "SLOWER").expect("the slower one");
    assert!(row["low"].as_f64().expect("a bound") > 1.1 && row["single_run"] == true, "{row}");
}

#[test]
fn unlike_fingerprints_are_refused_with_the_fields_and_shown_when_allowed() {
    let place = Place::new();
    let base = place.write("base.json", &place.run(0, |_| ()));
    let driver = place.write(
        "driver.json",
        &place.run(1, |run| {
            run.environment.device.driver_info = "Mesa 99".to_owned();
            scale(&mut run.rows[0], 2.0);
        }),
    );
    let other = place.write(
        "other.json",
        &place.run(1, |run| {
            run.environment.device.name = "Voodoo 2".to_owned();
        }),
    );
    let text = place.prints(&["compare", &base, &driver], 2);
    assert!(text.contains("unlike environments") && text.contains("→ Mesa 99"), "{text}");
    let text = place.prints(&["compare", &base, &driver, "--allow-unlike"], 0);
    assert!(text.contains("UNCLEAR") && text.contains("+100.0 %"), "{text}");
    place.prints(&["compare", &base, &driver, "--allow-unlike", "--fail-on", "unclear"], 5);
    let text = place.prints(&["compare", &base, &other], 2);
    assert!(text.contains("unlike devices") && text.contains("Voodoo 2"), "{text}");
    let text = place.prints(&["compare", &base, &other, "--allow-unlike"], 0);
    assert!(text.contains("cells: 6 without a verdict"), "{text}");
    let lone = place.write(
        "lone.json",
        &place.run(2, |run| {
            run.rows.truncate(1);
            run.rows[0].id.push_str("_other");
        }),
    );
    let text = place.prints(&["compare", &base, &lone], 4);
    assert!(text.contains("no cell in common"), "{text}");
    place.prints(&["compare", &base, "/nonexistent.json"], 2);
}

#[test]
fn eight_runs_in_the_history_replace_the_assumed_noise() {
    let place = Place::new();
    let mut arguments = vec!["history".to_owned(), "add".to_owned()];
    for day in 0..8 {
        let run = place.run(day, |run| noise(run, day));
        arguments.push(place.write(&format!("{day}.json"), &run));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    place.prints(&arguments, 0);
    let compared = || {
        let json = place.json(&["compare", arguments[2], arguments[3], "--format", "json"], 0);
        json["rows"][0].clone()
    };
    let row = compared();
    assert_eq!((&row["history_runs"], &row["single_run"]), (&8.into(), &false.into()), "{row}");
    assert!(row["floor"].as_f64().expect("a floor") < 0.1);
    place.prints(&["history", "prune", "--keep", "7"], 0);
    assert_eq!(compared()["single_run"], true);
}

#[test]
fn what_is_shown_does_not_depend_on_the_order_in_which_runs_were_added() {
    let place = Place::new();
    let mut files = Vec::new();
    for day in 0..30 {
        let run = place.run(day, |run| {
            noise(run, day);
            // Two devices in turns, and a cell that is tried no more.
            if day % 2 == 1 {
                run.environment.device.name = "Voodoo 2".to_owned();
            }
            if day > 4 {
                run.rows.remove(1);
            }
        });
        files.push(place.write(&format!("{day}.json"), &run));
    }
    let shown = |store: &str, files: &[String]| {
        let store = place.path(store);
        let store = ["--store", store.to_str().expect("UTF-8")];
        for file in files {
            place.prints(&[&["history", "add", file][..], &store].concat(), 0);
        }
        let text = |more: &[&str]| {
            place.prints(&[&["history", "show", "--last", "3"], more, &store].concat(), 0)
        };
        let table = text(&[]);
        (table.split_once('\n').expect("a header").1.to_owned(), text(&["--format", "json"]))
    };
    let (table, json) = shown("forwards.sqlite", &files);
    files.reverse();
    assert_eq!(shown("backwards.sqlite", &files), (table.clone(), json.clone()));
    let found: Value = serde_json::from_str(&json).expect("JSON");
    let lines = found["series"].as_array().expect("series");
    // Six cells on two devices, three runs each but for the one cell on the second device, two.
    let runs: Vec<usize> = lines.iter().map(|one| one["runs"].as_array().unwrap().len()).collect();
    assert_eq!((lines.len(), runs.iter().filter(|n| **n == 3).count()), (12, 11), "{table}");
}

#[test]
fn only_what_is_slower_again_stays_slower() {
    let test = "only_what_is_slower_again_stays_slower";
    if !has_adapter(test) {
        return;
    }
    let place = Place::new();
    let measured = place.path("measured.json");
    let path = measured.to_str().expect("UTF-8");
    let filter = "^layer_norm/thread/f32/r7d31$";
    place.prints(&["run", filter, "--preset", "smoke", "--quick", "-o", path], 0);
    let scaled = |name: &str, factor| {
        let mut run = read(&measured).expect("a result file");
        run.rows[0].time_trusted = None;
        scale(&mut run.rows[0], factor);
        place.write(name, &run)
    };
    // A hundred times as slow whenever it is measured, and in one file only. A machine that others
    // use may be slower the second time, but not ten times as slow.
    let fast = scaled("fast.json", 0.01);
    let (easy, slow) = (scaled("easy.json", 10.0), scaled("slow.json", 1e3));
    let text = place.prints(&["compare", &fast, path, "--confirm"], 1);
    assert!(text.contains("1 SLOWER") && text.contains("slower again"), "{text}");
    assert!(text.contains("measured again, in another process"), "{text}");
    place.prints(&["compare", &easy, &slow], 1);
    let text = place.prints(&["compare", &easy, &slow, "--confirm"], 0);
    assert!(text.contains("1 UNCLEAR") && text.contains("not again"), "{text}");
    ran(test);
}
