//! The readings of one phase, and which of the two clocks to believe.

use super::plan::{CLOCK_SLACK, CROSS_CHECK_S, CROSS_CHECK_SHARE, INVALID_SHARE, SUSPECT_SHARE};
use super::target::Reading;

/// Of a wall time that the submission takes most of, this share is taken for the dispatch.
const LEAST_SHARE: f64 = 0.05;

/// The device's time when it is possible: positive, finite and no longer than the wall time.
pub fn device_s(reading: &Reading) -> Option<f64> {
    let possible = |s: &f64| s.is_finite() && *s > 0.0 && reading.wall_s >= CLOCK_SLACK * s;
    reading.device_s.filter(possible)
}

/// Best guess of the work inside a reading, from whichever clock has one.
pub(super) fn work_s(reading: &Reading, submit_cost_s: f64) -> f64 {
    let wall_s = (reading.wall_s - submit_cost_s).max(LEAST_SHARE * reading.wall_s);
    device_s(reading).unwrap_or(wall_s)
}

/// What the readings say about the device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Trusted,
    /// It never gave a reading.
    Absent,
    /// So many readings were impossible.
    Broken(usize),
    /// So many possible readings contradict the wall clock.
    Suspect(usize),
}

/// Readings of one phase in time order.
pub(super) struct Series {
    /// Dispatches per reading.
    pub batch: u32,
    readings: Vec<Reading>,
    /// How many came before the last good canary.
    vouched: usize,
}

impl Series {
    pub fn new(batch: u32) -> Self {
        Series { batch, readings: Vec::new(), vouched: 0 }
    }

    pub fn push(&mut self, reading: Reading) {
        self.readings.push(reading);
    }

    pub fn len(&self) -> usize {
        self.readings.len()
    }

    /// The clock was fine until here.
    pub fn vouch(&mut self) {
        self.vouched = self.readings.len();
    }

    /// Forgets what came since the clock was last fine; how many that were.
    pub fn discard(&mut self) -> usize {
        let discarded = self.readings.len() - self.vouched;
        self.readings.truncate(self.vouched);
        discarded
    }

    /// Readings the device timer cannot have meant.
    pub fn invalid(&self) -> usize {
        self.readings.iter().filter(|reading| device_s(reading).is_none()).count()
    }

    /// Judges the device's clock. One bad reading proves nothing, so it takes two and a share.
    ///
    /// A CPU driver reads the same clock as the host, and what lies between the two readings is the
    /// host's scheduling: the two are not held against each other there.
    pub fn clock(&self, submit_cost_s: f64, emulated: bool) -> Clock {
        let many = |count: usize, share| count >= 2 && count as f64 > share * self.len() as f64;
        if self.readings.iter().all(|reading| reading.device_s.is_none()) {
            return Clock::Absent;
        }
        let invalid = self.invalid();
        if many(invalid, INVALID_SHARE) {
            return Clock::Broken(invalid);
        }
        let contradicts = |reading: &&Reading| {
            let tolerance_s = CROSS_CHECK_S.max(CROSS_CHECK_SHARE * reading.wall_s);
            device_s(reading)
                .is_some_and(|s| (reading.wall_s - s - submit_cost_s).abs() > tolerance_s)
        };
        let suspect = self.readings.iter().filter(contradicts).count();
        // Two in ten is exactly the share, hence the half reading less.
        if !emulated && many(suspect, SUSPECT_SHARE - 0.5 / self.len() as f64) {
            return Clock::Suspect(suspect);
        }
        Clock::Trusted
    }

    /// Seconds per dispatch by the device's clock, impossible readings left out.
    pub fn device_samples_s(&self) -> Vec<f64> {
        self.readings.iter().filter_map(device_s).map(|s| s / f64::from(self.batch)).collect()
    }

    /// Seconds per dispatch by the wall clock, submission included.
    pub fn wall_samples_s(&self) -> Vec<f64> {
        self.readings.iter().map(|reading| reading.wall_s / f64::from(self.batch)).collect()
    }

