//! Timing one verified cell and writing the figures down.

use std::time::Instant;

use super::session::{CellError, Session};
use super::task::too_long;
use super::timing::{CanaryTimer, CellTimer, Cold, HostSweep, POOL_BYTES_GPU, Prepared};
use crate::gpu::{Checks, GpuError, Output, Sweep};
use crate::kernel::Work;
use crate::measure::{Context, Part, Plan, Stopped, Timing, canary, measure, score};
use crate::record::{self, Row, Status};

/// Something verified, to be timed.
pub(super) struct Subject<'a> {
    pub prepared: Prepared,
    /// What each step gave when it was verified.
    pub verified: Vec<Vec<Output>>,
    /// What each step has to do.
    pub works: Vec<Work>,
    /// The same steps on buffers of their own.
    pub copy: &'a dyn Fn(&Session, &Prepared) -> Result<Prepared, GpuError>,
}

impl Session {
    /// Runs the protocol on a verified subject.
    pub(super) fn time_subject(
        &mut self,
        subject: &Subject,
        plan: &Plan,
        row: &mut Row,
        alive: &mut dyn FnMut(),
    ) -> Result<(), CellError> {
        if self.canary.is_none() {
            self.calibrate()?;
        }
        let prepared = &subject.prepared;
        self.provide_sweep(prepared.bytes());
        let cold = self.cold(subject)?;
        let partial = matches!(cold, Cold::Unavailable);
        let timing = self.sample(prepared, cold, plan, alive)?;
        let watch = self.gpu.stopwatch();
        self.unchanged(subject)?;
        self.verifying.add(&watch);
        row.rate = Some(self.rate(subject, timing.median_s));
        let mut time = time_record(timing);
        if partial {
            time.notes
                .push("cold: partial, no memory for a pool larger than the caches".to_owned());
        }
        row.time = Some(time);
        Ok(())
    }

    /// Repeats the hot part of what was timed without wgpu's run-time checks, if the plan has time
    /// for it: on what `unchecked` compiles and verifies.
    pub(super) fn time_unchecked(
        &mut self,
        plan: &Plan,
        row: &mut Row,
        alive: &mut dyn FnMut(),
        unchecked: impl FnOnce(&mut Session) -> Result<Prepared, CellError>,
    ) -> Result<(), CellError> {
        let Some(plan) = plan.trusted().filter(|_| self.checks() == Checks::Safe) else {
            return Ok(());
        };
        let timed = unchecked(self)
            .and_then(|unchecked| self.sample(&unchecked, Cold::Unavailable, &plan, alive));
        match timed {
            Ok(timing) => row.time_trusted = Some(time_record(timing)),
            Err(error) if error.fatal => return Err(error),
            Err(error) => {
                let time = row.time.as_mut().expect("timed with checks before");
                time.notes.push(format!("without checks: {}", error.reason));
            }
        }
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
        if self.gpu.report.emulated {
            self.host_sweep.get_or_insert_with(HostSweep::new);
        } else if Cold::copies(footprint).is_none() && self.sweep.is_none() {
            self.sweep = Sweep::new(&self.gpu, POOL_BYTES_GPU).ok();
        }
    }

    /// Copies larger than the caches together, or a sweep; neither when the device has no room. A
    /// CPU driver's memory is the host's, which the host rewrites sooner than it fills copies.
    fn cold(&self, subject: &Subject) -> Result<Cold<'_>, CellError> {
        if let Some(sweep) = &self.host_sweep {
            return Ok(Cold::HostSweep(sweep));
        }
        let Some(count) = Cold::copies(subject.prepared.bytes()) else {
            return Ok(self.sweep.as_ref().map_or(Cold::Unavailable, Cold::Sweep));
        };
        let mut copies = Vec::new();
        for _ in 0..count {
            match (subject.copy)(self, &subject.prepared) {
                Ok(copy) => copies.push(copy),
                Err(GpuError::OutOfMemory) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if copies.len() < 2 { Cold::Unavailable } else { Cold::Rotate(copies) })
    }

    /// The outputs after timing must be the verified outputs, bit for bit: a race may only show
    /// under load.
    fn unchanged(&self, subject: &Subject) -> Result<(), CellError> {
        for (step, verified) in subject.prepared.0.iter().zip(&subject.verified) {
            let after = self.gpu.read(&step.set)?;
            if !after.iter().zip(verified).all(|(a, b)| a.bytes == b.bytes && a.guard_intact) {
                let reason = "the output changed while the kernel was timed: a race".to_owned();
                return Err(CellError::new(Status::Wrong, reason));
            }
        }
        Ok(())
    }

    fn rate(&self, subject: &Subject, median_s: f64) -> record::Rate {
        let steps = subject.prepared.0.iter().zip(&subject.works);
        let parts: Vec<Part> = steps
            .map(|(step, &work)| Part {
                work,
                dispatches: step.program.dispatches(),
                footprint_bytes: step.set.bytes as f64,
            })
            .collect();
        let sum = |of: fn(&Work) -> f64| subject.works.iter().map(of).sum::<f64>();
        let score = score(&self.ceilings, &parts, median_s);
        record::Rate {
            flops_per_s: sum(|work| work.flops) / median_s,
            bytes_per_s: sum(|work| work.bytes) / median_s,
            bound_by: score.as_ref().map(|score| score.bound_by.name().to_owned()),
            fraction_of_peak: score.as_ref().map(|score| score.fraction),
            launch_share: score.as_ref().map(|score| score.launch_share),
            footprint_bytes: subject.prepared.bytes() as f64,
        }
    }
}

fn stopped(stopped: Stopped<GpuError>) -> CellError {
    match stopped {
        Stopped::Failed(error) => error.into(),
        Stopped::Interrupted => CellError::new(Status::Skipped, "interrupted".to_owned()),
        Stopped::TooLong { dispatch_s } => too_long(dispatch_s),
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
