//! How long, how often, how precisely: every constant of the protocol, with what set it.

/// Canary work at start. Clocks ramp for 220 to 440 ms on an M1 (clpeak,
/// `common.h`); cubecl settled on 500 ms (PR #1607); 25 ms of warm-up read 11.23 ms where 150 ms
/// read 8.79 (triton-lang/triton#2306).
pub const DEVICE_WARM_UP_S: f64 = 0.5;

/// A warm-up sample is better only when it beats the best by 3 %, and this many in a row that are
/// not make a plateau (cubecl, `throughput/benchmarker.rs`).
pub const PLATEAU_GAIN: f64 = 0.03;
pub const PLATEAU_SAMPLES: usize = 3;
/// Most growth of the batch from one warm-up sample to the next: the first reading may be off by
/// more than an order of magnitude while the clock is low (tracel-ai/cubek#423).
pub const GROWTH: u32 = 8;
/// Warm-up ends at this share of the limit even without a plateau.
pub const WARM_UP_SHARE: f64 = 0.25;

/// Batch limits: the floor is nvbench's, the cap cubecl's.
pub const MIN_BATCH: u32 = 4;
pub const MAX_BATCH: u32 = 1_000;
/// A batch lasts at least this many steps of the timer (divan demands the same of its loops).
pub const STEPS_PER_BATCH: f64 = 100.0;

/// Hot samples a row must have whatever the limit; nothing at all was worse (NVIDIA/nvbench#231).
pub const FLOOR_HOT: usize = 4;
/// The same on CPU adapters, where one dispatch can take a third of the limit.
pub const FLOOR_HOT_EMULATED: usize = 3;
pub const FLOOR_COLD: usize = 1;
/// A cell whose floor of hot samples needs more than this many limits is not started.
pub const FLOOR_LIMITS: f64 = 3.0;
/// Fewer samples get no bootstrap interval: their range covers the median in 1 − 2^(1−n) of cases.
pub const MIN_FOR_INTERVAL: usize = 5;

/// Confidence of the interval of the median.
pub const CONFIDENCE: f64 = 0.95;
/// Relative half-width at which sampling stops: the regression floor. nvbench uses 0.5 %.
pub const PRECISION: f64 = 0.01;
pub const QUICK_PRECISION: f64 = 0.03;
/// The running spread has settled when its relative standard deviation is below this (nvbench,
/// `stdrel_criterion.cxx`).
pub const SETTLED_BELOW: f64 = 0.05;

/// Where the clock drifts so much between neighbours the stretched interval still covers only
/// 75 % of medians at 20 samples (AR(1), φ = 0.8, simulated).
pub const DRIFT_WARNING: f64 = 0.6;

/// A canary slower than baseline / this has lost its clock: nvbench discards below 75 %.
pub const THROTTLED_CLOCK: f64 = 0.75;
/// First, growing and longest pause for a throttled device to recover (nvbench).
pub const PAUSE_S: f64 = 0.05;
pub const PAUSE_GROWTH: f64 = 1.5;
pub const PAUSE_MAX_S: f64 = 0.5;
/// Discards and pauses may use this share of the limit; an A100 at 57 % clock discarded everything
/// and reported nothing (NVIDIA/nvbench#231).
pub const DISCARD_SHARE: f64 = 0.5;
/// A canary is due after this many samples or seconds, whichever comes first.
pub const CANARY_EVERY: usize = 10;
pub const CANARY_EVERY_S: f64 = 0.25;
/// Canaries may use this share of the time, otherwise they come less often.
pub const CANARY_COST: f64 = 0.05;
/// p95 over p5 of a cell's canaries above which the clock is called unstable; also how near to the
/// baseline the device must be before the next cell, and for how long that is waited for.
pub const CANARY_SPREAD: f64 = 1.03;
pub const RECOVERY_S: f64 = 0.25;
/// Canaries of which the baseline is the median.
pub const BASELINE_CANARIES: usize = 5;

/// More impossible readings than this share, and the device timer is abandoned for the cell.
pub const INVALID_SHARE: f64 = 0.1;
/// Cross-check: device and wall agreed within 3 µs in tracel-ai/cubek#611; preemption of the host
/// needs more room. A fifth of failing batches makes the timer suspect.
pub const CROSS_CHECK_SHARE: f64 = 0.05;
pub const CROSS_CHECK_S: f64 = 50e-6;
pub const SUSPECT_SHARE: f64 = 0.2;
/// The wall clock may lag the device by this factor before a reading is impossible.
pub const CLOCK_SLACK: f64 = 0.999;
/// Chrome rounds timestamps to 65,536 ns (tracel-ai/cubecl#1647).
pub const QUANTISED_S: f64 = 65_536e-9;

/// Longest submission of several dispatches, and the dispatch of which one counts as long: Adreno's
/// hang check fires at 500 ms (clpeak), v3d does not recover (raspberrypi/linux#6660).
pub const LONGEST_SUBMIT_S: f64 = 0.4;
pub const LONG_DISPATCH_S: f64 = 0.1;

/// Below this limit a cell uses the quick column.
pub const QUICK_BELOW_S: f64 = 1.0;

/// What one cell may spend and when it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Time for phases 5 to 8, the trusted repetition included.
    pub limit_s: f64,
    /// Shares of the limit for cold and hot sampling, warm-up coming out of both; what is left
    /// belongs to [`Plan::trusted`].
    pub cold_share: f64,
    pub hot_share: f64,
    /// Warm-up samples are lengthened to this (cubecl).
    pub warm_up_sample_s: f64,
    pub warm_up_max: usize,
    /// Fewest samples of each phase unless the limit ends it (nvbench), and most (cubecl).
    pub min_samples: usize,
    pub max_samples: usize,
    /// The rule is asked this often, as in the simulation that gave its cost.
    pub check_every: usize,
    /// Half-width of the interval over the median at which sampling stops.
    pub precision: f64,
    /// Estimates of the spread that must agree, and measured seconds before they may (nvbench).
    pub settle_ring: usize,
    pub settle_after_s: f64,
    /// Shortest batch, before the timer's resolution asks for more (cubecl).
    pub hot_span_s: f64,
    /// Criterion draws 100,000; endpoints move by under a tenth of a half-width at 2,000.
    pub resamples: u32,
}

