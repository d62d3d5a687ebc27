//! Pipelines as rows: verified stage by stage and end to end, timed whole and in stages.

use std::time::Instant;

use super::chain::{Chain, Choice, error};
use super::measure_cell::Subject;
use super::session::{CellError, PROBE_FLOPS, Session};
use super::task::{
    ALL_ROWS, TYPICAL_PIPELINE, Task, expected_s, longest_s, too_long, within_emulation,
};
use super::timing::Prepared;
use super::verify::{Failure, Finding, Scope, summarise};
use crate::accuracy::Metrics;
use crate::gpu::{Checks, GpuError, Output, Program};
use crate::inputs::Distribution;
use crate::kernel::{Answer, Dtype, Entry, Preset, Shape, Suits, Work};
use crate::measure::{Plan, stats};
use crate::pipeline::Pipeline;
use crate::pipelines::ALL;
use crate::record::{self, Row, StageRecord};

/// Reference operations that an f64 run of a whole chain may take in a timed cell; beyond it the
/// f32 chain on the same device, each stage of which is verified, stands in for it.
const END_TO_END_FLOPS: f64 = 5e7;
/// Readings of each stage by itself, and the device time of one.
const STAGE_READINGS: usize = 5;
const STAGE_SPAN_S: f64 = 5e-3;

/// A pipeline under one strategy, at one precision and shape.
#[derive(Clone)]
pub struct PipelineCell {
    pub pipeline: &'static Pipeline,
    pub strategy: &'static str,
    pub dtype: Dtype,
    pub shape: Shape,
    pub preset: Preset,
}

/// Every pipeline of a preset.
pub fn pipeline_cells(preset: Preset) -> Vec<PipelineCell> {
    let mut cells = Vec::new();
    for &pipeline in ALL {
        for shape in (pipeline.shapes)(preset) {
            for &strategy in pipeline.strategies {
                cells.extend(pipeline.dtypes.iter().map(|&dtype| PipelineCell {
                    pipeline,
                    strategy,
                    dtype,
                    shape: shape.clone(),
                    preset,
                }));
            }
        }
    }
    cells
}

impl PipelineCell {
    /// `pipeline_NAME`, which stands where a kernel's name does.
    pub fn name(&self) -> String {
        format!("pipeline_{}", self.pipeline.name)
    }

    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.name(), self.strategy, self.dtype.name(), self.shape)
    }

    /// The work of all stages, whichever strategies the device chooses for them.
    pub fn work(&self) -> record::Work {
        let stages = (self.pipeline.stages)(&self.shape, self.strategy, self.dtype);
        let mut sum =
            record::Work { arithmetic: Dtype::F32.name().to_owned(), ..Default::default() };
        for stage in &stages {
            let entry = crate::kernels::ALL.iter().find(|entry| entry.name == stage.kernel);
            let kernel = entry.expect("a test walks every pipeline").kernel;
            let work = kernel.work(&stage.shape, stage.dtype, &kernel.spec().variants[0]);
            sum.flops += work.flops;
            sum.bytes += work.bytes;
        }
        sum
    }

    /// Whether a CPU driver can be expected to run all stages once.
    pub(super) fn within_emulation(&self) -> Result<(), CellError> {
        let work = self.work();
        let sum = Work::new(work.flops as usize, work.bytes as usize);
        within_emulation(&sum, Suits::Any)
    }

    /// `FAMILY/NAME` of every kernel that a stage runs.
    pub fn kernels(&self) -> Vec<String> {
        let stages = (self.pipeline.stages)(&self.shape, self.strategy, self.dtype);
        let runs = |entry: &&Entry| stages.iter().any(|stage| stage.kernel == entry.name);
        crate::kernels::ALL.iter().filter(runs).map(Entry::path).collect()
    }
}

/// A chain that ran once.
pub(super) struct Ran {
    pub chain: Chain,
    pub programs: Vec<Program>,
    pub prepared: Prepared,
    pub outputs: Vec<Vec<Output>>,
}

impl Ran {
    /// What the answering stage gave.
    fn answer(&self) -> Vec<f64> {
        let stage = self.chain.answer();
        let buffer = &self.chain.cells[stage].launch().outputs[0];
        Answer { buffer, bytes: &self.outputs[stage][0].bytes }.values()
    }
}

