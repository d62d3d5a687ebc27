//! Apache Otava: a CSV for each series, with a line for each run, and the configuration that names
//! them. Start it in the folder with OTAVA_CONFIG set, because `--config-file` in front of its
//! subcommand is ignored. It exits 0 even where it finds a change.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use super::series::{self, Series, nanoseconds};
use crate::record::Run;
use crate::report::csv::record;

/// A measure: its column, the direction in which it is better, and its value.
type Measure = (&'static str, i32, f64);

/// One run's line of a series.
struct Point {
    time: String,
    commit: String,
    measures: Vec<Measure>,
}

pub(super) fn files(runs: &[Run]) -> Vec<(String, String)> {
    let mut order: Vec<&Run> = runs.iter().collect();
    order.sort_by_key(|run| time(run));
    let mut all: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for run in order {
        for series in series::of(run) {
            let commit = run.environment.fusebench.commit.clone();
            let written = time(run).map_or(String::new(), written);
            let point = Point { time: written, commit, measures: measures(&series) };
            all.entry(series.name).or_default().push(point);
        }
    }
    let mut config = "tests:\n".to_owned();
    let (mut files, mut taken) = (Vec::new(), HashSet::new());
    for (name, points) in all {
        let test = free_name(&name.replace(['/', ' '], "."), &mut taken);
        let columns = common(&points);
        describe(&mut config, &test, &columns);
        files.push((format!("{test}.csv"), table(&points, &columns)));
    }
    files.insert(0, ("otava.yaml".to_owned(), config));
    files
}

fn time(run: &Run) -> Option<jiff::Timestamp> {
    run.environment.started.parse().ok()
}

fn written(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000").to_string()
}

fn measures(series: &Series<'_>) -> Vec<Measure> {
    let mut measures = vec![("time_us", -1, nanoseconds(series.time.median) / 1e3)];
    measures.extend(series.rates().into_iter().map(|rate| (rate.name, 1, rate.value)));
    measures.extend(series.nmse().map(|nmse| ("nmse", -1, nmse)));
    measures
}

/// The measures that every point has: Otava takes no empty field.
fn common(points: &[Point]) -> Vec<(&'static str, i32)> {
    let has = |point: &Point, name| point.measures.iter().any(|(other, ..)| *other == name);
    let first = points[0].measures.iter().map(|(name, direction, _)| (*name, *direction));
    first.filter(|(name, _)| points.iter().all(|point| has(point, *name))).collect()
}

/// Two ids may differ in what a file name cannot tell.
fn free_name(wanted: &str, taken: &mut HashSet<String>) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    // File names are compared without case on some systems.
    while !taken.insert(name.to_lowercase()) {
        name = format!("{wanted}.{number}");
        number += 1;
    }
    name
}

fn describe(config: &mut String, test: &str, columns: &[(&str, i32)]) {
    let metrics: Vec<String> = columns
        .iter()
        .map(|(name, direction)| format!("{name}: {{direction: {direction}, scale: 1}}"))
        .collect();
    let _ = writeln!(
        config,
        "  \"{test}\":\n    type: csv\n    file: \"{test}.csv\"\n    time_column: time\n    \
         attributes: [commit]\n    metrics: {{{}}}\n    \
         csv_options: {{delimiter: \",\", quote_char: '\"'}}",
        metrics.join(", ")
    );
}

fn table(points: &[Point], columns: &[(&str, i32)]) -> String {
    let mut header = vec!["time".to_owned(), "commit".to_owned()];
    header.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    let mut text = record(&header);
    for point in points {
        let mut fields = vec![point.time.clone(), point.commit.clone()];
        for (name, _) in columns {
            let found = point.measures.iter().find(|(other, ..)| other == name);
            fields.extend(found.map(|(.., value)| format!("{value:?}")));
        }
        text.push_str(&record(&fields));
    }
    text
}
