//! The stages of a pipeline on a device: built, wired, run and verified.

use std::collections::HashMap;

use super::cell::Cell;
use super::pipeline_cell::PipelineCell;
use super::session::{CellError, Session};
use super::sources::Sources;
use super::timing::Prepared;
use super::verify::{Finding, Scope, examine};
use crate::accuracy::{Metrics, Noise, Tracked, measure};
use crate::gpu::{Checks, Given, Gpu, GpuError, Output, Program, Step};
use crate::inputs::{Distribution, Generator, Inputs};
use crate::kernel::{Answer, Dtype, Preset, Problem, Suits};
use crate::kernels::ALL;
use crate::pipeline::{Features, Stage};
use crate::record::{Status, fnv1a};
use crate::reference::Rows;

/// The stages of one pipeline, each a cell with the data it draws and the outputs it takes over.
pub(super) struct Chain {
    pub stages: Vec<Stage>,
    pub cells: Vec<Cell>,
    /// As drawn; wired tensors hold what nothing reads.
    pub inputs: Vec<Inputs>,
}

/// The stages of a pipeline with a strategy for each, before anything is drawn.
pub(super) struct Choice {
    stages: Vec<Stage>,
    pub cells: Vec<Cell>,
}

impl Choice {
    pub fn of(session: &Session, cell: &PipelineCell, dtype: Dtype) -> Result<Self, CellError> {
        let stages = (cell.pipeline.stages)(&cell.shape, cell.strategy, dtype);
        let cells = stages.iter().map(|stage| choose(session, stage));
        let cells = cells.collect::<Result<Vec<Cell>, CellError>>()?;
        Ok(Choice { stages, cells })
    }

    /// Draws what no stage provides.
    pub fn draw(self, session_seed: u32) -> Chain {
        let Choice { stages, cells } = self;
        let draw = |(cell, stage): (&Cell, &Stage)| {
            // Weights follow the name of the stage, which all precisions share.
            let seed = |name: &str| session_seed ^ (fnv1a(name.as_bytes()) as u32);
            let normal = Distribution::Normal;
            let generator = Generator::new(cell.dtype, cell.variant, normal, seed(&stage.name));
            let mut inputs = cell.drawn(&Generator { columns: stage.columns, ..generator });
            if let Some(Features { input, of, scale }) = stage.features {
                inputs.draw(input, seed(of), scale);
            }
            inputs
        };
        let inputs = cells.iter().zip(&stages).map(draw).collect();
        Chain { stages, cells, inputs }
    }
}

impl Chain {
    /// Chooses a strategy for each stage and draws what no stage provides.
    pub fn new(session: &Session, cell: &PipelineCell, dtype: Dtype) -> Result<Self, CellError> {
        Choice::of(session, cell, dtype).map(|choice| choice.draw(session.seed))
    }

    /// A kernel by itself as a chain of one stage.
    pub fn alone(cell: Cell, inputs: Inputs) -> Self {
        let name = cell.entry.name;
        let stage = Stage { shape: cell.shape.clone(), ..Stage::new(name, name, &[], cell.dtype) };
        Chain { stages: vec![stage], cells: vec![cell], inputs: vec![inputs] }
    }

    /// The text of each stage's shader, of these.
    pub fn texts(&self, sources: &Sources) -> Vec<String> {
        self.cells.iter().map(|cell| cell.source(sources)).collect()
    }

    /// The programs of these texts. Stages of one shape share a program.
    pub fn compile(
        &self,
        gpu: &Gpu,
        texts: &[String],
        checks: Checks,
    ) -> Result<Vec<Program>, GpuError> {
        let mut known: HashMap<String, Program> = HashMap::new();
        let mut compile = |((cell, inputs), text): ((&Cell, &Inputs), &String)| {
            let id = cell.id();
            if let Some(program) = known.get(&id) {
                return Ok(program.clone());
            }
            let tensors = inputs.tensors.len();
            let program = gpu.compile(text, &cell.launch(), cell.variant, tensors, checks)?;
            known.insert(id, program.clone());
            Ok(program)
        };
        self.cells.iter().zip(&self.inputs).zip(texts).map(&mut compile).collect()
    }

    /// Buffers for every stage, an output that a later stage takes over being one of its inputs.
    pub fn allocate(&self, gpu: &Gpu, programs: &[Program]) -> Result<Prepared, GpuError> {
        let mut steps: Vec<Step> = Vec::new();
        for (index, program) in programs.iter().enumerate() {
            let given: Vec<Given> = self.stages[index]
                .wires
                .iter()
                .map(|wire| {
                    let (stage, output) = self.source(&wire.stage, wire.output);
                    Given { tensor: wire.input, set: &steps[stage].set, output }
                })
                .collect();
            let launch = self.cells[index].launch();
            let set = gpu.allocate(program, &self.inputs[index], &launch, &given)?;
            steps.push(Step { program: program.clone(), set });
        }
        Ok(Prepared(steps))
    }

