//! Which rule catches which fault, and how often: the forms of a [`MutantRun`].

use super::csv;
use super::evidence;
use super::header::{self, count};
use super::layout::{Cell, Column, Fit, Style, clean, fit, truncate, wrap};
use super::markdown;
use crate::record::{CleanRecord, FailedBy, MutantRecord, MutantRun, Outcome};
use crate::units::{NONE, ratio};

/// Every rule in the order of the gates, then those that need no reference.
const RULES: [&str; 8] = ["G0", "G1", "G1p", "G2", "GQ", "guard band", "never written", "error"];
/// Mutants stand below and inside their kernel.
const INDENT: usize = 2;
/// Labels of the header block, as above the tables of a run.
const LABEL: usize = 13;
/// A reason longer than this many lines is in the file.
const REASON_LINES: usize = 3;
/// Narrower pages than this would hold nothing.
const MIN_WIDTH: usize = 40;
/// Reasons stand a little under their mutant.
const REASON_INDENT: usize = 6;
const KEY: &str = "ratio: observed over allowed error, above 1 fails, for G0 the number of wrong \
    elements; on: the first cell that catches the fault, cheapest first; alone: no other rule \
    fails there";

const COLUMNS: [Column; 5] = [
    Column::left("fault"),
    Column::left("killed by"),
    Column::right("ratio"),
    Column::left("inputs"),
    Column::left("on"),
];

/// The faults of each kernel with the rule that caught it, at most `width` columns wide.
pub fn table(run: &MutantRun, colour: bool, width: usize) -> String {
    let mut page = Page { lines: Vec::new(), colour, width: width.max(MIN_WIDTH) };
    for (label, text) in header::origin(&run.environment) {
        page.labelled(label, &text);
    }
    page.lines.push(String::new());
    let rows: Vec<Vec<Cell>> = run.mutants.iter().map(cells).collect();
    let fit = fit(&COLUMNS, rows.iter().map(Vec::as_slice), INDENT, page.width);
    page.fitted(&fit, &COLUMNS.map(|column| Cell::styled(column.title, Style::Dim)));
    for kernel in &run.kernels {
        let style = if kernel.failure.is_some() { Style::Bad } else { Style::Bold };
        page.words(&format!("{}: {}", clean(&kernel.kernel), without_fault(kernel)), 0, style);
        for (mutant, cells) in run.mutants.iter().zip(&rows) {
            if mutant.kernel == kernel.kernel {
                page.fitted(&fit, cells);
                for why in mutant.reason.iter().chain(&mutant.equivalent) {
                    page.words(&clean(why), REASON_INDENT, Style::Dim);
                }
            }
        }
    }
    page.lines.push(String::new());
    for (text, style) in summary(run) {
        page.words(&text, 0, style);
    }
    page.lines.push(String::new());
    page.words(KEY, 0, Style::Dim);
    page.lines.join("\n") + "\n"
}

/// Lines so far, none wider than `width`.
struct Page {
    lines: Vec<String>,
    colour: bool,
    width: usize,
}

impl Page {
    fn labelled(&mut self, label: &str, text: &str) {
        for (index, text) in wrap(text, self.width - LABEL, REASON_LINES).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let space = LABEL.saturating_sub(label.len());
            let label = Style::Dim.paint(label, self.colour);
            self.lines.push(format!("{label}{:space$}{text}", ""));
        }
    }

    /// A line of columns; the cell at its end is cut off where there is no room for all of it.
    fn fitted(&mut self, fit: &Fit, cells: &[Cell]) {
        let plain = fit.line(&COLUMNS, cells, INDENT, false);
        let wide = plain.chars().count() > self.width;
        let line = fit.line(&COLUMNS, cells, INDENT, self.colour);
        self.lines.push(if wide { truncate(&plain, self.width) } else { line });
    }

    fn words(&mut self, text: &str, indent: usize, style: Style) {
        for text in wrap(text, self.width - indent, REASON_LINES) {
            self.lines.push(format!("{:indent$}{}", "", style.paint(&text, self.colour)));
        }
    }
}

