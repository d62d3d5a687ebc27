//! How times went from run to run.

use serde_json::{Value, json};

use super::header::count;
use super::layout::{Cell, Column, Style, clean, fit, truncate, wrap};
use super::markdown as md;
use super::sessions::change;
use crate::history::{Point, RunInfo, Series};
use crate::measure::stats::median;
use crate::units::{NONE, Seconds, plus_minus, relative_half_interval};

/// A series on one device: its points with the positions of their runs, oldest first.
pub struct Line {
    pub series: Series,
    pub points: Vec<(usize, Point)>,
    /// Seconds of each point, where they were asked for.
    pub samples: Vec<Vec<f32>>,
}

/// What is to be shown; lines are sorted by series.
pub struct Overview<'a> {
    pub path: &'a str,
    pub runs: &'a [RunInfo],
    pub lines: &'a [Line],
}

const COLUMNS: [Column; 5] = [
    Column::left("cell"),
    Column::right("runs").expendable(1),
    Column::right("latest"),
    Column::right("change"),
    Column::left("oldest to latest"),
];
const RUN_COLUMNS: [Column; 6] = [
    Column::left("started"),
    Column::left("commit"),
    Column::right("median"),
    Column::right("±").expendable(1),
    Column::right("change"),
    Column::right("SQNR").expendable(2),
];
const INDENT: usize = 2;
/// A line of noise must not look like a mountain range: the scale spans at least this share of
/// the median.
const LEAST_SPAN: f64 = 0.10;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const KEY: &str = "change: latest against the median of the runs before it in the same \
    environment; `fusebench history changes` tells which are more than noise";

/// Medians as a line of blocks: a bar where the environment changed, `x` where nothing was timed
/// because the run failed.
fn sparkline(runs: &[RunInfo], points: &[(usize, Point)]) -> String {
    let times: Vec<f64> = points.iter().filter_map(|(_, point)| point.median).collect();
    let (low, high) =
        times.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &time| {
            (low.min(time), high.max(time))
        });
    let span = (high - low).max(LEAST_SPAN * median(&times));
    let bottom = 0.5 * (low + high - span);
    let mut text = String::new();
    let mut before: Option<&str> = None;
    for (at, point) in points {
        let fingerprint = runs[*at].fingerprint.as_str();
        if before.is_some_and(|before| before != fingerprint) {
            text.push('|');
        }
        before = Some(fingerprint);
        text.push(match point.median {
            Some(time) => {
                let share = ((time - bottom) / span).clamp(0.0, 1.0);
                LEVELS[((share * 8.0) as usize).min(7)]
            }
            None if point.status == "ok" => ' ',
            None => 'x',
        });
    }
    text
}

/// Median over the median of what came before in the same environment.
fn moved(runs: &[RunInfo], points: &[(usize, Point)], index: usize) -> Option<f64> {
    let (at, point) = &points[index];
    let same = |other: &usize| runs[*other].fingerprint == runs[*at].fingerprint;
    let earlier: Vec<f64> = points[..index]
        .iter()
        .filter(|(other, _)| same(other))
        .filter_map(|(_, point)| point.median)
        .collect();
    let before = median(&earlier);
    point.median.map(|now| now / before).filter(|ratio| ratio.is_finite())
}

fn name(series: &Series) -> String {
    match series.checks.as_str() {
        "safe" => clean(&series.cell),
        checks => clean(&format!("{} ({checks})", series.cell)),
    }
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or(NONE.to_string(), |seconds| Seconds(seconds).to_string())
}

fn columns(found: &Overview<'_>, line: &Line) -> Vec<Cell> {
    let last = line.points.len() - 1;
    let (_, latest) = &line.points[last];
    let moved = moved(found.runs, &line.points, last);
    let failed = latest.median.is_none() && latest.status != "ok";
    let shown = if failed { latest.status.clone() } else { time(latest.median) };
    vec![
        Cell::new(name(&line.series)),
        Cell::new(line.points.len().to_string()),
        Cell::styled(shown, if failed { Style::Bad } else { Style::Plain }),
        Cell::new(moved.map_or(NONE.to_string(), change)),
        Cell::new(sparkline(found.runs, &line.points)),
    ]
}

