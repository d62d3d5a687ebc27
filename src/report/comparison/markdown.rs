//! The summary for a pull request: worst first, within the length that a comment may have.

use super::words::{
    Command, accuracy, change, control, floors, interval, next_step, p_value, sentence, side,
    totals,
};
use crate::compare::{Reason, Verdict};
use crate::record::{ComparedRow, Comparison};
use crate::report::header::{EMULATED, count, origin};
use crate::report::markdown::{escape, line};

/// GitHub takes 65,536 characters; the rest is for what a bot puts round it.
const LONGEST_BYTES: usize = 60_000;
/// Kept for what follows the rows.
const TAIL_BYTES: usize = 2_000;

/// Rows that a reader must see, then all others folded away.
pub fn markdown(found: &Comparison) -> String {
    let mut text = head(found);
    let title = |row: &&ComparedRow| {
        matches!(row.verdict, Some(v) if v < Verdict::Same) || !row.accuracy_changed.is_empty()
    };
    let (first, rest): (Vec<&ComparedRow>, Vec<&ComparedRow>) = found.rows.iter().partition(title);
    let mut dropped = 0;
    if !first.is_empty() {
        dropped += rows(&mut text, &first);
    }
    let rest: Vec<&ComparedRow> =
        rest.into_iter().filter(|row| row.reason != Some(Reason::OneSided)).collect();
    if !rest.is_empty() {
        let summary = format!("<details><summary>{} more</summary>\n\n", count(rest.len(), "cell"));
        text.push_str(&summary);
        dropped += rows(&mut text, &rest);
        text.push_str("</details>\n\n");
    }
    if dropped > 0 {
        text.push_str(&format!(
            "{dropped} rows left out to stay below {} kB; the result file has them all.\n\n",
            LONGEST_BYTES / 1_000
        ));
    }
    text.push_str(&provenance(found));
    text
}

fn head(found: &Comparison) -> String {
    let mut lines = vec![format!("### fusebench ab: {}\n", escape(&totals(found)))];
    if found.environment.device.emulated {
        lines.push(format!("> **{EMULATED}**\n"));
    }
    if !found.complete {
        lines.push("> **incomplete: stopped before the end**\n".to_string());
    }
    if let Some(text) = control(found) {
        let bad = found.control.as_ref().is_some_and(|control| !control.valid);
        let text = escape(&text);
        lines.push(if bad { format!("> **{text}**\n") } else { format!("Control: {text}.\n") });
    }
    lines.join("\n") + "\n"
}

/// A table of these rows; returns how many had no room.
fn rows(text: &mut String, rows: &[&ComparedRow]) -> usize {
    let titles = ["verdict", "change", "95 %", "p", "pairs", "cell", "reason"];
    text.push_str(&line(&titles));
    text.push_str("\n| --- | ---: | ---: | ---: | ---: | --- | --- |\n");
    for (done, row) in rows.iter().enumerate() {
        let next = one(row);
        if text.len() + next.len() > LONGEST_BYTES - TAIL_BYTES {
            text.push('\n');
            return rows.len() - done;
        }
        text.push_str(&next);
    }
    text.push('\n');
    0
}

fn one(row: &ComparedRow) -> String {
    let verdict = row.verdict.map_or(row.status.name(), Verdict::name);
    let bold = matches!(row.verdict, Some(Verdict::Wrong | Verdict::Slower));
    let mut reason = escape(&sentence(row));
    if !row.accuracy_changed.is_empty() {
        reason = format!("{reason}; accuracy changed: {}", escape(&accuracy(row)));
    }
    let named = Command { base: "BASE".to_string(), head: "HEAD".to_string() };
    let doubtful = matches!(row.verdict, Some(Verdict::Wrong | Verdict::Unclear));
    if let Some(step) = next_step(row, &named).filter(|_| doubtful) {
        reason = format!("{reason}; next: {}", escape(&step));
    }
    let ratio = row.ratio.as_ref();
    let fields = [
        if bold { format!("**{verdict}**") } else { verdict.to_string() },
        ratio.map_or(String::new(), |ratio| change(ratio.ratio)),
        ratio.map_or(String::new(), |ratio| escape(&interval(ratio))),
        ratio.map_or(String::new(), p_value),
        ratio.map_or(String::new(), |ratio| ratio.pairs.to_string()),
        escape(&row.id),
        reason,
    ];
    line(&fields) + "\n"
}

fn provenance(found: &Comparison) -> String {
    let mut lines = vec!["<details><summary>How this was measured</summary>\n".to_string()];
    for (label, value) in origin(&found.environment) {
        lines.push(format!("- {label}: {}", escape(&value)));
    }
    lines.push(format!("- base: {}", escape(&side(&found.base))));
    lines.push(format!("- head: {}", escape(&side(&found.head))));
    let floors = escape(&floors(found));
    lines.push(format!(
        "- Pairs in random order within one run; a verdict needs a permutation test at a \
         false-discovery rate of 5 % over all cells and an interval beyond the floor; {floors}."
    ));
    lines.join("\n") + "\n\n</details>\n"
}
