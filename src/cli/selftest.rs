//! `fusebench selftest`: how often this machine shows differences that are none.

use clap::Args;

use super::ab::{PairFlags, itself, selftest_arguments};
use super::args::Global;
use super::exit::{Exit, Failure};
use super::interrupt;

/// Every cell against itself by the procedure of `ab`, all 100 pairs: the share of alarms at
/// p < 0.05 and of SLOWER and FASTER verdicts, with intervals, and the noise of each cell. With
/// --inject the head is slowed down by a known amount, and what counts is how often that is found.
/// Exit codes: 0 fine, 5 more false alarms than chance explains, else as for `ab`.
#[derive(Args, Clone, Debug)]
pub struct SelftestArgs {
    #[command(flatten)]
    pub flags: PairFlags,
}

/// Measures everything against itself.
pub fn selftest(args: &SelftestArgs, global: &Global) -> Result<Exit, Failure> {
    let done = itself(&args.flags, global, selftest_arguments(&args.flags))?;
    let found = &done.comparison;
    let injected = args.flags.inject.is_some();
    let alarming = !injected && found.control.as_ref().is_some_and(|control| !control.valid);
    let nothing = found.rows.iter().all(|row| row.verdict.is_none());
    let applies = [
        (interrupt::requested(), Exit::Interrupted),
        (found.count(crate::compare::Verdict::Wrong) > 0, Exit::Finding),
        (done.exhausted, Exit::Environment),
        (nothing, Exit::Nothing),
        (alarming, Exit::Inconclusive),
    ];
    Ok(Exit::gravest(applies.into_iter().filter(|(applies, _)| *applies).map(|(_, exit)| exit)))
}
