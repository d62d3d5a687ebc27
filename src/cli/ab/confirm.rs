//! `--confirm`: recurrence is the signal, because one run's interval says nothing about the next.

use std::path::Path;

use crate::cli::exit::Failure;
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

/// What lies between the two runs. This one is a new process in any case; where the machine was
/// started since, whatever that session did to the clocks is gone too.
pub fn record(previous: &Comparison) -> ConfirmRecord {
    let started = previous.environment.started.clone();
    let before_boot = booted_s().zip(started.parse::<jiff::Timestamp>().ok());
    let rebooted = before_boot.is_some_and(|(boot_s, then)| then.as_second() < boot_s);
    ConfirmRecord { started, strength: if rebooted { "boot" } else { "process" }.to_owned() }
}

/// When this machine was started, in seconds since 1970.
fn booted_s() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
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