/// What the kernel does without a fault.
fn without_fault(kernel: &CleanRecord) -> String {
    if let Some(why) = &kernel.failure {
        return format!("FAILS without a fault: {}", clean(why));
    }
    let unsupported = match kernel.unsupported {
        0 => String::new(),
        n => format!(", {n} unsupported"),
    };
    let cells = count(kernel.passed as usize, "cell");
    let margin = kernel.worst("G2").map_or(String::new(), |_| {
        let (rms, bound) = evidence::margins(kernel);
        format!("; RMS {rms} of the predicted, largest {bound} of its bound")
    });
    format!("passes on {cells} without a fault{unsupported}{margin}")
}

/// One mutant in the columns of the table.
fn cells(mutant: &MutantRecord) -> Vec<Cell> {
    let (words, style) = verdict(mutant);
    let mut cells = vec![Cell::new(clean(&mutant.fault)), Cell::styled(words, style)];
    if let Some(FailedBy { worst, inputs, .. }) = &mutant.killed_by {
        let prefix = format!("{}/", mutant.kernel);
        let cell = mutant.cell.as_deref().unwrap_or_default();
        cells.extend([
            Cell::new(worst.map_or(NONE.to_string(), amount(mutant))),
            Cell::new(if inputs.is_empty() { NONE.to_string() } else { clean(inputs) }),
            Cell::new(clean(cell.strip_prefix(&prefix).unwrap_or(cell))),
        ]);
    }
    cells
}

/// G0 counts elements, which are whole.
fn amount(mutant: &MutantRecord) -> impl Fn(f64) -> String {
    let counted = mutant.killed_by.as_ref().is_some_and(|by| by.rule == "G0");
    move |worst| if counted && worst < 1e9 { format!("{worst:.0}") } else { ratio(worst) }
}

fn verdict(mutant: &MutantRecord) -> (String, Style) {
    let rule = mutant.killed_by.as_ref().map_or("", |by| by.rule.as_str());
    match (mutant.outcome, mutant.equivalent.is_some()) {
        (Outcome::Killed, false) => (clean(rule), Style::Plain),
        (Outcome::Killed, true) => (format!("{}, not equivalent", clean(rule)), Style::Bad),
        (Outcome::Survived, true) => ("equivalent".to_string(), Style::Dim),
        (Outcome::Survived, false) => {
            let cells = count(mutant.cells as usize, "cell");
            (format!("SURVIVED {cells}"), Style::Bad)
        }
        (Outcome::Broken, _) => ("BROKEN".to_string(), Style::Bad),
        (Outcome::Untried, _) => ("untried".to_string(), Style::Warn),
    }
}

/// How many there are of each outcome, and of each rule.
fn summary(run: &MutantRun) -> Vec<(String, Style)> {
    let of =
        |wanted: &dyn Fn(&MutantRecord) -> bool| run.mutants.iter().filter(|m| wanted(m)).count();
    let outcome = |outcome| move |mutant: &MutantRecord| mutant.outcome == outcome;
    let equivalent = of(&|m| m.outcome == Outcome::Survived && m.equivalent.is_some());
    let survived = of(&outcome(Outcome::Survived)) - equivalent;
    let mut parts = vec![format!("{} killed", of(&outcome(Outcome::Killed)))];
    parts.push(format!("{survived} survived"));
    parts.push(format!("{equivalent} equivalent"));
    for (n, name) in [
        (of(&outcome(Outcome::Broken)), Outcome::Broken.name()),
        (of(&outcome(Outcome::Untried)), Outcome::Untried.name()),
    ] {
        parts.extend((n > 0).then(|| format!("{n} {name}")));
    }
    let failing = run.kernels.iter().filter(|kernel| kernel.failure.is_some()).count();
    let kernels = match failing {
        0 if run.kernels.len() == 1 => "the kernel passes without a fault".to_string(),
        0 => format!("all {} kernels pass without a fault", run.kernels.len()),
        n => format!("{n} of {} FAIL without a fault", count(run.kernels.len(), "kernel")),
    };
    let mutants = count(run.mutants.len(), "mutant");
    let bad = if run.has_finding() { Style::Bad } else { Style::Bold };
    let mut lines = vec![(format!("{mutants}: {}; {kernels}", parts.join(", ")), bad)];
    let by = tally(run);
    if !by.is_empty() {
        let by = by
            .iter()
            .map(|(rule, n, alone)| format!("{rule} {n} ({alone} alone)").replace(' ', "\u{a0}"));
        lines.push((format!("killed by {}", by.collect::<Vec<_>>().join(", ")), Style::Plain));
    }
    if !run.complete {
        let text = format!("incomplete: stopped after {}", count(run.mutants.len(), "mutant"));
        lines.push((text, Style::Warn));
    }
    lines
}

