//! The paired test and the interval of the ratio: a trimmed mean, the signs of whole blocks
//! flipped, blocks resampled.

use super::plan::{
    CONFIDENCE, EXACT_UP_TO, MIN_FLIPS, RESAMPLES, SCREENING_FLIPS, SCREENING_HITS, TRIM,
};
use crate::measure::stats;
use crate::rng;

/// Streams of the random signs and of the resampling.
const SIGN_STREAM: u32 = 0x51_97;
const RESAMPLE_STREAM: u32 = 0x4e_5a;
/// Below these many blocks the bootstrap has too little to draw from.
const MOST_BLOCKS: usize = 64;

/// Values left out at each end of `n`.
fn trimmed(n: usize) -> usize {
    // A hair more, because 0.2 × 5 may be just below one.
    (TRIM * n as f64 + 1e-9) as usize
}

/// Mean of the middle 60 %; NaN of none.
pub fn trimmed_mean(values: &[f64]) -> f64 {
    let sorted = stats::sorted(values);
    let cut = trimmed(sorted.len());
    let middle = &sorted[cut..sorted.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}

/// Both one-sided p-values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PValues {
    /// Of a trimmed mean this large or larger: the head is slower.
    pub slower: f64,
    /// Of one this small or smaller: the head is faster.
    pub faster: f64,
}

impl PValues {
    pub fn two_sided(&self) -> f64 {
        (2.0 * self.slower.min(self.faster)).min(1.0)
    }
}

/// Trimmed means under every assignment of signs, quickly: the magnitudes are sorted once, so that
/// the values cut off at either end follow from the signs alone.
pub struct Flips {
    n: usize,
    cut: usize,
    /// Sums of magnitudes, largest magnitude first, for every subset of every eight.
    sums: Vec<[f64; 256]>,
    observed: u64,
    tolerance: f64,
}

impl Flips {
    /// Of at most 64 values.
    pub fn new(values: &[f64]) -> Self {
        assert!(values.len() <= MOST_BLOCKS, "{} blocks", values.len());
        let mut sorted = values.to_vec();
        sorted.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
        let negative = sorted.iter().enumerate().filter(|(_, value)| **value < 0.0);
        let observed = negative.fold(0, |mask, (i, _)| mask | 1 << i);
        let subset = |eight: &[f64], mask: usize| {
            let chosen = eight.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
            chosen.map(|(_, value)| value.abs()).sum()
        };
        let sums = sorted.chunks(8).map(|eight| std::array::from_fn(|mask| subset(eight, mask)));
        let total: f64 = sorted.iter().map(|value| value.abs()).sum();
        Flips {
            n: sorted.len(),
            cut: trimmed(sorted.len()),
            sums: sums.collect(),
            observed,
            tolerance: 1e-12 * total,
        }
    }

    fn all(&self) -> u64 {
        if self.n == MOST_BLOCKS { u64::MAX } else { (1 << self.n) - 1 }
    }

    /// Sum of the values that are kept when those of `negative` are.
    pub fn statistic(&self, negative: u64) -> f64 {
        let positive = self.all() & !negative;
        let kept =
            self.all() & !self.extreme(negative, positive) & !self.extreme(positive, negative);
        self.sum(kept & positive) - self.sum(kept & negative)
    }

    /// The values cut off at the end that `outer` lies on: the largest magnitudes of `outer`, then
    /// the smallest of `inner`.
    fn extreme(&self, outer: u64, inner: u64) -> u64 {
        let (mut left, mut taken) = (outer, 0);
        while taken < self.cut && left != 0 {
            left &= left - 1;
            taken += 1;
        }
        let mut mask = outer ^ left;
        let mut inner = inner;
        for _ in taken..self.cut {
            let smallest = 1 << (63 - inner.leading_zeros());
            mask |= smallest;
            inner ^= smallest;
        }
        mask
    }

    fn sum(&self, mask: u64) -> f64 {
        let bytes = mask.to_le_bytes();
        self.sums.iter().zip(bytes).map(|(sums, byte)| sums[usize::from(byte)]).sum()
    }

    /// Every assignment once; at most 20 values.
    fn exact(&self) -> PValues {
        let observed = self.statistic(self.observed);
        let (mut slower, mut faster) = (0_u64, 0_u64);
        // The other half has the opposite statistics.
        let half = 1_u64 << self.n.saturating_sub(1);
        for negative in 0..half {
            let statistic = self.statistic(negative);
            let (up, down) = (observed - self.tolerance, observed + self.tolerance);
            slower += u64::from(statistic >= up) + u64::from(-statistic >= up);
            faster += u64::from(statistic <= down) + u64::from(-statistic <= down);
        }
        let total = 2.0 * half as f64;
        PValues { slower: slower as f64 / total, faster: faster as f64 / total }
    }

