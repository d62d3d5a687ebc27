//! A summary for a pull request: the worst first, long tables folded, and never longer than a
//! comment may be.

use std::collections::BTreeMap;

use super::header;
use super::layout::{clean, truncate};
use super::markdown;
use crate::record::{Row, Run, Status};
use crate::units::{
    BytesPerSecond, FlopsPerSecond, NONE, OpsPerSecond, Seconds, fraction_of_peak, percent,
    plus_minus, relative_half_interval,
};

/// GitHub takes 65,536 characters, GitLab more; what a workflow adds needs some of them.
pub const LIMIT_BYTES: usize = 60_000;
/// By this line a workflow finds its earlier comment and replaces it.
pub const MARKER: &str = "<!-- fusebench -->";
/// One reason must not push the others out.
const REASON_CHARACTERS: usize = 240;
/// A device's or a driver's name may be anything.
const HEAD_CHARACTERS: usize = 400;

/// A table of a comment.
pub(super) struct Table {
    pub title: String,
    /// Titles of the columns; numbers are aligned right.
    pub columns: Vec<Column>,
    /// Worst first: what does not fit is left out from the end.
    pub rows: Vec<Vec<String>>,
    /// Folded until somebody wants to see it.
    pub folded: bool,
}

pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// Puts a comment together from what always stands there and the tables, as many of their rows as
/// fit; of the rest the number.
pub(super) fn compose(title: &str, head: &[String], tables: &[Table]) -> String {
    let mut text = format!("{MARKER}\n### {}\n", short(title, HEAD_CHARACTERS));
    for paragraph in head {
        text.push_str(&format!("\n{}\n", short(paragraph, HEAD_CHARACTERS)));
    }
    let tables: Vec<&Table> = tables.iter().filter(|table| !table.rows.is_empty()).collect();
    for (at, table) in tables.iter().enumerate() {
        let (open, close) = frame(table);
        let reserved: usize = tables[at..].iter().map(|table| frame_bytes(table)).sum();
        let mut room = LIMIT_BYTES.saturating_sub(text.len() + reserved);
        text.push_str(&open);
        let mut shown = 0;
        for row in &table.rows {
            let line = markdown::line(row) + "\n";
            if line.len() > room {
                break;
            }
            room -= line.len();
            text.push_str(&line);
            shown += 1;
        }
        if shown < table.rows.len() {
            text.push_str(&left_out(table.rows.len() - shown));
        }
        text.push_str(&close);
    }
    text
}

/// What stands around the rows of a table.
fn frame(table: &Table) -> (String, String) {
    let titles: Vec<&str> = table.columns.iter().map(Column::title).collect();
    let rule: Vec<&str> = table.columns.iter().map(Column::rule).collect();
    let (titles, rule) = (markdown::line(&titles), markdown::line(&rule));
    let name = format!("{} ({})", table.title, table.rows.len());
    match table.folded {
        false => (format!("\n**{name}**\n\n{titles}\n{rule}\n"), String::new()),
        true => (
            format!("\n<details><summary>{name}</summary>\n\n{titles}\n{rule}\n"),
            "\n</details>\n".to_owned(),
        ),
    }
}

fn frame_bytes(table: &Table) -> usize {
    let (open, close) = frame(table);
    open.len() + left_out(table.rows.len()).len() + close.len()
}

fn left_out(rows: usize) -> String {
    format!("\nand {rows} more, in the result file\n")
}

impl Column {
    fn title(&self) -> &'static str {
        match self {
            Column::Text(title) | Column::Number(title) => title,
        }
    }

    fn rule(&self) -> &'static str {
        match self {
            Column::Text(_) => "---",
            Column::Number(_) => "---:",
        }
    }
}

/// Text from a file as text: no markup, no mention of a person, no more than so many characters.
pub(super) fn short(text: &str, characters: usize) -> String {
    // A space of no width keeps `@name` from calling somebody.
    markdown::escape(&truncate(&clean(text), characters)).replace('@', "@\u{200b}")
}

/// A run: what is wrong, then what was timed, the furthest from its ceiling first, then what did
/// not run and why.
pub fn of_run(run: &Run) -> String {
    let failed = |row: &&Row| matches!(row.status, Status::Wrong | Status::Error);
    let title = match run.rows.iter().filter(failed).count() {
        0 => format!("fusebench: {}", header::totals(run)),
        n => format!("fusebench: {n} wrong or failed of {}", header::totals(run)),
    };
    let mut head: Vec<String> = header::banners(run);
    let origin = header::origin(&run.environment);
    let origin: Vec<String> = origin.iter().map(|(name, text)| format!("{name} {text}")).collect();
    head.push(origin.join("; "));
    compose(&title, &head, &[failures(run), times(run), refusals(run)])
}

