//! Statistics of one series of samples: no distribution is assumed, and neighbours may depend on
//! each other.

use crate::rng;

use super::plan::{CONFIDENCE, SETTLED_BELOW};

/// Stream of the resampling indices; fixed, so that a stored run can be recomputed.
const BOOTSTRAP_STREAM: u32 = 0xb007;
/// ρ is clamped here, where the interval is stretched 6.2 times.
const MAX_AUTOCORRELATION: f64 = 0.95;
/// Tukey's fences in interquartile ranges: mild and severe.
const FENCES: [f64; 2] = [1.5, 3.0];
/// Gaps between few samples say nothing about modes: of 2,000 normal series of 10 samples 37 had
/// one that would be called a gap between modes, of 20 samples none.
const MIN_FOR_MODES: usize = 10;

/// Ascending copy.
pub fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Quantile of ascending values, linear between order statistics; NaN of none.
pub fn quantile_sorted(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Quantile of values in any order.
pub fn quantile(samples: &[f64], p: f64) -> f64 {
    quantile_sorted(&sorted(samples), p)
}

/// Middle value, or the mean of the middle two.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Interval of the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// Lag-1 autocorrelation of the ranks, within [0, 0.95]: what the interval was stretched by.
    pub rank_autocorrelation: f64,
}

impl Interval {
    /// Half the interval over the median.
    pub fn relative_half_width(&self) -> f64 {
        0.5 * (self.high - self.low) / self.median
    }
}

/// Percentile bootstrap interval of the median at 95 %, both half-widths multiplied by
/// √((1+ρ)/(1−ρ)): drift makes neighbours alike, and the plain interval then covers as little as
/// half of what it claims. `samples` are in the order they were taken, and at least one.
pub fn interval(samples: &[f64], resamples: u32, seed: u32) -> Interval {
    let sorted = sorted(samples);
    let medians = resampled_medians(&sorted, resamples, seed);
    let rho = rank_autocorrelation(samples).clamp(0.0, MAX_AUTOCORRELATION);
    let stretch = stretch(rho);
    let median = quantile_sorted(&sorted, 0.5);
    let tail = 0.5 * (1.0 - CONFIDENCE);
    let end = |p| median + stretch * (quantile_sorted(&medians, p) - median);
    Interval { median, low: end(tail), high: end(1.0 - tail), rank_autocorrelation: rho }
}

/// How much wider an interval is when neighbours have this rank autocorrelation.
fn stretch(rho: f64) -> f64 {
    ((1.0 + rho) / (1.0 - rho)).sqrt()
}

/// Logarithm of the median of each bootstrap resample over that of the samples, in the order
/// drawn, stretched as [`interval`] is. `samples` are above zero, in the order they were taken,
/// and at least one.
pub fn log_median_errors(samples: &[f64], resamples: u32, seed: u32) -> Vec<f64> {
    let sorted = sorted(samples);
    let stretch = stretch(rank_autocorrelation(samples).clamp(0.0, MAX_AUTOCORRELATION));
    let median = quantile_sorted(&sorted, 0.5);
    let drawn = drawn_medians(&sorted, resamples, seed);
    drawn.into_iter().map(|drawn| stretch * (drawn / median).ln()).collect()
}

/// Medians of `resamples` draws with replacement, ascending.
fn resampled_medians(sorted: &[f64], resamples: u32, seed: u32) -> Vec<f64> {
    let mut medians = drawn_medians(sorted, resamples, seed);
    medians.sort_by(f64::total_cmp);
    medians
}

/// Medians of `resamples` draws with replacement, in the order drawn.
fn drawn_medians(sorted: &[f64], resamples: u32, seed: u32) -> Vec<f64> {
    let n = sorted.len();
    let mut drawn = vec![0_usize; n];
    let mut medians = Vec::with_capacity(resamples as usize);
    for resample in 0..resamples {
        let first = resample.wrapping_mul(n as u32);
        for (i, rank) in drawn.iter_mut().enumerate() {
            let word = rng::word(seed, BOOTSTRAP_STREAM, first.wrapping_add(i as u32));
            *rank = ((u64::from(word) * n as u64) >> 32) as usize;
        }
        let (lower, middle, _) = drawn.select_nth_unstable(n / 2);
        let upper = sorted[*middle];
        medians.push(match lower.iter().max() {
            Some(&below) if n.is_multiple_of(2) => 0.5 * (sorted[below] + upper),
            _ => upper,
        });
    }
    medians
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(samples: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| samples[a].total_cmp(&samples[b]));
    let mut ranks = vec![0.0; samples.len()];
    let mut start = 0;
    for tied in order.chunk_by(|&a, &b| samples[a] == samples[b]) {
        let mean = start as f64 + 0.5 * (tied.len() + 1) as f64;
        tied.iter().for_each(|&i| ranks[i] = mean);
        start += tied.len();
    }
    ranks
}

