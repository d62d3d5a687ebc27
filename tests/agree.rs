//! Every kernel against its reference on the device, at the awkward shapes, on every input
//! distribution; and proof that the comparison can fail.

mod common;

use std::collections::BTreeMap;

use common::{is_kernel_chosen, kernels, ran, session, skipped};
use fusebench::gpu::Checks;
use fusebench::kernel::Preset;
use fusebench::kernels::ALL;
use fusebench::record::{CleanRecord, Row, Status};
use fusebench::suite::{Cell, Session, Sources, Task, cells, trial_order, try_mutant};

/// Reference operations per distribution: every row of every smoke shape.
const CHECK: Task = Task::Check { flops: f64::INFINITY };

fn check(session: &mut Session, cell: &Cell) -> Row {
    session.run(&cell.clone().into(), &CHECK, &mut |_, _| {}).0
}

/// Checks every smoke cell and returns the failures.
fn agreement(test: &str, checks: Checks) -> Option<Vec<String>> {
    let mut session = session(test, Sources::default(), checks)?;
    let mut unsupported: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for cell in cells(Preset::Smoke) {
        if !is_kernel_chosen(cell.entry) {
            continue;
        }
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

#[test]
fn every_mutant_of_a_shader_is_caught() {
    let test = "every_mutant_of_a_shader_is_caught";
    let Some(mut session) = session(test, Sources::default(), Checks::Safe) else { return };
    let mut findings = Vec::new();
    for entry in kernels() {
        let mutants = entry.kernel.spec().mutants;
        assert!(!mutants.is_empty(), "{} has no mutants", entry.path());
        let cells = trial_order(entry, Preset::Smoke);
        // That the kernel passes as it is where it runs at all, the tests above show.
        let passed = cells.iter().filter(|cell| session.supports(cell)).count() as u32;
        if passed == 0 {
            skipped(test, &format!("no cell of {} runs on this device", entry.path()));
            continue;
        }
        let clean = CleanRecord { kernel: entry.path(), passed, ..Default::default() };
        for mutant in mutants {
            let run = &mut |cell: &Cell| {
                let attempt = session.run_mutant(cell, mutant, &CHECK, &mut |_, _| {});
                Some(attempt.unwrap_or_else(|| panic!("{} has no `{}`", entry.path(), mutant.text)))
            };
            let record = try_mutant(mutant, &clean, &cells, run).expect("nobody interrupts");
            if record.is_finding() {
                findings.push(format!("{record:?}"));
            }
        }
    }
    assert!(findings.is_empty(), "not as declared:\n{}", findings.join("\n"));
    ran(test);
}

#[test]
fn a_store_past_the_end_is_caught_by_the_guard_band() {
    let test = "a_store_past_the_end_is_caught_by_the_guard_band";
    let path = "normalize/layer_norm";
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
    let store = "y[row * params.d + i] = to_storage(out);";
    assert!(entry.wgsl.contains(store));
    let beyond = format!("{store} y[params.rows * params.d] = to_storage(out);");
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(store, &beyond));
    let Some(mut session) = session(test, sources, Checks::Safe) else { return };
    let all = cells(Preset::Smoke);
    let cell = all.iter().find(|cell| cell.id() == "layer_norm/thread/f32/r7d31").expect("a cell");
    let row = check(&mut session, cell);
    assert_eq!(row.status, Status::Wrong);
    assert!(
        row.reason.as_deref().is_some_and(|why| why.contains("past the end of `y`")),
        "{row:?}"
    );
    ran(test);
}

#[test]
fn an_element_never_written_is_caught_wherever_it_is() {
    let test = "an_element_never_written_is_caught_wherever_it_is";
    let path = "normalize/rms_norm";
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
    let guard = "if (row >= params.rows) { return; }";
    assert!(entry.wgsl.contains(guard));
    let skipping = "if (row >= params.rows || row == 100u) { return; }";
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(guard, skipping));
    let Some(mut session) = session(test, sources, Checks::Safe) else { return };
    let all = cells(Preset::Models);
    let cell = all.iter().find(|cell| cell.id() == "rms_norm/thread/f32/r257d1408").expect("one");
    // So few reference rows that row 100 is most likely not among them.
    let row = session.run(&cell.clone().into(), &Task::Check { flops: 1e5 }, &mut |_, _| {}).0;
    assert_eq!(row.accuracy.expect("it was verified").verified, "sampled");
    assert_eq!(row.status, Status::Wrong);
    assert!(row.reason.is_some_and(|why| why.contains("never written")));
    ran(test);
}
