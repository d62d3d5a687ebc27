//! Mutants: small faults put into a shader to see which rule of the verification catches them.

use std::collections::BTreeMap;

use super::cell::{Cell, cells};
use super::session::Session;
use super::task::Task;
use crate::kernel::{Entry, Mutant, Preset};
use crate::record::{Accuracy, CleanRecord, FailedBy, MutantRecord, Outcome, Row, Status};

/// The rule that a mutant breaks when it takes its worker down or hangs it.
const ERROR: &str = "error";

/// Why a mutant is not tried.
const NOTHING_RUNS: &str = "no cell runs on this device";

/// What came of one cell, in this process or in a worker.
pub struct Attempt {
    pub row: Row,
    /// The device, and the worker with it, did not outlive the cell.
    pub lost: bool,
}

/// Every cell of a kernel, the cheapest of each variant and precision first: a fault may lie in any
/// of them, and most faults show in small shapes. Empty outputs, which show least, come last.
pub fn trial_order(entry: &Entry, preset: Preset) -> Vec<Cell> {
    let mut cells: Vec<Cell> =
        cells(preset).into_iter().filter(|cell| cell.entry.path() == entry.path()).collect();
    let cost = |cell: &Cell| cell.work().flops + cell.work().bytes;
    cells.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let mut seen: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut ranked: Vec<(bool, u32, Cell)> = Vec::new();
    for cell in cells {
        let empty = cell.is_empty();
        let rank = seen.entry((cell.variant.name, cell.dtype.name())).or_default();
        ranked.push((empty, *rank, cell));
        *rank += u32::from(!empty);
    }
    ranked.sort_by_key(|(empty, rank, _)| (*empty, *rank));
    ranked.into_iter().map(|(.., cell)| cell).collect()
}

/// Runs a kernel as it is on every cell; `None` when `run` gives up.
pub fn try_clean(
    entry: &Entry,
    cells: &[Cell],
    run: &mut dyn FnMut(&Cell) -> Option<Attempt>,
) -> Option<CleanRecord> {
    let (kernel, family) = (entry.name.to_owned(), entry.family.to_owned());
    let mut record = CleanRecord { kernel, family, ..Default::default() };
    for cell in cells {
        let row = run(cell)?.row;
        match row.status {
            Status::Ok => {
                record.passed += 1;
                record.worsen(row.accuracy.map_or(Vec::new(), |accuracy| accuracy.gates));
            }
            Status::Unsupported => record.unsupported += 1,
            Status::Wrong | Status::Error | Status::Skipped => {
                let why = row.reason.unwrap_or_else(|| row.status.name().to_owned());
                record.failure = Some(format!("{}: {why}", row.id));
                break;
            }
        }
    }
    Some(record)
}

/// Runs a mutant on one cell after the other until one catches it; `None` when `run` gives up.
pub fn try_mutant(
    mutant: &Mutant,
    clean: &CleanRecord,
    cells: &[Cell],
    run: &mut dyn FnMut(&Cell) -> Option<Attempt>,
) -> Option<MutantRecord> {
    let mut record = MutantRecord {
        kernel: clean.kernel.clone(),
        fault: mutant.fault.to_owned(),
        equivalent: mutant.equivalent.map(str::to_owned),
        outcome: Outcome::Survived,
        reason: None,
        cells: 0,
        killed_by: None,
        cell: None,
        alone: false,
    };
    let untried = |record: MutantRecord, why: &str| {
        Some(MutantRecord { outcome: Outcome::Untried, reason: Some(why.to_owned()), ..record })
    };
    match clean {
        CleanRecord { failure: Some(_), .. } => {
            return untried(record, "the kernel fails without a fault");
        }
        CleanRecord { passed: 0, .. } => return untried(record, NOTHING_RUNS),
        _ => {}
    }
    for cell in cells {
        let attempt = run(cell)?;
        record.cells += u32::from(attempt.row.status != Status::Unsupported);
        if settle(&mut record, attempt) {
            return Some(record);
        }
    }
    if record.cells == 0 { untried(record, NOTHING_RUNS) } else { Some(record) }
}

/// Takes over what a cell says about a mutant; true when that settles it.
fn settle(record: &mut MutantRecord, Attempt { row, lost }: Attempt) -> bool {
    let accuracy = row.accuracy.as_ref();
    match row.status {
        Status::Ok | Status::Unsupported | Status::Skipped => return false,
        // Without any gate that could fail the fault is not caught, and another cell may.
        Status::Error if accuracy.is_some() && !lost => return false,
        Status::Error if !lost => {
            record.outcome = Outcome::Broken;
            record.reason = row.reason;
        }
        Status::Error => {
            let inputs = String::new();
            record.outcome = Outcome::Killed;
            record.killed_by = Some(FailedBy { rule: ERROR.to_owned(), worst: None, inputs });
            record.alone = true;
            record.reason = row.reason;
        }
        Status::Wrong => {
            record.outcome = Outcome::Killed;
            record.alone = accuracy.is_some_and(alone);
            record.killed_by = accuracy.and_then(|accuracy| accuracy.failed_by.clone());
        }
    }
    record.cell = Some(row.id);
    true
}

/// Whether one rule stands alone against a result.
fn alone(accuracy: &Accuracy) -> bool {
    let failed: Vec<&str> =
        accuracy.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.gate.as_str()).collect();
    match &accuracy.failed_by {
        Some(FailedBy { rule, .. }) => failed.iter().all(|gate| gate == rule),
        None => false,
    }
}

impl Session {
    /// The same as [`Session::run`] with the fault in the shader of the cell; `None` where no
    /// shader of the kernel in force contains the mutant's text.
    pub fn run_mutant(
        &mut self,
        cell: &Cell,
        mutant: &Mutant,
        task: &Task,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Option<Attempt> {
        let (entry, before) = (cell.entry, self.sources.clone());
        let (own, _) = entry.shader(cell.variant);
        let with_fault = |(path, text): (String, &str)| {
            text.contains(mutant.text).then(|| (path, text.replace(mutant.text, mutant.instead)))
        };
        let faulty: Vec<(String, String)> = before.of(entry).filter_map(with_fault).collect();
        if faulty.is_empty() {
            return None;
        }
        let Some((path, text)) = faulty.into_iter().find(|(path, _)| *path == own) else {
            let reason = Some("the fault is in the shader of other strategies".to_owned());
            let item = super::Item::from(cell.clone());
            let row = item.row(Status::Unsupported, reason, self.checks().name());
            return Some(Attempt { row, lost: false });
        };
        self.sources.replace(&path, text);
        let (row, lost) = self.run(&cell.clone().into(), task, alive);
        self.sources = before;
        Some(Attempt { row, lost })
    }
}

#[cfg(test)]
#[path = "mutants_tests.rs"]
mod tests;
