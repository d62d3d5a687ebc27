//! Every kernel against its reference on the device, at the awkward shapes, on every input
//! distribution; and proof that the comparison can fail.

mod common;

use std::collections::BTreeMap;

use common::{ran, session, skipped};
use fusebench::gpu::Checks;
use fusebench::kernel::Preset;
use fusebench::record::{Row, Status};
use fusebench::suite::{Cell, Session, Sources, Task, cells};

/// Reference operations per distribution: every row of every smoke shape.
const CHECK: Task = Task::Check { flops: f64::INFINITY };

fn check(session: &mut Session, cell: &Cell) -> Row {
    session.run(cell, &CHECK, &mut |_, _| {}).0
}

/// Checks every smoke cell and returns the failures.
fn agreement(test: &str, checks: Checks) -> Option<Vec<String>> {
    let mut session = session(test, Sources::default(), checks)?;
    let mut unsupported: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for cell in cells(Preset::Smoke) {
        let row = check(&mut session, &cell);
        let reason = row.reason.unwrap_or_default();
        match row.status {
            Status::Ok => {}
            Status::Unsupported => *unsupported.entry(reason).or_default() += 1,
            _ => failures.push(format!("{}: {reason}", row.id)),
        }
    }
    for (reason, count) in unsupported {
        skipped(test, &format!("{count} cells unsupported ({reason})"));
    }
    ran(test);
    Some(failures)
}

#[test]
fn every_smoke_cell_agrees_with_its_reference() {
    let failures = agreement("every_smoke_cell_agrees_with_its_reference", Checks::Safe);
    let failures = failures.unwrap_or_default();
    assert!(failures.is_empty(), "{} cells:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_smoke_cell_agrees_without_runtime_checks() {
    let failures = agreement("every_smoke_cell_agrees_without_runtime_checks", Checks::Trusted);
    let failures = failures.unwrap_or_default();
    assert!(failures.is_empty(), "{} cells:\n{}", failures.len(), failures.join("\n"));
}
