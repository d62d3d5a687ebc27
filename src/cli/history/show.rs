//! `fusebench history show`.

use std::collections::HashMap;

use clap::Args;

use super::{Selected, SeriesArgs, failure, select};
use crate::cli::args::Format;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{COLOUR, print, width};
use crate::history::{HistoryError, Point, RunInfo, Series};
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
    let whole = selected.series.len() == 1 || matches!(args.format, Format::Json | Format::Csv);
    let latest = Latest::new(&selected, args.last, whole);
    let mut lines = Vec::new();
    for series in &selected.series {
        let points = latest.of(series).map_err(failure)?;
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

/// Reads of each series what is to be shown.
struct Latest<'a> {
    selected: &'a Selected,
    position: HashMap<i64, usize>,
    devices: Vec<&'a str>,
    /// Points wanted of each device.
    last: usize,
    /// With all that is known of them.
    whole: bool,
}

impl<'a> Latest<'a> {
    fn new(selected: &'a Selected, last: usize, whole: bool) -> Self {
        let runs = &selected.runs;
        let position = runs.iter().enumerate().map(|(at, run)| (run.id, at)).collect();
        let mut devices: Vec<&str> = runs.iter().map(RunInfo::device_half).collect();
        devices.sort_unstable();
        devices.dedup();
        Latest { selected, position, devices, last, whole }
    }

    /// The points of a series, oldest first: at least the latest of each device. Where runs were
    /// added as they came, those with the highest ids are the latest, and older ones are read only
    /// when a device lacks some.
    fn of(&self, series: &Series) -> Result<Vec<(usize, Point)>, HistoryError> {
        let runs = &self.selected.runs;
        if runs.is_sorted_by_key(|run| run.id) {
            let few = self.last.saturating_mul(self.devices.len());
            let read = self.read(series, few)?;
            let is_all = read.len() < few;
            let points = self.placed(read);
            let lacks = |device: &&str| {
                let own = points.iter().filter(|(at, _)| runs[*at].device_half() == *device);
                own.count() < self.last
            };
            if is_all || !self.devices.iter().any(lacks) {
                return Ok(points);
            }
        }
        Ok(self.placed(self.read(series, usize::MAX)?))
    }

    fn read(&self, series: &Series, limit: usize) -> Result<Vec<Point>, HistoryError> {
        let history = &self.selected.history;
        if self.whole {
            return history.points(series.id, limit);
        }
        Ok(history.medians(series.id, limit)?.into_iter().map(bare).collect())
    }

    /// Points of the selected runs, in their order.
    fn placed(&self, read: Vec<Point>) -> Vec<(usize, Point)> {
        let place = |point: Point| Some((*self.position.get(&point.run)?, point));
        let mut points: Vec<(usize, Point)> = read.into_iter().filter_map(place).collect();
        points.sort_by_key(|(at, _)| *at);
        points
    }
}

/// What a line is drawn from.
fn bare((run, status, median): (i64, String, Option<f64>)) -> Point {
    Point { run, status, median, low: None, high: None, samples: 0, nmse: None, sqnr_db: None }
}

/// The points of each device apart, in the order in which devices first ran.
fn devices(runs: &[RunInfo], points: Vec<(usize, Point)>) -> Vec<Vec<(usize, Point)>> {
    let mut groups: Vec<(&str, Vec<(usize, Point)>)> = Vec::new();
    for (at, point) in points {
        let device = runs[at].device_half();
        match groups.iter_mut().find(|(known, _)| *known == device) {
            Some((_, group)) => group.push((at, point)),
            None => groups.push((device, vec![(at, point)])),
        }
    }
    groups.sort_by_key(|(device, _)| runs.iter().position(|run| run.device_half() == *device));
    groups.into_iter().map(|(_, group)| group).collect()
}