/// Lag-1 autocorrelation of the ranks of a series in time order; 0 of a constant one.
pub fn rank_autocorrelation(samples: &[f64]) -> f64 {
    let ranks = ranks(samples);
    let mean = 0.5 * (samples.len() + 1) as f64;
    let square: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    let lagged: f64 = ranks.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if square > 0.0 { lagged / square } else { 0.0 }
}

/// Samples outside Tukey's fences: mild and severe, each counted once.
pub fn outliers(samples: &[f64]) -> [usize; 2] {
    let sorted = sorted(samples);
    let (q1, q3) = (quantile_sorted(&sorted, 0.25), quantile_sorted(&sorted, 0.75));
    let outside = |fence: f64| {
        let (low, high) = (q1 - fence * (q3 - q1), q3 + fence * (q3 - q1));
        sorted.iter().filter(|&&sample| sample < low || sample > high).count()
    };
    let [all, severe] = FENCES.map(outside);
    [all - severe, severe]
}

/// The two values round the gap between two modes: the largest gap within the middle 80 % of the
/// samples when it is more than half of p95 − p5.
pub fn modes(samples: &[f64]) -> Option<(f64, f64)> {
    if samples.len() < MIN_FOR_MODES {
        return None;
    }
    let sorted = sorted(samples);
    let cut = sorted.len() / 10;
    let middle = &sorted[cut..sorted.len() - cut];
    let widest = middle.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0])))?;
    let range = quantile_sorted(&sorted, 0.95) - quantile_sorted(&sorted, 0.05);
    (widest[1] - widest[0] > 0.5 * range).then_some((widest[0], widest[1]))
}

/// Whether more samples would only confirm the noise: the relative spread (q3 − q1) / median of
/// the series as it grew by its last `ring` samples varies by less than 5 %.
pub fn settled(samples: &[f64], ring: usize) -> bool {
    let n = samples.len();
    if n < ring {
        return false;
    }
    let spreads: Vec<f64> = (n - ring + 1..=n).map(|n| relative_spread(&samples[..n])).collect();
    let count = spreads.len() as f64;
    let mean = spreads.iter().sum::<f64>() / count;
    let variance = spreads.iter().map(|spread| (spread - mean).powi(2)).sum::<f64>() / count;
    variance.sqrt() <= SETTLED_BELOW * mean
}

fn relative_spread(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let quartile = |p| quantile_sorted(&sorted, p);
    (quartile(0.75) - quartile(0.25)) / quartile(0.5)
}