/// Devices in the order of their first line, with the positions of their lines.
fn by_device<'a>(found: &'a Overview<'_>) -> Vec<(&'a RunInfo, Vec<&'a Line>)> {
    let mut groups: Vec<(&RunInfo, Vec<&Line>)> = Vec::new();
    for line in found.lines {
        let run = &found.runs[line.points[line.points.len() - 1].0];
        match groups.iter_mut().find(|(other, _)| other.device_half() == run.device_half()) {
            Some((_, lines)) => lines.push(line),
            None => groups.push((run, vec![line])),
        }
    }
    groups
}

/// `NVIDIA H200 (vulkan), fingerprint 1f0c55aa-90b1d2e3, driver NVIDIA 570.1`
pub fn device(run: &RunInfo) -> String {
    clean(&format!(
        "{} ({}), fingerprint {}, driver {} {}",
        run.device, run.backend, run.fingerprint, run.driver, run.driver_info
    ))
}

fn header(found: &Overview<'_>) -> String {
    let (first, last) = (found.runs.first(), found.runs.last());
    let day = |run: Option<&RunInfo>| {
        run.map_or(String::new(), |run| run.started().chars().take(10).collect())
    };
    format!("{}: {}, {} to {}", found.path, count(found.runs.len(), "run"), day(first), day(last))
}

/// Lines and, of a single one, runs; at most `width` columns wide where names allow.
pub fn table(found: &Overview<'_>, colour: bool, width: usize) -> String {
    let mut lines = vec![header(found)];
    for (run, group) in by_device(found) {
        lines.push(Style::Bold.paint(&truncate(&device(run), width), colour));
        let rows: Vec<Vec<Cell>> = group.iter().map(|line| columns(found, line)).collect();
        let fit = fit(&COLUMNS, rows.iter().map(Vec::as_slice), INDENT, width);
        let titles = COLUMNS.map(|column| Cell::styled(column.title, Style::Dim));
        lines.push(fit.line(&COLUMNS, &titles, INDENT, colour));
        lines.extend(rows.iter().map(|row| fit.line(&COLUMNS, row, INDENT, colour)));
    }
    if let [line] = found.lines {
        lines.push(String::new());
        lines.extend(runs(found, line, colour, width));
    }
    lines.push(String::new());
    lines.extend(wrap(KEY, width, 3).iter().map(|text| Style::Dim.paint(text, colour)));
    lines.join("\n") + "\n"
}

/// The runs of one series.
fn runs(found: &Overview<'_>, line: &Line, colour: bool, width: usize) -> Vec<String> {
    let rows: Vec<Vec<Cell>> =
        (0..line.points.len()).map(|index| run_columns(found, line, index)).collect();
    let fit = fit(&RUN_COLUMNS, rows.iter().map(Vec::as_slice), INDENT, width);
    let titles = RUN_COLUMNS.map(|column| Cell::styled(column.title, Style::Dim));
    let mut text = vec![fit.line(&RUN_COLUMNS, &titles, INDENT, colour)];
    let mut before: Option<&RunInfo> = None;
    for ((at, _), row) in line.points.iter().zip(&rows) {
        let run = &found.runs[*at];
        if let Some(words) = before.and_then(|before| environment_change(before, run)) {
            text.push(format!("{:INDENT$}{}", "", Style::Warn.paint(&words, colour)));
        }
        before = Some(run);
        text.push(fit.line(&RUN_COLUMNS, row, INDENT, colour));
    }
    text
}