impl Session {
    pub(super) fn try_pipeline(
        &mut self,
        cell: &PipelineCell,
        task: &Task,
        row: &mut Row,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<(), CellError> {
        let choice = Choice::of(self, cell, cell.dtype)?;
        let works: Vec<_> = choice.cells.iter().map(|cell| cell.work()).collect();
        let ideal = |cell: &super::Cell| self.ceilings.ideal_s(&cell.work(), cell.work().bytes);
        let ideal_s = choice.cells.iter().map(ideal).sum();
        if let Task::Check { flops } = task
            && self.gpu.report.emulated
            && *flops < ALL_ROWS
        {
            cell.within_emulation()?;
        }
        task.affordable(ideal_s, TYPICAL_PIPELINE, self.gpu.report.emulated)?;
        alive("compiling", 0.0);
        let chain = choice.draw(self.seed);
        let started = Instant::now();
        let inputs = chain.inputs.iter().map(|inputs| inputs.tensors.len());
        self.compile_ahead(chain.cells.iter().zip(inputs), task);
        let programs = self.compile_chain(&chain, self.checks())?;
        row.compile_s = Some(started.elapsed().as_secs_f64());
        alive("verifying", expected_s(ideal_s));
        let started = Instant::now();
        let ran = self.run_chain(chain, programs)?;
        self.afford(&ran.prepared, started.elapsed().as_secs_f64(), task)?;
        row.device_bytes = Some(ran.prepared.bytes());
        let watch = self.gpu.stopwatch();
        let findings = self.judge_chain(cell, task.reference_flops(), &ran, row);
        self.verifying.add(&watch);
        let findings = findings?;
        row.stages = stage_records(&ran, &findings);
        let Some(plan) = task.plan() else { return Ok(()) };
        let Ran { chain, programs, prepared, outputs } = ran;
        let subject = Subject {
            prepared,
            verified: outputs,
            works,
            copy: &|session: &Session, _: &Prepared| chain.allocate(&session.gpu, &programs),
        };
        let mut alive = || alive("timing", longest_s(ideal_s));
        self.time_subject(&subject, &plan, row, &mut alive)?;
        self.time_stages(&subject.prepared, row)?;
        drop(subject);
        self.time_unchecked(&plan, row, &mut alive, |session| session.unchecked_chain(chain))
    }

    /// Refuses a chain that sampling will not have time for before it is verified, which takes
    /// seconds. Drivers finish compiling in the first run; only a slow one is looked at again.
    fn afford(&self, chain: &Prepared, first_s: f64, task: &Task) -> Result<(), CellError> {
        let affords = |plan: &Plan, s| plan.affords(s, self.gpu.report.emulated);
        let Some(plan) = task.plan().filter(|plan| !affords(plan, first_s)) else { return Ok(()) };
        let dispatch_s = self.time(chain, 1)?;
        if affords(&plan, dispatch_s) { Ok(()) } else { Err(too_long(dispatch_s)) }
    }

    fn compile_chain(&self, chain: &Chain, checks: Checks) -> Result<Vec<Program>, GpuError> {
        let stages = chain.cells.iter().zip(&chain.inputs);
        stages.map(|(cell, inputs)| self.compile(cell, inputs.tensors.len(), checks)).collect()
    }

    pub(super) fn run_chain(&self, chain: Chain, programs: Vec<Program>) -> Result<Ran, GpuError> {
        let prepared = chain.allocate(&self.gpu, &programs)?;
        self.gpu.run(&prepared.0)?;
        let read = |step: &crate::gpu::Step| self.gpu.read(&step.set);
        let outputs = prepared.0.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Ran { chain, programs, prepared, outputs })
    }

    /// Stage by stage against the references, then end to end.
    pub(super) fn judge_chain(
        &self,
        cell: &PipelineCell,
        reference_flops: f64,
        ran: &Ran,
        row: &mut Row,
    ) -> Result<Vec<Finding>, CellError> {
        let distributions = vec![Distribution::Normal];
        let scope = Scope { distributions, flops: reference_flops, seed: self.seed };
        let findings = ran.chain.examine(&scope, &ran.outputs);
        let (mut accuracy, failure) = summarise(&findings, false);
        let end_to_end = match failure {
            None => self.end_to_end(cell, reference_flops, ran)?,
            Some(_) => None,
        };
        let answer = &findings[ran.chain.answer()];
        let (metrics, against) =
            end_to_end.unwrap_or_else(|| (answer.metrics(), record::LAST_STAGE_ALONE));
        accuracy.max_abs = metrics.max_abs;
        accuracy.rmse = metrics.rmse;
        accuracy.nmse = metrics.nmse;
        accuracy.sqnr_db = metrics.sqnr_db;
        accuracy.cosine = metrics.cosine;
        accuracy.worst_index = metrics.worst_index as u64;
        accuracy.against = Some(against.to_owned());
        row.accuracy = Some(accuracy);
        failure.map_or(Ok(findings), |failure: Failure| Err(failure.into()))
    }

