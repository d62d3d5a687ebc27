//! The device side of a comparison: both sides of every cell kept ready in one process, on the same
//! buffers, and timed sample by sample.

mod prepare;

use std::collections::BTreeMap;

use super::chain::Chain;
use super::environment::device_memory_bytes;
use super::session::{CellError, Session};
use super::sources::Sources;
use crate::gpu::{BufferSet, GpuError, Output, Program, Step};
use crate::measure::possible_s;
use crate::record::{Row, Sample, SampleTime, Side, Status, VisitRequest};

/// Every cell that is kept ready.
#[derive(Default)]
pub struct Pairs {
    head: Sources,
    kept: BTreeMap<String, Kept>,
}

/// The sides of one cell. They take turns on one set of buffers, so that no side has the luckier
/// addresses; none reads what another wrote, because no kernel reads its own outputs and a pipeline
/// writes what its stages hand on before they read it.
struct Kept {
    /// All stages of a pipeline; a kernel is its own only stage.
    chain: Chain,
    /// One for each stage.
    sets: Vec<BufferSet>,
    sides: BTreeMap<Side, Ready>,
    /// Whose results the buffers hold.
    last: Option<Side>,
    rebuilds: u32,
}

/// A side that may be timed: of each stage the program, its text and the outputs as verified.
struct Ready {
    programs: Vec<Program>,
    texts: Vec<String>,
    outputs: Vec<Vec<Output>>,
    row: Row,
}

/// A side as its worker tells of it.
pub struct Prepared {
    pub row: Row,
    pub dispatch_s: Option<f64>,
    /// Of the shaders and their constants.
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
}

impl Session {
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
                let steps = kept.steps(sample.side);
                self.gpu.run(&steps).map_err(failed(Some(sample.side)))?;
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
        let steps = kept.steps(sample.side);
        let canary = self.canary.as_ref().expect("calibrated before");
        let runs = [(&steps[..], sample.dispatches), (&canary.prepared.0[..], sample.canaries)];
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
            let outputs = self.read_all(&kept.steps(side))?;
            wrong = same(&outputs, &kept.sides[&side].outputs).err().map(|e| (side, e.reason));
        }
        let mut sides: Vec<&mut Ready> = kept.sides.values_mut().collect();
        if kept.rebuilds % 2 == 1 {
            sides.reverse();
        }
        for ready in &mut sides {
            ready.programs = kept.chain.compile(&self.gpu, &ready.texts, self.checks())?;
        }
        let prepared = kept.chain.allocate(&self.gpu, &sides[0].programs)?;
        kept.sets = prepared.0.into_iter().map(|step| step.set).collect();
        (kept.last, kept.rebuilds) = (None, kept.rebuilds + 1);
        Ok(wrong)
    }

    fn read_all(&self, steps: &[Step]) -> Result<Vec<Vec<Output>>, GpuError> {
        steps.iter().map(|step| self.gpu.read(&step.set)).collect()
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
    fn steps(&self, side: Side) -> Vec<Step> {
        steps(&self.sides[&side].programs, &self.sets)
    }
}

fn steps(programs: &[Program], sets: &[BufferSet]) -> Vec<Step> {
    let step = |(program, set): (&Program, &BufferSet)| Step {
        program: program.clone(),
        set: set.clone(),
    };
    programs.iter().zip(sets).map(step).collect()
}

/// Outputs must be the verified ones, bit for bit: a race may only show under load.
fn same(outputs: &[Vec<Output>], verified: &[Vec<Output>]) -> Result<(), CellError> {
    let mut pairs = outputs.iter().flatten().zip(verified.iter().flatten());
    if pairs.all(|(a, b)| a.bytes == b.bytes && a.guard_intact) {
        return Ok(());
    }
    let reason = "the output changed while the kernel was timed: a race".to_owned();
    Err(CellError::new(Status::Wrong, reason))
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
