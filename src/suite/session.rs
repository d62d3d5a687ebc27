//! An open device and everything a cell needs on it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::cell::Cell;
use super::item::Item;
use super::lately::Lately;
use super::measure_cell::Subject;
use super::peaks::Found;
use super::sources::Sources;
use super::task::{ALL_ROWS, TYPICAL_KERNEL, Task, expected_s, longest_s, within_emulation};
use super::timing::{Canary, CanaryTimer, HostSweep, Prepared};
use super::verify::{Checked, Failure, Scope, Spent, verify};
use super::{environment, peaks};
use crate::gpu::{Checks, Clocks, Gpu, GpuError, Selector, Step, Sweep};
use crate::inputs::{Distribution, Inputs};
use crate::kernel::{Dtype, Shape};
use crate::measure::canary;
use crate::measure::plan::DEVICE_WARM_UP_S;
use crate::record::{self, Row, Status};

/// Reference operations spent on verifying a probe, of which some rows are enough: they all do the
/// same.
pub(super) const PROBE_FLOPS: f64 = 2e6;
/// Target length of the canary.
const CANARY_S: f64 = 1e-3;
/// Browsers round timestamps to multiples of this.
const BROWSER_STEP_S: f64 = 65_536e-9;
/// A CPU driver has no clock to raise, only threads to start.
const EMULATED_WARM_UP_S: f64 = 0.05;

/// An open device with its clocks, ceilings and shader texts.
pub struct Session {
    pub(super) gpu: Gpu,
    pub(super) clocks: Clocks,
    pub(super) sources: Sources,
    pub(super) seed: u32,
    checks: Checks,
    pub(super) ceilings: crate::measure::Peaks,
    pub(super) canary: Option<Canary>,
    pub(super) canary_baseline_s: Option<f64>,
    pub(super) sweep: Option<Sweep>,
    pub(super) host_sweep: Option<HostSweep>,
    pub(super) timer: record::Timer,
    pub(super) interrupt: Arc<AtomicBool>,
    pub(super) lately: Lately,
    /// On verification, in the cell under way.
    pub(super) verifying: Spent,
}

/// Why a cell has no result.
#[derive(Debug)]
pub struct CellError {
    pub status: Status,
    pub reason: String,
    /// The device cannot be used any more.
    pub fatal: bool,
    /// A buffer is larger than the device binds at once.
    oversize: bool,
}

impl From<GpuError> for CellError {
    fn from(error: GpuError) -> Self {
        let status = match error {
            GpuError::Unsupported(_) | GpuError::Oversize(_) => Status::Unsupported,
            _ => Status::Error,
        };
        let fatal = matches!(error, GpuError::Lost(_));
        let oversize = matches!(error, GpuError::Oversize(_));
        CellError { status, reason: error.to_string(), fatal, oversize }
    }
}

impl From<Failure> for CellError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Wrong(reason) => CellError::new(Status::Wrong, reason),
            Failure::Unverified => {
                let reason = "unverified: no gate could have failed".to_owned();
                CellError::new(Status::Error, reason)
            }
        }
    }
}

impl CellError {
    pub(super) fn new(status: Status, reason: String) -> Self {
        CellError { status, reason, fatal: false, oversize: false }
    }

    /// The same, with the strategies of the kernel that cut what is too large.
    fn naming_slices(mut self, cell: &Cell) -> Self {
        let names = cell.cut_by();
        if self.oversize && !names.is_empty() {
            self.reason += &format!("; {} binds less at a time", names.join(" or "));
        }
        self
    }
}