    /// How many device samples the first `readings` gave.
    pub fn device_samples_among(&self, readings: usize) -> usize {
        self.readings[..readings].iter().filter(|reading| device_s(reading).is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBMIT_S: f64 = 100e-6;

    fn series(readings: &[(Option<f64>, f64)]) -> Series {
        let mut series = Series::new(2);
        readings.iter().for_each(|&(device_s, wall_s)| series.push(Reading { device_s, wall_s }));
        series
    }

    /// Ten readings of 20 ms, of which the first `bad` are replaced.
    fn ten(bad: usize, reading: (Option<f64>, f64)) -> Series {
        let mut all = vec![(Some(0.02), 0.0201); 10];
        all[..bad].fill(reading);
        series(&all)
    }

    #[test]
    fn only_possible_device_times_are_taken() {
        let possible = |device, wall| device_s(&Reading { device_s: device, wall_s: wall });
        assert_eq!(possible(Some(0.5), 0.6), Some(0.5));
        assert_eq!(possible(Some(0.6), 0.5999), Some(0.6), "clocks differ by a per mille");
        for device in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(0.7)] {
            assert_eq!(possible(device, 0.6), None, "{device:?}");
        }
    }

    #[test]
    fn two_bad_readings_of_ten_condemn_the_timer_and_one_does_not() {
        let impossible = (Some(0.0), 0.0201);
        assert_eq!(ten(1, impossible).clock(SUBMIT_S, false), Clock::Trusted);
        assert_eq!(ten(2, impossible).clock(SUBMIT_S, false), Clock::Broken(2));
        assert_eq!(ten(10, (None, 0.02)).clock(SUBMIT_S, false), Clock::Absent);
    }

    #[test]
    fn two_contradictions_of_ten_make_it_suspect_and_one_does_not() {
        // The device says 10 ms of 20: 5 % of the wall time would be allowed.
        let contradiction = (Some(0.01), 0.0201);
        assert_eq!(ten(1, contradiction).clock(SUBMIT_S, false), Clock::Trusted);
        assert_eq!(ten(2, contradiction).clock(SUBMIT_S, false), Clock::Suspect(2));
        assert_eq!(ten(2, (Some(0.0192), 0.0201)).clock(SUBMIT_S, false), Clock::Trusted);
    }

    #[test]
    fn short_readings_may_differ_by_fifty_microseconds() {
        let of = |wall_s| series(&[(Some(100e-6), wall_s); 10]).clock(SUBMIT_S, false);
        assert_eq!(of(240e-6), Clock::Trusted);
        assert_eq!(of(260e-6), Clock::Suspect(10));
    }

    #[test]
    fn samples_are_per_dispatch_and_without_the_impossible() {
        let series = series(&[(Some(0.5), 0.6), (Some(0.0), 0.8), (Some(0.25), 0.3)]);
        assert_eq!(series.device_samples_s(), [0.25, 0.125]);
        assert_eq!(series.wall_samples_s(), [0.3, 0.4, 0.15]);
        assert_eq!((series.invalid(), series.device_samples_among(2)), (1, 1));
    }

    #[test]
    fn discarding_goes_back_to_the_last_good_canary() {
        let mut series = ten(0, (None, 0.0));
        series.vouch();
        series.push(Reading { device_s: None, wall_s: 1.0 });
        assert_eq!((series.discard(), series.len()), (1, 10));
        assert_eq!(series.discard(), 0);
    }

    #[test]
    fn work_is_what_submitting_does_not_explain() {
        let work = |device_s, wall_s| work_s(&Reading { device_s, wall_s }, SUBMIT_S);
        assert_eq!(work(Some(1e-3), 2e-3), 1e-3);
        assert!((work(None, 1.1e-3) - 1e-3).abs() < 1e-12);
        assert!((work(None, 100e-6) - 5e-6).abs() < 1e-12);
    }
}
