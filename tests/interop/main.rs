//! `fusebench export`: each form held to its consumer's rules, and to the consumer itself where
//! `scripts/oracles` can fetch it.

#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod consumers;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::ends;
use fusebench::record::{Row, Run, Status, read, to_json};

/// A run with a row of every status, of a real device.
fn run() -> Run {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/llvmpipe/models.json");
    let mut run = read(&path).expect("a committed run");
    let timed = |row: &Row| row.time.is_some() && row.stages.is_empty();
    let mut rows: Vec<Row> = run.rows.iter().filter(|row| timed(row)).take(6).cloned().collect();
    for (at, status) in [(4, Status::Wrong), (5, Status::Error)] {
        let row = &mut rows[at];
        (row.time, row.rate, row.time_trusted, row.status) = (None, None, None, status);
        row.reason = Some("G1 & <others>: 3 times its bound".to_owned());
    }
    let refused = run.rows.iter().filter(|row| row.status == Status::Skipped).take(2);
    rows.extend(refused.cloned());
    run.rows = rows;
    run
}

/// Result files in a folder of their own.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Files { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, run: &Run) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, to_json(run)).expect("a result file");
        path
    }

    /// Exports and returns what was written, by name; stdout is called `-`.
    fn export(&self, form: &str, files: &[&Path], extra: &[&str]) -> Vec<(String, String)> {
        let out = export(form, files, extra);
        ends(&out, 0, &[]);
        let Some(at) = extra.iter().position(|word| *word == "-o") else {
            return vec![("-".to_owned(), String::from_utf8(out.stdout).expect("UTF-8"))];
        };
        let folder = fs::read_dir(extra[at + 1]).expect("a folder");
        let mut found: Vec<(String, String)> = folder
            .flatten()
            .map(|file| {
                let text = fs::read_to_string(file.path()).expect("text");
                (file.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        found.sort();
        found
    }

    /// The one text of a form that has one.
    fn text(&self, form: &str, run: &Run) -> String {
        let path = self.write("run.json", run);
        self.export(form, &[&path], &[]).remove(0).1
    }

    /// The files of a form that has several, in the folder `FORM`.
    fn folder(&self, form: &str, run: &Run) -> Vec<(String, String)> {
        let (path, folder) = (self.write("run.json", run), self.path(form));
        self.export(form, &[&path], &["-o", folder.to_str().expect("UTF-8")])
    }
}

fn export(form: &str, files: &[&Path], extra: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fusebench"))
        .arg("export")
        .args(files)
        .args(["--to", form])
        .args(extra)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[test]
fn a_file_that_cannot_be_read_is_one_error_with_the_next_step() {
    let files = Files::new();
    ends(&export("bmf", &[&files.path("none.json")], &[]), 2, &["none.json", "check the path"]);
    ends(&export("bmf", &[files.folder.path()], &[]), 2, &["cannot read"]);
    let text = to_json(&run());
    for (name, content, says) in [
        ("empty.json", String::new(), "it is empty"),
        ("cut.json", text[..text.len() / 2].to_owned(), "cut off"),
        ("type.json", text.replacen("\"complete\": true", "\"complete\": 1", 1), "complete"),
        ("future.json", text.replacen("\"format_version\": 1", "\"format_version\": 9", 1), "9"),
    ] {
        let path = files.path(name);
        fs::write(&path, content).expect("a file");
        ends(&export("junit", &[&path], &[]), 2, &[name, says]);
    }
}

#[test]
fn a_partial_file_is_exported_with_a_remark() {
    let (files, run) = (Files::new(), run());
    let header = Run { complete: false, rows: Vec::new(), ..run.clone() };
    let line = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let mut lines = vec![line(to_json(&header)).to_string()];
    lines.extend(run.rows.iter().map(|row| line(to_json(row)).to_string()));
    let path = files.path("run.json.partial.jsonl");
    let text = lines.join("\n");
    fs::write(&path, &text[..text.len() - 20]).expect("a file");
    let out = export("csv", &[&path], &[]);
    ends(&out, 0, &["run.json.partial.jsonl: incomplete", &run.rows[0].id]);
    let whole = fusebench::report::csv::table(&run);
    let records = String::from_utf8_lossy(&out.stdout).lines().count();
    assert_eq!(records, whole.lines().count() - 1, "all but the row that was cut");
}

#[test]
fn a_form_of_several_files_wants_a_folder_and_none_is_overwritten() {
    let files = Files::new();
    let path = files.write("run.json", &run());
    for form in ["gha", "gbench", "otava"] {
        ends(&export(form, &[&path], &[]), 2, &["a folder of files", "-o"]);
        ends(&export(form, &[&path], &["-o", "-"]), 2, &["a folder of files"]);
    }
    let file = files.path("out.xml");
    let target = file.to_str().expect("UTF-8");
    ends(&export("junit", &[&path], &["-o", target]), 0, &[]);
    let first = fs::read_to_string(&file).expect("a file");
    ends(&export("csv", &[&path], &["-o", target]), 2, &["already", "--force"]);
    assert_eq!(fs::read_to_string(&file).expect("a file"), first);
    ends(&export("csv", &[&path], &["-o", target, "--force"]), 0, &[]);
    assert!(fs::read_to_string(&file).expect("a file").starts_with("id,"));
    ends(&export("csv", &[&path], &["-o", "/nonexistent/x"]), 2, &["/nonexistent/x"]);
    ends(&export("gha", &[&path], &["-o", target]), 2, &["out.xml", "-o"]);
    let out = export("csv", &[&path], &["-o", "-"]);
    assert!(out.stdout.starts_with(b"id,"));
}

#[test]
fn where_there_is_nothing_to_export_it_says_so() {
    let (files, mut run) = (Files::new(), run());
    run.rows.retain(|row| row.time.is_none());
    let path = files.write("run.json", &run);
    ends(&export("bmf", &[&path], &[]), 4, &["no cell has a time", "--to junit"]);
    ends(&export("junit", &[&path], &[]), 0, &["WrongResult"]);
    run.rows.clear();
    let path = files.write("run.json", &run);
    ends(&export("markdown", &[&path], &[]), 4, &["no cell ran"]);
}

#[test]
fn only_otava_takes_several_runs_and_those_of_one_machine() {
    let (files, mut run) = (Files::new(), run());
    let one = files.write("one.json", &run);
    run.environment.fingerprint = "00000000-00000000".to_owned();
    let other = files.write("other.json", &run);
    ends(&export("bmf", &[&one, &other], &[]), 2, &["2 files", "otava"]);
    let folder = files.path("otava");
    let folder = folder.to_str().expect("UTF-8");
    ends(&export("otava", &[&one, &other], &["-o", folder]), 2, &["unlike", "other.json"]);
    assert!(!Path::new(folder).exists(), "nothing is written");
}

#[test]
fn a_comment_of_five_thousand_cells_fits() {
    let (files, mut run) = (Files::new(), run());
    let rows = run.rows.clone();
    run.rows = (0..5_000)
        .map(|at| {
            let mut row = rows[at % rows.len()].clone();
            row.id = format!("{}_{at}", row.id);
            row
        })
        .collect();
    let text = files.text("markdown", &run);
    assert!(text.len() < 60_000, "{} bytes", text.len());
    let wrong = text.find("| wrong |").expect("a wrong row");
    assert!(wrong < text.find("<details>").expect("a folded table"), "the wrong ones first");
}
