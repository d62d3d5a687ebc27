use super::*;
use crate::kernels::ALL;
use crate::record::Row;
use crate::suite::Item;

fn entry() -> &'static Entry {
    ALL.iter().find(|entry| entry.name == "layer_norm").expect("a registered kernel")
}

const MUTANT: Mutant = Mutant::new("a fault", "a", "b");

fn passing() -> CleanRecord {
    CleanRecord { kernel: "layer_norm".to_owned(), passed: 1, ..Default::default() }
}

fn ended(cell: &Cell, status: Status, lost: bool) -> Option<Attempt> {
    let row: Row = Item::from(cell.clone()).row(status, Some("why".to_owned()), "safe");
    Some(Attempt { row, lost })
}

#[test]
fn every_cell_is_tried_the_cheapest_of_every_variant_and_precision_first() {
    let order = trial_order(entry(), Preset::Smoke);
    let all = cells(Preset::Smoke).into_iter().filter(|cell| cell.entry.name == "layer_norm");
    assert_eq!(order.len(), all.count());
    let spec = entry().kernel.spec();
    let groups = spec.variants.len() * spec.dtypes.len();
    let mut first: Vec<_> = order[..groups].iter().map(|c| (c.variant.name, c.dtype)).collect();
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), groups);
    let full = order.iter().take_while(|cell| !cell.is_empty()).count();
    assert!(order[full..].iter().all(Cell::is_empty));
}

#[test]
fn the_first_wrong_cell_settles_a_mutant() {
    let order = trial_order(entry(), Preset::Smoke);
    let mut ran = 0;
    let record = try_mutant(&MUTANT, &passing(), &order, &mut |cell| {
        ran += 1;
        ended(cell, if ran == 3 { Status::Wrong } else { Status::Ok }, false)
    });
    let record = record.expect("nothing gave up");
    assert_eq!((record.outcome, record.cells, ran), (Outcome::Killed, 3, 3));
    assert_eq!(record.cell, Some(order[2].id()));
}

#[test]
fn a_lost_worker_is_a_kill_and_a_shader_that_cannot_run_is_not() {
    let order = trial_order(entry(), Preset::Smoke);
    let outcome = |status, lost| {
        let run = &mut |cell: &Cell| ended(cell, status, lost);
        try_mutant(&MUTANT, &passing(), &order, run).expect("nothing gave up")
    };
    let lost = outcome(Status::Error, true);
    assert_eq!(lost.outcome, Outcome::Killed);
    assert_eq!(lost.killed_by.expect("a rule").rule, ERROR);
    assert_eq!(outcome(Status::Error, false).outcome, Outcome::Broken);
    assert_eq!(outcome(Status::Ok, false).outcome, Outcome::Survived);
    let nothing = outcome(Status::Unsupported, false);
    assert_eq!((nothing.outcome, nothing.cells), (Outcome::Untried, 0));
}

#[test]
fn a_kernel_that_fails_without_a_fault_proves_nothing() {
    let order = trial_order(entry(), Preset::Smoke);
    let wrong = &mut |cell: &Cell| ended(cell, Status::Wrong, false);
    let clean = try_clean(entry(), &order, wrong).expect("nothing gave up");
    assert!(clean.failure.as_ref().is_some_and(|why| why.contains(&order[0].id())));
    let record = try_mutant(&MUTANT, &clean, &order, wrong).expect("nothing gave up");
    assert_eq!((record.outcome, record.cells), (Outcome::Untried, 0));
    assert!(!record.is_finding(), "the kernel is the finding");
}

#[test]
fn giving_up_leaves_no_verdict() {
    let order = trial_order(entry(), Preset::Smoke);
    assert!(try_clean(entry(), &order, &mut |_| None).is_none());
    assert!(try_mutant(&MUTANT, &passing(), &order, &mut |_| None).is_none());
}
