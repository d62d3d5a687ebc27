//! `--confirm`: recurrence is the signal, because one run's interval says nothing about the next.

use std::path::Path;

use crate::cli::exit::Failure;
use crate::cli::strength::strength;
use crate::compare::{Reason, Verdict};
use crate::record::{ComparedRow, Comparison, ConfirmRecord, Environment, read_comparison};

/// The comparison to confirm.
///
/// # Errors
/// `Usage` when it is none.
pub fn read(path: &Path) -> Result<Comparison, Failure> {
    read_comparison(path).map_err(|error| Failure::usage(format!("--confirm: {error}")))
}

/// Ids of the cells that it calls SLOWER.
pub fn slower(previous: &Comparison) -> Vec<String> {
    let slower = |row: &&ComparedRow| row.verdict == Some(Verdict::Slower);
    previous.rows.iter().filter(slower).map(|row| row.id.clone()).collect()
}

/// Whether the two may be held together at all.
///
/// # Errors
/// `Usage` on another device or under another driver.
pub fn same_machine(previous: &Comparison, now: &Environment) -> Result<(), Failure> {
    let (then, now) = (&previous.environment.fingerprint, &now.fingerprint);
    if then == now {
        return Ok(());
    }
    let message = format!("--confirm: measured elsewhere: fingerprint {then}, here {now}");
    Err(Failure::usage(format!("{message}; confirm on the same machine and driver")))
}

/// What lies between the two runs; this one is a new process in any case.
pub fn record(previous: &Comparison) -> ConfirmRecord {
    let started = previous.environment.started.clone();
    ConfirmRecord { strength: strength(&started).to_owned(), started }
}

/// Says of every row whether it recurred.
pub fn apply(rows: &mut [ComparedRow]) {
    for row in rows {
        match row.verdict {
            Some(Verdict::Slower) => row.reason = Some(Reason::Confirmed),
            Some(Verdict::Faster | Verdict::Same) => {
                (row.verdict, row.reason) = (Some(Verdict::Unclear), Some(Reason::Unconfirmed));
            }
            Some(Verdict::Unclear) if row.reason == Some(Reason::Straddles) => {
                row.reason = Some(Reason::Unconfirmed);
            }
            _ => {}
        }
    }
}