    /// How many of `n` random assignments are as extreme, either way.
    fn sampled(&self, n: u32, seed: u32) -> [u32; 2] {
        let observed = self.statistic(self.observed);
        let mut hits = [0; 2];
        for flip in 0..n {
            let word = |half| u64::from(rng::word(seed, SIGN_STREAM, 2 * flip + half));
            let statistic = self.statistic((word(0) << 32 | word(1)) & self.all());
            hits[0] += u32::from(statistic >= observed - self.tolerance);
            hits[1] += u32::from(statistic <= observed + self.tolerance);
        }
        hits
    }
}

/// One-sided p-values of the trimmed mean under flips of the signs of whole blocks, which blocks in
/// random order leave it free to do. `hypotheses` and `q` say how small a p-value must be able to
/// get. Without values both are 1.
pub fn p_values(values: &[f64], hypotheses: usize, q: f64, seed: u32) -> PValues {
    if values.is_empty() {
        return PValues { slower: 1.0, faster: 1.0 };
    }
    let flips = Flips::new(values);
    let share = |hits: u32, n: u32| f64::from(1 + hits) / f64::from(n + 1);
    // Most p-values are too large to matter, and a few flips show it (Besag and Clifford, 1991).
    let screened = flips.sampled(SCREENING_FLIPS, seed).map(|hits| (hits, SCREENING_FLIPS));
    let closer = if values.len() <= EXACT_UP_TO {
        if screened.iter().any(|(hits, _)| *hits < SCREENING_HITS) {
            return flips.exact();
        }
        screened
    } else if screened.iter().any(|(hits, _)| *hits < SCREENING_HITS) {
        let n = MIN_FLIPS.max((4.0 * hypotheses as f64 / q).ceil().min(1e6) as u32);
        flips.sampled(n, seed ^ 0x5eed).map(|hits| (hits, n))
    } else {
        screened
    };
    let [slower, faster] = closer.map(|(hits, n)| share(hits, n));
    PValues { slower, faster }
}

/// Percentile bootstrap interval of the trimmed mean over blocks, at 95 %.
pub fn interval(values: &[f64], seed: u32) -> (f64, f64) {
    let sorted = stats::sorted(values);
    let n = sorted.len();
    let mut drawn = vec![0_usize; n];
    let mut means = Vec::with_capacity(RESAMPLES as usize);
    for resample in 0..RESAMPLES {
        drawn.fill(0);
        for i in 0..n as u32 {
            let word = rng::word(seed, RESAMPLE_STREAM, resample * n as u32 + i);
            drawn[((u64::from(word) * n as u64) >> 32) as usize] += 1;
        }
        means.push(trimmed_mean_of(&sorted, &drawn));
    }
    means.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - CONFIDENCE);
    (stats::quantile_sorted(&means, tail), stats::quantile_sorted(&means, 1.0 - tail))
}