impl Session {
    /// Opens a device. Setting `interrupt` ends the cell under way after its current sample.
    pub fn open(
        selector: &Selector,
        sources: Sources,
        seed: u32,
        checks: Checks,
        interrupt: Arc<AtomicBool>,
    ) -> Result<Self, GpuError> {
        let gpu = Gpu::open(selector)?;
        let clocks = Clocks::new(&gpu)?;
        let kind = if gpu.report.timestamps { "gpu" } else { "wall" };
        let timer = record::Timer { kind: kind.to_owned(), ..Default::default() };
        Ok(Session {
            gpu,
            clocks,
            sources,
            seed,
            checks,
            ceilings: Default::default(),
            canary: None,
            canary_baseline_s: None,
            sweep: None,
            host_sweep: None,
            timer,
            interrupt,
            lately: Lately::default(),
            verifying: Spent::default(),
        })
    }

    pub(super) fn checks(&self) -> Checks {
        self.checks
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The device half of the environment; the caller adds arguments, preset and times.
    pub fn environment(&self) -> record::Environment {
        let mut environment = record::Environment {
            fusebench: record::this_build(self.sources.hash()),
            device: environment::device(&self.gpu.report),
            host: environment::host(),
            timer: self.timer.clone(),
            peaks: Vec::new(),
            peaks_omitted: Vec::new(),
            fingerprint: String::new(),
            started: String::new(),
            finished: None,
            arguments: Vec::new(),
            preset: String::new(),
            seed: self.seed,
        };
        environment.fingerprint = record::fingerprint(&environment);
        environment
    }

    /// Warms the device up, calibrates the clocks and measures the ceilings that rates are
    /// compared with.
    pub fn measure_peaks(&mut self) -> Result<Found, GpuError> {
        self.calibrate()?;
        let found = peaks::measure(self)?;
        self.use_peaks(&found.peaks);
        Ok(found)
    }

    /// Takes over ceilings measured earlier in the same run.
    pub fn use_peaks(&mut self, peaks: &[record::Peak]) {
        self.ceilings = peaks::ceilings(peaks);
    }

    /// Whether the device has what the cell needs.
    pub fn supports(&self, cell: &Cell) -> bool {
        self.unsupported(cell).is_none()
    }

    /// Compiles a cell and uploads its timed data, without verifying anything.
    pub fn prepare(&self, cell: &Cell) -> Result<Prepared, GpuError> {
        self.prepare_with(cell, self.checks)
    }

    /// The same, whatever the session's own checks.
    pub fn prepare_with(&self, cell: &Cell, checks: Checks) -> Result<Prepared, GpuError> {
        let inputs = self.timed_inputs(cell);
        let program = self.compile(cell, inputs.tensors.len(), checks)?;
        let set = self.gpu.allocate(&program, &inputs, &cell.launch(), &[])?;
        Ok(Prepared(vec![Step { program, set }]))
    }

    /// The same, with its output verified; a cell without a right answer is not worth timing.
    pub(super) fn verified(&self, cell: &Cell) -> Result<Prepared, CellError> {
        if let Some(reason) = self.unsupported(cell) {
            return Err(CellError::new(Status::Unsupported, reason));
        }
        let inputs = Arc::new(self.timed_inputs(cell));
        self.verified_on(inputs, cell, self.checks).map(|(prepared, _)| prepared)
    }

    fn verified_on(
        &self,
        inputs: Arc<Inputs>,
        cell: &Cell,
        checks: Checks,
    ) -> Result<(Prepared, Spent), CellError> {
        let program = self.compile(cell, inputs.tensors.len(), checks)?;
        let distributions = match cell.given {
            Some(_) => vec![Distribution::User],
            None if cell.dtype == Dtype::F16Acc => cell.timed_distributions(),
            None => vec![Distribution::Normal],
        };
        let scope = Scope { distributions, flops: PROBE_FLOPS, seed: self.seed };
        let verdict = verify(&self.gpu, &program, cell, &scope, inputs, &mut |_, _| ())?;
        let set = verdict.first.set;
        match verdict.failure {
            None => Ok((Prepared(vec![Step { program, set }]), verdict.spent)),
            Some(failure) => Err(failure.into()),
        }
    }

    /// Seconds per dispatch in one pass of `batch`.
    pub fn time(&self, prepared: &Prepared, batch: u32) -> Result<f64, GpuError> {
        let reading = self.clocks.time(&self.gpu, &prepared.0, batch)?;
        Ok(reading.device_s.filter(|&s| s > 0.0).unwrap_or(reading.wall_s) / f64::from(batch))
    }

    /// Sizes the canary, warms the device up with it, and reads the clocks' resolution and cost.
    pub(super) fn calibrate(&mut self) -> Result<(), GpuError> {
        let shape = Shape::new(&[("n", 4096), ("t", 64)]);
        let cell = peaks::probe_cells("fma", Dtype::F32, &shape).into_iter().next();
        let prepared = self.prepare(&cell.expect("the registry has an arithmetic probe"))?;
        let emulated = self.gpu.report.emulated;
        let seconds = if emulated { EMULATED_WARM_UP_S } else { DEVICE_WARM_UP_S };
        let mut canary = Canary { prepared, batch: 8 };
        let before_s = self.warm_up(&canary, seconds)?;
        // Sized once the clock is up, so that it takes about as long as it should.
        canary.batch = (8.0 * CANARY_S / before_s).ceil().clamp(1.0, 4096.0) as u32;
        self.canary_baseline_s = Some(self.warm_up(&canary, 0.0)?);
        self.canary = Some(canary);
        self.read_clocks()
    }

    fn warm_up(&self, canary: &Canary, seconds: f64) -> Result<f64, GpuError> {
        let (gpu, clocks, interrupt) = (&self.gpu, &self.clocks, &self.interrupt);
        let mut watch = CanaryTimer { gpu, clocks, canary, interrupt, started: Instant::now() };
        canary::warm_up_device(&mut watch, seconds, self.timer.submit_cost_s)
    }

    /// The step of the device clock, and what a submission costs besides.
    fn read_clocks(&mut self) -> Result<(), GpuError> {
        let canary = self.canary.as_ref().expect("calibrated");
        let mut costs = Vec::new();
        for n in 1..=16 {
            let reading = self.clocks.time(&self.gpu, &canary.prepared.0, n)?;
            costs.push(reading.wall_s - reading.device_s.unwrap_or(0.0));
        }
        costs.sort_by(f64::total_cmp);
        self.timer.submit_cost_s = costs[costs.len() / 2].max(0.0);
        // Without device timestamps the wall clock counts, to about a microsecond.
        self.timer.resolution_s =
            self.clocks.resolution_s().filter(|&step| step > 0.0).unwrap_or(1e-6);
        let steps = self.timer.resolution_s / BROWSER_STEP_S;
        self.timer.quantised = steps >= 0.999 && (steps - steps.round()).abs() < 1e-3;
        Ok(())
    }

    pub fn timer(&self) -> record::Timer {
        self.timer.clone()
    }

    /// Verifies and, if asked to, times one cell. `alive` is called whenever progress is made,
    /// with what comes next and how long it may take in seconds.
    pub fn run(
        &mut self,
        item: &Item,
        task: &Task,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> (Row, bool) {
        let mut row = item.row(Status::Ok, None, self.checks.name());
        if task.plan().is_some() {
            // A row with times has a compile time of its own.
            self.lately.forget();
        }
        self.verifying = Spent::default();
        let watch = self.gpu.stopwatch();
        let result = match item {
            Item::Kernel(cell) => {
                self.try_run(cell, task, &mut row, alive).map_err(|error| error.naming_slices(cell))
            }
            Item::Pipeline(cell) => self.try_pipeline(cell, task, &mut row, alive),
        };
        row.verify_s = Some(self.verifying.seconds).filter(|&s| s > 0.0);
        row.harness_s = Some((watch.host_s() - self.verifying.host_s).max(0.0));
        match result {
            Ok(()) => (row, false),
            Err(error) => {
                row.status = error.status;
                row.reason = Some(error.reason);
                (row, error.fatal)
            }
        }
    }

    fn try_run(
        &mut self,
        cell: &Cell,
        task: &Task,
        row: &mut Row,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<(), CellError> {
        let ideal_s = self.refuse(cell, task)?;
        alive("compiling", 0.0);
        let inputs = Arc::new(self.timed_inputs(cell));
        let started = Instant::now();
        self.compile_ahead([(cell, inputs.tensors.len())].into_iter(), task);
        let program = self.compile(cell, inputs.tensors.len(), self.checks)?;
        row.compile_s = Some(started.elapsed().as_secs_f64());
        let scope = self.scope(cell, task);
        let mut verifying = |stage, expect_s: f64| alive(stage, expect_s.max(expected_s(ideal_s)));
        let verdict = verify(&self.gpu, &program, cell, &scope, inputs, &mut verifying)?;
        self.verifying += verdict.spent;
        row.accuracy = Some(verdict.accuracy);
        row.device_bytes = Some(verdict.first.set.bytes);
        if let Some(failure) = verdict.failure {
            return Err(failure.into());
        }
        let Some(plan) = task.plan() else { return Ok(()) };
        if cell.is_empty() {
            let reason = "nothing to time: the output is empty".to_owned();
            return Err(CellError::new(Status::Skipped, reason));
        }
        let Checked { inputs, set, outputs } = verdict.first;
        let launch = cell.launch();
        let subject = Subject {
            prepared: Prepared(vec![Step { program, set }]),
            verified: vec![outputs],
            works: vec![cell.work()],
            copy: &|session: &Session, prepared: &Prepared| {
                let program = prepared.0[0].program.clone();
                let set = session.gpu.allocate(&program, &inputs, &launch, &[])?;
                Ok(Prepared(vec![Step { program, set }]))
            },
        };
        let mut alive = || alive("timing", longest_s(ideal_s));
        self.time_subject(&subject, &plan, row, &mut alive)?;
        drop(subject);
        self.time_unchecked(&plan, row, &mut alive, |session| {
            let (prepared, spent) = session.verified_on(inputs, cell, Checks::Trusted)?;
            session.verifying += spent;
            Ok(prepared)
        })
    }

    pub(super) fn unsupported(&self, cell: &Cell) -> Option<String> {
        cell.unfit(|feature| self.gpu.report.has(feature))
            .or_else(|| self.gpu.report.leaves_loops((cell.variant.turns)(&cell.shape)))
    }

    /// What keeps a cell from being tried at all; otherwise its ideal time.
    fn refuse(&self, cell: &Cell, task: &Task) -> Result<f64, CellError> {
        if let Some(reason) = self.unsupported(cell) {
            return Err(CellError::new(Status::Unsupported, reason));
        }
        cell.within_storage()?;
        if let Task::Check { flops } = task
            && self.gpu.report.emulated
            && *flops < ALL_ROWS
        {
            within_emulation(&cell.work(), cell.variant.suits)?;
        }
        let ideal_s = self.ceilings.ideal_s(&cell.work(), cell.work().bytes);
        task.affordable(ideal_s, TYPICAL_KERNEL, self.gpu.report.emulated)?;
        Ok(ideal_s)
    }

    fn timed_inputs(&self, cell: &Cell) -> Inputs {
        let distribution =
            if cell.given.is_some() { Distribution::User } else { Distribution::Normal };
        cell.inputs(distribution, self.seed)
    }

    fn scope(&self, cell: &Cell, task: &Task) -> Scope {
        let distributions = match task {
            _ if cell.given.is_some() => vec![Distribution::User],
            Task::Check { .. } => cell.checked_distributions(),
            Task::Run { .. } => cell.timed_distributions(),
        };
        Scope { distributions, flops: task.reference_flops(), seed: self.seed }
    }
}
