//! Phases 5 to 8 of a cell: warm up, cold samples, hot samples, watched by canaries.

use super::canary::Watch;
use super::plan::{CROSS_CHECK_SHARE, FLOOR_COLD, Plan, floor_hot};
use super::series::{Clock, Series};
use super::target::{Context, Target};
use super::timing::{Stopped, StoppedBy, Timing};
use super::warm_up::warm_up;
use super::{stats, stop, summary};

/// Times a verified target. Cold and hot are separate phases, because a batch would leave the next
/// cold sample a warm cache (NVIDIA/nvbench#310).
pub fn measure<T: Target>(
    target: &mut T,
    plan: &Plan,
    context: &Context,
) -> Result<Timing, Stopped<T::Error>> {
    let end_s = target.now_s() + plan.sampling_s();
    let warm = warm_up(target, plan, context)?;
    let watch = Watch::new(plan, context, target.now_s());
    let mut cell = Cell { target, plan, context, watch, end_s };

    let mut cold = None;
    if plan.cold_share > 0.0 {
        let (series, stopped_by) = cell.sample(Phase::Cold)?;
        if stopped_by == StoppedBy::Interrupt {
            return Err(Stopped::Interrupted);
        }
        cold = Some(series);
    }
    let batch = plan.batch(warm.dispatch_s, context.timer_resolution_s, context.emulated);
    let (hot, stopped_by) = cell.sample(Phase::Hot { batch })?;
    let too_few = hot_samples_s(&hot, context).len() < plan.min_samples;
    if stopped_by == StoppedBy::Interrupt && too_few {
        return Err(Stopped::Interrupted);
    }
    let watch = cell.watch;
    Ok(summary::Cell { plan, context, warm, cold, hot, watch, stopped_by }.timing())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Cold,
    Hot { batch: u32 },
}

/// What both phases share.
struct Cell<'a, T> {
    target: &'a mut T,
    plan: &'a Plan,
    context: &'a Context,
    watch: Watch,
    /// When the last phase should be over.
    end_s: f64,
}

impl<T: Target> Cell<'_, T> {
    /// Samples one phase until its rule fires and a canary has vouched for the last sample.
    fn sample(&mut self, phase: Phase) -> Result<(Series, StoppedBy), T::Error> {
        let mut series = Series::new(if let Phase::Hot { batch } = phase { batch } else { 1 });
        if self.watch.pending() {
            self.look(phase, &mut series)?;
        }
        let mut deadline_s = self.deadline_s(phase);
        loop {
            if self.target.interrupted() {
                return Ok((series, StoppedBy::Interrupt));
            }
            series.push(match phase {
                Phase::Cold => self.target.cold()?,
                Phase::Hot { batch } => self.target.hot(batch)?,
            });
            self.watch.count_sample();
            let now_s = self.target.now_s();
            let verdict = self.verdict(phase, &series, now_s >= deadline_s);
            let canary = verdict.is_some() || self.watch.due(now_s);
            if canary && self.look(phase, &mut series)? {
                // Samples and time are gone: what is left of both is judged anew.
                deadline_s = self.deadline_s(phase);
                continue;
            }
            if let Some(stopped_by) = verdict {
                return Ok((series, stopped_by));
            }
        }
    }

    fn look(&mut self, phase: Phase, series: &mut Series) -> Result<bool, T::Error> {
        self.watch.look(self.target, series, phase != Phase::Cold)
    }

    /// Cold sampling gets its share of the time still left, hot sampling all of it.
    fn deadline_s(&self, phase: Phase) -> f64 {
        let Plan { cold_share, hot_share, .. } = self.plan;
        let now_s = self.target.now_s();
        match phase {
            Phase::Cold => now_s + (self.end_s - now_s) * cold_share / (cold_share + hot_share),
            Phase::Hot { .. } => self.end_s,
        }
    }

    fn verdict(&self, phase: Phase, series: &Series, out_of_time: bool) -> Option<StoppedBy> {
        let (samples_s, floor) = match phase {
            Phase::Cold => (cold_samples_s(series, self.context), FLOOR_COLD),
            Phase::Hot { .. } => {
                (Some(hot_samples_s(series, self.context)), floor_hot(self.context.emulated))
            }
        };
        // No clock can time a cold dispatch, so no time is spent on it.
        let Some(samples_s) = samples_s else { return Some(StoppedBy::Time) };
        stop::verdict(&samples_s, series.batch, out_of_time, self.plan, self.context.seed)
            .filter(|by| *by != StoppedBy::Time || samples_s.len() >= floor)
    }
}

/// Hot samples by the clock to believe.
fn hot_samples_s(series: &Series, context: &Context) -> Vec<f64> {
    match series.clock(context.submit_cost_s, context.emulated) {
        Clock::Trusted => series.device_samples_s(),
        Clock::Absent | Clock::Broken(_) | Clock::Suspect(_) => series.wall_samples_s(),
    }
}

/// Cold samples by the clock to believe; the cross-check is for batches only.
fn cold_samples_s(series: &Series, context: &Context) -> Option<Vec<f64>> {
    match series.clock(context.submit_cost_s, context.emulated) {
        Clock::Trusted | Clock::Suspect(_) => Some(series.device_samples_s()),
        Clock::Absent | Clock::Broken(_) => cold_wall_samples_s(series, context),
    }
}

/// Cold samples by the wall clock, when submitting is at most 5 % of one: a cold dispatch cannot
/// be batched, and launch cost must not pass for kernel time.
pub(super) fn cold_wall_samples_s(series: &Series, context: &Context) -> Option<Vec<f64>> {
    let samples_s = series.wall_samples_s();
    let coarse = context.submit_cost_s > CROSS_CHECK_SHARE * stats::median(&samples_s);
    (!coarse).then_some(samples_s)
}
