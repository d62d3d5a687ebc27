//! Two finished runs side by side: worst first, every doubt with what to do about it.

mod data;
pub mod unchanged;

use super::header::count;
use super::layout::{Cell, Column, Style, clean, fit, truncate, wrap};
use super::markdown;
use crate::compare::runs::{AccuracyFound, ComparedCell};
use crate::compare::sessions::{MIN_RUNS, Ratio};
use crate::compare::{Reason, Verdict};
use crate::record::{Environment, Run, Unlike};
use crate::units::{NONE, Seconds, significant};
pub use data::{csv, json};

/// What is to be shown.
pub struct Sessions<'a> {
    pub base: &'a Run,
    pub head: &'a Run,
    pub unlike: &'a Unlike,
    pub cells: &'a [ComparedCell],
    /// What lies between the new run and the second measurement of what was SLOWER, if there was
    /// one: `process` or `boot`.
    pub confirmed: Option<&'static str>,
}

/// Width of the labels above the table.
const LABEL: usize = 13;
/// What is said of a cell stands below its numbers.
const INDENT: usize = 9;
const WORD_LINES: usize = 3;
const MIN_WIDTH: usize = 40;
const NOT_INTERLEAVED: &str = "the runs were not interleaved: intervals hold what two sessions \
    differ by on their own, and SAME means within the floor; `fusebench ab` interleaves two builds \
    and tells smaller changes";

const COLUMNS: [Column; 7] = [
    Column::left("verdict"),
    Column::right("change"),
    Column::right("95 % interval"),
    Column::right("floor"),
    Column::right("base").expendable(2),
    Column::right("new").expendable(1),
    Column::left("cell"),
];

impl Sessions<'_> {
    /// Cells worth a line, worst first, then by how much they changed.
    fn shown(&self) -> Vec<&ComparedCell> {
        let tells = |cell: &&ComparedCell| {
            let changed = matches!(cell.accuracy, AccuracyFound::Changed(_));
            cell.verdict.is_some() || cell.ratio.is_some() || changed
        };
        let mut cells: Vec<&ComparedCell> = self.cells.iter().filter(tells).collect();
        let size = |cell: &ComparedCell| cell.ratio.map_or(0.0, |ratio| ratio.ratio.ln().abs());
        cells.sort_by(|a, b| {
            let rank = |cell: &ComparedCell| cell.verdict.map_or(u8::MAX, |verdict| verdict as u8);
            rank(a).cmp(&rank(b)).then(size(b).total_cmp(&size(a))).then(a.id.cmp(&b.id))
        });
        cells
    }

    /// `12 cells: 1 SLOWER, 11 SAME`
    fn totals(&self) -> String {
        let of = |verdict| self.cells.iter().filter(|cell| cell.verdict == Some(verdict)).count();
        let parts: Vec<String> = Verdict::ALL
            .into_iter()
            .map(|verdict| (of(verdict), verdict.name()))
            .filter(|(n, _)| *n > 0)
            .map(|(n, name)| format!("{n} {name}"))
            .collect();
        let none = self.cells.iter().filter(|cell| cell.verdict.is_none()).count();
        let none = (none > 0).then(|| format!("{none} without a verdict"));
        let parts: Vec<String> = parts.into_iter().chain(none).collect();
        format!("{}: {}", count(self.cells.len(), "cell"), parts.join(", "))
    }

    /// What holds for the whole table.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = vec![NOT_INTERLEAVED.to_string()];
        let noises = || self.cells.iter().filter_map(|cell| cell.noise);
        let single = noises().filter(|noise| noise.is_single_run()).count();
        if single > 0 {
            remarks.push(format!(
                "* single-run: the history holds fewer than {MIN_RUNS} runs of {} on this \
                 fingerprint, so their noise is assumed; add runs with `fusebench history add`",
                count(single, "cell")
            ));
        }
        let raised = noises().filter(|noise| noise.raised).count();
        if raised > 0 {
            remarks.push(format!(
                "† floor of {} raised to twice its noise against itself, as `fusebench selftest` \
                 found it",
                count(raised, "cell")
            ));
        }
        let doubtful = |cell: &&ComparedCell| cell.reason == Some(Reason::Straddles);
        if let Some(first) = self.cells.iter().find(doubtful) {
            remarks.push(format!(
                "UNCLEAR: neither a change beyond the floor nor the lack of one is shown; next: {}",
                next_step(first)
            ));
        }
        let skipped =
            self.cells.iter().filter(|cell| cell.accuracy == AccuracyFound::Incomparable).count();
        if skipped > 0 {
            remarks.push(format!(
                "accuracy of {} not compared: sampled rows or other data; use --preset smoke, or \
                 `fusebench check --full -o FILE`, to verify whole outputs",
                count(skipped, "cell")
            ));
        }
        remarks
    }

    /// Labelled lines: both sides, and in what they are unlike.
    fn header(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("base", side(self.base)),
            ("new", side(self.head)),
            ("device", device(&self.head.environment)),
        ];
        if let Some(strength) = self.confirmed {
            let text = format!("SLOWER cells measured again, in another {strength}");
            lines.push(("confirmed", text));
        }
        for (half, fields) in [("DEVICE", &self.unlike.device), ("ENV", &self.unlike.env)] {
            lines.extend(fields.iter().map(|one| {
                let text = format!("{half}, {}: {} → {}", one.field, one.base, one.head);
                ("unlike", clean(&text))
            }));
        }
        lines
    }
}