fn failures(run: &Run) -> Table {
    let of = |status| run.rows.iter().filter(move |row| row.status == status);
    let rows = of(Status::Wrong).chain(of(Status::Error)).map(|row| {
        let reason = row.reason.as_deref().unwrap_or_default();
        vec![row.status.name().to_owned(), name(row), short(reason, REASON_CHARACTERS)]
    });
    Table {
        title: "Wrong or failed".to_owned(),
        columns: vec![Column::Text("status"), Column::Text("id"), Column::Text("reason")],
        rows: rows.collect(),
        folded: false,
    }
}

fn times(run: &Run) -> Table {
    let mut timed: Vec<&Row> = run.rows.iter().filter(|row| row.time.is_some()).collect();
    let share = |row: &Row| row.rate.as_ref().and_then(|rate| rate.fraction_of_peak);
    timed.sort_by(|a, b| share(a).unwrap_or(f64::MAX).total_cmp(&share(b).unwrap_or(f64::MAX)));
    let columns = vec![
        Column::Text("id"),
        Column::Number("median"),
        Column::Number("±"),
        Column::Number("rate"),
        Column::Number("of peak"),
        Column::Number("SQNR"),
    ];
    let rows = timed.iter().map(|row| time_row(row)).collect();
    Table { title: "Timed".to_owned(), columns, rows, folded: true }
}

fn time_row(row: &Row) -> Vec<String> {
    let mut fields = vec![name(row)];
    let time = row.time.as_ref().expect("only timed rows are shown here");
    fields.push(Seconds(time.median).to_string());
    fields.push(plus_minus(relative_half_interval(time.median, time.low, time.high)));
    let rate = row.rate.as_ref();
    let memory = |bound: &str| bound == "memory";
    fields.push(rate.map_or(NONE.to_owned(), |rate| {
        match rate.bound_by.as_deref().is_some_and(memory) || row.work.flops == 0.0 {
            true => BytesPerSecond(rate.bytes_per_s).to_string(),
            false if row.work.arithmetic == "i8" => OpsPerSecond(rate.flops_per_s).to_string(),
            false => FlopsPerSecond(rate.flops_per_s).to_string(),
        }
    }));
    let share = rate.and_then(|rate| rate.fraction_of_peak);
    fields.push(share.map_or(NONE.to_owned(), fraction_of_peak));
    let accuracy = row.accuracy.as_ref();
    fields.push(accuracy.map_or(NONE.to_owned(), |found| format!("{:.0} dB", found.sqnr_db)));
    fields
}

/// Grouped, because thousands of cells may lack the same thing.
fn refusals(run: &Run) -> Table {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in &run.rows {
        if matches!(row.status, Status::Unsupported | Status::Skipped) {
            let reason = row.reason.as_deref().unwrap_or_default();
            // The run's budget names the time that each cell needs.
            let reason = reason.strip_prefix("run budget:").map_or(reason, |_| "run budget");
            *reasons.entry((row.status.name(), reason)).or_default() += 1;
        }
    }
    let mut groups: Vec<((&str, &str), usize)> = reasons.into_iter().collect();
    groups.sort_by_key(|(_, cells)| std::cmp::Reverse(*cells));
    let rows = groups.into_iter().map(|((status, reason), cells)| {
        let share = percent(cells as f64 / run.rows.len() as f64);
        vec![status.to_owned(), short(reason, REASON_CHARACTERS), cells.to_string(), share]
    });
    Table {
        title: "Did not run, by reason".to_owned(),
        columns: vec![
            Column::Text("status"),
            Column::Text("reason"),
            Column::Number("cells"),
            Column::Number("of all"),
        ],
        rows: rows.collect(),
        folded: true,
    }
}

/// The id, with the mode of checks where it is not the usual one.
fn name(row: &Row) -> String {
    let mode = if row.checks == "safe" { String::new() } else { format!(" {}", row.checks) };
    short(&format!("{}{mode}", row.id), REASON_CHARACTERS)
}

#[cfg(test)]
#[path = "comment_tests.rs"]
mod tests;
