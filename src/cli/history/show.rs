//! `fusebench history show`.

use std::collections::HashMap;

use clap::Args;

use super::{SeriesArgs, failure, select};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{COLOUR, print, width};
use crate::history::Point;
use crate::report::history::{Line, Overview, csv, json, markdown, table};

/// One line a series, oldest run on the left; where one series is selected, its runs as well. A
/// bar in the line is a change of driver, system or timer, after which times are another series;
/// `x` is a run that was wrong or failed.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    series: SeriesArgs,
    /// Only this many of the latest runs of each series.
    #[arg(long, value_name = "N", default_value_t = 24, env = "FUSEBENCH_LAST")]
    last: usize,
    /// With JSON, the samples of every run, in seconds.
    #[arg(long, env = "FUSEBENCH_SAMPLES")]
    samples: bool,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "table", env = "FUSEBENCH_FORMAT")]
    format: Format,
}

/// Shows the series that are selected.
pub fn show(args: &ShowArgs) -> Result<Exit, Failure> {
    let selected = select(&args.series)?;
    let position: HashMap<i64, usize> =
        selected.runs.iter().enumerate().map(|(at, run)| (run.id, at)).collect();
    let whole = selected.series.len() == 1 || matches!(args.format, Format::Json | Format::Csv);
    let mut lines = Vec::new();
    for series in &selected.series {
        let points = if whole {
            selected.history.points(series.id)
        } else {
            let medians = selected.history.medians(series.id);
            medians.map(|found| found.into_iter().map(bare).collect())
        };
        let points = points.map_err(failure)?.into_iter();
        let mut points: Vec<(usize, Point)> =
            points.filter_map(|point| Some((*position.get(&point.run)?, point))).collect();
        points.sort_by_key(|(at, _)| *at);
        lines.extend(devices(&selected.runs, points).into_iter().map(|mut points| {
            points.drain(..points.len().saturating_sub(args.last));
            Line { series: series.clone(), points, samples: Vec::new() }
        }));
    }
    lines.retain(|line| !line.points.is_empty());
    if args.samples {
        for line in &mut lines {
            let of = |point: &Point| selected.history.samples(point.run, line.series.id);
            let samples = line.points.iter().map(|(_, point)| of(point));
            line.samples = samples.collect::<Result<_, _>>().map_err(failure)?;
        }
    }
    let path = selected.history.path().display().to_string();
    let found = Overview { path: &path, runs: &selected.runs, lines: &lines };
    let text = match args.format {
        Format::Table => table(&found, COLOUR, width()),
        Format::Json => json(&found),
        Format::Csv => csv(&found),
        Format::Markdown => markdown(&found),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
    Ok(Exit::Fine)
}

/// What a line is drawn from.
fn bare((run, status, median): (i64, String, Option<f64>)) -> Point {
    Point { run, status, median, low: None, high: None, samples: 0, nmse: None, sqnr_db: None }
}

/// The points of each device apart, in the order in which devices first ran.
fn devices(
    runs: &[crate::history::RunInfo],
    points: Vec<(usize, Point)>,
) -> Vec<Vec<(usize, Point)>> {
    let mut groups: Vec<(&str, Vec<(usize, Point)>)> = Vec::new();
    for (at, point) in points {
        let device = runs[at].device_half();
        match groups.iter_mut().find(|(known, _)| *known == device) {
            Some((_, group)) => group.push((at, point)),
            None => groups.push((device, vec![(at, point)])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}
