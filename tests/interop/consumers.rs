//! The consumers themselves, in Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use fusebench::record::{Run, Status};

use super::common::python::Python;
use super::common::{ran, skipped};
use super::{Files, ends, run};

fn python(test: &str, module: &str) -> Option<Python> {
    Python::with(test, "consumers", module)
}

fn script(python: &Python, folder: &Path, text: &str) -> Output {
    python.command().args(["-c", text]).current_dir(folder).output().expect("Python starts")
}

/// Runs of successive days, the first cell's times in the second half longer by this factor.
fn series(files: &Files, factor: f64) -> Vec<PathBuf> {
    const RUNS: usize = 24;
    (0..RUNS)
        .map(|day| {
            let mut run = run();
            run.environment.started = format!("2026-10-{:02}T08:00:00Z", day + 1);
            run.environment.fusebench.commit = format!("c{day:02}");
            for (at, row) in run.rows.iter_mut().enumerate() {
                let step = if at == 0 && day >= RUNS / 2 { factor } else { 1.0 };
                // Noise of 1 % that repeats in every run of the test.
                let noise = 1.0 + 0.01 * ((day * 7 + at * 3) % 11) as f64 / 11.0;
                if let Some(time) = &mut row.time {
                    for seconds in [&mut time.low, &mut time.median, &mut time.high] {
                        *seconds *= step * noise;
                    }
                }
            }
            files.write(&format!("day{day:02}.json"), &run)
        })
        .collect()
}

