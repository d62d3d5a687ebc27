//! `fusebench ab`: two versions, one run, randomised pairs.

mod binaries;
mod candidates;
mod confirm;
mod contest;
mod flags;
mod lanes;
mod outcome;
mod report;
mod rounds;
mod sides;

use std::path::PathBuf;

use clap::Args;

use super::args::Global;
use super::exit::{Exit, Failure};
use super::fail_on::FailOn;
use super::{interrupt, noise};
pub use flags::{Form, PairFlags, of_selftest as selftest_arguments};
pub use rounds::Purpose;
pub use sides::Source;

/// A and B are each a folder of kernels, a git revision whose kernels/ is taken, a fusebench
/// binary (then both are), or `builtin` for the shaders in this program. Every cell is measured in
/// blocks of pairs whose order is drawn at random; a difference gets a verdict when a permutation
/// test rejects at a false-discovery rate of 5 % over all cells and the whole interval lies beyond
/// the floor. Exit codes: 0 fine, 1 WRONG or SLOWER, 2 usage, 3 no adapter, 4 nothing to compare,
/// 5 UNCLEAR with --fail-on unclear, 130 interrupted.
#[derive(Args, Clone, Debug)]
pub struct AbArgs {
    /// What to compare with: a folder, a revision, a binary, or `builtin`.
    #[arg(long, value_name = "A", env = "FUSEBENCH_BASE")]
    pub base: String,
    /// What is new, likewise.
    #[arg(long, value_name = "B", env = "FUSEBENCH_HEAD")]
    pub head: String,
    #[command(flatten)]
    pub flags: PairFlags,
    /// Share of the cells also measured base against base, 20 at least; 0 for none.
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = crate::compare::plan::CONTROL_SHARE,
        env = "FUSEBENCH_CONTROL",
        value_parser = flags::share
    )]
    pub control: f64,
    /// What makes the exit code other than 0.
    #[arg(
        long,
        value_name = "LIST",
        value_enum,
        value_delimiter = ',',
        default_value = "wrong,slower",
        env = "FUSEBENCH_FAIL_ON"
    )]
    pub fail_on: Vec<FailOn>,
    /// Measure again what this comparison calls SLOWER; exits 1 for what is SLOWER again.
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_CONFIRM")]
    pub confirm: Option<PathBuf>,
    /// Compare binaries that see unlike environments; verdicts are then UNCLEAR.
    #[arg(long, env = "FUSEBENCH_ALLOW_UNLIKE")]
    pub allow_unlike: bool,
}

/// Compares head with base.
pub fn ab(args: &AbArgs, global: &Global) -> Result<Exit, Failure> {
    let base = sides::resolve("--base", &args.base)?;
    let head = sides::resolve("--head", &args.head)?;
    let (base, head) = sides::alike(base, head)?;
    let previous = args.confirm.as_deref().map(confirm::read).transpose()?;
    interrupt::listen();
    let purpose = Purpose::Ab { control: args.control };
    let job = rounds::Job {
        flags: &args.flags,
        global,
        base,
        head,
        purpose,
        previous,
        allow_unlike: args.allow_unlike,
        noise: noise::read(args.flags.noise.as_deref())?,
        arguments: flags::of_ab(args),
    };
    let command = report::Command { base: args.base.clone(), head: args.head.clone() };
    let done = job.run()?;
    report::show(&done.comparison, &args.flags, Some(&command));
    Ok(outcome::exit(&done.comparison, &args.fail_on, interrupt::requested(), done.exhausted))
}

/// Compares the shaders in force with themselves.
pub fn itself(
    flags: &PairFlags,
    global: &Global,
    arguments: Vec<String>,
) -> Result<rounds::Done, Failure> {
    interrupt::listen();
    let job = rounds::Job {
        flags,
        global,
        base: Source::builtin(),
        head: Source::builtin(),
        purpose: Purpose::Selftest,
        previous: None,
        allow_unlike: false,
        noise: noise::read(flags.noise.as_deref())?,
        arguments,
    };
    let done = job.run()?;
    report::show(&done.comparison, flags, None);
    Ok(done)
}
