//! Timing one verified cell and writing the figures down.

use std::time::Instant;

use super::cell::Cell;
use super::session::{CellError, Session};
use super::timing::{CellTimer, Cold, HostSweep, Prepared, pool_bytes};
use super::verify::Checked;
use crate::gpu::{GpuError, Program, Sweep};
use crate::kernel::Work;
use crate::measure::{Context, Plan, Stopped, Timing, measure, score};
use crate::record::{self, Row, Status};
use crate::units::Seconds;

impl Session {
    /// Runs the protocol on a verified program and its verified data.
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
        let pool = pool_bytes(self.gpu.report.emulated);
        let sets = Cold::sets(prepared.set.bytes, pool);
        let emulated = self.gpu.report.emulated;
        match (sets, emulated) {
            (Some(_), _) => {}
            (None, true) => {
                self.host_sweep.get_or_insert_with(HostSweep::new);
            }
            (None, false) if self.sweep.is_some() => {}
            (None, false) => self.sweep = Sweep::new(&self.gpu, pool).ok(),
        }
        let cold = match (sets, &self.host_sweep, &self.sweep) {
            (Some(count), ..) => self.rotation(cell, &prepared, &inputs, count)?,
            (None, Some(sweep), _) => Cold::HostSweep(sweep),
            (None, None, Some(sweep)) => Cold::Sweep(sweep),
            (None, None, None) => Cold::Unavailable,
        };
        let partial = matches!(cold, Cold::Unavailable);
        let context = Context {
            timer_resolution_s: self.timer.resolution_s,
            submit_cost_s: self.timer.submit_cost_s,
            // What slows a CPU driver down is other programs, and no pause would cool them.
            canary_baseline_s: self.canary_baseline_s.filter(|_| !emulated),
            emulated,
            seed: self.seed,
        };
        let mut timer = CellTimer {
            gpu: &self.gpu,
            clocks: &self.clocks,
            prepared: &prepared,
            cold,
            canary: self.canary.as_ref().expect("calibrated above"),
            interrupt: &self.interrupt,
            started: Instant::now(),
            alive,
            next_cold: 0,
        };
        let timing = measure(&mut timer, plan, &context).map_err(stopped)?;
        self.unchanged(&prepared, &outputs)?;
        row.time = Some(time_record(timing, partial));
        row.rate = Some(self.rate(&cell.work(), &prepared, row.time.as_ref().expect("just set")));
        Ok(())
    }

    /// Buffer sets larger than the caches together; none when the device has no room for two.
    fn rotation(
        &self,
        cell: &Cell,
        prepared: &Prepared,
        inputs: &crate::inputs::Inputs,
        count: u64,
    ) -> Result<Cold<'static>, CellError> {
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

    fn rate(&self, work: &Work, prepared: &Prepared, time: &record::Time) -> record::Rate {
        let footprint = prepared.set.bytes as f64;
        let dispatches = prepared.program.dispatches();
        let score = score(&self.ceilings, work, dispatches, footprint, time.median);
        record::Rate {
            flops_per_s: work.flops / time.median,
            bytes_per_s: work.bytes / time.median,
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

fn time_record(timing: Timing, cold_partial: bool) -> record::Time {
    let mut notes = timing.notes;
    if cold_partial {
        notes.push("cold: partial, no memory for a pool larger than the caches".to_owned());
    }
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
        notes,
    }
}
