use serde_json::Value;
use snapbox::{assert_data_eq, file};

use super::*;
use crate::record::Status;
use crate::record::comparison_fixture::comparison;
use crate::record::fixture::{emulated_run, gpu_run};

fn one(form: Form, run: &Run) -> String {
    match form.write(std::slice::from_ref(run)) {
        Export::One(text) => text,
        Export::Several(files) => files.into_iter().map(|(_, text)| text).collect(),
    }
}

fn files(form: Form, runs: &[Run]) -> Vec<(String, String)> {
    match form.write(runs) {
        Export::One(_) => panic!("{form:?} makes one file"),
        Export::Several(files) => files,
    }
}

/// All files of a form, each behind its name.
fn listing(form: Form, runs: &[Run]) -> String {
    let files = files(form, runs).into_iter();
    files.map(|(name, text)| format!("=== {name}\n{}", text.replace('\r', ""))).collect()
}

/// A run with a cell in both modes, the trusted one as a row of its own.
fn both_modes() -> Run {
    let mut run = gpu_run();
    let mut trusted = run.rows[5].clone();
    assert!(trusted.time_trusted.take().is_some(), "the row that carries both");
    trusted.checks = "trusted".to_owned();
    run.rows.push(trusted);
    run
}

#[test]
fn every_form_is_as_it_was() {
    let run = gpu_run();
    assert_data_eq!(one(Form::Bmf, &run), file!["../snapshots/export/bmf.json"].raw());
    assert_data_eq!(one(Form::OpenMetrics, &run), file!["../snapshots/export/metrics.txt"].raw());
    assert_data_eq!(one(Form::JUnit, &run), file!["../snapshots/export/junit.xml"].raw());
    for (form, golden) in [
        (Form::Gha, file!["../snapshots/export/gha.txt"]),
        (Form::Gbench, file!["../snapshots/export/gbench.txt"]),
        (Form::Otava, file!["../snapshots/export/otava.txt"]),
    ] {
        assert_data_eq!(listing(form, std::slice::from_ref(&run)), golden.raw());
    }
}

#[test]
fn names_lead_to_forms_and_no_two_are_equal() {
    for form in Form::ALL {
        let same = Form::ALL.iter().filter(|other| other.name() == form.name());
        assert_eq!(same.count(), 1);
        let several = matches!(form.write(&[gpu_run()]), Export::Several(_));
        assert_eq!(several, form.makes_several_files(), "{form:?}");
    }
}

#[test]
fn a_run_without_times_holds_nothing_for_trackers() {
    let mut run = gpu_run();
    run.rows.retain(|row| row.status != Status::Ok);
    for form in Form::ALL {
        let whole = matches!(form, Form::JUnit | Form::Csv | Form::Markdown);
        assert_eq!(form.holds_something_of(&run), whole, "{form:?}");
        assert!(form.holds_something_of(&gpu_run()), "{form:?}");
    }
    run.rows.clear();
    assert!(Form::ALL.iter().all(|form| !form.holds_something_of(&run)));
}

#[test]
fn modes_of_checks_are_series_of_their_own_and_none_is_there_twice() {
    let names = |run: &Run| -> Vec<String> {
        series::of(run).into_iter().map(|series| series.name).collect()
    };
    let carried = names(&gpu_run());
    let mut own = names(&both_modes());
    let trusted = "layer_norm/row/f16/r257d1408 trusted";
    assert!(carried.contains(&trusted.to_owned()), "{carried:?}");
    assert_eq!(own.pop().as_deref(), Some(trusted), "at its row's place");
    own.push(trusted.to_owned());
    own.sort();
    let mut sorted = carried.clone();
    sorted.sort();
    assert_eq!(own, sorted);
}