/// The trimmed mean of ascending values, each taken so many times.
fn trimmed_mean_of(sorted: &[f64], times: &[usize]) -> f64 {
    let cut = trimmed(sorted.len());
    let kept = sorted.len() - 2 * cut;
    let (mut seen, mut sum) = (0, 0.0);
    for (value, times) in sorted.iter().zip(times) {
        let within = (seen + times).min(cut + kept).saturating_sub(seen.max(cut));
        sum += within as f64 * value;
        seen += times;
    }
    sum / kept as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition: every assignment, sorted and trimmed.
    fn brute_force(values: &[f64]) -> PValues {
        let observed = trimmed_mean(values);
        let all = 1_u32 << values.len();
        let means: Vec<f64> = (0..all)
            .map(|mask| {
                let sign = |i: usize| if mask >> i & 1 == 1 { -1.0 } else { 1.0 };
                let flipped: Vec<f64> =
                    values.iter().enumerate().map(|(i, v)| sign(i) * v).collect();
                trimmed_mean(&flipped)
            })
            .collect();
        let share = |hit: &dyn Fn(f64) -> bool| {
            means.iter().filter(|&&mean| hit(mean)).count() as f64 / f64::from(all)
        };
        PValues {
            slower: share(&|mean| mean >= observed - 1e-12),
            faster: share(&|mean| mean <= observed + 1e-12),
        }
    }

    #[test]
    fn a_fifth_is_cut_off_at_each_end() {
        assert_eq!(trimmed_mean(&[1.0, 2.0, 3.0, 4.0, 1e9]), 3.0);
        assert_eq!(trimmed_mean(&[7.0, 9.0]), 8.0);
        assert_eq!((trimmed(5), trimmed(9), trimmed(10), trimmed(50)), (1, 1, 2, 10));
    }

    #[test]
    fn exact_enumeration_equals_brute_force_at_six_blocks() {
        for seed in 0..20 {
            let values: Vec<f64> =
                (0..6).map(|i| f64::from(rng::normal(seed, 1, i)) + 0.4).collect();
            assert_eq!(Flips::new(&values).exact(), brute_force(&values), "{values:?}");
        }
    }

    #[test]
    fn six_blocks_all_slower_have_the_least_p_value_by_hand() {
        // One of six is cut off at each end. Only one other assignment is as large: the smallest
        // value negative, which is then cut off in place of itself.
        let values = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5];
        let found = Flips::new(&values).exact();
        assert_eq!(found, brute_force(&values));
        assert_eq!((found.slower, found.faster), (2.0 / 64.0, 1.0));
    }

    proptest! {
        #[test]
        fn the_statistic_is_the_trimmed_sum(
            values in prop::collection::vec(-1.0..1.0_f64, 1..40), flips in any::<u64>()
        ) {
            let found = Flips::new(&values);
            let mut sorted = values.clone();
            sorted.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
            let negative = flips & found.all();
            let flipped: Vec<f64> = sorted
                .iter()
                .enumerate()
                .map(|(i, v)| if negative >> i & 1 == 1 { -v.abs() } else { v.abs() })
                .collect();
            let kept = (values.len() - 2 * trimmed(values.len())) as f64;
            let difference = found.statistic(negative) - kept * trimmed_mean(&flipped);
            prop_assert!(difference.abs() < 1e-9, "{difference}");
        }

        #[test]
        fn counting_draws_is_sorting_them(draws in prop::collection::vec(0..9_usize, 9)) {
            let sorted: Vec<f64> = (0..9_u32).map(|i| f64::from(i * i)).collect();
            let mut times = [0; 9];
            draws.iter().for_each(|&i| times[i] += 1);
            let drawn: Vec<f64> = draws.iter().map(|&i| sorted[i]).collect();
            let difference = trimmed_mean_of(&sorted, &times) - trimmed_mean(&drawn);
            prop_assert!(difference.abs() < 1e-9);
        }

        #[test]
        fn mirrored_values_swap_the_p_values(
            values in prop::collection::vec(-1.0..1.0_f64, 1..14)
        ) {
            let mirrored: Vec<f64> = values.iter().map(|value| -value).collect();
            let (one, other) = (Flips::new(&values).exact(), Flips::new(&mirrored).exact());
            prop_assert_eq!((one.slower, one.faster), (other.faster, other.slower));
        }
    }

    #[test]
    fn identical_samples_are_never_significant() {
        for n in [1, 20, 35, 50] {
            let found = p_values(&vec![0.0; n], 10, 0.01, 1);
            assert_eq!((found.slower, found.faster), (1.0, 1.0), "{n} blocks");
        }
        assert_eq!(p_values(&[], 10, 0.01, 1).two_sided(), 1.0);
    }

    #[test]
    fn sampled_p_values_are_near_exact_ones() {
        for seed in 0..5 {
            let values: Vec<f64> =
                (0..16).map(|i| f64::from(rng::normal(seed, 2, i)) + 0.5).collect();
            let flips = Flips::new(&values);
            let exact = flips.exact().slower;
            let sampled = f64::from(flips.sampled(20_000, 9)[0]) / 20_000.0;
            assert!((exact - sampled).abs() < 4.0 * (exact / 20_000.0).sqrt() + 1e-4);
        }
    }

    #[test]
    fn twenty_blocks_reach_what_the_first_look_needs() {
        let values: Vec<f64> = (0..20).map(|i| 0.05 + 1e-4 * f64::from(i)).collect();
        let found = p_values(&values, 10, 0.01, 1);
        // Sixteen of 2^20: the four smallest may have either sign without changing the middle.
        assert!(found.slower <= 16.0 / 1_048_576.0 + 1e-12, "{found:?}");
        let many: Vec<f64> = (0..50).map(|i| 0.05 + 1e-4 * f64::from(i)).collect();
        assert!(p_values(&many, 100, 0.025, 1).slower < 0.025 / 100.0);
    }

    #[test]
    fn the_interval_covers_the_centre_about_as_often_as_it_says() {
        let mut covered = 0;
        for run in 0..200 {
            let values: Vec<f64> = (0..20).map(|i| f64::from(rng::normal(run, 3, i))).collect();
            let (low, high) = interval(&values, run);
            covered += u32::from(low <= 0.0 && 0.0 <= high);
        }
        assert!((176..=198).contains(&covered), "{covered} of 200");
    }
}