    /// Positions of a stage and of one of its outputs.
    ///
    /// # Panics
    /// When the pipeline names what it does not have; a test walks every pipeline.
    fn source(&self, stage: &str, output: &str) -> (usize, usize) {
        let found = self.stages.iter().position(|known| known.name == stage);
        let index = found.unwrap_or_else(|| panic!("no stage `{stage}`"));
        let outputs = self.cells[index].launch().outputs;
        let position = outputs.iter().position(|known| known.name == output);
        (index, position.unwrap_or_else(|| panic!("`{stage}` has no output `{output}`")))
    }

    /// Holds each stage to its reference, fed with what the device gave before.
    pub fn examine(&self, scope: &Scope, outputs: &[Vec<Output>]) -> Vec<Finding> {
        let each = Scope { flops: scope.flops / self.cells.len() as f64, ..scope.clone() };
        let examine_stage = |index: usize| {
            let inputs = self.wired(index, &|stage, output| {
                let buffer = &self.cells[stage].launch().outputs[output];
                Answer { buffer, bytes: &outputs[stage][output].bytes }.values()
            });
            let cell = &self.cells[index];
            let wired = !self.stages[index].wires.is_empty();
            let noise = if wired { Noise::Dependent } else { Noise::Independent };
            let drawn = (Distribution::Normal, noise);
            let mut finding = examine(cell, &each, drawn, &inputs, &outputs[index]);
            if let Some(fault) = &mut finding.failure {
                fault.why = format!("stage `{}`: {}", self.stages[index].name, fault.why);
            }
            finding
        };
        (0..self.cells.len()).map(examine_stage).collect()
    }

    /// The inputs of a stage with what `values` says of the outputs it takes over.
    fn wired(&self, index: usize, values: &dyn Fn(usize, usize) -> Vec<f64>) -> Inputs {
        let mut inputs = self.inputs[index].clone();
        for wire in &self.stages[index].wires {
            let (stage, output) = self.source(&wire.stage, wire.output);
            inputs.replace(wire.input, &values(stage, output));
        }
        inputs
    }

    /// The answer of the whole chain in f64, rounded to f32 only where one stage hands on to the
    /// next.
    pub fn exact(&self) -> Vec<f64> {
        let mut results: Vec<Vec<Vec<f64>>> = Vec::new();
        for (index, cell) in self.cells.iter().enumerate() {
            let inputs = self.wired(index, &|stage, output| results[stage][output].clone());
            let problem = Problem {
                shape: &cell.shape,
                dtype: cell.dtype,
                variant: cell.variant,
                inputs: &inputs,
                device: &[],
            };
            let outputs = cell.entry.kernel.reference(&problem, &Rows::All);
            results.push(outputs.into_iter().map(|output| output.into_iter().collect()).collect());
        }
        results.swap_remove(self.answer()).swap_remove(0)
    }

    /// Floating-point operations of all stages.
    pub fn flops(&self) -> f64 {
        self.cells.iter().map(|cell| cell.work().flops).sum()
    }

    /// Position of the stage that answers.
    pub fn answer(&self) -> usize {
        let marked = self.stages.iter().position(|stage| stage.is_answer);
        marked.unwrap_or(self.stages.len() - 1)
    }
}

/// The kernel of a stage with the strategy that the device's rule takes.
fn choose(session: &Session, stage: &Stage) -> Result<Cell, CellError> {
    let entry = ALL.iter().find(|entry| entry.name == stage.kernel);
    let entry = entry.unwrap_or_else(|| panic!("no kernel `{}`", stage.kernel));
    let emulated = session.gpu.report.emulated;
    let cells = entry.kernel.spec().variants.iter().map(|variant| Cell {
        entry,
        variant,
        dtype: stage.dtype,
        shape: stage.shape.clone(),
        preset: Preset::Models,
        given: None,
    });
    let wanted =
        cells.filter(|cell| cell.storage() == stage.storage && cell.variant.suits.fits(emulated));
    let (able, unable): (Vec<Cell>, Vec<Cell>) = wanted.partition(|cell| session.supports(cell));
    Suits::choose(&able, emulated, |cell| cell.variant.suits).cloned().ok_or_else(|| {
        let reason = unable.first().and_then(|cell| session.unsupported(cell));
        let reason = reason.unwrap_or_else(|| "no variant suits this device".to_owned());
        CellError::new(Status::Unsupported, format!("stage `{}`: {reason}", stage.name))
    })
}

/// Error of what the device gave against the expected values.
pub(super) fn error(device: &[f64], expected: &[f64]) -> Metrics {
    let origin: Vec<usize> = (0..device.len()).collect();
    let exact = |&value: &f64| Tracked { value, ..Default::default() };
    measure(device.iter().copied().zip(expected.iter().map(exact)), &origin)
}
