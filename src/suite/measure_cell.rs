//! Timing one verified cell and writing the figures down.

use std::time::Instant;

use super::cell::Cell;
use super::session::{CellError, Session};
use super::timing::{CanaryTimer, CellTimer, Cold, HostSweep, Prepared, pool_bytes};
use super::verify::Checked;
use crate::gpu::{Checks, GpuError, Program, Sweep};
use crate::inputs::Inputs;
use crate::kernel::Work;
use crate::measure::{Context, Plan, Stopped, Timing, canary, measure, score};
use crate::record::{self, Row, Status};
use crate::units::Seconds;

impl Session {
    /// Runs the protocol on a verified program and its verified data, then repeats the hot part
    /// without wgpu's run-time checks if the plan has time for it.
    pub(super) fn time_cell(
        &mut self,
        cell: &Cell,
        program: Program,
        checked: Checked,
        plan: &Plan,
        row: &mut Row,
        alive: &mut dyn FnMut(),
    ) -> Result<(), CellError> {
        if self.canary.is_none() {
            self.calibrate()?;
        }
        let Checked { inputs, set, outputs } = checked;
        let prepared = Prepared { program, set };
        self.provide_sweep(prepared.set.bytes);
        let cold = self.cold(cell, &prepared, &inputs)?;
        let partial = matches!(cold, Cold::Unavailable);
        let timing = self.sample(&prepared, cold, plan, alive)?;
        self.unchanged(&prepared, &outputs)?;
        row.rate = Some(self.rate(&cell.work(), &prepared, timing.median_s));
        let mut time = time_record(timing);
        if partial {
            time.notes
                .push("cold: partial, no memory for a pool larger than the caches".to_owned());
        }
        // The other mode in the same row, where there is time for it.
        if let Some(plan) = plan.trusted().filter(|_| self.checks() == Checks::Safe) {
            match self
                .verified(cell, Checks::Trusted)
                .and_then(|trusted| self.sample(&trusted, Cold::Unavailable, &plan, alive))
            {
                Ok(timing) => row.time_trusted = Some(time_record(timing)),
                Err(error) if error.fatal => return Err(error),
                Err(error) => time.notes.push(format!("without checks: {}", error.reason)),
            }
        }
        row.time = Some(time);
        Ok(())
    }

    /// One pass through the measuring protocol.
    fn sample(
        &self,
        prepared: &Prepared,
        cold: Cold,
        plan: &Plan,
        alive: &mut dyn FnMut(),
    ) -> Result<Timing, CellError> {
        let emulated = self.gpu.report.emulated;
        // What slows a CPU driver down is other programs, and no pause would cool them.
        let baseline_s = self.canary_baseline_s.filter(|_| !emulated);
        let context = Context {
            timer_resolution_s: self.timer.resolution_s,
            submit_cost_s: self.timer.submit_cost_s,
            canary_baseline_s: baseline_s,
            emulated,
            seed: self.seed,
        };
        let mut watch = CanaryTimer {
            gpu: &self.gpu,
            clocks: &self.clocks,
            canary: self.canary.as_ref().expect("calibrated before"),
            interrupt: &self.interrupt,
            started: Instant::now(),
        };
        if let Some(baseline_s) = baseline_s {
            canary::recover(&mut watch, baseline_s, context.submit_cost_s)?;
        }
        let mut timer = CellTimer { watch, prepared, cold, alive, next_cold: 0 };
        measure(&mut timer, plan, &context).map_err(stopped)
    }

    /// Allocates what rewrites the caches before a cold sample, unless rotation will do.
    fn provide_sweep(&mut self, footprint: u64) {
        let emulated = self.gpu.report.emulated;
        let pool = pool_bytes(emulated);
        if Cold::sets(footprint, pool).is_some() {
            return;
        }
        if emulated {
            self.host_sweep.get_or_insert_with(HostSweep::new);
        } else if self.sweep.is_none() {
            self.sweep = Sweep::new(&self.gpu, pool).ok();
        }
    }

    /// Buffer sets larger than the caches together, or a sweep; neither when the device has no room.
    fn cold(
        &self,
        cell: &Cell,
        prepared: &Prepared,
        inputs: &Inputs,
    ) -> Result<Cold<'_>, CellError> {
        let pool = pool_bytes(self.gpu.report.emulated);
        let Some(count) = Cold::sets(prepared.set.bytes, pool) else {
            let host = self.host_sweep.as_ref().map(Cold::HostSweep);
            let sweep = host.or(self.sweep.as_ref().map(Cold::Sweep));
            return Ok(sweep.unwrap_or(Cold::Unavailable));
        };
        let mut sets = Vec::new();
        let launch = cell.launch();
        for _ in 0..count {
            match self.gpu.allocate(&prepared.program, inputs, &launch) {
                Ok(set) => sets.push(set),
                Err(GpuError::OutOfMemory) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if sets.len() < 2 { Cold::Unavailable } else { Cold::Rotate(sets) })
    }

    /// The output after timing must be the verified output, bit for bit: a race may only show
    /// under load.
    fn unchanged(
        &self,
        prepared: &Prepared,
        verified: &[crate::gpu::Output],
    ) -> Result<(), CellError> {
        let after = self.gpu.read(&prepared.set)?;
        let same = after.iter().zip(verified).all(|(a, b)| a.bytes == b.bytes && a.guard_intact);
        if same {
            return Ok(());
        }
        let reason = "the output changed while the kernel was timed: a race".to_owned();
        Err(CellError::new(Status::Wrong, reason))
    }

    fn rate(&self, work: &Work, prepared: &Prepared, median_s: f64) -> record::Rate {
        let footprint = prepared.set.bytes as f64;
        let dispatches = prepared.program.dispatches();
        let score = score(&self.ceilings, work, dispatches, footprint, median_s);
        record::Rate {
            flops_per_s: work.flops / median_s,
            bytes_per_s: work.bytes / median_s,
            bound_by: score.as_ref().map(|score| score.bound_by.name().to_owned()),
            fraction_of_peak: score.as_ref().map(|score| score.fraction),
            launch_share: score.as_ref().map(|score| score.launch_share),
            footprint_bytes: footprint,
        }
    }
}

fn stopped(stopped: Stopped<GpuError>) -> CellError {
    match stopped {
        Stopped::Failed(error) => error.into(),
        Stopped::Interrupted => CellError::new(Status::Skipped, "interrupted".to_owned()),
        Stopped::TooLong { dispatch_s } => {
            let one = Seconds(dispatch_s);
            let reason = format!("run budget: one dispatch takes {one}; see --max-time");
            CellError::new(Status::Skipped, reason)
        }
    }
}

fn time_record(timing: Timing) -> record::Time {
    record::Time {
        unit: "s".to_owned(),
        median: timing.median_s,
        low: timing.low_s,
        high: timing.high_s,
        confidence: timing.confidence,
        timer: timing.timer.name().to_owned(),
        stopped_by: timing.stopped_by.name().to_owned(),
        samples: timing.samples_s,
        cold_median: timing.cold_median_s,
        wall_median: timing.wall_median_s,
        cold_samples: timing.cold_samples_s,
        min: timing.min_s,
        batch: timing.batch,
        n_invalid: timing.n_invalid as u32,
        outliers: timing.outliers.map(|count| count as u32),
        rank_autocorrelation: timing.rank_autocorrelation,
        canary: timing.canary.into_iter().map(|(at, s)| (at as u32, s)).collect(),
        time_normalised: timing.time_normalised_s,
        notes: timing.notes,
    }
}
