//! How the time of a run is shared out. Pure: it is told how much is used.

/// A default run ends within two minutes, with some left for starting and writing.
const STANDARD_RUN_S: f64 = 110.0;
/// A quick one within fifteen seconds.
const QUICK_RUN_S: f64 = 13.0;
/// Most and least time the samples of one cell may take.
const STANDARD_CELL_S: (f64, f64) = (0.65, 3.0);
const QUICK_CELL_S: (f64, f64) = (0.12, 0.4);
/// Share of a cell's time left for compiling, verifying and uploading.
const SAMPLES_SHARE: f64 = 0.6;
/// No single cell may take more than this share of what is left.
const ALLOWANCE_SHARE: f64 = 0.2;

/// The time left for a run.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    quick: bool,
    max_time: Option<f64>,
}

/// What one cell may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Sampling time in seconds.
    pub limit_s: f64,
    /// Total time in seconds beyond which the cell is not tried.
    pub allowance_s: f64,
}

impl Budget {
    pub fn new(quick: bool, max_time: Option<f64>) -> Self {
        Budget { quick, max_time }
    }

    /// Seconds the whole run may take; infinite under `--max-time`.
    pub fn run_s(self) -> f64 {
        match (self.max_time, self.quick) {
            (Some(_), _) => f64::INFINITY,
            (None, true) => QUICK_RUN_S,
            (None, false) => STANDARD_RUN_S,
        }
    }

    /// The share of the next cell, `None` when the budget is used up.
    pub fn share(self, used_s: f64, cells_left: usize) -> Option<Share> {
        if let Some(limit_s) = self.max_time {
            return Some(Share { limit_s, allowance_s: f64::INFINITY });
        }
        let left = self.run_s() - used_s;
        let (least, most) = if self.quick { QUICK_CELL_S } else { STANDARD_CELL_S };
        let fair = left / cells_left.max(1) as f64 * SAMPLES_SHARE;
        let allowance_s = (left * ALLOWANCE_SHARE).max(2.0 * fair);
        (left > 0.0).then(|| Share { limit_s: fair.clamp(least, most), allowance_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shared_fairly_between_a_floor_and_a_cap() {
        let budget = Budget::new(false, None);
        assert_eq!(budget.share(0.0, 2).unwrap().limit_s, 3.0);
        assert_eq!(budget.share(0.0, 1000).unwrap().limit_s, 0.65);
        let fair = budget.share(10.0, 60).unwrap().limit_s;
        assert!((fair - 1.0).abs() < 1e-9, "{fair}");
    }

    #[test]
    fn a_used_up_budget_gives_nothing() {
        assert_eq!(Budget::new(false, None).share(111.0, 3), None);
        assert_eq!(Budget::new(true, None).share(13.5, 3), None);
    }

    #[test]
    fn a_limit_per_cell_lifts_the_limit_on_the_run() {
        let budget = Budget::new(true, Some(10.0));
        let share = budget.share(1e6, 3).unwrap();
        assert_eq!((share.limit_s, share.allowance_s), (10.0, f64::INFINITY));
    }
}
