//! `fusebench compare`: two finished runs.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::Format;
use super::exit::{Exit, Failure};
use super::fail_on::FailOn;
use super::known::StoreArg;
use super::output::{self, COLOUR, print, width};
use super::{confirm, known, noise};
use crate::compare::runs::{AccuracyFound, ComparedCell, have_common_cells};
use crate::compare::{Reason, Verdict};
use crate::record::{Difference, Run, Unlike, read};
use crate::report::sessions::{self, Sessions};

/// Weaker than `ab`, because the runs were not interleaved: what differs between two sessions on
/// the same device does not show in the samples of either. It is learnt from the history where
/// that holds 8 runs of a cell on the same fingerprint, and assumed otherwise (`single-run`).
/// Exit codes: 0 fine, 1 WRONG or SLOWER, 2 usage or unlike fingerprints, 4 no cell in common,
/// 5 UNCLEAR with --fail-on unclear.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Result file to compare with, finished or partial.
    #[arg(value_name = "BASE", env = "FUSEBENCH_BASE")]
    pub base: PathBuf,
    /// Result file of what is new.
    #[arg(value_name = "NEW", env = "FUSEBENCH_HEAD")]
    pub head: PathBuf,
    /// Print ratios of runs from unlike devices, without verdicts, or from unlike environments,
    /// all UNCLEAR.
    #[arg(long, env = "FUSEBENCH_ALLOW_UNLIKE")]
    pub allow_unlike: bool,
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
    /// Measure again what is SLOWER, on this machine and with this build, which must be those of
    /// NEW; exits 1 for what is SLOWER again.
    #[arg(long, env = "FUSEBENCH_CONFIRM")]
    pub confirm: bool,
    #[command(flatten)]
    pub earlier: StoreArg,
    /// The noise of cells, written by `selftest`. Default: noise.json in the user's data folder.
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_NOISE")]
    pub noise: Option<PathBuf>,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "table", env = "FUSEBENCH_FORMAT")]
    pub format: Format,
}

/// Compares two result files.
pub fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let base = read(&args.base).map_err(output::failure)?;
    let head = read(&args.head).map_err(output::failure)?;
    let unlike = Unlike::between(&base.environment, &head.environment);
    if !args.allow_unlike && !unlike.is_like() {
        return Err(Failure::usage(refusal(args, &unlike)));
    }
    let noise = noise::read(args.noise.as_deref())?;
    let mut cells = known::compare(&args.earlier, &noise, &base, &head, &unlike)?;
    let confirmed = if args.confirm { confirm::confirm(&mut cells, &base, &head)? } else { None };
    let wrong = cells.iter().any(|cell| cell.verdict == Some(Verdict::Wrong));
    if !have_common_cells(&cells) && !wrong {
        return Err(Failure::nothing(nothing_in_common(args, &base, &head)));
    }
    let found = Sessions { base: &base, head: &head, unlike: &unlike, cells: &cells, confirmed };
    let text = match args.format {
        Format::Table => sessions::table(&found, COLOUR, width()),
        Format::Markdown => sessions::markdown(&found),
        Format::Json => sessions::json(&found),
        Format::Csv => sessions::csv(&found),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
    Ok(exit(&cells, &args.fail_on))
}

fn refusal(args: &CompareArgs, unlike: &Unlike) -> String {
    let names = format!("{} and {}", args.base.display(), args.head.display());
    let (what, next) = if unlike.device.is_empty() {
        ("environments", "--allow-unlike prints the ratios all the same, every verdict UNCLEAR")
    } else {
        ("devices", "--allow-unlike prints the ratios all the same, without verdicts")
    };
    let fields: Vec<String> =
        unlike.device.iter().chain(&unlike.env).map(|one| format!("  {}\n", told(one))).collect();
    format!("{names} come from unlike {what}\n{}{next}", fields.concat())
}

/// A differing field in words.
pub fn told(one: &Difference) -> String {
    let value = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let text = format!("{}: {} → {}", one.field, value(&one.base), value(&one.head));
    crate::report::layout::clean(&text)
}

fn nothing_in_common(args: &CompareArgs, base: &Run, head: &Run) -> String {
    let first = |run: &Run, path: &Path| match run.rows.first() {
        None => format!("{} has no rows", path.display()),
        Some(row) => format!("{} has {} rows, such as {}", path.display(), run.rows.len(), row.id),
    };
    format!(
        "the two runs have no cell in common\n{}; {}\nrun both with the same FILTER and --preset",
        first(base, &args.base),
        first(head, &args.head)
    )
}

/// The gravest of what applies; between unlike environments nothing is proven.
fn exit(cells: &[ComparedCell], fail_on: &[FailOn]) -> Exit {
    let any = |verdict| cells.iter().any(|cell| cell.verdict == Some(verdict));
    let changed = cells.iter().any(|cell| matches!(cell.accuracy, AccuracyFound::Changed(_)));
    let proven = !cells.iter().any(|cell| cell.reason == Some(Reason::Environment));
    let applies = [
        (any(Verdict::Wrong), FailOn::Wrong, Exit::Finding),
        (any(Verdict::Slower) && proven, FailOn::Slower, Exit::Finding),
        (changed, FailOn::AccuracyChange, Exit::Finding),
        (any(Verdict::Unclear), FailOn::Unclear, Exit::Inconclusive),
    ];
    let exits =
        applies.into_iter().filter(|(found, what, _)| *found && FailOn::asks(fail_on, *what));
    Exit::gravest(exits.map(|(_, _, exit)| exit))
}
