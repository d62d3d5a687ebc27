//! What can be tracked: one series for each cell and mode of checks that has a time.

use std::collections::HashSet;

use crate::record::{Row, Run, Time};

/// Longer than any dispatch (30 years): a file with more was not measured, and its nanoseconds
/// would not be finite.
const LONGEST_S: f64 = 1e9;

/// One number over time, as a tracker sees it.
pub(super) struct Series<'a> {
    /// The id, with the mode of checks where it is not the usual one.
    pub name: String,
    pub row: &'a Row,
    pub time: &'a Time,
    /// `safe` or `trusted`.
    pub checks: &'a str,
}

/// A rate of a series.
pub(super) struct Rate {
    /// As a name: `gflops`, `gops` or `gbytes_per_s`.
    pub name: &'static str,
    /// As people write it.
    pub unit: &'static str,
    /// In that unit.
    pub value: f64,
}

/// The series of a run in the order of its rows. A mode that a row carries for another one gives
/// way to a row of its own.
pub(super) fn of(run: &Run) -> Vec<Series<'_>> {
    let own: HashSet<(&str, &str)> =
        run.rows.iter().map(|row| (row.id.as_str(), row.checks.as_str())).collect();
    let mut found = Vec::new();
    for row in &run.rows {
        let carried = (row.checks != "trusted" && !own.contains(&(row.id.as_str(), "trusted")))
            .then_some(row.time_trusted.as_ref())
            .flatten();
        let times = [(row.checks.as_str(), row.time.as_ref()), ("trusted", carried)];
        for (checks, time) in times {
            let Some(time) = time.filter(|time| is_measurable(time)) else { continue };
            let mode = if checks == "safe" { String::new() } else { format!(" {checks}") };
            found.push(Series { name: format!("{}{mode}", row.id), row, time, checks });
        }
    }
    found
}

fn is_measurable(time: &Time) -> bool {
    let ends = [time.low, time.median, time.high];
    ends.iter().chain(&time.samples).all(|seconds| seconds.abs() < LONGEST_S)
}

impl Series<'_> {
    /// Arithmetic and traffic, each where the kernel has some.
    pub fn rates(&self) -> Vec<Rate> {
        let work = &self.row.work;
        let (name, unit) =
            if work.arithmetic == "i8" { ("gops", "GOP/s") } else { ("gflops", "GFLOP/s") };
        let all = [(name, unit, work.flops), ("gbytes_per_s", "GB/s", work.bytes)];
        all.into_iter()
            .map(|(name, unit, amount)| Rate { name, unit, value: amount / self.time.median / 1e9 })
            .filter(|rate| rate.value.is_finite() && rate.value > 0.0)
            .collect()
    }

    /// Normalised mean square error, where it is a number that JSON has.
    pub fn nmse(&self) -> Option<f64> {
        self.row.accuracy.as_ref().map(|accuracy| accuracy.nmse).filter(|nmse| nmse.is_finite())
    }

    /// The id in its four parts.
    pub fn parts(&self) -> [&str; 4] {
        let mut parts = self.row.id.split('/');
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

/// Seconds as nanoseconds, without the tail of digits that the product has.
pub(super) fn nanoseconds(seconds: f64) -> f64 {
    format!("{seconds:e}")
        .split_once('e')
        .and_then(|(digits, exponent)| {
            let exponent: i32 = exponent.parse().ok()?;
            format!("{digits}e{}", exponent + 9).parse().ok()
        })
        .expect("Rust reads what it prints")
}
