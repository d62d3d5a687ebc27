//! The table in a terminal.

use super::words::{
    Command, accuracy, change, control, floors, interval, next_step, p_value, sentence, side,
    style, totals,
};
use crate::compare::{Reason, Verdict};
use crate::record::{ComparedRow, Comparison};
use crate::report::header::{EMULATED, count, origin};
use crate::report::layout::{Cell, Column, Fit, Style, clean, fit, truncate, wrap};
use crate::units::{Seconds, percent};

/// Labels of the header are padded to this.
const LABEL: usize = 13;
/// What is said of a row stands below its numbers.
const INDENT: usize = 9;
const WORD_LINES: usize = 3;
/// Narrower pages than this would hold nothing.
const MIN_WIDTH: usize = 40;

const COLUMNS: [Column; 8] = [
    Column::left("verdict"),
    Column::right("change"),
    Column::right("95 %"),
    Column::right("p").expendable(2),
    Column::right("pairs").expendable(3),
    Column::right("noise").expendable(4),
    Column::right("head").expendable(1),
    Column::left("cell"),
];

/// Verdicts worst first, at most `width` columns wide.
pub fn table(found: &Comparison, command: Option<&Command>, colour: bool, width: usize) -> String {
    let width = width.max(MIN_WIDTH);
    let mut lines = header(found, colour, width);
    let shown: Vec<&ComparedRow> = found.rows.iter().filter(|row| row.verdict.is_some()).collect();
    let one_sided = |row: &&ComparedRow| row.reason == Some(Reason::OneSided);
    let cells: Vec<Vec<Cell>> =
        shown.iter().filter(|row| !one_sided(row)).map(|row| columns(row)).collect();
    let fitted = fit(&COLUMNS, cells.iter().map(Vec::as_slice), 0, width);
    let titles = COLUMNS.map(|column| Cell::styled(column.title, Style::Dim));
    if !cells.is_empty() {
        lines.push(line(&fitted, &titles, colour, width));
    }
    for (row, cells) in shown.iter().filter(|row| !one_sided(row)).zip(&cells) {
        lines.push(line(&fitted, cells, colour, width));
        lines.extend(below(row, command, colour, width));
    }
    lines.extend(one_sided_lines(found, colour, width));
    lines.extend(idle(found, colour, width));
    lines.push(String::new());
    lines.push(Style::Bold.paint(&truncate(&totals(found), width), colour));
    if let Some(text) = control(found) {
        let bad = found.control.as_ref().is_some_and(|control| !control.valid);
        let style = if bad { Style::Bad } else { Style::Plain };
        lines.extend(wrap(&text, width, WORD_LINES).iter().map(|text| style.paint(text, colour)));
    }
    lines.extend(wrap(&key(found), width, WORD_LINES).iter().map(|t| Style::Dim.paint(t, colour)));
    lines.join("\n") + "\n"
}

fn header(found: &Comparison, colour: bool, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if found.environment.device.emulated {
        lines.push(Style::Warn.paint(EMULATED, colour));
    }
    if !found.complete {
        lines.push(Style::Warn.paint("incomplete: stopped before the end", colour));
    }
    let mut block = origin(&found.environment);
    block.push(("base", clean(&side(&found.base))));
    block.push(("head", clean(&side(&found.head))));
    if let Some(confirms) = &found.confirms {
        let text = format!("run of {}, in another {}", confirms.started, confirms.strength);
        block.push(("confirms", clean(&text)));
    }
    if let Some(inject) = found.protocol.inject {
        block.push(("injected", format!("{} into the head", percent(inject))));
    }
    for (label, text) in block {
        let wrapped = wrap(&text, width.saturating_sub(LABEL), WORD_LINES);
        for (index, text) in wrapped.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let space = LABEL - label.chars().count();
            lines.push(format!("{}{:space$}{text}", Style::Dim.paint(label, colour), ""));
        }
    }
    lines.push(String::new());
    lines
}

