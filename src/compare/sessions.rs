//! One cell in two runs that were not interleaved. What differs between two sessions on the same
//! device (clocks, heat, neighbours, addresses) does not show in the samples of either, however
//! many there are, so it is taken from earlier runs, or assumed.

use super::change_points::round_clear_levels;
use super::noise;
use super::verdict::{Reason, Verdict};
use crate::measure::stats::{log_median_errors, quantile_sorted, sorted};

/// Earlier runs from which the noise between runs is known.
pub const MIN_RUNS: usize = 8;
/// Earlier runs that are looked at; older ones may have had other noise.
pub const MOST_RUNS: u32 = 64;
/// Least change worth a verdict where the noise is known.
const LEAST_FLOOR: f64 = 0.05;
/// The same where it is not.
const SINGLE_RUN_FLOOR: f64 = 0.10;
/// Spread between runs of unknown noise, in logarithms: that of the simulated histories from which
/// the design's false-alarm rates come.
const ASSUMED_SD: f64 = 0.0266;
/// Floor in standard deviations of the medians of runs.
const FLOOR_SDS: f64 = 3.0;
/// Two-sided 95 % and one-sided 95 % quantiles of the normal distribution.
const Z_INTERVAL: f64 = 1.959_964;
const Z_BOUND: f64 = 1.644_854;
const RESAMPLES: u32 = 2_000;

/// How much the median of a cell moves from run to run though nothing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionNoise {
    /// Standard deviation of the logarithm: with 95 % confidence it is not larger, because eight
    /// runs tell a spread badly.
    pub sd: f64,
    /// Smallest change worth a verdict, as a fraction.
    pub floor: f64,
    /// Earlier runs it was learnt from; 0 where it is assumed.
    pub runs: usize,
    /// The floor is what the cell's noise within a session asks for, which is more.
    pub raised: bool,
}

impl SessionNoise {
    /// Learns from the medians of earlier runs of the cell on the same fingerprint, if enough; in
    /// the order of the runs, from either end.
    pub fn of(medians: &[f64]) -> SessionNoise {
        let runs = medians.len();
        if runs < MIN_RUNS {
            let floor = SINGLE_RUN_FLOOR;
            return SessionNoise { sd: ASSUMED_SD, floor, runs: 0, raised: false };
        }
        let logs: Vec<f64> = medians.iter().map(|median| median.ln()).collect();
        // A step in the history is a change, not noise: it must not hide itself or the next one.
        let squares: f64 = round_clear_levels(&logs).iter().map(|log| log * log).sum();
        let sd = (squares / chi_squared_5_percent(runs - 1)).sqrt();
        let floor = (FLOOR_SDS * sd).exp_m1().max(LEAST_FLOOR);
        SessionNoise { sd, floor, runs, raised: false }
    }

    /// The same with no lower a floor than the noise of the cell against itself asks for, where a
    /// selftest found that.
    pub fn above(self, cell: Option<f64>) -> SessionNoise {
        let floor = cell.map_or(0.0, noise::floor);
        SessionNoise { floor: self.floor.max(floor), raised: floor > self.floor, ..self }
    }

    /// Whether nothing but the two runs is known.
    pub fn is_single_run(&self) -> bool {
        self.runs == 0
    }
}

/// The value that a sum of `n` squared standard normals is below with 5 % probability, by Wilson
/// and Hilferty's approximation; within 1 % from 7 on.
fn chi_squared_5_percent(n: usize) -> f64 {
    let n = n as f64;
    let spread = 2.0 / (9.0 * n);
    n * (1.0 - spread - Z_BOUND * spread.sqrt()).powi(3)
}

/// Head over base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Of the medians.
    pub ratio: f64,
    /// 95 % interval for a difference that lasts beyond the two runs.
    pub low: f64,
    pub high: f64,
    /// The same for these two runs alone.
    pub runs_low: f64,
    pub runs_high: f64,
}