/// Every number of a JSON value; a null fails.
fn numbers(value: &Value, found: &mut Vec<f64>) {
    match value {
        Value::Null => panic!("a null"),
        Value::Number(number) => found.push(number.as_f64().expect("finite")),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| numbers(field, found)),
        Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn no_form_holds_a_null_however_odd_the_numbers() {
    let mut run = emulated_run();
    for (row, median) in run.rows.iter_mut().zip([1e-300, 1e300, 5e-324, 1.0]) {
        if let Some(time) = &mut row.time {
            (time.median, time.low, time.high) = (median, median, median);
            time.samples = vec![median];
        }
        row.work.flops = 1e308;
    }
    for form in [Form::Bmf, Form::Gha, Form::Gbench] {
        let written = match form.write(&[run.clone()]) {
            Export::One(text) => vec![text],
            Export::Several(files) => files.into_iter().map(|(_, text)| text).collect(),
        };
        for text in written {
            let mut found = Vec::new();
            numbers(&serde_json::from_str(&text).expect("JSON"), &mut found);
            assert!(!found.is_empty());
        }
    }
    let text = one(Form::OpenMetrics, &run);
    assert!(!text.contains("inf ") && !text.contains("NaN"), "{text}");
}

#[test]
fn neither_host_nor_path_is_in_any_form() {
    let mut run = gpu_run();
    run.environment.arguments = vec!["planted-argument".to_owned()];
    for form in Form::ALL {
        assert!(!one(form, &run).contains("planted-argument"), "{form:?}");
    }
}

#[test]
fn nanoseconds_have_the_digits_of_the_seconds() {
    for (seconds, nanoseconds) in [(1.823e-4, 182_300.0), (5.123e-5, 51_230.0), (7.14e-7, 714.0)] {
        assert_eq!(series::nanoseconds(seconds), nanoseconds);
        // The product alone would not do.
        assert!((seconds * 1e9 - nanoseconds).abs() < 1e-9);
    }
    assert_eq!(series::nanoseconds(0.0), 0.0);
}

#[test]
fn otava_gets_runs_in_the_order_of_their_times_and_no_empty_field() {
    let run = |day: u32, commit: &str, nmse: f64| {
        let mut run = gpu_run();
        run.environment.started = format!("2026-11-{day:02}T08:15:42Z");
        run.environment.fusebench.commit = commit.to_owned();
        for row in &mut run.rows {
            row.accuracy.iter_mut().for_each(|accuracy| accuracy.nmse = nmse);
        }
        run
    };
    let runs = [run(9, "c", f64::INFINITY), run(3, "a", 0.1), run(5, "b", 0.2)];
    let files = files(Form::Otava, &runs);
    let (_, table) = files.iter().find(|(name, _)| name.starts_with("film")).expect("a table");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "time,commit,time_us,gflops,gbytes_per_s", "one run has no NMSE");
    assert!(lines[1].starts_with("2026-11-03 08:15:42 +0000,a,5.7,"), "{table}");
    assert!(lines[2].contains(",b,") && lines[3].contains(",c,"), "{table}");
}

#[test]
fn names_that_only_dots_tell_apart_get_files_of_their_own() {
    let mut run = gpu_run();
    run.rows.truncate(2);
    for (row, id) in run.rows.iter_mut().zip(["a.b/c/f32/r1", "a/b.c/f32/r1"]) {
        row.id = id.to_owned();
    }
    let names: Vec<String> = files(Form::Otava, &[run]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["otava.yaml", "a.b.c.f32.r1.csv", "a.b.c.f32.r1.2.csv"]);
}

#[test]
fn what_xml_cannot_hold_is_escaped_or_left_out() {
    let mut run = gpu_run();
    run.rows[3].reason = Some("a < b & \"c\"\n\u{1b}[2J \u{fffe}\u{10ffff}".to_owned());
    let text = one(Form::JUnit, &run);
    assert!(text.contains("a &lt; b &amp; &quot;c&quot;&#10;[2J \u{10ffff}"), "{text}");
}

#[test]
fn verdicts_are_in_test_reports_and_comments_only() {
    let found = comparison();
    let junit = Form::JUnit.write_comparison(&found).expect("a test report");
    assert_data_eq!(junit, file!["../snapshots/export/compared.xml"].raw());
    let markdown = Form::Markdown.write_comparison(&found).expect("a comment");
    assert!(markdown.contains("SLOWER"), "{markdown}");
    let without = Form::ALL.iter().filter(|form| form.write_comparison(&found).is_none());
    assert_eq!(without.count(), Form::ALL.len() - 2);
}
