//! How many pairs, at which looks, against which floor: every constant of a comparison, with what
//! set it.

/// A look at the data: after so many pairs of every undecided cell, at this false-discovery rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub pairs: usize,
    pub q: f64,
}

/// The only looks there are. Their rates add up to 5 %, so that the union bound holds over them.
/// The first is at 40 pairs: of 10 blocks no p-value could survive the correction over 13 cells.
pub const LOOKS: [Look; 3] =
    [Look { pairs: 40, q: 0.010 }, Look { pairs: 70, q: 0.015 }, Look { pairs: 100, q: 0.025 }];

/// Pairs in a block, ABBA or BAAB: whoever runs first in a pair cancels out within it.
pub const PAIRS_PER_BLOCK: usize = 2;

/// Share of the blocks left out at each end: bursts of other programs are rare and large.
pub const TRIM: f64 = 0.2;

/// Smallest change worth a verdict, as a fraction.
pub const FLOOR: f64 = 0.01;
/// Floor of a cell whose own noise is known, in units of that noise (logarithms).
pub const FLOOR_NOISES: f64 = 2.0;

/// Blocks up to which every assignment of signs is enumerated: a million at 20.
pub const EXACT_UP_TO: usize = 20;
/// Random assignments that tell whether a p-value can matter at all.
pub const SCREENING_FLIPS: u32 = 2_000;
/// This many of them at least as extreme, a p-value of a tenth, and none is looked at closer.
pub const SCREENING_HITS: u32 = 200;
/// Fewest random assignments beyond [`EXACT_UP_TO`] blocks.
pub const MIN_FLIPS: u32 = 10_000;

/// Resamples of the interval, and its confidence.
pub const RESAMPLES: u32 = 2_000;
pub const CONFIDENCE: f64 = 0.95;

/// Length of a sample, as the measuring protocol has it.
pub const SAMPLE_S: f64 = 0.02;
pub const QUICK_SAMPLE_S: f64 = 0.005;
/// Dispatches in a sample: the cap is cubecl's.
pub const MAX_BATCH: u32 = 1_000;
/// A sample lasts at least this many steps of the timer.
pub const STEPS_PER_SAMPLE: f64 = 100.0;

/// New programs and buffers after so many blocks: address luck becomes noise instead of bias
/// (orieg/php-judy#104: +11.6 % on byte-identical code, then +0.9 %).
pub const BLOCKS_PER_REBUILD: usize = 5;

/// Share of the cells that also run base against base, and how many at least.
pub const CONTROL_SHARE: f64 = 0.2;
pub const MIN_CONTROLS: usize = 20;

/// Dispatches of a sample so that it lasts `span_s` and long enough for the timer.
pub fn batch(dispatch_s: f64, span_s: f64, timer_resolution_s: f64) -> u32 {
    let span_s = span_s.max(STEPS_PER_SAMPLE * timer_resolution_s);
    let wanted = (span_s / dispatch_s.max(f64::MIN_POSITIVE)).ceil();
    wanted.clamp(1.0, f64::from(MAX_BATCH)) as u32
}

/// Work added to the head of every sample, so that it takes longer by a known share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Injection {
    /// Dispatches of a sample without it.
    pub batch: u32,
    /// More dispatches of the same kernel.
    pub dispatches: u32,
    /// Dispatches of the canary instead, where a sample has too few of its own.
    pub canaries: u32,
    /// What it comes to, as a fraction of the sample.
    pub share: f64,
}

/// A sample may grow by this much for the sake of whole dispatches.
const LONGER: f64 = 4.0;

/// The injection nearest to `share`. Dispatches of the kernel itself are exact; where one is too
/// long for that, canaries of `canary_s` seconds each stand in.
pub fn inject(share: f64, batch: u32, dispatch_s: f64, canary_s: f64) -> Injection {
    // The shortest batch of which the share is a whole number of dispatches.
    let whole = |n: &u32| {
        let wanted = share * f64::from(*n);
        wanted.round() >= 1.0 && (wanted - wanted.round()).abs() < 1e-6 * f64::from(*n)
    };
    let granule = (1..=MAX_BATCH).find(whole);
    if let Some(granule) = granule {
        let batch_grown = batch.div_ceil(granule) * granule;
        if f64::from(batch_grown) <= LONGER * f64::from(batch) {
            let dispatches = (share * f64::from(batch_grown)).round() as u32;
            return Injection { batch: batch_grown, dispatches, canaries: 0, share };
        }
    }
    let sample_s = f64::from(batch) * dispatch_s;
    let canaries = (share * sample_s / canary_s).round().max(1.0);
    let canaries = if canary_s > 0.0 { canaries as u32 } else { 0 };
    let share = f64::from(canaries) * canary_s / sample_s;
    Injection { batch, dispatches: 0, canaries, share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_of_the_looks_add_up_to_five_per_cent() {
        assert!((LOOKS.iter().map(|look| look.q).sum::<f64>() - 0.05).abs() < 1e-12);
        assert!(LOOKS.iter().all(|look| look.pairs % (PAIRS_PER_BLOCK * BLOCKS_PER_REBUILD) == 0));
    }

    #[test]
    fn a_sample_is_long_enough_for_its_span_and_for_the_timer() {
        assert_eq!(batch(1e-3, 0.02, 1e-9), 20);
        assert_eq!(batch(0.5, 0.02, 1e-9), 1);
        assert_eq!(batch(1e-3, 0.02, 1e-3), 100);
        assert_eq!(batch(0.0, 0.02, 1e-9), MAX_BATCH);
    }

    #[test]
    fn whole_dispatches_are_injected_exactly() {
        let five = inject(0.05, 20, 1e-3, 1e-4);
        assert_eq!((five.batch, five.dispatches, five.canaries, five.share), (20, 1, 0, 0.05));
        let grown = inject(0.05, 33, 1e-3, 1e-4);
        assert_eq!((grown.batch, grown.dispatches), (40, 2));
        let ten = inject(0.1, 7, 1e-3, 1e-4);
        assert_eq!((ten.batch, ten.dispatches), (10, 1));
    }

    #[test]
    fn long_dispatches_get_canaries_and_say_what_they_come_to() {
        // Twenty dispatches of 50 ms would be a second: half a millisecond canaries stand in.
        let found = inject(0.05, 1, 0.05, 5e-4);
        assert_eq!((found.batch, found.dispatches, found.canaries), (1, 0, 5));
        assert!((found.share - 0.05).abs() < 1e-12);
        let coarse = inject(0.01, 1, 0.01, 5e-4);
        assert_eq!(coarse.canaries, 1);
        assert!((coarse.share - 0.05).abs() < 1e-12, "{coarse:?}");
    }
}