fn columns(row: &ComparedRow) -> Vec<Cell> {
    let verdict = row.verdict.map_or("", Verdict::name);
    let ratio = row.ratio.as_ref();
    let style = style(row.verdict);
    vec![
        Cell::styled(verdict, style),
        Cell::styled(ratio.map_or(String::new(), |ratio| change(ratio.ratio)), style),
        Cell::new(ratio.map_or(String::new(), interval)),
        Cell::new(ratio.map_or(String::new(), p_value)),
        Cell::new(ratio.map_or(String::new(), |ratio| ratio.pairs.to_string())),
        Cell::new(row.noise.map_or(String::new(), percent)),
        Cell::new(row.head_median.map_or(String::new(), |s| Seconds(s).to_string())),
        Cell::new(clean(&row.id)),
    ]
}

/// Reason and next step where the numbers do not say it, and what became of accuracy.
fn below(row: &ComparedRow, command: Option<&Command>, colour: bool, width: usize) -> Vec<String> {
    let mut texts = Vec::new();
    let doubtful = matches!(row.verdict, Some(Verdict::Wrong | Verdict::Unclear));
    if doubtful || matches!(row.reason, Some(Reason::Confirmed | Reason::Identical)) {
        texts.push((sentence(row), if doubtful { Style::Warn } else { Style::Dim }));
    }
    if !row.accuracy_changed.is_empty() {
        texts.push((format!("accuracy changed: {}", accuracy(row)), Style::Warn));
    }
    let step = command.filter(|_| doubtful).and_then(|command| next_step(row, command));
    texts.extend(step.map(|step| (step, Style::Plain)));
    let mut lines = Vec::new();
    for (text, style) in texts {
        // A command is there to be copied, so it is never cut short.
        let most = if style == Style::Plain { usize::MAX } else { WORD_LINES };
        let wrapped = wrap(&text, width.saturating_sub(INDENT), most);
        let painted = wrapped.iter().map(|text| style.paint(text, colour));
        lines.extend(painted.map(|text| format!("{:INDENT$}{text}", "")));
    }
    lines
}

fn line(fitted: &Fit, cells: &[Cell], colour: bool, width: usize) -> String {
    let plain = fitted.line(&COLUMNS, cells, 0, false);
    if plain.chars().count() > width {
        return truncate(&plain, width);
    }
    fitted.line(&COLUMNS, cells, 0, colour)
}

/// Kernels that only one side has, by name: their cells are all alike.
fn one_sided_lines(found: &Comparison, colour: bool, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (verdict, where_) in
        [(Verdict::New, "only in the head"), (Verdict::Gone, "only in the base")]
    {
        let rows = found.rows.iter().filter(|row| row.verdict == Some(verdict));
        let mut kernels: Vec<&str> =
            rows.map(|row| row.id.split('/').next().unwrap_or(&row.id)).collect();
        let cells = kernels.len();
        kernels.dedup();
        if cells > 0 {
            let text = format!("{} {where_}: {}", count(cells, "cell"), kernels.join(", "));
            let space = INDENT - verdict.name().len();
            let wrapped = wrap(&text, width.saturating_sub(INDENT), WORD_LINES);
            for (index, text) in wrapped.iter().enumerate() {
                let (name, space) = if index == 0 { (verdict.name(), space) } else { ("", INDENT) };
                lines.push(format!("{}{:space$}{text}", Style::Plain.paint(name, colour), ""));
            }
        }
    }
    lines
}

/// Cells that neither side could run, counted by why.
fn idle(found: &Comparison, colour: bool, width: usize) -> Vec<String> {
    let mut reasons: Vec<(String, usize)> = Vec::new();
    for row in found.rows.iter().filter(|row| row.verdict.is_none()) {
        let text = sentence(row);
        match reasons.iter_mut().find(|(known, _)| *known == text) {
            Some((_, n)) => *n += 1,
            None => reasons.push((text, 1)),
        }
    }
    let line = |(text, n): (String, usize)| {
        Style::Dim.paint(&truncate(&format!("{n} × {text}"), width), colour)
    };
    reasons.into_iter().map(line).collect()
}

fn key(found: &Comparison) -> String {
    let floors = floors(found);
    format!(
        "change: head over base, trimmed mean of paired log ratios with its 95 % interval; p: one \
         side, blocks of pairs flipped; {floors}; false discoveries over all cells: 5 %"
    )
}
