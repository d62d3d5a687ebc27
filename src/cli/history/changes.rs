//! `fusebench history changes`.

use std::collections::HashMap;

use clap::Args;
use rayon::prelude::*;

use super::{SeriesArgs, failure, select};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{COLOUR, print, width};
use crate::compare::change_points::{ChangePoint, Found, keep_discoveries};
use crate::history::{RunInfo, Series};
use crate::report::changes::{Change, Changes, NewEnvironment, csv, json, markdown, table};

/// A change is a new level of at least 3 runs, 5 % or more from the one before, that shuffling the
/// runs in blocks explains with p ≤ 0.01; of those told, one in twenty may be false. It takes 16
/// runs on one fingerprint. Changes are findings to look at and never fail: the exit code is 0.
#[derive(Args, Clone, Debug)]
pub struct ChangesArgs {
    #[command(flatten)]
    series: SeriesArgs,
    /// Seed of the shuffling.
    #[arg(long, value_name = "N", default_value_t = 1, env = "FUSEBENCH_SEED")]
    seed: u32,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "table", env = "FUSEBENCH_FORMAT")]
    format: Format,
}

/// One cell on one fingerprint: the positions of its runs and their medians.
struct Segment<'a> {
    series: &'a Series,
    runs: Vec<usize>,
    medians: Vec<f64>,
}

/// Finds changes in the series that are selected.
pub fn changes(args: &ChangesArgs) -> Result<Exit, Failure> {
    let selected = select(&args.series)?;
    let runs = &selected.runs;
    let position: HashMap<i64, usize> =
        runs.iter().enumerate().map(|(at, run)| (run.id, at)).collect();
    let mut segments: Vec<Segment<'_>> = Vec::new();
    for series in &selected.series {
        let medians = selected.history.medians(series.id, usize::MAX).map_err(failure)?.into_iter();
        let mut timed: Vec<(usize, f64)> =
            medians.filter_map(|(run, _, median)| Some((*position.get(&run)?, median?))).collect();
        timed.sort_by_key(|(at, _)| *at);
        segments.extend(by_fingerprint(runs, series, &timed));
    }
    let look = |segment: &Segment<'_>| Found::of(&segment.medians, args.seed);
    let points = keep_discoveries(segments.par_iter().map(look).collect());
    let mut found = Changes {
        runs,
        looked_at: segments.iter().filter(|segment| Found::is_enough(&segment.medians)).count(),
        too_short: segments.iter().filter(|segment| !Found::is_enough(&segment.medians)).count(),
        environments: environments(runs),
        changes: Vec::new(),
    };
    for (segment, points) in segments.iter().zip(points) {
        found.changes.extend(points.into_iter().map(|point| change(segment, point)));
    }
    found.changes.sort_by(|a, b| (b.to, &a.series).cmp(&(a.to, &b.series)));
    let text = match args.format {
        Format::Table => table(&found, COLOUR, width()),
        Format::Json => json(&found),
        Format::Csv => csv(&found),
        Format::Markdown => markdown(&found),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
    Ok(Exit::Fine)
}

/// The runs of each environment apart.
fn by_fingerprint<'a>(
    runs: &[RunInfo],
    series: &'a Series,
    timed: &[(usize, f64)],
) -> Vec<Segment<'a>> {
    let mut segments: Vec<Segment<'a>> = Vec::new();
    for &(at, median) in timed {
        let same =
            |segment: &&mut Segment<'_>| runs[segment.runs[0]].fingerprint == runs[at].fingerprint;
        match segments.iter_mut().find(same) {
            Some(segment) => {
                segment.runs.push(at);
                segment.medians.push(median);
            }
            None => segments.push(Segment { series, runs: vec![at], medians: vec![median] }),
        }
    }
    segments
}

fn change(segment: &Segment<'_>, point: ChangePoint) -> Change {
    Change {
        series: segment.series.clone(),
        from: segment.runs[point.at - 1],
        to: segment.runs[point.at],
        point,
    }
}

/// The runs with which a device first had another environment.
fn environments(runs: &[RunInfo]) -> Vec<NewEnvironment> {
    let mut found = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let known = runs[..at].iter().any(|other| other.fingerprint == run.fingerprint);
        let before = runs[..at].iter().rposition(|other| other.device_half() == run.device_half());
        if let Some(from) = before.filter(|_| !known) {
            let same = |other: &&RunInfo| other.fingerprint == run.fingerprint;
            found.push(NewEnvironment { from, to: at, runs: runs.iter().filter(same).count() });
        }
    }
    found
}