fn side(run: &Run) -> String {
    let tool = &run.environment.fusebench;
    let dirty = if tool.dirty { "+dirty" } else { "" };
    let part = if run.complete { "" } else { ", incomplete" };
    clean(&format!(
        "commit {}{dirty}, {}, started {}, fingerprint {}{part}",
        tool.commit,
        count(run.rows.len(), "cell"),
        run.environment.started,
        run.environment.fingerprint
    ))
}

fn device(environment: &Environment) -> String {
    let device = &environment.device;
    let emulated = if device.emulated { ", CPU-emulated: not comparable with GPUs" } else { "" };
    let driver = format!("{} {}", device.driver, device.driver_info);
    clean(&format!("{} ({}), driver {driver}{emulated}", device.name, device.backend))
}

/// The table in a terminal, at most `width` columns wide.
pub fn table(found: &Sessions<'_>, colour: bool, width: usize) -> String {
    let width = width.max(MIN_WIDTH);
    let mut lines = Vec::new();
    let mut labelled = |label: &str, text: &str| {
        for (index, text) in wrap(text, width - LABEL, WORD_LINES).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let space = LABEL.saturating_sub(label.len());
            lines.push(format!("{}{:space$}{text}", Style::Dim.paint(label, colour), ""));
        }
    };
    found.header().iter().for_each(|(label, text)| labelled(label, text));
    lines.push(String::new());
    let shown = found.shown();
    let rows: Vec<Vec<Cell>> = shown.iter().map(|cell| columns(cell)).collect();
    let fit = fit(&COLUMNS, rows.iter().map(Vec::as_slice), 0, width);
    let titles = COLUMNS.map(|column| Cell::styled(column.title, Style::Dim));
    lines.push(fit.line(&COLUMNS, &titles, 0, colour));
    for (cell, row) in shown.iter().zip(&rows) {
        let plain = fit.line(&COLUMNS, row, 0, false);
        let wide = plain.chars().count() > width;
        lines.push(if wide { truncate(&plain, width) } else { fit.line(&COLUMNS, row, 0, colour) });
        for words in words(cell) {
            for text in wrap(&words, width - INDENT, WORD_LINES) {
                lines.push(format!("{:INDENT$}{}", "", Style::Dim.paint(&text, colour)));
            }
        }
    }
    lines.push(String::new());
    lines.push(found.totals());
    for remark in found.remarks() {
        lines.extend(wrap(&remark, width, WORD_LINES));
    }
    lines.join("\n") + "\n"
}

