//! `fusebench history`: results kept over time in one SQLite file.

mod changes;
mod keep;
mod show;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use regex::Regex;

use super::data_folder::data_folder;
use super::exit::{Exit, Failure};
use crate::history::{History, HistoryError, RunInfo, Series};

/// Result files stay the truth: the history is an index over them and can be rebuilt. A series is
/// one cell, in one mode of checks, on one fingerprint (device, driver, system, timer). Keep the
/// file off network file systems, whose locks cannot be relied on.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum HistoryCommand {
    /// Add result files; one that is there already changes nothing.
    Add(keep::AddArgs),
    /// Show how each cell's time went from run to run.
    Show(show::ShowArgs),
    /// Find runs from which on a cell is slower or faster, or has another environment.
    Changes(changes::ChangesArgs),
    /// Make the history again from result files.
    Rebuild(keep::RebuildArgs),
    /// Drop old runs.
    Prune(keep::PruneArgs),
}

/// Where the history is.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// The history. Default: history.sqlite in the user's data folder.
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_STORE")]
    store: Option<PathBuf>,
}

/// Which series.
#[derive(Args, Clone, Debug)]
pub struct SeriesArgs {
    /// Regular expressions searched in KERNEL/VARIANT/DTYPE/SHAPE; any may match.
    #[arg(value_name = "FILTER", env = "FUSEBENCH_FILTER", value_delimiter = ' ')]
    filters: Vec<String>,
    /// Only runs whose fingerprint starts like this.
    #[arg(long, value_name = "FP", env = "FUSEBENCH_FINGERPRINT")]
    fingerprint: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Does what the command line says.
pub fn history(args: &HistoryArgs) -> Result<Exit, Failure> {
    match &args.command {
        HistoryCommand::Add(args) => keep::add(args),
        HistoryCommand::Show(args) => show::show(args),
        HistoryCommand::Changes(args) => changes::changes(args),
        HistoryCommand::Rebuild(args) => keep::rebuild(args),
        HistoryCommand::Prune(args) => keep::prune(args),
    }
}

/// The file to use: the one named, or the one in the user's data folder.
///
/// # Errors
/// `Usage` when the user has no data folder.
pub fn store_path(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let advice = "there is no data folder for this user; pass --store FILE";
    let default = || data_folder().map(|folder| folder.join("history.sqlite"));
    named.map(Path::to_path_buf).or_else(default).ok_or_else(|| Failure::usage(advice))
}

/// A history that cannot be used.
pub fn failure(error: HistoryError) -> Failure {
    Failure::usage(error.to_string())
}

/// What was read, or nothing and a note of the first trouble.
pub fn reading<T: Default>(
    found: Result<T, HistoryError>,
    trouble: &mut Result<(), HistoryError>,
) -> T {
    found.unwrap_or_else(|error| {
        if trouble.is_ok() {
            *trouble = Err(error);
        }
        T::default()
    })
}

/// A history with the runs and series that were asked for, oldest and in alphabetical order.
struct Selected {
    history: History,
    runs: Vec<RunInfo>,
    series: Vec<Series>,
}

/// Opens the history and selects.
///
/// # Errors
/// `Usage` when it cannot be read or a filter is no regular expression, `Nothing` when no run or
/// no series is left.
fn select(args: &SeriesArgs) -> Result<Selected, Failure> {
    let filters = args.filters.iter().map(|text| {
        Regex::new(text).map_err(|error| {
            Failure::usage(format!("filter `{text}` is not a regular expression: {error}"))
        })
    });
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let history = History::open(&store_path(args.store.store.as_deref())?).map_err(failure)?;
    let mut runs = history.runs().map_err(failure)?;
    let name = history.path().display().to_string();
    if runs.is_empty() {
        return Err(Failure::nothing(format!(
            "the history {name} is empty\nadd results with: fusebench history add FILE…"
        )));
    }
    if let Some(start) = &args.fingerprint {
        let mut known: Vec<String> = runs.iter().map(|run| run.fingerprint.clone()).collect();
        known.sort_unstable();
        known.dedup();
        runs.retain(|run| run.fingerprint.starts_with(start.as_str()));
        if runs.is_empty() {
            let known = known.join(", ");
            return Err(Failure::nothing(format!(
                "no run has a fingerprint that starts with {start}\nthe history has {known}"
            )));
        }
    }
    let mut series = history.series().map_err(failure)?;
    let all = series.len();
    if !filters.is_empty() {
        series.retain(|one| filters.iter().any(|filter| filter.is_match(&one.cell)));
    }
    if series.is_empty() {
        return Err(Failure::nothing(format!(
            "nothing of the history is selected by {}\nit has {all} series; \
             `fusebench history show` lists them",
            args.filters.join(" ")
        )));
    }
    Ok(Selected { history, runs, series })
}
