//! Time against work over the sizes of a sweep, one line for each strategy and precision.

use super::axes;
use super::grid::strategy;
use super::layout::clean;
use crate::measure::{Scaling, scaling};
use crate::record::{Row, Run};
use crate::units::{Bytes, Flops, Seconds};

/// One series of a sweep.
pub(super) struct Series {
    /// `kernel/strategy/dtype`, with the option of the shape where it has one.
    pub name: String,
    /// What the work is counted in: `bytes` or `flops`, by what most sizes are bound by.
    pub unit: &'static str,
    pub scaling: Scaling,
    /// Work and time of the largest size.
    pub largest: (f64, f64),
}

/// Titles of the columns that [`Series::cells`] fills.
pub(super) const TITLES: [&str; 6] = ["series", "sizes", "largest", "time", "knee", "growth"];

/// The series of a sweep that have sizes enough to say how they grow; none in other presets.
pub(super) fn series(run: &Run) -> Vec<Series> {
    if run.environment.preset != "sweep" {
        return Vec::new();
    }
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    // The scale of a modality and its presence are no sizes.
    let sized = |row: &&Row| row.time.is_some() && !axes::is_point(row);
    for row in run.rows.iter().filter(sized) {
        let option = row.option.as_ref().map_or(String::new(), |option| format!("_{option}"));
        let (kernel, strategy) = (clean(&row.kernel), strategy(row));
        let name = format!("{kernel}/{strategy}/{}{}", clean(&row.dtype), clean(&option));
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups.into_iter().filter_map(|(name, rows)| one(name, &rows)).collect()
}

fn one(name: String, rows: &[&Row]) -> Option<Series> {
    let bound = |row: &&&Row| {
        let by = row.rate.as_ref().and_then(|rate| rate.bound_by.as_deref());
        by == Some("compute")
    };
    let compute = rows.iter().filter(bound).count() * 2 > rows.len();
    let work = |row: &Row| if compute { row.work.flops } else { row.work.bytes };
    let point = |row: &&Row| Some((work(row), row.time.as_ref()?.median));
    let points: Vec<(f64, f64)> = rows.iter().filter_map(point).collect();
    let largest = points.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let unit = if compute { "flops" } else { "bytes" };
    Some(Series { name, unit, scaling: scaling(&points)?, largest })
}

impl Series {
    /// As the table shows it: a knee is the size below which a fixed cost rules.
    pub(super) fn cells(&self) -> [String; 6] {
        let amount = |work: f64| match self.unit {
            "flops" => Flops(work).to_string(),
            _ => Bytes(work).to_string(),
        };
        let growth = self.scaling.exponent.map_or_else(
            || "too few sizes beyond the knee".to_owned(),
            |exponent| format!("{}^{exponent:.2}", self.unit),
        );
        [
            self.name.clone(),
            self.scaling.points.to_string(),
            amount(self.largest.0),
            Seconds(self.largest.1).to_string(),
            self.scaling.knee.map_or_else(|| "none".to_owned(), amount),
            growth,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::gpu_run;
    use crate::report::{markdown, terminal};

    /// One kernel at sizes that grow fourfold, with 20 µs whatever it does.
    fn sweep() -> Run {
        let mut run = gpu_run();
        run.environment.preset = "sweep".to_owned();
        let row = run.rows.iter().find(|row| row.time.is_some()).expect("a timed row").clone();
        let at = |size: i32| {
            let mut row = row.clone();
            row.work.bytes = 1e4 * 4_f64.powi(size);
            row.rate.as_mut().expect("a rate").bound_by = Some("memory".to_owned());
            row.time.as_mut().expect("a time").median = 2e-5 + row.work.bytes * 1e-9;
            row
        };
        run.rows = (0..8).map(at).collect();
        run
    }

    #[test]
    fn a_sweep_shows_its_knee_and_its_growth_in_every_form_for_people() {
        let found = series(&sweep());
        assert_eq!(found.len(), 1);
        assert!((found[0].scaling.knee.expect("a knee") - 2e4).abs() < 1.0);
        for text in [terminal::table(&sweep(), false, 100), markdown::table(&sweep())] {
            let line = text.lines().find(|line| line.contains("163.8 MB")).expect("the series");
            for words in ["20.00 kB", "bytes^", "8"] {
                assert!(line.contains(words), "{line}");
            }
        }
    }

    #[test]
    fn other_presets_and_single_sizes_show_nothing() {
        let mut run = sweep();
        run.rows.truncate(2);
        assert!(series(&run).is_empty());
        let mut run = sweep();
        run.environment.preset = "models".to_owned();
        assert!(series(&run).is_empty());
        assert!(!terminal::table(&run, false, 100).contains("work grows"));
    }
}
