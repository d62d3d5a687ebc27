//! The control arm: how often equal things look different in this run.

use super::paired::PValues;

/// A control alarms when its two-sided p-value is below this.
pub const ALARM_BELOW: f64 = 0.05;
/// A run is invalid when so many alarms are this improbable.
pub const IMPROBABLE: f64 = 0.01;
/// Verdicts that two equal things may earn before the run is invalid.
pub const MOST_VERDICTS: usize = 1;
/// Two-sided normal quantile of the Wilson interval, 95 %.
const Z: f64 = 1.959_964;

/// What the control arm says about a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Cells that were measured base against base.
    pub n: usize,
    /// Of them, with a p-value below 5 %.
    pub alarms: usize,
    /// Of them, called SLOWER or FASTER by the whole procedure.
    pub verdicts: usize,
}

impl Summary {
    /// Whether the run may be believed.
    pub fn is_valid(&self) -> bool {
        self.verdicts <= MOST_VERDICTS
            && (self.alarms == 0 || binomial_tail(self.alarms, self.n, ALARM_BELOW) > IMPROBABLE)
    }

    /// The rate of alarms with its 95 % interval.
    pub fn alarm_interval(&self) -> (f64, f64) {
        wilson(self.alarms, self.n)
    }
}

/// Share of suites that `compare` may call changed though nothing did.
pub const MOST_SUITES: f64 = 0.01;

/// What comparing sessions of unchanged code came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SessionSummary {
    /// Pairs of sessions.
    pub suites: usize,
    /// Of them, with any SLOWER or FASTER.
    pub alarmed: usize,
    /// Cells timed on both sides, over all suites.
    pub cells: usize,
    /// Of them, called SLOWER or FASTER.
    pub verdicts: usize,
}

impl SessionSummary {
    /// Whether no more suites are alarmed than chance explains; one of one already is more.
    pub fn is_valid(&self) -> bool {
        let tail = binomial_tail(self.alarmed, self.suites, MOST_SUITES);
        // The tail of one in one is the bound itself, but for a rounding.
        tail > IMPROBABLE * (1.0 + 1e-9)
    }
}

pub fn alarms(p: &PValues) -> bool {
    p.two_sided() < ALARM_BELOW
}

/// Wilson's score interval of `k` in `n` at 95 %; all of [0, 1] without any trial.
pub fn wilson(k: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (k, n) = (k as f64, n as f64);
    let (share, z2) = (k / n, Z * Z);
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let spread = (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let half = Z * spread / (1.0 + z2 / n);
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Probability of `k` or more among `n` independent events of probability `p` each.
pub fn binomial_tail(k: usize, n: usize, p: f64) -> f64 {
    if k > n {
        return 0.0;
    }
    // One term follows from the one before.
    let mut term = (1.0 - p).powi(n as i32);
    let mut below = 0.0;
    for i in 0..k {
        below += term;
        term *= (n - i) as f64 / (i + 1) as f64 * p / (1.0 - p);
    }
    (1.0 - below).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_intervals_are_the_published_ones() {
        let ends = |k, n| {
            let (low, high) = wilson(k, n);
            ((1e3 * low).round() / 1e3, (1e3 * high).round() / 1e3)
        };
        assert_eq!(ends(0, 40), (0.0, 0.088));
        assert_eq!(ends(0, 100), (0.0, 0.037));
        assert_eq!(ends(50, 100), (0.404, 0.596));
        assert_eq!(ends(10, 10), (0.722, 1.0));
        assert_eq!(ends(0, 0), (0.0, 1.0));
    }

    #[test]
    fn binomial_tails_match_hand_computed_values() {
        assert_eq!(binomial_tail(0, 5, 0.3), 1.0);
        assert!((binomial_tail(1, 2, 0.5) - 0.75).abs() < 1e-15);
        assert!((binomial_tail(2, 2, 0.05) - 0.0025).abs() < 1e-12);
        assert_eq!(binomial_tail(3, 2, 0.05), 0.0);
    }

    #[test]
    fn a_run_is_invalid_from_as_many_alarms_as_the_table_says() {
        for (n, first) in [(20, 5), (25, 5), (40, 7), (60, 8), (100, 12), (200, 19)] {
            let valid = |alarms| Summary { n, alarms, verdicts: 0 }.is_valid();
            assert!(valid(first - 1) && !valid(first), "{n} controls");
        }
    }

    #[test]
    fn an_alarmed_suite_may_be_chance_among_many_only() {
        for (suites, first) in [(1, 1), (2, 2), (9, 2), (50, 4)] {
            let valid =
                |alarmed| SessionSummary { suites, alarmed, ..Default::default() }.is_valid();
            assert!(valid(first - 1) && !valid(first), "{suites} suites");
        }
    }

    #[test]
    fn one_verdict_may_be_chance_and_two_are_not() {
        let valid = |verdicts| Summary { n: 20, alarms: 2, verdicts }.is_valid();
        assert!(valid(1) && !valid(2));
        assert!(Summary::default().is_valid());
    }
}