fn run_columns(found: &Overview<'_>, line: &Line, index: usize) -> Vec<Cell> {
    let (at, point) = &line.points[index];
    let run = &found.runs[*at];
    let dirty = if run.dirty { "+dirty" } else { "" };
    let moved = moved(found.runs, &line.points, index);
    let spread = match (point.median, point.low, point.high) {
        (Some(median), Some(low), Some(high)) => {
            plus_minus(relative_half_interval(median, low, high))
        }
        _ => String::new(),
    };
    let shown = match point.median {
        None if point.status != "ok" => Cell::styled(point.status.clone(), Style::Bad),
        median => Cell::new(time(median)),
    };
    vec![
        Cell::new(run.started()),
        Cell::new(clean(&format!("{}{dirty}", run.commit))),
        shown,
        Cell::new(spread),
        Cell::new(moved.map_or(NONE.to_string(), change)),
        Cell::new(point.sqnr_db.map_or(NONE.to_string(), |sqnr| format!("{sqnr:.0} dB"))),
    ]
}

/// `environment changed: driver version 570.1 → 575.2`, between two runs on one device.
pub fn environment_change(before: &RunInfo, after: &RunInfo) -> Option<String> {
    if before.fingerprint == after.fingerprint {
        return None;
    }
    let pairs = before.surroundings().into_iter().zip(after.surroundings());
    let changed = pairs.filter(|(old, new)| old.1 != new.1);
    let told: Vec<String> =
        changed.map(|(old, new)| format!("{} {} → {}", old.0, old.1, new.1)).collect();
    Some(clean(&format!("environment changed: {}", told.join(", "))))
}

/// The lines as a table for an issue.
pub fn markdown(found: &Overview<'_>) -> String {
    let mut text = format!("{}\n", md::escape(&header(found)));
    for (run, group) in by_device(found) {
        let titles: Vec<&str> = COLUMNS.iter().map(|column| column.title).collect();
        text.push_str(&format!("\n**{}**\n\n{}\n", md::escape(&device(run)), md::line(&titles)));
        text.push_str("| --- | ---: | ---: | ---: | --- |\n");
        for line in group {
            let fields = columns(found, line);
            let fields: Vec<String> = fields.iter().map(|cell| md::escape(&cell.text)).collect();
            text.push_str(&format!("{}\n", md::line(&fields)));
        }
    }
    text
}

/// Every point of every line, times in seconds.
pub fn json(found: &Overview<'_>) -> String {
    let lines = found.lines.iter().map(|line| {
        let points = line.points.iter().enumerate().map(|(index, (at, point))| {
            let run = &found.runs[*at];
            let mut value = json!({
                "started": run.started(),
                "commit": run.commit,
                "dirty": run.dirty,
                "fingerprint": run.fingerprint,
                "complete": run.complete,
                "preset": run.preset,
                "status": point.status,
                "samples_taken": point.samples,
            });
            let numbers = [
                ("median_s", point.median),
                ("low_s", point.low),
                ("high_s", point.high),
                ("nmse", point.nmse),
                ("sqnr_db", point.sqnr_db),
            ];
            for (name, number) in numbers {
                number.into_iter().for_each(|number| value[name] = json!(number));
            }
            if let Some(samples) = line.samples.get(index) {
                value["samples_s"] = json!(samples);
            }
            value
        });
        json!({
            "id": line.series.cell,
            "checks": line.series.checks,
            "device": found.runs[line.points[0].0].device,
            "runs": points.collect::<Vec<Value>>(),
        })
    });
    let lines: Vec<Value> = lines.collect();
    serde_json::to_string_pretty(&json!({ "series": lines })).expect("plain values serialise")
}

/// One line a point, times in seconds.
pub fn csv(found: &Overview<'_>) -> String {
    let mut text = "id,checks,fingerprint,started,commit,dirty,status,median_s,low_s,high_s,\
                    samples,nmse,sqnr_db\n"
        .to_string();
    for line in found.lines {
        for (at, point) in &line.points {
            let run = &found.runs[*at];
            let number =
                |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            // Commits of foreign builds may hold anything.
            let commit: String =
                run.commit.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let fields = [
                line.series.cell.clone(),
                line.series.checks.clone(),
                run.fingerprint.clone(),
                run.started(),
                commit,
                run.dirty.to_string(),
                point.status.clone(),
                number(point.median),
                number(point.low),
                number(point.high),
                point.samples.to_string(),
                number(point.nmse),
                number(point.sqnr_db),
            ];
            text.push_str(&(fields.join(",") + "\n"));
        }
    }
    text
}
