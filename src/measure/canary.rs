//! The canary: fixed work whose time tells how fast the device's clock runs, because no portable
//! interface does.

use super::plan::{
    BASELINE_CANARIES, CANARY_COST, CANARY_EVERY, CANARY_EVERY_S, CANARY_SPREAD, DISCARD_SHARE,
    PAUSE_GROWTH, PAUSE_MAX_S, PAUSE_S, Plan, RECOVERY_S, THROTTLED_CLOCK,
};
use super::series::{Series, work_s};
use super::stats;
use super::target::{Clocked, Context};

/// Most canaries of one wait; a stopped clock must not hold up the run for ever.
const MAX_CANARIES: usize = 10_000;

/// Runs canaries for `seconds`, so that the clock goes up, and returns the baseline: the median of
/// the five after that.
pub fn warm_up_device<T: Clocked>(
    target: &mut T,
    seconds: f64,
    submit_cost_s: f64,
) -> Result<f64, T::Error> {
    let until_s = target.now_s() + seconds;
    for _ in 0..MAX_CANARIES {
        if target.now_s() >= until_s || target.interrupted() {
            break;
        }
        target.canary()?;
    }
    let mut times_s = Vec::new();
    for _ in 0..BASELINE_CANARIES {
        times_s.push(work_s(&target.canary()?, submit_cost_s));
    }
    Ok(stats::median(&times_s))
}

/// Between cells: runs canaries until one is within 3 % of the baseline, for a quarter of a second
/// at most. Says whether one was.
pub fn recover<T: Clocked>(
    target: &mut T,
    baseline_s: f64,
    submit_cost_s: f64,
) -> Result<bool, T::Error> {
    let until_s = target.now_s() + RECOVERY_S;
    for _ in 0..MAX_CANARIES {
        if work_s(&target.canary()?, submit_cost_s) <= CANARY_SPREAD * baseline_s {
            return Ok(true);
        }
        if target.now_s() >= until_s || target.interrupted() {
            break;
        }
    }
    Ok(false)
}

/// One canary and where it ran: after how many readings of which phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    pub hot: bool,
    pub readings: usize,
    pub seconds: f64,
    /// Whether the samples before it were kept.
    pub kept: bool,
}

/// Watches the clock during one cell.
pub(super) struct Watch {
    baseline_s: Option<f64>,
    submit_cost_s: f64,
    /// What discarding may use, and has used.
    budget_s: f64,
    lost_s: f64,
    /// When the last canary ended, what it took, and the samples since.
    last_s: f64,
    cost_s: f64,
    samples_since: usize,
    pub seen: Vec<Seen>,
    pub discarded: usize,
    /// Clock over its baseline, once discarding was given up.
    pub throttled: Option<f64>,
}

impl Watch {
    pub fn new(plan: &Plan, context: &Context, now_s: f64) -> Self {
        Watch {
            baseline_s: context.canary_baseline_s,
            submit_cost_s: context.submit_cost_s,
            budget_s: DISCARD_SHARE * plan.limit_s,
            lost_s: 0.0,
            last_s: now_s,
            cost_s: 0.0,
            samples_since: 0,
            seen: Vec::new(),
            discarded: 0,
            throttled: None,
        }
    }

    pub fn count_sample(&mut self) {
        self.samples_since += 1;
    }

    /// Whether samples were taken that no canary has vouched for.
    pub fn pending(&self) -> bool {
        self.samples_since > 0 || self.seen.is_empty()
    }

    /// Whether it is time for a canary, and canaries have not taken more than their share.
    pub fn due(&self, now_s: f64) -> bool {
        let since_s = now_s - self.last_s;
        let long = self.samples_since >= CANARY_EVERY || since_s >= CANARY_EVERY_S;
        self.seen.is_empty() || (long && since_s >= self.cost_s / CANARY_COST)
    }

    /// Runs a canary. While the device is throttled the samples since the last good canary are
    /// discarded and the device is left alone; says whether that happened. When half of the limit
    /// has gone that way the samples are kept and the cell is flagged instead.
    pub fn look<T: Clocked>(
        &mut self,
        target: &mut T,
        series: &mut Series,
        hot: bool,
    ) -> Result<bool, T::Error> {
        let (mut pause_s, mut waited_s) = (PAUSE_S, 0.0);
        loop {
            let started_s = target.now_s();
            let seconds = work_s(&target.canary()?, self.submit_cost_s);
            let now_s = target.now_s();
            self.cost_s = now_s - started_s;
            let loss_s = (now_s - self.last_s).max(waited_s);
            self.last_s = now_s;
            self.samples_since = 0;

            let clock = self.baseline_s.map_or(1.0, |baseline_s| baseline_s / seconds);
            let slow = clock < THROTTLED_CLOCK && self.throttled.is_none();
            let affordable = self.lost_s + loss_s < self.budget_s && !target.interrupted();
            if !slow || !affordable {
                self.throttled = if slow { Some(clock) } else { self.throttled };
                self.seen.push(Seen { hot, readings: series.len(), seconds, kept: true });
                series.vouch();
                return Ok(waited_s > 0.0);
            }
            self.discarded += series.discard();
            self.seen.push(Seen { hot, readings: series.len(), seconds, kept: false });
            self.lost_s += loss_s;
            waited_s = pause_s.min(self.budget_s - self.lost_s);
            target.pause(waited_s);
            pause_s = (PAUSE_GROWTH * pause_s).min(PAUSE_MAX_S);
        }
    }

    /// Median canary among those whose samples were kept.
    pub fn median_s(&self) -> f64 {
        let kept = self.seen.iter().filter(|seen| seen.kept);
        stats::median(&kept.map(|seen| seen.seconds).collect::<Vec<f64>>())
    }

    /// p95 over p5 of the cell's canaries.
    pub fn spread(&self) -> f64 {
        let times_s: Vec<f64> = self.seen.iter().map(|seen| seen.seconds).collect();
        stats::quantile(&times_s, 0.95) / stats::quantile(&times_s, 0.05)
    }
}