impl Plan {
    /// The default column, or the quick one when the limit is too short for it.
    pub fn standard(limit_s: f64) -> Self {
        if limit_s < QUICK_BELOW_S {
            return Plan::quick(limit_s);
        }
        Plan {
            limit_s,
            cold_share: 0.35,
            hot_share: 0.35,
            warm_up_sample_s: 0.02,
            warm_up_max: 50,
            min_samples: 10,
            max_samples: 200,
            check_every: 10,
            precision: PRECISION,
            settle_ring: 64,
            settle_after_s: 0.5,
            hot_span_s: 0.02,
            resamples: 2_000,
        }
    }

    /// The column of `--quick`: no time is reserved for the trusted repetition.
    pub fn quick(limit_s: f64) -> Self {
        Plan {
            limit_s,
            cold_share: 0.4,
            hot_share: 0.6,
            warm_up_sample_s: 0.005,
            warm_up_max: 10,
            min_samples: 5,
            max_samples: 50,
            check_every: 5,
            precision: QUICK_PRECISION,
            settle_ring: 32,
            settle_after_s: 0.1,
            hot_span_s: 0.005,
            resamples: 1_000,
        }
    }

    /// The same plan with another interval target, as a fraction.
    pub fn with_precision(self, precision: f64) -> Self {
        Plan { precision, ..self }
    }

    /// The plan of the repetition without runtime checks: hot only, in the time left for it.
    /// `None` when none was left.
    pub fn trusted(&self) -> Option<Self> {
        let share = 1.0 - self.cold_share - self.hot_share;
        let limit_s = share * self.limit_s;
        (share > 0.01).then_some(Plan { limit_s, cold_share: 0.0, hot_share: 1.0, ..*self })
    }

    /// Time for warm-up, cold and hot samples together.
    pub fn sampling_s(&self) -> f64 {
        (self.cold_share + self.hot_share) * self.limit_s
    }

    /// Whether the fewest hot samples that a row can have fit well enough when a dispatch takes
    /// `dispatch_s`.
    pub fn affords(&self, dispatch_s: f64, emulated: bool) -> bool {
        let batch = f64::from(min_batch(dispatch_s, emulated));
        dispatch_s * batch * floor_hot(emulated) as f64 <= FLOOR_LIMITS * self.limit_s
    }

    /// Dispatches of one hot batch when one takes `dispatch_s`.
    pub fn batch(&self, dispatch_s: f64, timer_resolution_s: f64, emulated: bool) -> u32 {
        let span_s = self.hot_span_s.max(STEPS_PER_BATCH * timer_resolution_s);
        let wanted = (span_s / dispatch_s.max(f64::MIN_POSITIVE)).ceil();
        wanted.clamp(f64::from(min_batch(dispatch_s, emulated)), f64::from(MAX_BATCH)) as u32
    }
}

/// Smallest hot batch: as many dispatches as a watchdog surely allows in one submission. CPU
/// drivers have no watchdog and slow dispatches, so one is enough.
pub(super) fn min_batch(dispatch_s: f64, emulated: bool) -> u32 {
    let most = (LONGEST_SUBMIT_S / dispatch_s.max(f64::MIN_POSITIVE)).max(1.0);
    if emulated { 1 } else { most.min(f64::from(MIN_BATCH)) as u32 }
}

/// Fewest hot samples of a row.
pub(super) fn floor_hot(emulated: bool) -> usize {
    if emulated { FLOOR_HOT_EMULATED } else { FLOOR_HOT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_limit_uses_the_quick_column() {
        assert_eq!(Plan::standard(0.99), Plan::quick(0.99));
        assert_eq!(Plan::standard(1.0).min_samples, 10);
    }

    #[test]
    fn a_batch_fills_the_span_within_its_limits() {
        let batch = |dispatch_s, resolution_s, emulated| {
            Plan::standard(3.0).batch(dispatch_s, resolution_s, emulated)
        };
        assert_eq!(batch(1e-3, 1e-9, false), 20);
        assert_eq!(batch(3e-3, 1e-9, false), 7);
        assert_eq!(batch(1e-6, 1e-9, false), 1_000);
        assert_eq!(batch(0.0, 1e-9, false), 1_000);
        assert_eq!(batch(0.05, 1e-9, false), 4);
        assert_eq!(batch(0.05, 1e-9, true), 1);
        // A coarse timer asks for a longer batch: 100 × 1 ms.
        assert_eq!(batch(1e-3, 1e-3, false), 100);
    }

    #[test]
    fn long_dispatches_are_submitted_one_by_one() {
        let batch = |dispatch_s| Plan::standard(3.0).batch(dispatch_s, 1e-9, false);
        assert_eq!([0.1, 0.13, 0.3, 5.0].map(batch), [4, 3, 1, 1]);
    }

    #[test]
    fn trusted_repetition_gets_the_time_left_over() {
        let plan = Plan::standard(3.0);
        let trusted = plan.trusted().unwrap();
        assert!((plan.sampling_s() - 2.1).abs() < 1e-12);
        assert!((trusted.sampling_s() - 0.9).abs() < 1e-12);
        assert_eq!(trusted.cold_share, 0.0);
        assert_eq!(Plan::quick(0.4).trusted(), None);
    }
}
