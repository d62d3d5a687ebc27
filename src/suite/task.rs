//! What is asked of a cell, and what of it a device can be expected to do.

use super::session::CellError;
use crate::kernel::{Suits, Work};
use crate::measure::Plan;
use crate::record::Status;
use crate::units::Seconds;

/// Reference operations spent on verifying one distribution of a timed cell, for each second of its
/// samples: two distributions together then take about a tenth of them on two cores.
const RUN_FLOPS_PER_S: f64 = 1e7;
/// What a CPU driver was seen to do on two cores in kernels without barriers, how much slower those
/// with barriers are, and the longest dispatch that `check`, which makes about five, starts there.
const EMULATED_FLOPS_PER_S: f64 = 2e9;
const EMULATED_BYTES_PER_S: f64 = 1e9;
const EMULATED_BARRIERS: f64 = 10.0;
const EMULATED_DISPATCH_S: f64 = 0.5;

/// Reference operations that stand for every row: what a worker is sent holds no infinity.
pub(super) const ALL_ROWS: f64 = f64::MAX;
/// Likewise the allowance of a cell whose time the user named.
const UNLIMITED_S: f64 = f64::MAX;

/// A kernel this much slower than the ceilings allow would still be worth its row.
const SLACK: f64 = 6.0;
/// What a good kernel takes over its ideal time on a CPU driver, and a chain of stages, some of
/// which are far from any ceiling.
pub(super) const TYPICAL_KERNEL: f64 = 3.0;
pub(super) const TYPICAL_PIPELINE: f64 = 10.0;
/// Dispatches that a cell costs at the very least: two checked runs, warm-up, samples.
const LEAST_DISPATCHES: f64 = 9.0;

/// How long a cell is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    Standard,
    Quick,
}

/// What to do with a cell.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Verify on every distribution, spending at most `flops` reference operations on each.
    Check { flops: f64 },
    /// Verify, then time for about `limit_s`; a cell that would clearly need more than
    /// `allowance_s` is skipped.
    Run { effort: Effort, limit_s: f64, allowance_s: f64 },
}

impl Task {
    /// How to time; `None` when verifying is all.
    pub(super) fn plan(&self) -> Option<Plan> {
        match *self {
            Task::Check { .. } => None,
            Task::Run { effort: Effort::Standard, limit_s, .. } => Some(Plan::standard(limit_s)),
            Task::Run { effort: Effort::Quick, limit_s, .. } => Some(Plan::quick(limit_s)),
        }
    }

    /// Reference operations to spend on each distribution.
    pub(super) fn reference_flops(&self) -> f64 {
        match *self {
            Task::Check { flops } => flops,
            Task::Run { limit_s, .. } => RUN_FLOPS_PER_S * limit_s,
        }
    }

    /// Whether something with this ideal time may be tried. On a CPU driver, where a run shares out
    /// little time among much, one dispatch is expected to take `typical` times as long, and what
    /// sampling would have no time for is not even verified.
    pub(super) fn affordable(
        &self,
        ideal_s: f64,
        typical: f64,
        emulated: bool,
    ) -> Result<(), CellError> {
        let Task::Run { allowance_s, .. } = *self else { return Ok(()) };
        let one_s = typical * ideal_s;
        let is_shared_out = emulated && allowance_s < UNLIMITED_S;
        if is_shared_out && self.plan().is_some_and(|plan| !plan.affords(one_s, emulated)) {
            return Err(too_long(one_s));
        }
        let estimate_s = ideal_s * SLACK * LEAST_DISPATCHES;
        if estimate_s <= allowance_s {
            return Ok(());
        }
        let (needs, left) = (Seconds(estimate_s), Seconds(allowance_s));
        let reason = format!("run budget: needs about {needs}, may take {left}; see --max-time");
        Err(CellError::new(Status::Skipped, reason))
    }
}

pub(super) fn too_long(dispatch_s: f64) -> CellError {
    let one = Seconds(dispatch_s);
    let reason = format!("run budget: one dispatch takes about {one}; see --max-time");
    CellError::new(Status::Skipped, reason)
}

/// How long timing something with this ideal time may take at the very most.
pub(super) fn longest_s(ideal_s: f64) -> f64 {
    ideal_s * SLACK * 100.0
}

/// How long two checked runs of something with this ideal time may take.
pub(super) fn expected_s(ideal_s: f64) -> f64 {
    ideal_s * SLACK * 4.0
}

/// How long a CPU driver takes for a dispatch, about.
pub(super) fn emulated_s(work: &Work, suits: Suits) -> f64 {
    let slower = if suits == Suits::Gpu { EMULATED_BARRIERS } else { 1.0 };
    slower * (work.flops / EMULATED_FLOPS_PER_S + work.bytes / EMULATED_BYTES_PER_S)
}

/// Whether a CPU driver can be expected to check something of this size.
pub(super) fn within_emulation(work: &Work, suits: Suits) -> Result<(), CellError> {
    let estimate_s = emulated_s(work, suits);
    if estimate_s <= EMULATED_DISPATCH_S {
        return Ok(());
    }
    let (needs, most) = (Seconds(estimate_s), Seconds(EMULATED_DISPATCH_S));
    let reason = format!("emulation budget: a dispatch takes about {needs} > {most}; see --full");
    Err(CellError::new(Status::Skipped, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sampling_has_no_time_for_is_tried_only_where_the_user_named_a_time() {
        let task = |allowance_s| Task::Run { effort: Effort::Standard, limit_s: 1.0, allowance_s };
        let tried = |task: Task, ideal_s, emulated| {
            task.affordable(ideal_s, TYPICAL_KERNEL, emulated).is_ok()
        };
        // Three samples within three seconds: a dispatch may take one.
        assert!(tried(task(22.0), 0.3, true) && !tried(task(22.0), 0.4, true));
        assert!(tried(task(UNLIMITED_S), 0.4, true) && tried(task(22.0), 0.4, false));
        assert!(tried(Task::Check { flops: 1.0 }, 1e3, true));
        // Nine dispatches of a slow kernel are not what a share of the run has room for.
        assert!(!tried(task(22.0), 0.5, false));
    }
}