fn columns(cell: &ComparedCell) -> Vec<Cell> {
    let style = match cell.verdict {
        Some(Verdict::Wrong | Verdict::Slower) => Style::Bad,
        Some(Verdict::Faster) => Style::Good,
        Some(Verdict::Unclear) => Style::Warn,
        _ => Style::Plain,
    };
    let time = |seconds: Option<f64>| seconds.map_or(NONE.to_string(), |s| Seconds(s).to_string());
    let ratio = cell.ratio.as_ref();
    vec![
        Cell::styled(cell.verdict.map_or(NONE, Verdict::name), style),
        Cell::styled(ratio.map_or(String::new(), |ratio| change(ratio.ratio)), style),
        Cell::new(ratio.map_or(String::new(), interval)),
        Cell::new(cell.noise.map_or(String::new(), |noise| {
            let mark = |is: bool, mark: &'static str| if is { mark } else { "" };
            let (single, raised) = (mark(noise.is_single_run(), "*"), mark(noise.raised, "†"));
            format!("{:.0} %{single}{raised}", 100.0 * noise.floor)
        })),
        Cell::new(time(cell.base_s)),
        Cell::new(time(cell.head_s)),
        Cell::new(name(cell)),
    ]
}

/// The id, and the mode of checks where it is not the usual one.
fn name(cell: &ComparedCell) -> String {
    match cell.checks.as_str() {
        "safe" => clean(&cell.id),
        checks => clean(&format!("{} ({checks})", cell.id)),
    }
}

/// `+6.1 %`
pub fn change(ratio: f64) -> String {
    let percent = 100.0 * (ratio - 1.0);
    if !percent.is_finite() {
        return NONE.to_string();
    }
    format!("{percent:+.1} %")
}

pub fn interval(ratio: &Ratio) -> String {
    format!("[{:+.1}, {:+.1}]", 100.0 * (ratio.low - 1.0), 100.0 * (ratio.high - 1.0))
}

/// What is said of a cell below its numbers: why, what to do next, and how its error changed.
fn words(cell: &ComparedCell) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(reason) = cell.reason {
        words.extend(sentence(cell, reason));
    }
    if let AccuracyFound::Changed(figures) = &cell.accuracy {
        let told = |(name, base, head): &(&str, f64, f64)| {
            // Digits enough to tell the two apart.
            let (old, new) = (significant(*base), significant(*head));
            if old == new {
                format!("{name} {base:e} → {head:e}")
            } else {
                format!("{name} {old} → {new}")
            }
        };
        let figures: Vec<String> = figures.iter().map(told).collect();
        words.push(format!("accuracy changed: {}", figures.join(", ")));
    }
    words
}

fn sentence(cell: &ComparedCell, reason: Reason) -> Option<String> {
    let why = cell.why.as_deref().map(clean).unwrap_or_default();
    let text = match reason {
        Reason::Unconfirmed => format!("slower before, and not again: {why}"),
        Reason::Confirmed => format!("slower again: {why}"),
        Reason::Failed => {
            format!("{}: {why}", if cell.head_s.is_some() { "failed" } else { "new" })
        }
        Reason::BaseWrong => format!("the base has no right answer to compare with: {why}"),
        Reason::TimerQuantised => {
            "the timer's steps are too coarse for the floor; next: run both with --max-time 10"
                .to_string()
        }
        _ => return None,
    };
    Some(text)
}

/// What settles a cell that two finished runs leave open.
fn next_step(cell: &ComparedCell) -> String {
    format!("fusebench ab --base BASE --head HEAD '^{}$'", cell.id)
}

/// A table for an issue or a pull request.
pub fn markdown(found: &Sessions<'_>) -> String {
    let mut text = format!("### fusebench compare: {}\n\n", found.totals());
    for (label, line) in found.header() {
        text.push_str(&format!("- {label}: {}\n", markdown::escape(&line)));
    }
    let titles: Vec<&str> = COLUMNS.iter().map(|column| column.title).collect();
    text.push_str(&format!("\n{}\n", markdown::line(&titles)));
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
    for cell in found.shown() {
        let mut fields: Vec<String> =
            columns(cell).iter().map(|field| markdown::escape(&field.text)).collect();
        let said = words(cell).join("; ");
        if !said.is_empty() {
            let last = fields.last_mut().expect("the cell is a column");
            last.push_str(&format!("<br>{}", markdown::escape(&said)));
        }
        text.push_str(&format!("{}\n", markdown::line(&fields)));
    }
    text.push('\n');
    found.remarks().iter().for_each(|remark| text.push_str(&format!("- {remark}\n")));
    text
}
