//! From the readings of a cell to what its row says.

use super::canary::{Seen, Watch};
use super::plan::{
    CANARY_SPREAD, CONFIDENCE, DRIFT_WARNING, LONG_DISPATCH_S, MIN_FOR_INTERVAL, Plan, QUANTISED_S,
    STEPS_PER_BATCH,
};
use super::protocol::cold_wall_samples_s;
use super::series::{Clock, Series};
use super::stats::{self, Interval};
use super::stop;
use super::target::Context;
use super::timing::{StoppedBy, TimerKind, Timing};
use super::warm_up::Warm;

/// Canaries below which their spread says nothing.
const MIN_FOR_SPREAD: usize = 3;
/// A ratio of measured steps is not exact.
const CLOSE_TO_ONE: f64 = 0.99;

/// A measured cell.
pub(super) struct Cell<'a> {
    pub plan: &'a Plan,
    pub context: &'a Context,
    pub warm: Warm,
    pub cold: Option<Series>,
    pub hot: Series,
    pub watch: Watch,
    pub stopped_by: StoppedBy,
}

impl Cell<'_> {
    pub fn timing(self) -> Timing {
        let Cell { plan, context, .. } = self;
        let mut notes = Vec::new();
        let timer = self.timer(&mut notes);
        let (cold_samples_s, cold_median_s) = self.cold(timer, &mut notes);
        let wall_samples_s = self.hot.wall_samples_s();
        let wall_median_s = stats::median(&wall_samples_s);
        let samples_s = match timer {
            TimerKind::Gpu => self.hot.device_samples_s(),
            TimerKind::Wall => wall_samples_s,
        };
        let (interval, confidence) = interval(&samples_s, plan, context.seed, &mut notes);
        if self.stopped_by == StoppedBy::Time {
            notes.push(format!("time limit: {}", stop::unmet(&samples_s, plan, context.seed)));
        }
        self.note_noise(&samples_s, &interval, timer, &mut notes);
        self.note_clock(&mut notes);
        let canary = self.canary(timer, cold_samples_s.len());
        let normalise = |baseline_s| interval.median * baseline_s / self.watch.median_s();
        Timing {
            median_s: interval.median,
            low_s: interval.low.max(0.0),
            high_s: interval.high,
            confidence,
            min_s: stats::quantile(&samples_s, 0.0),
            cold_median_s,
            wall_median_s,
            batch: self.hot.batch,
            n_invalid: self.n_invalid(),
            outliers: stats::outliers(&samples_s),
            rank_autocorrelation: interval.rank_autocorrelation,
            canary,
            time_normalised_s: context.canary_baseline_s.map(normalise),
            timer,
            stopped_by: self.stopped_by,
            notes,
            samples_s,
            cold_samples_s,
        }
    }

    /// Without a device timer nothing was dropped.
    fn n_invalid(&self) -> usize {
        match self.hot.clock(self.context.submit_cost_s, self.context.emulated) {
            Clock::Absent => 0,
            Clock::Trusted | Clock::Broken(_) | Clock::Suspect(_) => self.hot.invalid(),
        }
    }

    fn timer(&self, notes: &mut Vec<String>) -> TimerKind {
        let note = match self.hot.clock(self.context.submit_cost_s, self.context.emulated) {
            Clock::Trusted => return TimerKind::Gpu,
            Clock::Absent => "timer: wall, the device gives no timestamps".to_string(),
            Clock::Broken(count) => {
                format!("timer: wall, {count} of {} device readings impossible", self.hot.len())
            }
            Clock::Suspect(count) => {
                let device_s = stats::median(&self.hot.device_samples_s());
                let wall_s = stats::median(&self.hot.wall_samples_s());
                format!(
                    "timer_suspect: {count} of {} batches contradict the wall clock, device \
                     {device_s:.3e} s, wall {wall_s:.3e} s per dispatch",
                    self.hot.len()
                )
            }
        };
        notes.push(note);
        TimerKind::Wall
    }

    /// Cold samples by the clock of the headline, and their median where it means something.
    fn cold(&self, timer: TimerKind, notes: &mut Vec<String>) -> (Vec<f64>, Option<f64>) {
        let Some(cold) = &self.cold else { return (Vec::new(), None) };
        let broken = matches!(
            cold.clock(self.context.submit_cost_s, self.context.emulated),
            Clock::Broken(_)
        );
        if timer == TimerKind::Wall || broken || cold.device_samples_s().is_empty() {
            let Some(samples_s) = cold_wall_samples_s(cold, self.context) else {
                notes.push("cold: omitted, submission is over 5 % of a wall time".to_string());
                return (Vec::new(), None);
            };
            if timer == TimerKind::Gpu {
                notes.push("cold: by the wall clock, device readings impossible".to_string());
            }
            let median_s = stats::median(&samples_s);
            return (samples_s, Some(median_s));
        }
        if cold.invalid() > 0 {
            notes.push(format!("cold: {} of {} invalid", cold.invalid(), cold.len()));
        }
        let samples_s = cold.device_samples_s();
        let median_s = stats::median(&samples_s);
        let least_s = STEPS_PER_BATCH * self.context.timer_resolution_s;
        if self.quantised() && median_s < least_s {
            notes.push(format!("cold: < resolution ({:.1} ms)", 1e3 * least_s));
            return (samples_s, None);
        }
        (samples_s, Some(median_s))
    }

    fn quantised(&self) -> bool {
        self.context.timer_resolution_s >= CLOSE_TO_ONE * QUANTISED_S
    }

    fn note_noise(
        &self,
        samples_s: &[f64],
        interval: &Interval,
        timer: TimerKind,
        notes: &mut Vec<String>,
    ) {
        let rho = interval.rank_autocorrelation;
        if rho > DRIFT_WARNING {
            notes.push(format!(
                "clock drifting (rank autocorrelation {rho:.2}): interval optimistic"
            ));
        }
        let device = timer == TimerKind::Gpu;
        let step_s = if device { self.context.timer_resolution_s } else { 0.0 };
        // Two neighbouring ticks of the timer are not two modes.
        let tick_s = 2.0 * step_s / f64::from(self.hot.batch);
        if let Some((a, b)) = stats::modes(samples_s).filter(|(a, b)| b - a > tick_s) {
            notes.push(format!("bimodal: nothing between {a:.3e} s and {b:.3e} s"));
        }
        if device && self.quantised() {
            notes.push(format!("timer quantised to {:.1} µs: batches lengthened", 1e6 * step_s));
        }
        let steps = interval.median * f64::from(self.hot.batch) / step_s;
        if device && steps < CLOSE_TO_ONE * STEPS_PER_BATCH {
            notes.push(format!("a batch is only {steps:.0} steps of the timer"));
        }
    }

    fn note_clock(&self, notes: &mut Vec<String>) {
        // The clock of a CPU driver is the host's, and other programs share it: the interval and
        // the samples tell what is to be told.
        if self.context.emulated {
            return;
        }
        if self.warm.dispatch_s > LONG_DISPATCH_S {
            let dispatch_s = self.warm.dispatch_s;
            notes.push(format!(
                "one dispatch takes {dispatch_s:.2} s: the watchdog of a display may end it"
            ));
        }
        if !self.warm.plateau {
            notes.push("warm-up ended without a plateau".to_string());
        }
        if self.watch.discarded > 0 {
            notes.push(format!("discarded {} samples while throttled", self.watch.discarded));
        }
        if let Some(clock) = self.watch.throttled {
            notes.push(format!("throttled {clock:.2}"));
        }
        let spread = self.watch.spread();
        if self.watch.seen.len() >= MIN_FOR_SPREAD && spread > CANARY_SPREAD {
            notes.push(format!(
                "clock unstable ±{:.1} %: close other programs, use mains power, lock the clocks",
                50.0 * (spread - 1.0)
            ));
        }
    }

    /// Canaries by position among the reported samples, cold ones first.
    fn canary(&self, timer: TimerKind, n_cold: usize) -> Vec<(usize, f64)> {
        let place = |seen: &Seen| match (seen.hot, &self.cold) {
            (true, _) if timer == TimerKind::Wall => n_cold + seen.readings,
            (true, _) => n_cold + self.hot.device_samples_among(seen.readings),
            (false, Some(cold)) if n_cold < cold.len() => {
                cold.device_samples_among(seen.readings).min(n_cold)
            }
            (false, _) => seen.readings,
        };
        self.watch.seen.iter().map(|seen| (place(seen), seen.seconds)).collect()
    }
}

/// The interval and its confidence. Of too few samples it is their range, which holds the median
/// unless all fell on one side of it: 2 chances of 2⁻ⁿ.
fn interval(samples_s: &[f64], plan: &Plan, seed: u32, notes: &mut Vec<String>) -> (Interval, f64) {
    let interval = stats::interval(samples_s, plan.resamples, seed);
    let n = samples_s.len();
    if n >= MIN_FOR_INTERVAL {
        return (interval, CONFIDENCE);
    }
    notes.push(format!("low_n: {n} samples, low and high are their range"));
    let (low, high) = (stats::quantile(samples_s, 0.0), stats::quantile(samples_s, 1.0));
    (Interval { low, high, ..interval }, 1.0 - 0.5_f64.powi(n as i32 - 1))
}