    /// The error of the whole chain, and against what. `None` for an f32 chain that is too large
    /// for the reference: nothing on this device is more exact.
    fn end_to_end(
        &self,
        cell: &PipelineCell,
        reference_flops: f64,
        ran: &Ran,
    ) -> Result<Option<(Metrics, &'static str)>, CellError> {
        let limit = reference_flops.max(END_TO_END_FLOPS);
        let against_f64 = |chain: &Chain| {
            let affordable = chain.flops() <= limit;
            affordable.then(|| (error(&ran.answer(), &chain.exact()), "f64 end to end"))
        };
        if cell.dtype == Dtype::F32 {
            return Ok(against_f64(&ran.chain));
        }
        let chain = Chain::new(self, cell, Dtype::F32)?;
        if let Some(found) = against_f64(&chain) {
            return Ok(Some(found));
        }
        let programs = self.compile_chain(&chain, self.checks())?;
        let full = self.run_chain(chain, programs)?;
        let metrics = error(&ran.answer(), &full.answer());
        Ok(Some((metrics, "f32 on this device, end to end")))
    }

    /// The chain without run-time checks, its answers held to the references too.
    fn unchecked_chain(&mut self, chain: Chain) -> Result<Prepared, CellError> {
        let programs = self.compile_chain(&chain, Checks::Trusted)?;
        let ran = self.run_chain(chain, programs)?;
        let distributions = vec![Distribution::Normal];
        let scope = Scope { distributions, flops: PROBE_FLOPS, seed: self.seed };
        let watch = self.gpu.stopwatch();
        let (_, failure) = summarise(&ran.chain.examine(&scope, &ran.outputs), false);
        self.verifying.add(&watch);
        failure.map_or(Ok(ran.prepared), |failure| Err(failure.into()))
    }

    /// Each stage by itself, its inputs in cache like those of the whole.
    fn time_stages(&self, prepared: &Prepared, row: &mut Row) -> Result<(), GpuError> {
        let mut medians = Vec::new();
        for step in prepared.0.chunks(1) {
            let time = |batch: u32| -> Result<f64, GpuError> {
                let reading = self.clocks.time(&self.gpu, step, batch)?;
                let device_s = reading.device_s.filter(|&s| s > 0.0);
                Ok(device_s.unwrap_or(reading.wall_s) / f64::from(batch))
            };
            time(1)?;
            let batch = (STAGE_SPAN_S / time(1)?.max(1e-9)).ceil().clamp(1.0, 1000.0) as u32;
            let readings: Vec<f64> =
                (0..STAGE_READINGS).map(|_| time(batch)).collect::<Result<_, _>>()?;
            medians.push(stats::median(&readings));
        }
        let sum: f64 = medians.iter().sum();
        for (stage, median) in row.stages.iter_mut().zip(medians) {
            (stage.median, stage.share) = (Some(median), Some(median / sum));
        }
        if let Some(time) = &mut row.time
            && (time.median - sum).abs() > BETWEEN_STAGES * time.median
        {
            let (whole, apart) = (1e3 * time.median, 1e3 * sum);
            time.notes.push(format!("whole {whole:.3} ms, its stages one by one {apart:.3} ms"));
        }
        Ok(())
    }
}

/// A gap between a pipeline and the sum of its stages that is worth a note.
const BETWEEN_STAGES: f64 = 0.05;

fn stage_records(ran: &Ran, findings: &[Finding]) -> Vec<StageRecord> {
    let stages = ran.chain.stages.iter().zip(&ran.chain.cells);
    stages
        .zip(ran.prepared.0.iter().zip(findings))
        .map(|((stage, cell), (step, finding))| StageRecord {
            name: stage.name.clone(),
            id: cell.id(),
            work: cell.work().into(),
            median: None,
            share: None,
            device_bytes: step.set.bytes,
            worst_over_bound: finding.worst_over_bound(),
        })
        .collect()
}
