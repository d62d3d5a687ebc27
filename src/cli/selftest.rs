//! `fusebench selftest`: how often this machine shows differences that are none.

use clap::Args;

use super::ab::{PairFlags, itself, selftest_arguments};
use super::args::Global;
use super::exit::{Exit, Failure};
use super::known::StoreArg;
use super::noise::Keeper;
use super::{interrupt, sessions};

/// Every cell against itself by the procedure of `ab`, all 100 pairs: the share of alarms at
/// p < 0.05 and of SLOWER and FASTER verdicts, with intervals, and the noise of each cell, which is
/// kept: `ab` and `compare` then call no change of that cell below twice its noise. With --inject
/// the head is slowed down by a known amount, and what counts is how often that is found. With
/// --sessions it is `compare` that is tested. Exit codes: 0 fine, 5 more false alarms than chance
/// explains, else as for `ab`.
#[derive(Args, Clone, Debug)]
pub struct SelftestArgs {
    #[command(flatten)]
    pub flags: PairFlags,
    /// Run everything N times, one process after the other, and compare each time with the one
    /// before as `compare` does.
    #[arg(
        long,
        value_name = "N",
        env = "FUSEBENCH_SESSIONS",
        value_parser = clap::value_parser!(u32).range(2..=1000),
        conflicts_with_all = ["inject", "floor", "max_time", "output"]
    )]
    pub sessions: Option<u32>,
    #[command(flatten)]
    pub earlier: StoreArg,
}

/// Measures everything against itself.
pub fn selftest(args: &SelftestArgs, global: &Global) -> Result<Exit, Failure> {
    match args.sessions {
        Some(count) => sessions::selftest(&args.flags, &args.earlier, global, count),
        None => pairs(&args.flags, global),
    }
}

/// By the procedure of `ab`.
fn pairs(flags: &PairFlags, global: &Global) -> Result<Exit, Failure> {
    let injected = flags.inject.is_some();
    // What is slowed down says nothing about noise.
    let keeper = if injected { None } else { Some(Keeper::open(flags.noise.as_deref())?) };
    let done = itself(flags, global, selftest_arguments(flags))?;
    let found = &done.comparison;
    keeper.map_or(Ok(()), |keeper| keeper.keep(found))?;
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