/// The ratio of two medians. Its interval has two parts, added as variances: what a bootstrap over
/// the samples of both runs gives, and what two sessions differ by on their own. Samples are
/// seconds above zero in the order taken, at least one a side.
pub fn ratio(base: &[f64], head: &[f64], noise: SessionNoise, seed: u32) -> Ratio {
    let median = |samples: &[f64]| quantile_sorted(&sorted(samples), 0.5);
    let centre = (median(head) / median(base)).ln();
    // Other draws for the other side, or equal counts of samples would move together.
    let errors = log_median_errors(head, RESAMPLES, seed.wrapping_add(1));
    let errors = errors.iter().zip(log_median_errors(base, RESAMPLES, seed));
    let differences: Vec<f64> = errors.map(|(head, base)| head - base).collect();
    let differences = sorted(&differences);
    let session = Z_INTERVAL * 2.0_f64.sqrt() * noise.sd;
    let (below, above) =
        (quantile_sorted(&differences, 0.025), quantile_sorted(&differences, 0.975));
    Ratio {
        ratio: centre.exp(),
        low: (centre - below.hypot(session)).exp(),
        high: (centre + above.hypot(session)).exp(),
        runs_low: (centre + below).exp(),
        runs_high: (centre + above).exp(),
    }
}

/// SLOWER or FASTER where the whole interval is beyond the floor. SAME where these two runs differ
/// by less than the floor, which is what two sessions may differ by on their own.
pub fn verdict(ratio: &Ratio, floor: f64) -> (Verdict, Reason) {
    let (below, above) = (1.0 / (1.0 + floor), 1.0 + floor);
    if ratio.low > above {
        (Verdict::Slower, Reason::Evidence)
    } else if ratio.high < below {
        (Verdict::Faster, Reason::Evidence)
    } else if ratio.runs_low >= below && ratio.runs_high <= above {
        (Verdict::Same, Reason::Equivalent)
    } else {
        (Verdict::Unclear, Reason::Straddles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn normal(stream: u32, index: u32) -> f64 {
        f64::from(rng::normal(21, stream, index))
    }

    /// Thirty samples round `level`, 2 % apart.
    fn samples(level: f64, stream: u32) -> Vec<f64> {
        (0..30).map(|i| level * (0.02 * normal(stream, i)).exp()).collect()
    }

    fn known(sd: f64, runs: u32, stream: u32) -> SessionNoise {
        let medians: Vec<f64> = (0..runs).map(|i| (sd * normal(stream, i)).exp()).collect();
        SessionNoise::of(&medians)
    }

    #[test]
    fn quantiles_of_the_chi_squared_are_the_published_ones() {
        for (n, value) in [(7, 2.167), (15, 7.261), (30, 18.493), (63, 45.741)] {
            assert!((chi_squared_5_percent(n) / value - 1.0).abs() < 0.01, "{n}");
        }
    }

    #[test]
    fn seven_runs_are_a_single_run_and_eight_are_not() {
        let seven = SessionNoise::of(&[1.0; 7]);
        assert!(seven.is_single_run() && seven.floor == 0.10);
        let eight = SessionNoise::of(&[1.0; 8]);
        assert!(!eight.is_single_run());
        assert_eq!((eight.floor, eight.sd, eight.runs), (0.05, 0.0, 8));
        // Twice the spread, twice the deviation; the floor follows it.
        let (quiet, loud) = (known(0.02, 64, 1), known(0.04, 64, 1));
        assert!((loud.sd / quiet.sd - 2.0).abs() < 1e-9 && loud.floor > quiet.floor);
        assert!((quiet.sd - 0.02).abs() < 0.01, "{quiet:?}");
        // A change in between is no noise.
        let mut medians: Vec<f64> = (0..64).map(|i| (0.02 * normal(1, i)).exp()).collect();
        medians[32..].iter_mut().for_each(|median| *median *= 1.2);
        assert!(SessionNoise::of(&medians).sd < 1.1 * quiet.sd);
    }

    #[test]
    fn mirrored_sides_give_the_mirrored_verdict() {
        let noise = known(0.01, 64, 2);
        for (factor, expected) in [
            (1.3, Verdict::Slower),
            (1.0 / 1.3, Verdict::Faster),
            (1.0, Verdict::Same),
            (1.05, Verdict::Unclear),
        ] {
            let (base, head) = (samples(1e-3, 3), samples(1e-3 * factor, 4));
            let there = ratio(&base, &head, noise, 1);
            assert_eq!(verdict(&there, noise.floor).0, expected, "{there:?}");
            let back = verdict(&ratio(&head, &base, noise, 1), noise.floor).0;
            let mirrored = match expected {
                Verdict::Slower => Verdict::Faster,
                Verdict::Faster => Verdict::Slower,
                other => other,
            };
            assert_eq!(back, mirrored);
        }
    }

    #[test]
    fn a_run_against_itself_is_never_slower_however_few_its_samples() {
        for samples in [&[1e-3][..], &[1e-3, 2e-3], &[5e-324, 1e300, 1.0]] {
            for noise in [SessionNoise::of(&[]), SessionNoise::of(&[1.0; 9])] {
                let found = ratio(samples, samples, noise, 1);
                assert_eq!(found.ratio, 1.0);
                assert!(matches!(verdict(&found, noise.floor).0, Verdict::Same | Verdict::Unclear));
            }
        }
    }

    #[test]
    fn known_noise_narrows_the_interval_and_assumed_noise_never_does() {
        let (base, head) = (samples(1.0, 5), samples(1.0, 6));
        let width = |noise| {
            let found = ratio(&base, &head, noise, 1);
            found.high - found.low
        };
        let nothing = SessionNoise { sd: 0.0, floor: 0.1, runs: 9, raised: false };
        assert!(width(SessionNoise::of(&[])) > 2.0 * 0.073);
        assert!(width(nothing) < width(known(0.005, 64, 1)));
        assert!(width(known(0.005, 64, 1)) < width(SessionNoise::of(&[])));
    }

    #[test]
    fn the_noise_of_a_cell_raises_its_floor_and_never_lowers_it() {
        let (base, head) = (samples(1e-3, 3), samples(1.6e-3, 4));
        let judged = |cell: Option<f64>| {
            let noise = SessionNoise::of(&[]).above(cell);
            let found = ratio(&base, &head, noise, 1);
            (verdict(&found, noise.floor).0, noise.raised)
        };
        assert_eq!(judged(None), (Verdict::Slower, false));
        assert_eq!(judged(Some(0.01)), (Verdict::Slower, false));
        // Twice 0.3 in logarithms is 82 %, more than the change.
        assert_eq!(judged(Some(0.3)), (Verdict::Same, true));
    }

    /// Share of suites of 100 cells with an alarm, when nothing but the session changed.
    fn suite_alarms(sd: f64, runs: u32) -> f64 {
        let suites = 60;
        let alarm = |suite: u32, cell: u32| {
            let stream = 1_000 + 3 * (suite * 100 + cell);
            let level = |side: u32| (sd * normal(stream, 5_000 + side)).exp();
            let noise = if runs == 0 { SessionNoise::of(&[]) } else { known(sd, runs, stream) };
            // Most cells are far inside: no need to resample those.
            let apart = (level(0) / level(1)).ln().abs();
            apart > noise.floor.ln_1p() && {
                let (base, head) = (samples(level(0), stream + 1), samples(level(1), stream + 2));
                let found = ratio(&base, &head, noise, 1);
                matches!(verdict(&found, noise.floor).0, Verdict::Slower | Verdict::Faster)
            }
        };
        let alarmed = (0..suites).filter(|&suite| (0..100).any(|cell| alarm(suite, cell)));
        alarmed.count() as f64 / f64::from(suites)
    }

    #[test]
    fn unchanged_code_raises_hardly_any_alarm_in_a_suite_of_a_hundred_cells() {
        for (sd, runs) in [(0.0266, 8), (0.05, 8), (0.0266, 64), (0.0266, 0)] {
            let rate = suite_alarms(sd, runs);
            assert!(rate <= 0.05, "{rate} of suites, spread {sd}, {runs} earlier runs");
        }
        // The twin: the floor alone, as if samples told all, alarms in most suites.
        let naive = (0..60).filter(|suite| {
            (0..100).any(|cell| {
                let stream = 1_000 + 3 * (suite * 100 + cell);
                let apart = 0.0266 * (normal(stream, 5_000) - normal(stream, 5_001));
                apart.abs() > 0.05_f64.ln_1p()
            })
        });
        assert!(naive.count() > 50);
    }
}
