use std::fs;
use std::path::PathBuf;

use super::super::fixture::gpu_run;
use super::super::{PartialFile, to_json};
use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Streams every row of `run` to `FILE` without finishing it.
fn streamed(file: &Path, run: &Run) -> PartialFile {
    let mut partial = PartialFile::create(file).expect("a writable path");
    partial.header(run).expect("a header");
    run.rows.iter().for_each(|row| partial.row(row).expect("a row"));
    partial
}

/// The message about a file with this content: three lines, the first naming the file.
#[track_caller]
fn refusal(content: &[u8]) -> String {
    let folder = folder();
    let file = folder.path().join("run.json");
    fs::write(&file, content).expect("a writable folder");
    let message = read(&file).expect_err("a refusal").to_string();
    assert_eq!(message.lines().count(), 3, "{message}");
    assert!(message.lines().next().is_some_and(|line| line.contains("run.json")), "{message}");
    message
}

#[test]
fn a_last_line_cut_off_anywhere_costs_that_row_only() {
    let (folder, run) = (folder(), gpu_run());
    let file = folder.path().join("run.json");
    drop(streamed(&file, &run));
    let partial = folder.path().join("run.json.partial.jsonl");
    let bytes = fs::read(&partial).unwrap();
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in last + 1..bytes.len() - 1 {
        fs::write(&partial, &bytes[..end]).unwrap();
        let found = read(&partial).expect("the rows before it");
        assert!(!found.complete);
        assert_eq!(found.rows[..], run.rows[..run.rows.len() - 1], "cut at {end}");
    }
    // Cut one byte later, only the newline is missing, and nothing is lost.
    fs::write(&partial, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(read(&partial).unwrap().rows, run.rows);
}

#[test]
fn a_broken_line_in_the_middle_is_an_error_that_names_it() {
    let (folder, run) = (folder(), gpu_run());
    let file = folder.path().join("run.json");
    drop(streamed(&file, &run));
    let partial = folder.path().join("run.json.partial.jsonl");
    let text = fs::read_to_string(&partial).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[2] = "{\"id\": 3}";
    fs::write(&partial, lines.join("\n") + "\n").unwrap();
    let message = read(&partial).unwrap_err().to_string();
    assert!(message.contains("line 3, id: invalid type"), "{message}");
}

#[test]
fn what_is_no_result_file_is_refused_with_the_reason() {
    let folder = folder();
    let file = folder.path().join("run.json");
    let header = to_json(&gpu_run());
    for (content, why) in [
        ("", "it is empty"),
        ("hello", "expected value"),
        ("{\"rows\": []}", "it has no format_version"),
        ("{\"format_version\": 1}", "missing field"),
        (&header[..header.len() / 2], "it is cut off here"),
    ] {
        fs::write(&file, content).unwrap();
        let error = read(&file).unwrap_err();
        assert!(matches!(error, StoreError::NotAResult { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.to_string().lines().count(), 3, "{error}");
    }
    let missing = read(&folder.path().join("none.json")).unwrap_err();
    assert!(matches!(missing, StoreError::Unreadable { .. }), "{missing}");
}

#[test]
fn another_format_version_names_both_and_the_next_step() {
    let folder = folder();
    let file = folder.path().join("run.json");
    for (version, next) in [("2", "update this one"), ("0", "measure again"), ("\"x\"", "again")] {
        let text = to_json(&gpu_run())
            .replace("\"format_version\": 1", &format!("\"format_version\": {version}"));
        fs::write(&file, text).unwrap();
        let message = read(&file).unwrap_err().to_string();
        assert!(message.contains(&format!("has format_version {version}\n")), "{message}");
        assert!(message.contains("reads format_version 1\n"), "{message}");
        assert!(message.contains(next), "{message}");
    }
}

#[test]
fn unknown_fields_of_a_newer_program_are_ignored() {
    let folder = folder();
    let file = folder.path().join("run.json");
    let text = to_json(&gpu_run()).replace("\"complete\": true", "\"complete\": true, \"new\": 1");
    fs::write(&file, text).unwrap();
    assert_eq!(read(&file).unwrap(), gpu_run());
}

#[test]
fn what_another_command_or_program_wrote_is_called_by_its_name() {
    for (content, why) in [
        (&b"{\"context\": {}, \"benchmarks\": []}"[..], "no format_version"),
        (b"{\"format_version\": 1, \"mutants\": []}", "check --mutants"),
        (b"{\"format_version\": 1, \"format\": \"fusebench-dump\"}", "manifest of a dump"),
        (b"\xff\xfe{\0", "UTF-16"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"[1, 2]", "line 1"),
        (b"\"a\"", "line 1"),
        (b"\0\0\0\0", "line 1"),
    ] {
        let message = refusal(content);
        assert!(message.contains(why), "{message}");
    }
    // No depth exhausts the stack.
    for open in ["{\"x\":", "{\"format_version\":", "["] {
        let message = refusal(open.repeat(100_000).as_bytes());
        assert!(message.contains("line 1"), "{message}");
    }
}

#[test]
fn a_field_of_another_type_is_named_with_its_line() {
    let text = to_json(&gpu_run());
    for (from, to, field) in [
        ("\"cores\": 16", "\"cores\": \"many\"", "environment.host.cores: "),
        ("\"status\": \"ok\"", "\"status\": \"fine\"", "rows[0].status: "),
        ("\"median\": 0.00005123", "\"median\": NaN", "rows[0].time.median: "),
        ("\"median\": 0.00005123", "\"median\": null", "rows[0].time.median: "),
        ("\"median\": 0.00005123", "\"median\": 1e999", "rows[0].time.median: "),
        ("\"subgroup_size\": [", "\"subgroup_size\": [ 1,", "environment.device.subgroup_size"),
        ("\"cores\": 16", "\"cores\": 99999999999", "environment.host.cores: "),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let message = refusal(changed.as_bytes());
        assert!(message.contains(field) && message.contains("\nline "), "{message}");
    }
}

#[test]
fn a_value_that_no_run_writes_is_named() {
    type Spoil = fn(&mut Run);
    fn time(run: &mut Run) -> &mut Time {
        run.rows[1].time.as_mut().expect("a timed row")
    }
    let spoils: [(&str, Spoil); 14] = [
        ("rows[1].time.samples[2]: 0 is no time", |run| time(run).samples[2] = 0.0),
        ("rows[1].time.samples[0]: -0.001 is", |run| time(run).samples[0] = -1e-3),
        ("rows[1].time.samples: there is none", |run| time(run).samples.clear()),
        ("rows[1].time.median: -1", |run| time(run).median = -1.0),
        ("rows[1].time.median: 0.00001231 is not", |run| time(run).low = 1.0),
        ("rows[1].time.cold_median: 0", |run| time(run).cold_median = Some(0.0)),
        ("rows[1].time.unit: \"ms\"", |run| time(run).unit = "ms".to_string()),
        ("rows[2].id: ", |run| {
            let (from, row) = run.rows.split_at_mut(2);
            (row[0].id, row[0].variant) = (from[0].id.clone(), from[0].variant.clone());
            row[0].dtype = from[0].dtype.clone();
        }),
        ("rows[0].id: \"a/b\"", |run| run.rows[0].id = "a/b".to_string()),
        ("rows[0].id: ", |run| run.rows[0].id.push_str("\u{1b}[31m")),
        ("rows[0].id: ", |run| run.rows[0].kernel = "other".to_string()),
        ("rows[1].time: ", |run| run.rows[1].status = Status::Wrong),
        ("environment.fingerprint: ", |run| run.environment.fingerprint = "x".to_string()),
        ("environment.started: ", |run| run.environment.started = "today".to_string()),
    ];
    for (says, spoil) in spoils {
        let mut run = gpu_run();
        spoil(&mut run);
        let message = refusal(to_json(&run).as_bytes());
        assert!(message.contains(says), "no {says}: {message}");
    }
}

#[test]
fn in_a_partial_file_the_line_is_named() {
    let (folder, mut run) = (folder(), gpu_run());
    run.rows[1].time.as_mut().expect("a timed row").samples[2] = -2.0;
    drop(streamed(&folder.path().join("run.json"), &run));
    let partial = folder.path().join("run.json.partial.jsonl");
    let message = read(&partial).expect_err("a refusal").to_string();
    assert!(message.contains("\nline 3, time.samples[2]: -2 is no time"), "{message}");
}

#[test]
fn a_last_line_that_is_whole_but_foreign_is_an_error() {
    let (folder, run) = (folder(), gpu_run());
    drop(streamed(&folder.path().join("run.json"), &run));
    let partial = folder.path().join("run.json.partial.jsonl");
    let mut bytes = fs::read(&partial).expect("a partial file");
    bytes.extend(b"{\"id\": 3}");
    let message = refusal(&bytes);
    assert!(message.contains("id: invalid type"), "{message}");
}

#[test]
fn text_after_a_finished_run_is_an_error() {
    let text = to_json(&gpu_run());
    let last = text.lines().count();
    let message = refusal(format!("{text}{{\"id\": 1}}\n").as_bytes());
    assert!(message.contains(&format!("line {}: there is more", last + 1)), "{message}");
}

#[test]
fn every_cut_of_a_finished_file_is_refused_or_loses_nothing() {
    let run = gpu_run();
    let text = to_json(&run);
    let path = PathBuf::from("cut.json");
    for end in (0..text.len()).step_by(37).chain(text.len() - 4..=text.len()) {
        match parse(&path, &text.as_bytes()[..end]) {
            Ok(found) => assert_eq!(found, run, "cut at {end}"),
            Err(error) => assert_eq!(error.to_string().lines().count(), 3, "{error}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_without_end_is_given_up() {
    let message = read(Path::new("/dev/zero")).expect_err("a refusal").to_string();
    assert!(message.contains("longer than"), "{message}");
}

#[test]
fn a_name_from_the_file_cannot_break_a_line_or_steer_the_terminal() {
    let text = to_json(&gpu_run()).replace("\"fusebench\"", "\"fuse\\n\\u001b[2Jbench\"");
    assert!(refusal(text.as_bytes()).contains("environment: missing field `fusebench`"));
    let text =
        to_json(&gpu_run()).replace("\"driver\": \"NVIDIA\"", "\"a\\n\\u001b[2J\": 0, \"b\"");
    let message = refusal(text.as_bytes());
    assert!(!message.contains('\u{1b}'), "{message}");
    let broken =
        "{\"format_version\": 1, \"complete\": true, \"environment\": {\"a\\n\\u001b[2J\": x";
    let message = refusal(broken.as_bytes());
    assert!(message.contains("a\\n\\u{1b}[2J") && !message.contains('\u{1b}'), "{message}");
}
