//! The device side of a comparison: both sides of every cell kept ready in one process, on the same
//! buffers, and timed sample by sample.

use std::collections::BTreeMap;

use super::cell::Cell;
use super::environment::device_memory_bytes;
use super::session::{CellError, Session};
use super::sources::Sources;
use super::task::within_emulation;
use super::verify::{Checked, Scope, verify};
use crate::gpu::{BufferSet, GpuError, Output, Program, Step};
use crate::inputs::{Distribution, Inputs};
use crate::measure::{possible_s, stats};
use crate::record::{Row, Sample, SampleTime, Side, SideRequest, Status, VisitRequest, fnv1a};
use crate::shader;

/// Readings of which a dispatch's time is the median, once they are long enough.
const READINGS: usize = 3;
/// Most growth of the batch from one reading to the next.
const GROWTH: f64 = 8.0;
const MAX_BATCH: u32 = 1_000;

/// Every cell that is kept ready.
#[derive(Default)]
pub struct Pairs {
    head: Sources,
    kept: BTreeMap<String, Kept>,
}

/// The sides of one cell. They take turns on one set of buffers, so that no side has the luckier
/// addresses; none reads what another wrote, because no kernel reads its own outputs.
struct Kept {
    cell: Cell,
    inputs: Inputs,
    set: BufferSet,
    sides: BTreeMap<Side, Ready>,
    /// Whose results the buffers hold.
    last: Option<Side>,
    rebuilds: u32,
}

/// A side that may be timed.
struct Ready {
    program: Program,
    source: String,
    /// As verified.
    outputs: Vec<Output>,
    row: Row,
}

/// A side as its worker tells of it.
pub struct Prepared {
    pub row: Row,
    pub dispatch_s: Option<f64>,
    /// Of the shader and its constants.
    pub hash: String,
    pub lost: bool,
}

/// The times of a visit, and which side's output changed since it was verified, if one did.
pub type Visited = (Vec<SampleTime>, Option<(Side, String)>);

/// Why a visit gave no times.
pub struct VisitError {
    pub side: Option<Side>,
    pub reason: String,
    pub lost: bool,
}

impl Pairs {
    /// `head` are the shaders of the head; those of the base are the session's own.
    pub fn new(head: Sources) -> Self {
        Pairs { head, kept: BTreeMap::new() }
    }

    pub fn release(&mut self, id: &str) {
        self.kept.remove(id);
    }

    fn source(&self, session: &Session, cell: &Cell, side: Side) -> String {
        let sources = if side == Side::Head { &self.head } else { &session.sources };
        let dialect = cell.dialect();
        shader::source(sources.get(cell.entry, &dialect), &dialect)
    }
}