/// For each rule that caught something: how often, and how often no other rule failed there.
fn tally(run: &MutantRun) -> Vec<(&'static str, usize, usize)> {
    let of = |rule: &'static str| {
        let by = |m: &&MutantRecord| m.killed_by.as_ref().is_some_and(|by| by.rule == rule);
        let caught: Vec<&MutantRecord> = run.mutants.iter().filter(by).collect();
        (rule, caught.len(), caught.iter().filter(|mutant| mutant.alone).count())
    };
    RULES.into_iter().map(of).filter(|(_, n, _)| *n > 0).collect()
}

/// One record a mutant; an empty field where there is nothing to say.
pub fn csv(run: &MutantRun) -> String {
    let titles = [
        "kernel",
        "fault",
        "outcome",
        "killed_by",
        "worst_over_allowed",
        "inputs",
        "cell",
        "alone",
        "cells",
        "equivalent",
        "reason",
        "clean",
        "device",
        "backend",
        "commit",
        "seed",
    ];
    let mut text = csv::record(&titles.map(str::to_string));
    for mutant in &run.mutants {
        let by = mutant.killed_by.as_ref();
        let clean = run.kernels.iter().find(|kernel| kernel.kernel == mutant.kernel);
        let environment = &run.environment;
        let killed = mutant.outcome == Outcome::Killed;
        text.push_str(&csv::record(&[
            mutant.kernel.clone(),
            mutant.fault.clone(),
            mutant.outcome.name().to_string(),
            by.map_or(String::new(), |by| by.rule.clone()),
            csv::optional(by.and_then(|by| by.worst)),
            by.map_or(String::new(), |by| by.inputs.clone()),
            mutant.cell.clone().unwrap_or_default(),
            if killed { mutant.alone.to_string() } else { String::new() },
            mutant.cells.to_string(),
            mutant.equivalent.clone().unwrap_or_default(),
            mutant.reason.clone().unwrap_or_default(),
            clean.map_or(String::new(), |kernel| kernel.failure.is_none().to_string()),
            environment.device.name.clone(),
            environment.device.backend.clone(),
            environment.fusebench.commit.clone(),
            environment.seed.to_string(),
        ]));
    }
    text
}

/// Every mutant with the rule that kills it, as a GitHub table.
pub fn markdown(run: &MutantRun) -> String {
    let block = header::origin(&run.environment);
    let mut lines: Vec<String> = block
        .iter()
        .map(|(label, text)| format!("- {label}: {}", markdown::escape(text)))
        .collect();
    lines.push(format!("\n{}\n", evidence::KEY));
    lines.extend(evidence::table(run));
    let equivalents = evidence::equivalents(run);
    if equivalents.is_empty() {
        lines.push("\nNo fault is declared equivalent.".to_string());
    } else {
        lines.push("\nEquivalent, because no output can show them:\n".to_string());
        lines.extend(equivalents);
    }
    lines.push("\nEvery fault, and the first cell that catches it:\n".to_string());
    let titles = ["kernel", "fault", "killed by", "ratio", "inputs", "on"];
    lines.push(markdown::line(&titles));
    lines.push("| --- | --- | --- | ---: | --- | --- |".to_string());
    for mutant in &run.mutants {
        let mut fields = vec![markdown::escape(&mutant.kernel)];
        fields.extend(cells(mutant).iter().map(|cell| markdown::escape(&cell.text)));
        fields.resize(titles.len(), String::new());
        if let Some(why) = mutant.reason.as_ref().or(mutant.equivalent.as_ref()) {
            fields[2] = format!("{}: {}", fields[2], markdown::escape(why));
        }
        lines.push(markdown::line(&fields));
    }
    lines.push(String::new());
    let failing = run.kernels.iter().filter_map(|kernel| kernel.failure.as_ref());
    let failing = failing.map(|why| format!("- FAILS without a fault: {}", markdown::escape(why)));
    lines.extend(failing);
    let words = summary(run).into_iter().map(|(text, _)| text.replace('\u{a0}', " "));
    lines.push(words.collect::<Vec<_>>().join("\n\n"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
#[path = "mutants_tests.rs"]
mod tests;
