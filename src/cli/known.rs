//! What earlier runs and selftests say of the noise between two finished runs.

#[cfg(feature = "history")]
use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
use crate::compare::runs::{ComparedCell, compare_runs};
use crate::compare::sessions::SessionNoise;
use crate::record::{Noise, Run, Unlike};

/// Where earlier runs are.
#[derive(Args, Clone, Debug)]
pub struct StoreArg {
    /// History that tells the noise between runs. Default: history.sqlite in the user's data
    /// folder, where there is one.
    #[cfg(feature = "history")]
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_STORE")]
    pub store: Option<PathBuf>,
}

/// Compares two runs, each cell held to what is known of its noise.
///
/// # Errors
/// `Usage` when the history cannot be read.
#[cfg(feature = "history")]
pub fn compare(
    earlier: &StoreArg,
    noise: &Noise,
    base: &Run,
    head: &Run,
    unlike: &Unlike,
) -> Result<Vec<ComparedCell>, Failure> {
    use super::history::{failure, reading, store_path};
    use crate::compare::sessions::MOST_RUNS;
    use crate::history::History;

    // There may be none yet; the table then says single-run.
    let path = store_path(earlier.store.as_deref()).ok().filter(|path| path.exists());
    let store = path.map(|path| History::open(&path)).transpose().map_err(failure)?;
    let fingerprint = &base.environment.fingerprint;
    let mut trouble = Ok(());
    let cells = compare_runs(base, head, unlike, |id, checks| {
        let medians = store.as_ref().map_or(Ok(Vec::new()), |store| {
            store.latest_medians(id, checks, fingerprint, MOST_RUNS)
        });
        SessionNoise::of(&reading(medians, &mut trouble)).above(own(noise, base, id, checks))
    });
    trouble.map(|()| cells).map_err(failure)
}

/// Compares two runs, each cell held to what is known of its noise.
#[cfg(not(feature = "history"))]
pub fn compare(
    _: &StoreArg,
    noise: &Noise,
    base: &Run,
    head: &Run,
    unlike: &Unlike,
) -> Result<Vec<ComparedCell>, Failure> {
    Ok(compare_runs(base, head, unlike, |id, checks| {
        SessionNoise::of(&[]).above(own(noise, base, id, checks))
    }))
}

/// How far the cell is from itself, of the longest samples that a selftest took.
fn own(noise: &Noise, base: &Run, id: &str, checks: &str) -> Option<f64> {
    noise.of(&base.environment.fingerprint, id, checks, f64::INFINITY)
}