/// Slope and intercept by Theil and Sen: the median of the slopes of all pairs, then the median of
/// what is left, so that a few disturbed points change nothing. `None` without two abscissae.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let mut slopes = Vec::new();
    for (i, a) in points.iter().enumerate() {
        let others = points[i + 1..].iter().filter(|b| b.0 != a.0);
        slopes.extend(others.map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    if slopes.is_empty() {
        return None;
    }
    let slope = median(&slopes);
    let left: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    Some((slope, median(&left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_order_statistics() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        // Position 0.25 · 3 = 0.75 between 1 and 2.
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.25), 1.75);
        assert_eq!((quantile(&[1.0, 5.0], 0.0), quantile(&[1.0, 5.0], 1.0)), (1.0, 5.0));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ties_share_the_mean_of_their_ranks() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
    }

    #[test]
    fn autocorrelation_matches_a_hand_computed_value() {
        // Ranks 1 2 3 4, centred −1.5 −0.5 0.5 1.5: (0.75 − 0.25 + 0.75) / 5.
        assert_eq!(rank_autocorrelation(&[1.0, 2.0, 4.0, 80.0]), 0.25);
        // Ranks 1 4 2 3: (−2.25 − 0.75 − 0.25) / 5; one swap turns the sign.
        assert_eq!(rank_autocorrelation(&[1.0, 80.0, 2.0, 4.0]), -0.65);
        assert_eq!(rank_autocorrelation(&[2.0, 2.0, 2.0]), 0.0);
    }

    #[test]
    fn the_bootstrap_of_three_values_has_the_exact_ends() {
        // The median of three draws from {1, 2, 3} is 1 with 7/27 > 2.5 %, and 3 likewise.
        let interval = interval(&[1.0, 3.0, 2.0], 2_000, 1);
        assert_eq!((interval.low, interval.median, interval.high), (1.0, 2.0, 3.0));
        assert_eq!(interval.relative_half_width(), 0.5);
    }

    #[test]
    fn resampled_medians_of_two_values_are_binomial() {
        // Two draws from {0, 1}: 0 and 1 with a quarter each, ½ with a half.
        let medians = resampled_medians(&[0.0, 1.0], 4_000, 1);
        let share = |value| medians.iter().filter(|&&m| m == value).count() as f64 / 4_000.0;
        assert!((share(0.0) - 0.25).abs() < 0.03 && (share(0.5) - 0.5).abs() < 0.03);
    }

    #[test]
    fn drift_stretches_the_interval_and_order_alone_decides() {
        let drifting: Vec<f64> = (0..20).map(f64::from).collect();
        let mixed: Vec<f64> = (0..20).map(|i| f64::from((i * 7) % 20)).collect();
        let (drifting, mixed) = (interval(&drifting, 500, 1), interval(&mixed, 500, 1));
        let rho = drifting.rank_autocorrelation;
        let stretch = ((1.0 + rho) / (1.0 - rho)).sqrt();
        assert!(rho > 0.8 && mixed.rank_autocorrelation < 0.1);
        let ratio = drifting.relative_half_width() / mixed.relative_half_width();
        assert!((ratio - stretch).abs() < 1e-9, "{ratio} against {stretch}");
    }

    #[test]
    fn seeds_repeat_and_differ() {
        let samples: Vec<f64> = (0..40).map(|i| f64::from(rng::normal(1, 1, i))).collect();
        assert_eq!(interval(&samples, 100, 1), interval(&samples, 100, 1));
        assert_ne!(interval(&samples, 100, 1), interval(&samples, 100, 2));
    }

    #[test]
    fn outliers_are_counted_once_by_fence() {
        // Quartiles 3 and 9 of 1..=11: mild beyond 18, severe beyond 27.
        let mut samples: Vec<f64> = (1..=11).map(f64::from).collect();
        assert_eq!(outliers(&samples), [0, 0]);
        samples.extend([22.0, 60.0]);
        // Quartiles 4 and 10 now: fences 19 and 28.
        assert_eq!(outliers(&samples), [1, 1]);
    }

    #[test]
    fn two_modes_are_named_and_one_is_not() {
        let near = |centre: f64, i: u32| centre + 0.01 * f64::from(i % 5);
        let two: Vec<f64> = (0..30).map(|i| near(if i % 2 == 0 { 1.0 } else { 2.0 }, i)).collect();
        assert_eq!(modes(&two), Some((1.04, 2.0)));
        let one: Vec<f64> = (0..30).map(|i| near(1.0, i)).collect();
        assert_eq!(modes(&one), None);
        assert_eq!(modes(&two[..9]), None);
    }

    #[test]
    fn normal_noise_is_rarely_called_bimodal() {
        let series = |k| (0..10).map(|i| f64::from(rng::normal(5, k, i))).collect::<Vec<f64>>();
        let count = (0..2_000).filter(|&k| modes(&series(k)).is_some()).count();
        assert!(count <= 40, "{count} of 2,000");
    }

    #[test]
    fn noise_settles_only_once_the_ring_is_full_and_even() {
        let noisy: Vec<f64> =
            (0..200).map(|i| 1.0 + 0.2 * f64::from(rng::normal(3, 1, i)).tanh()).collect();
        assert!(!settled(&noisy[..63], 64));
        assert!(!settled(&noisy[..64], 64), "the ring still holds the first guesses");
        assert!(settled(&noisy, 64));
        // A second mode that appears late widens the spread: not settled any more.
        let mut late = noisy[..150].to_vec();
        late.extend(noisy[150..].iter().map(|sample| 2.0 * sample));
        assert!(!settled(&late, 64));
        assert!(settled(&[1.0; 64], 64), "a constant has no noise left to find");
    }

    #[test]
    fn theil_sen_ignores_a_disturbed_point() {
        let mut points: Vec<(f64, f64)> =
            (0..5).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        assert_eq!(theil_sen(&points), Some((2.0, 3.0)));
        points[3].1 = 100.0;
        assert_eq!(theil_sen(&points), Some((2.0, 3.0)));
        assert_eq!(theil_sen(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }
}
