//! Phases 5 and 6: hot dispatches until they stop getting faster, and what one takes then.

use super::plan::{GROWTH, MAX_BATCH, PLATEAU_GAIN, PLATEAU_SAMPLES, Plan, WARM_UP_SHARE};
use super::series::work_s;
use super::stats;
use super::target::{Context, Target};
use super::timing::Stopped;

/// How warm-up ended.
pub(super) struct Warm {
    /// Time of one dispatch: the median of the last three samples, which make up the plateau.
    pub dispatch_s: f64,
    /// Whether the plateau was reached before the limit.
    pub plateau: bool,
}

/// Dispatches until three samples in a row are not 3 % faster than the best, lengthening the
/// samples first. The first dispatch already tells whether the cell can be afforded.
pub(super) fn warm_up<T: Target>(
    target: &mut T,
    plan: &Plan,
    context: &Context,
) -> Result<Warm, Stopped<T::Error>> {
    let until_s = target.now_s() + WARM_UP_SHARE * plan.limit_s;
    let (mut batch, mut times_s) = (1, Vec::new());
    let (mut best_s, mut stale) = (f64::INFINITY, 0);
    for sample in 0..plan.warm_up_max.max(1) {
        if target.interrupted() {
            return Err(Stopped::Interrupted);
        }
        let work_s = work_s(&target.hot(batch)?, context.submit_cost_s);
        let dispatch_s = work_s / f64::from(batch);
        if sample == 0 && !plan.affords(dispatch_s, context.emulated) {
            return Err(Stopped::TooLong { dispatch_s });
        }
        times_s.push(dispatch_s);
        if work_s < plan.warm_up_sample_s && batch < MAX_BATCH {
            batch = grown(batch, plan.warm_up_sample_s / dispatch_s);
        } else if dispatch_s < (1.0 - PLATEAU_GAIN) * best_s {
            // Gains below 3 % do not move the best, so that a slow ramp adds up until it shows.
            (best_s, stale) = (dispatch_s, 0);
        } else {
            stale += 1;
        }
        if stale >= PLATEAU_SAMPLES || target.now_s() >= until_s {
            break;
        }
    }
    let last = times_s.len().saturating_sub(PLATEAU_SAMPLES);
    Ok(Warm { dispatch_s: stats::median(&times_s[last..]), plateau: stale >= PLATEAU_SAMPLES })
}

/// The next batch on the way to `wanted` dispatches: at least one more, at most eight times.
fn grown(batch: u32, wanted: f64) -> u32 {
    let most = batch.saturating_mul(GROWTH).min(MAX_BATCH);
    (wanted.ceil().min(f64::from(most)) as u32).max(batch + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_by_one_at_least_and_eightfold_at_most() {
        assert_eq!(grown(1, 1e9), 8);
        assert_eq!(grown(64, 100.2), 101);
        assert_eq!(grown(512, 1e9), 1_000);
        assert_eq!(grown(10, 10.0), 11);
        assert_eq!(grown(1, f64::INFINITY), 8);
    }
}