impl Session {
    /// Verifies one side of a cell, keeps it, and says how long a dispatch takes.
    pub fn prepare_side(
        &mut self,
        pairs: &mut Pairs,
        cell: &Cell,
        request: &SideRequest,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Prepared {
        let source = pairs.source(self, cell, request.side);
        let hash = hash(&source, cell);
        let item = cell.clone().into();
        let mut row = super::Item::row(&item, Status::Ok, None, self.checks().name());
        match self.try_side(pairs, cell, request, source, &mut row, alive) {
            Ok(dispatch_s) => Prepared { row, dispatch_s: Some(dispatch_s), hash, lost: false },
            Err(error) => {
                row.status = error.status;
                row.reason = Some(error.reason);
                Prepared { row, dispatch_s: None, hash, lost: error.fatal }
            }
        }
    }

    fn try_side(
        &mut self,
        pairs: &mut Pairs,
        cell: &Cell,
        request: &SideRequest,
        source: String,
        row: &mut Row,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<f64, CellError> {
        if let Some(reason) = self.unsupported(cell) {
            return Err(CellError::new(Status::Unsupported, reason));
        }
        if cell.is_empty() {
            let reason = "nothing to time: the output is empty".to_owned();
            return Err(CellError::new(Status::Skipped, reason));
        }
        if self.gpu.report.emulated {
            within_emulation(&cell.work(), cell.variant.suits)?;
        }
        if self.canary.is_none() {
            self.calibrate()?;
        }
        alive(stage("compiling", request.side), 0.0);
        let launch = cell.launch();
        let inputs = cell.inputs(Distribution::Normal, self.seed);
        let checks = self.checks();
        let count = inputs.tensors.len();
        let program = self.gpu.compile(&source, &launch, cell.variant, count, checks)?;
        alive(stage("verifying", request.side), 0.0);
        let known = pairs
            .kept
            .get(&request.id)
            .and_then(|kept| kept.sides.values().find(|ready| ready.source == source));
        match known {
            // The same shader again need not be held to the reference, only to the first answer.
            Some(ready) => {
                row.accuracy.clone_from(&ready.row.accuracy);
                row.device_bytes = ready.row.device_bytes;
                let kept = &pairs.kept[&request.id];
                let step = Step { program: program.clone(), set: kept.set.clone() };
                self.gpu.run(std::slice::from_ref(&step))?;
                let outputs = self.gpu.read(&step.set)?;
                same(&outputs, &ready.outputs)?;
                self.keep(pairs, request, program, source, outputs, row);
            }
            None => {
                let spec = cell.entry.kernel.spec().inputs.iter().copied();
                let timed = [Distribution::Normal, Distribution::Integers];
                let distributions = spec.filter(|d| timed.contains(d)).collect();
                let scope = Scope { distributions, flops: request.flops, seed: self.seed };
                let mut verifying = |_, expect_s| alive(stage("verifying", request.side), expect_s);
                let verdict = verify(&self.gpu, &program, cell, &scope, inputs, &mut verifying)?;
                row.accuracy = Some(verdict.accuracy);
                row.device_bytes = Some(verdict.first.set.bytes);
                if let Some(failure) = verdict.failure {
                    return Err(failure.into());
                }
                let Checked { inputs, set, outputs } = verdict.first;
                let (cell, sides) = (cell.clone(), BTreeMap::new());
                let kept = Kept { cell, inputs, set, sides, last: None, rebuilds: 0 };
                pairs.kept.entry(request.id.clone()).or_insert(kept);
                self.keep(pairs, request, program, source, outputs, row);
            }
        }
        self.dispatch_s(pairs, request, alive)
    }

    fn keep(
        &self,
        pairs: &mut Pairs,
        request: &SideRequest,
        program: Program,
        source: String,
        outputs: Vec<Output>,
        row: &Row,
    ) {
        let kept = pairs.kept.get_mut(&request.id).expect("just inserted");
        kept.sides.insert(request.side, Ready { program, source, outputs, row: row.clone() });
        kept.last = None;
    }

    /// Seconds of one dispatch, from readings that were lengthened to the span.
    fn dispatch_s(
        &self,
        pairs: &Pairs,
        request: &SideRequest,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<f64, CellError> {
        let kept = &pairs.kept[&request.id];
        let step = kept.step(request.side);
        let (mut batch, mut times_s) = (1_u32, Vec::new());
        while times_s.len() < READINGS {
            alive(stage("timing", request.side), 0.0);
            let reading = self.clocks.time(&self.gpu, std::slice::from_ref(&step), batch)?;
            let seconds = possible_s(&reading).unwrap_or(reading.wall_s).max(1e-9);
            let dispatch_s = seconds / f64::from(batch);
            if seconds >= 0.5 * request.span_s || batch == MAX_BATCH {
                times_s.push(dispatch_s);
            } else {
                let most = (GROWTH * f64::from(batch)).min(f64::from(MAX_BATCH));
                let wanted = (request.span_s / dispatch_s).ceil().min(most);
                batch = (wanted as u32).max(batch + 1).min(MAX_BATCH);
            }
        }
        Ok(stats::median(&times_s))
    }

    /// Takes samples of a cell in the order asked for, each side warmed up with a discarded
    /// dispatch first. Also tells when an output changed since it was verified.
    pub fn visit(
        &self,
        pairs: &mut Pairs,
        request: &VisitRequest,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<Visited, VisitError> {
        let absent = || VisitError {
            side: None,
            reason: format!("{} is not prepared", request.id),
            lost: false,
        };
        let kept = pairs.kept.get_mut(&request.id).ok_or_else(absent)?;
        if request.samples.iter().any(|sample| !kept.sides.contains_key(&sample.side)) {
            return Err(absent());
        }
        let failed = |side: Option<Side>| {
            move |error: GpuError| {
                let error = CellError::from(error);
                VisitError { side, reason: error.reason, lost: error.fatal }
            }
        };
        let mut wrong = None;
        if request.rebuild {
            alive("rebuilding", 0.0);
            wrong = self.rebuild(kept).map_err(failed(kept.last))?;
        }
        let mut warm = Vec::new();
        for sample in &request.samples {
            if !warm.contains(&sample.side) {
                alive(stage("warming", sample.side), 0.0);
                let step = kept.step(sample.side);
                self.gpu.run(&[step]).map_err(failed(Some(sample.side)))?;
                warm.push(sample.side);
            }
        }
        let mut times = Vec::new();
        for sample in &request.samples {
            alive(stage("timing", sample.side), 0.0);
            times.push(self.take(kept, sample).map_err(failed(Some(sample.side)))?);
            kept.last = Some(sample.side);
        }
        Ok((times, wrong))
    }

    /// One sample, and behind it the canary. What slows a CPU driver down is other programs, not
    /// a clock, so nothing is normalised there.
    fn take(&self, kept: &Kept, sample: &Sample) -> Result<SampleTime, GpuError> {
        let step = [kept.step(sample.side)];
        let canary = self.canary.as_ref().expect("calibrated before");
        let runs = [(&step[..], sample.dispatches), (&canary.prepared.0[..], sample.canaries)];
        let reading = self.clocks.time_runs(&self.gpu, &runs)?;
        let device = reading.device_s.is_some();
        let seconds = if device { possible_s(&reading) } else { Some(reading.wall_s) };
        if self.gpu.report.emulated {
            return Ok(SampleTime { seconds, canary_s: None });
        }
        let canary = self.clocks.time(&self.gpu, &canary.prepared.0, canary.batch)?;
        let canary_s = possible_s(&canary).unwrap_or(canary.wall_s);
        Ok(SampleTime { seconds, canary_s: Some(canary_s) })
    }

    /// New programs and buffers, after a look at what the last timed dispatch left in the old ones:
    /// where a driver puts code and data is luck, and luck that changes is noise instead of bias.
    /// The sides take turns at being compiled first.
    fn rebuild(&self, kept: &mut Kept) -> Result<Option<(Side, String)>, GpuError> {
        let mut wrong = None;
        if let Some(side) = kept.last {
            let outputs = self.gpu.read(&kept.set)?;
            wrong = same(&outputs, &kept.sides[&side].outputs).err().map(|e| (side, e.reason));
        }
        let launch = kept.cell.launch();
        let (variant, inputs) = (kept.cell.variant, kept.inputs.tensors.len());
        let mut sides: Vec<&mut Ready> = kept.sides.values_mut().collect();
        if kept.rebuilds % 2 == 1 {
            sides.reverse();
        }
        for ready in &mut sides {
            ready.program =
                self.gpu.compile(&ready.source, &launch, variant, inputs, self.checks())?;
        }
        let program = &sides[0].program;
        kept.set = self.gpu.allocate(program, &kept.inputs, &launch, &[])?;
        (kept.last, kept.rebuilds) = (None, kept.rebuilds + 1);
        Ok(wrong)
    }

    /// Seconds of one dispatch of the canary, measuring it first where nothing else did.
    pub fn calibrated(&mut self) -> Result<f64, GpuError> {
        if self.canary.is_none() {
            self.calibrate()?;
        }
        let batch = self.canary.as_ref().map_or(1, |canary| canary.batch);
        Ok(self.canary_baseline_s.unwrap_or(0.0) / f64::from(batch))
    }

    /// How much memory the cells of a comparison may take together.
    pub fn residency_bytes(&self) -> u64 {
        device_memory_bytes(self.gpu.report.emulated)
    }
}

impl Kept {
    fn step(&self, side: Side) -> Step {
        Step { program: self.sides[&side].program.clone(), set: self.set.clone() }
    }
}

/// Outputs must be the verified ones, bit for bit: a race may only show under load.
fn same(outputs: &[Output], verified: &[Output]) -> Result<(), CellError> {
    let equal = outputs.iter().zip(verified).all(|(a, b)| a.bytes == b.bytes && a.guard_intact);
    if equal {
        return Ok(());
    }
    let reason = "the output changed while the kernel was timed: a race".to_owned();
    Err(CellError::new(Status::Wrong, reason))
}

/// What tells two programs apart: the text as compiled and every constant.
fn hash(source: &str, cell: &Cell) -> String {
    let launch = cell.launch();
    let shaped: Vec<String> = launch
        .dispatches
        .iter()
        .map(|dispatch| format!("{} {:?} {:?}", dispatch.entry, dispatch.grid, dispatch.constants))
        .collect();
    let all = format!("{source}\0{:?}\0{}", cell.variant.constants, shaped.join("\0"));
    format!("{:032x}", fnv1a(all.as_bytes()))
}

/// Names the side, so that the message about a lost worker does.
fn stage(doing: &'static str, side: Side) -> &'static str {
    match (doing, side) {
        ("compiling", Side::Base) => "compiling base",
        ("compiling", Side::Head) => "compiling head",
        ("compiling", Side::Control) => "compiling control",
        ("verifying", Side::Base) => "verifying base",
        ("verifying", Side::Head) => "verifying head",
        ("verifying", Side::Control) => "verifying control",
        (_, Side::Base) => "timing base",
        (_, Side::Head) => "timing head",
        (_, Side::Control) => "timing control",
    }
}