/// What Otava says of one cell over the runs.
fn otava(python: &Python, files: &Files, folder: &str, runs: &[PathBuf], test: &str) -> String {
    let folder = files.path(folder);
    let paths: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    files.export("otava", &paths, &["-o", folder.to_str().expect("UTF-8")]);
    let out = python
        .command()
        .args(["-m", "otava.main", "analyze", test, "--since", "2026-01-01"])
        .env("OTAVA_CONFIG", "otava.yaml")
        .current_dir(&folder)
        .output()
        .expect("Python starts");
    ends(&out, 0, &[]);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn otava_finds_the_step_where_it_is_and_none_where_there_is_none() {
    let name = "otava_finds_the_step_where_it_is_and_none_where_there_is_none";
    let Some(python) = python(name, "otava") else { return };
    let files = Files::new();
    let test = |at: usize| run().rows[at].id.replace('/', ".");
    let stepped = series(&files, 1.2);
    let said = otava(&python, &files, "stepped", &stepped, &test(0));
    // Otava draws a line of dots under the last good point, with the change in per cent.
    let lines: Vec<&str> = said.lines().collect();
    let change = lines.iter().position(|line| line.contains('%')).expect("a change");
    assert!(lines[change].contains("+2") || lines[change].contains("+1"), "{said}");
    assert!(lines[change + 1..].iter().any(|line| line.contains("c12")), "{said}");
    assert!(!lines[..change].iter().any(|line| line.contains("c12")), "{said}");
    let said = otava(&python, &files, "other", &stepped, &test(1));
    assert!(said.contains("c12") && !said.contains('%'), "{said}");
    let said = otava(&python, &files, "level", &series(&files, 1.0), &test(0));
    assert!(said.contains("c12") && !said.contains('%'), "{said}");
    ran(name);
}

#[test]
fn prometheus_reads_every_family_and_refuses_a_cut_file() {
    let name = "prometheus_reads_every_family_and_refuses_a_cut_file";
    let Some(python) = python(name, "prometheus_client") else { return };
    let (files, run) = (Files::new(), run());
    fs::write(files.path("metrics.txt"), files.text("openmetrics", &run)).expect("a file");
    let row = &run.rows[0];
    let time = row.time.as_ref().expect("timed");
    let checks = format!(
        "kernel, median, count = {:?}, {:?}, {}\n",
        row.kernel,
        time.median,
        time.samples.len()
    );
    let read = "
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
text = open('metrics.txt', newline='').read()
families = {family.name: family for family in parse(text)}
first = families['fusebench_kernel_time_seconds'].samples[0]
assert first.labels['kernel'] == kernel and first.value == median, first
samples = families['fusebench_kernel_time_samples_seconds'].samples
assert next(s.value for s in samples if s.name.endswith('_count')) == count
assert {s.labels['status'] for s in families['fusebench_cells'].samples} >= {'ok', 'wrong'}
assert families['fusebench_device'].type == 'info'
for broken in [text.replace('# EOF\\n', ''), text.replace('_seconds', '_s'),
               text.replace('le=\"+Inf\"', 'le=\"9\"')]:
    try:
        list(parse(broken))
    except (ValueError, KeyError):
        continue
    raise SystemExit('a broken file is read')
";
    ends(&script(&python, files.folder.path(), &(checks + read)), 0, &[]);
    ran(name);
}

#[test]
fn readers_of_junit_count_what_failed() {
    let name = "readers_of_junit_count_what_failed";
    let Some(python) = python(name, "junitparser") else { return };
    let (files, run) = (Files::new(), run());
    fs::write(files.path("junit.xml"), files.text("junit", &run)).expect("a file");
    let count = |status: Status| run.rows.iter().filter(|row| row.status == status).count();
    let counts = format!(
        "total, wrong, error, skipped = {}, {}, {}, {}\n",
        run.rows.len(),
        count(Status::Wrong),
        count(Status::Error),
        count(Status::Skipped) + count(Status::Unsupported)
    );
    let read = "
import junitparser
xml = junitparser.JUnitXml.fromfile('junit.xml')
assert (xml.tests, xml.failures, xml.errors) == (total, wrong, error), xml
suite = next(iter(xml))
assert (suite.tests, suite.skipped) == (total, skipped)
kinds = [type(result).__name__ for case in suite for result in case.result]
assert (kinds.count('Failure'), kinds.count('Error')) == (wrong, error), kinds
assert kinds.count('Skipped') == skipped, kinds
failed = next(case for case in suite if case.result and case.result[0].type == 'WrongResult')
assert failed.result[0].message == 'G1 & <others>: 3 times its bound', failed.result
assert all(case.time > 0 for case in suite if not case.result)
suite.update_statistics()
assert (suite.tests, suite.failures, suite.skipped) == (total, wrong, skipped)
";
    ends(&script(&python, files.folder.path(), &(counts + read)), 0, &[]);
    ran(name);
}

#[test]
fn python_reads_the_table_as_it_was_measured() {
    let name = "python_reads_the_table_as_it_was_measured";
    let Some(python) = python(name, "csv") else { return };
    let (files, run) = (Files::new(), run());
    fs::write(files.path("run.csv"), files.text("csv", &run)).expect("a file");
    let read = "
import csv, json
rows = list(csv.DictReader(open('run.csv', newline='')))
run = json.load(open('run.json'))
assert len(rows) == len(run['rows'])
for row, known in zip(rows, run['rows']):
    assert row['id'] == known['id'] and row['status'] == known['status'], row
    assert (row['reason'] or None) == known['reason'], row
    assert float(row['median_s'] or 0) == known.get('time', {}).get('median', 0), row
";
    ends(&script(&python, files.folder.path(), read), 0, &[]);
    ran(name);
}

/// Where Debian's libbenchmark-tools puts it; no registry has it.
const COMPARE: &str = "/usr/share/benchmark/compare.py";

/// google/benchmark's own comparison of two runs; it wants SciPy, which Otava brings along.
#[test]
fn compare_py_tests_the_repetitions() {
    let name = "compare_py_tests_the_repetitions";
    let Some(python) = python(name, "scipy") else { return };
    let compare = std::env::var("FUSEBENCH_TEST_COMPARE_PY").unwrap_or(COMPARE.to_owned());
    if !Path::new(&compare).exists() {
        return skipped(name, "no compare.py of google/benchmark, as in libbenchmark-tools");
    }
    let (files, mut slower) = (Files::new(), run());
    let folder = |name: &str, run: &Run| {
        let path = files.write("run.json", run);
        let folder = files.path(name);
        files.export("gbench", &[&path], &["-o", folder.to_str().expect("UTF-8")]);
        folder.join("fusebench.repetitions.json").to_str().expect("UTF-8").to_owned()
    };
    let base = folder("base", &slower);
    let time = slower.rows[0].time.as_mut().expect("timed");
    time.samples.iter_mut().for_each(|sample| *sample *= 1.5);
    let head = folder("head", &slower);
    let out = python.command().args([&compare, "--no-color", "benchmarks", &base, &head]).output();
    let out = out.expect("Python starts");
    ends(&out, 0, &[&slower.rows[0].id, "_pvalue", "+0.5000"]);
    ran(name);
}
