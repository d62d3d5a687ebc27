//! What changes the history: adding, rebuilding, pruning.

use std::path::PathBuf;

use clap::Args;

use super::{StoreArgs, failure, store_path};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{self, print};
use crate::history::{Added, History, NewRun};

/// All files are added or, when one of them cannot be read, none.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// Result files, finished or partial.
    #[arg(value_name = "FILE", required = true, env = "FUSEBENCH_FILES", value_delimiter = ',')]
    files: Vec<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

/// The new history holds the runs in FILE… and no others, whatever order they come in.
#[derive(Args, Clone, Debug)]
pub struct RebuildArgs {
    /// Result files, finished or partial.
    #[arg(value_name = "FILE", required = true, env = "FUSEBENCH_FILES", value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Drop runs that are in the history and not in FILE….
    #[arg(long, env = "FUSEBENCH_FORCE")]
    force: bool,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Keep this many of the latest runs of each fingerprint.
    #[arg(
        long,
        value_name = "N",
        env = "FUSEBENCH_KEEP",
        required_unless_present = "before",
        conflicts_with = "before"
    )]
    keep: Option<usize>,
    /// Drop runs started before this day or time, such as 2026-01-31, UTC.
    #[arg(long, value_name = "DATE", env = "FUSEBENCH_BEFORE", value_parser = instant)]
    before: Option<i64>,
    /// Say what would be dropped, and drop nothing.
    #[arg(long, env = "FUSEBENCH_DRY_RUN")]
    dry_run: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Seconds since 1970 of a day or a time.
fn instant(text: &str) -> Result<i64, String> {
    let day = || {
        let day: jiff::civil::Date = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
    };
    let time = text.parse::<jiff::Timestamp>().ok();
    time.or_else(day)
        .map(jiff::Timestamp::as_second)
        .ok_or_else(|| "give a day such as 2026-01-31, or 2026-01-31T12:00:00Z".to_owned())
}

/// Adds result files.
pub fn add(args: &AddArgs) -> Result<Exit, Failure> {
    let runs = read(&args.files)?;
    let mut history =
        History::create(&store_path(args.store.store.as_deref())?).map_err(failure)?;
    let added = history.add(&runs).map_err(failure)?;
    report(&history, &args.files, &runs, &added)?;
    Ok(Exit::Fine)
}

/// Makes the history again.
pub fn rebuild(args: &RebuildArgs) -> Result<Exit, Failure> {
    let mut runs = read(&args.files)?;
    let mut history =
        History::create(&store_path(args.store.store.as_deref())?).map_err(failure)?;
    let added = history.rebuild(&mut runs, args.force).map_err(failure)?;
    let twice = added.iter().filter(|added| **added == Added::Known).count();
    let twice = if twice > 0 { format!(", {twice} files held a run again") } else { String::new() };
    print(&format!("rebuilt {}{twice}\n", told(&history)?));
    Ok(Exit::Fine)
}

fn read(files: &[PathBuf]) -> Result<Vec<NewRun>, Failure> {
    files.iter().map(|file| NewRun::read(file).map_err(output::failure)).collect()
}

/// Says what became of each file, or of all where there are many.
fn report(
    history: &History,
    files: &[PathBuf],
    runs: &[NewRun],
    added: &[Added],
) -> Result<(), Failure> {
    const MOST_LINES: usize = 20;
    let mut text = String::new();
    if files.len() <= MOST_LINES {
        for ((file, run), added) in files.iter().zip(runs).zip(added) {
            let what = match added {
                Added::New(cells) => format!("added {cells} cells of the run of {}", run.name()),
                Added::Completed(cells) => {
                    format!("completed the run of {}, now {cells} cells", run.name())
                }
                Added::Known => format!("known already: the run of {}", run.name()),
            };
            text.push_str(&format!("{}: {what}\n", file.display()));
        }
    } else {
        let known = added.iter().filter(|added| **added == Added::Known).count();
        text.push_str(&format!("{} runs added, {known} known already\n", added.len() - known));
    }
    text.push_str(&format!("{}\n", told(history)?));
    print(&text);
    Ok(())
}

/// `PATH: 12 runs, 143 series`
fn told(history: &History) -> Result<String, Failure> {
    let (runs, series) = (history.runs().map_err(failure)?, history.series().map_err(failure)?);
    let plural = if runs.len() == 1 { "" } else { "s" };
    let (path, runs, series) = (history.path().display(), runs.len(), series.len());
    Ok(format!("{path}: {runs} run{plural}, {series} series"))
}

/// Drops old runs.
pub fn prune(args: &PruneArgs) -> Result<Exit, Failure> {
    let mut history = History::open(&store_path(args.store.store.as_deref())?).map_err(failure)?;
    let runs = history.runs().map_err(failure)?;
    let is_old = |at: usize| match (args.keep, args.before) {
        (Some(keep), _) => {
            let later = runs[at + 1..].iter().filter(|run| run.fingerprint == runs[at].fingerprint);
            later.count() >= keep
        }
        (None, before) => before.is_some_and(|before| runs[at].started_s < before),
    };
    let old: Vec<i64> = (0..runs.len()).filter(|at| is_old(*at)).map(|at| runs[at].id).collect();
    if args.dry_run {
        print(&format!("would drop {} of {} runs\n", old.len(), runs.len()));
        return Ok(Exit::Fine);
    }
    if !old.is_empty() {
        history.remove(&old).map_err(failure)?;
    }
    print(&format!("dropped {} of {} runs; {}\n", old.len(), runs.len(), told(&history)?));
    Ok(Exit::Fine)
}
