//! Whether a kernel's output is right, by the gates of [`crate::accuracy`].

use std::sync::Arc;

use ndarray::Array2;

use super::cell::Cell;
use super::fitted::user_noise;
use super::task::emulated_s;
use crate::accuracy::{
    Fault, Gate, GateResult, Judgement, Metrics, Noise, Rule, Tracked, choose_rows,
    compression_gate, judge, measure,
};
use crate::gpu::{BufferSet, Gpu, GpuError, Output, Program, Step, Stopwatch};
use crate::inputs::{Distribution, Inputs};
use crate::kernel::{Answer, Buffer, Dtype, Elem, Problem, Uncompressed};
use crate::record;
use crate::reference::Rows;

/// Operations of the tracked reference in a second, at least: two cores did ten times as many.
const REFERENCE_FLOPS_PER_S: f64 = 2e7;

/// How much of a cell is verified.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The first one's error figures are reported; gates apply to all.
    pub distributions: Vec<Distribution>,
    /// Reference operations to spend on each; infinite for every row.
    pub flops: f64,
    pub seed: u32,
}

/// The findings on one cell.
pub struct Verdict {
    /// The first distribution's run, to be timed next.
    pub first: Checked,
    pub accuracy: record::Accuracy,
    /// Why the cell is wrong, or that no gate could have failed.
    pub failure: Option<Failure>,
    /// What all this took, but for drawing and uploading the data that is timed next and the first
    /// dispatch, which a timed run needs too: drivers finish compiling in it.
    pub spent: Spent,
}

/// One verified run: what was uploaded, the buffers, and what came back.
pub struct Checked {
    pub inputs: Arc<Inputs>,
    pub set: BufferSet,
    pub outputs: Vec<Output>,
}

/// What stands against a cell.
pub enum Failure {
    Wrong(String),
    /// No gate had power: nothing is known.
    Unverified,
}

impl Finding {
    /// Error of the first output.
    pub fn metrics(&self) -> Metrics {
        self.judgements[0].metrics
    }

    /// Largest error of the first output over its worst-case bound.
    pub fn worst_over_bound(&self) -> Option<f64> {
        let gates = &self.judgements.first()?.gates;
        gates.iter().find(|result| result.gate == Gate::G1).map(|result| result.worst)
    }
}

/// What one distribution showed.
pub struct Finding {
    distribution: Distribution,
    /// One for each output.
    judgements: Vec<Judgement>,
    pub failure: Option<Fault>,
    sampled: bool,
    compression: Option<Compression>,
}

/// How far a compressed kernel is from full precision.
struct Compression {
    metrics: Metrics,
    predicted_sqnr_db: Option<f64>,
}

/// Runs the program on each distribution, `timed` being the data of the first, and holds the output
/// to the tracked reference. `alive` is called with what comes next and how long that may take in
/// seconds.
pub fn verify(
    gpu: &Gpu,
    program: &Program,
    cell: &Cell,
    scope: &Scope,
    timed: Arc<Inputs>,
    alive: &mut dyn FnMut(&'static str, f64),
) -> Result<Verdict, GpuError> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut spent = Spent::default();
    let dispatch_s =
        if gpu.report.emulated { emulated_s(&cell.work(), cell.variant.suits) } else { 0.0 };
    let (&timed_one, others) = scope.distributions.split_first().expect("one is checked");
    let (mut timed, mut first) = (Some(timed), None);
    // What is timed next comes last, so that no two sets of buffers are in memory at once.
    for &distribution in others.iter().chain([&timed_one]) {
        let wanted_anyway = distribution == timed_one;
        if !wanted_anyway && findings.iter().any(|finding| finding.failure.is_some()) {
            continue;
        }
        alive("drawing inputs", 0.0);
        let watch = gpu.stopwatch();
        let inputs = match timed.take_if(|_| wanted_anyway) {
            Some(timed) => timed,
            None => Arc::new(cell.inputs(distribution, scope.seed)),
        };
        let set = gpu.allocate(program, &inputs, &cell.launch(), &[])?;
        if !wanted_anyway {
            spent.add(&watch);
        }
        let steps = [Step { program: program.clone(), set }];
        alive("running", dispatch_s);
        let watch = gpu.stopwatch();
        gpu.run(&steps)?;
        if !wanted_anyway && !findings.is_empty() {
            spent.add(&watch);
        }
        let watch = gpu.stopwatch();
        let [Step { set, .. }] = steps;
        let outputs = gpu.read(&set)?;
        alive("computing the reference", reference_s(cell, scope.flops));
        let checked = Checked { inputs, set, outputs };
        let drawn = (distribution, noise(cell, distribution));
        findings.push(examine(cell, scope, drawn, &checked.inputs, &checked.outputs));
        spent.add(&watch);
        first = wanted_anyway.then_some(checked);
    }
    findings.rotate_right(1);
    let (mut accuracy, mut failure) = summarise(&findings, cell.is_empty());
    cell.note_given(&mut accuracy, &mut failure);
    let first = first.expect("what is timed comes last");
    Ok(Verdict { first, accuracy, failure, spent })
}

/// What verification took so far.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    pub seconds: f64,
    /// The part of that in which the host did not wait for the device.
    pub host_s: f64,
}

impl Spent {
    pub fn add(&mut self, watch: &Stopwatch) {
        self.seconds += watch.wall_s();
        self.host_s += watch.host_s();
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.host_s += more.host_s;
    }
}

/// How long the tracked reference may take for some of the rows.
pub fn reference_s(cell: &Cell, flops: f64) -> f64 {
    let work = cell.work();
    flops.min(work.flops + work.bytes) / REFERENCE_FLOPS_PER_S
}

/// Holds outputs to the tracked reference.
pub fn examine(
    cell: &Cell,
    scope: &Scope,
    (distribution, noise): (Distribution, Noise),
    inputs: &Inputs,
    outputs: &[Output],
) -> Finding {
    examine_keeping(cell, scope, (distribution, noise), inputs, outputs).0
}

/// The same, keeping the rows of the reference that each output was held to.
pub fn examine_keeping(
    cell: &Cell,
    scope: &Scope,
    (distribution, noise): (Distribution, Noise),
    inputs: &Inputs,
    outputs: &[Output],
) -> (Finding, Vec<Array2<Tracked>>) {
    let launch = cell.launch();
    let total = cell.rows();
    let work = cell.work();
    let cost = (work.flops + work.bytes) / total.max(1) as f64;
    let rows = choose_rows(total, cost, scope.flops, scope.seed);
    let answers: Vec<Answer> = outputs
        .iter()
        .zip(&launch.outputs)
        .map(|(output, buffer)| Answer { buffer, bytes: &output.bytes })
        .collect();
    let problem = Problem {
        shape: &cell.shape,
        dtype: cell.dtype,
        variant: cell.variant,
        inputs,
        device: &answers,
    };
    let kernel = cell.entry.kernel;
    let reference = kernel.tracked(&problem, &rows);
    let mut failure = outputs.iter().zip(&answers).find_map(damage);
    let judgements: Vec<Judgement> = answers
        .iter()
        .zip(&reference)
        .map(|(answer, reference)| compare(answer, reference, &rows, noise))
        .collect();
    for (judgement, answer) in judgements.iter().zip(&answers) {
        if let (None, Some(found)) = (&failure, &judgement.failure) {
            let (name, why) = (answer.buffer.name, &found.why);
            let several = launch.outputs.len() > 1;
            let why = if several { format!("`{name}`: {why}") } else { why.clone() };
            failure = Some(Fault { why, ..*found });
        }
    }
    // What a pipeline hands on has no original that it was compressed from.
    let drawn = match distribution {
        Distribution::Normal => noise != Noise::Dependent,
        _ => distribution == Distribution::User,
    };
    let compression = drawn
        .then(|| kernel.uncompressed(&problem, &rows))
        .flatten()
        .map(|exact| compress(&answers[0], &exact, &rows));
    let sampled = rows != Rows::All;
    (Finding { distribution, judgements, failure, sampled, compression }, reference)
}

/// Large f16 data lie on a coarse lattice: their partial sums share low bits, whose roundings all
/// go one way (layer norm, 1,024 wide, reached 1.2 λ in an element near zero).
pub fn noise(cell: &Cell, distribution: Distribution) -> Noise {
    match (distribution, cell.storage()) {
        // What f16 sums lose depends on their size so far: reported, not judged by its likely size.
        _ if cell.dtype == Dtype::F16Acc => Noise::Repeating,
        (Distribution::Large, Elem::F16) => Noise::Dependent,
        (Distribution::User, storage) => {
            cell.given.as_ref().map_or(Noise::Dependent, |given| user_noise(given, storage))
        }
        _ if distribution.is_continuous() => Noise::Independent,
        _ => Noise::Repeating,
    }
}

/// What is wrong with an output whatever its values: written past the end, or not written at all.
fn damage((output, answer): (&Output, &Answer)) -> Option<Fault> {
    let Buffer { name, elem, .. } = answer.buffer;
    if !output.guard_intact {
        let why = format!("wrote past the end of `{name}`");
        return Some(Fault { rule: Rule::GuardBand, worst: None, why });
    }
    // Rows outside the sample are searched too.
    let index = elem.first_nonfinite(answer.bytes)?;
    let why = format!("element {index} of `{name}` is not finite or was never written");
    Some(Fault { rule: Rule::Written, worst: None, why })
}

/// The selected rows of an output, and the number of each element in the whole.
fn selected(answer: &Answer, rows: &Rows) -> (Vec<f64>, Vec<usize>) {
    let cols = answer.buffer.cols;
    let selected = rows.of(answer.buffer.rows);
    let origin = selected.iter().flat_map(|row| row * cols..(row + 1) * cols).collect();
    let values = match rows {
        Rows::All => answer.values(),
        Rows::Some(_) => selected.iter().flat_map(|&row| answer.row(row)).collect(),
    };
    (values, origin)
}

fn compare(answer: &Answer, reference: &Array2<Tracked>, rows: &Rows, noise: Noise) -> Judgement {
    let (device, origin) = selected(answer, rows);
    let reference = reference.as_standard_layout();
    judge(&device, reference.as_slice().expect("standard layout"), &origin, noise)
}

fn compress(answer: &Answer, exact: &Uncompressed, rows: &Rows) -> Compression {
    let (device, origin) = match &exact.restored {
        Some(restored) => {
            let values: Vec<f64> = restored.iter().copied().collect();
            let cols = restored.ncols();
            let rows = rows.of(answer.buffer.rows.max(restored.nrows()));
            (values, rows.iter().flat_map(|row| row * cols..(row + 1) * cols).collect())
        }
        None => selected(answer, rows),
    };
    let pairs = device
        .into_iter()
        .zip(exact.output.iter().map(|&value| Tracked { value, ..Default::default() }));
    Compression { metrics: measure(pairs, &origin), predicted_sqnr_db: exact.predicted_sqnr_db }
}

pub fn summarise(findings: &[Finding], empty: bool) -> (record::Accuracy, Option<Failure>) {
    let first = &findings[0];
    let of = |gate: Gate| {
        let judgements = findings.iter().flat_map(|finding| &finding.judgements);
        let all = judgements.flat_map(|judgement| &judgement.gates);
        let worst = |a: GateResult, b: GateResult| if b.worst > a.worst { b } else { a };
        all.copied().filter(|result| result.gate == gate).reduce(worst)
    };
    let mut gates: Vec<GateResult> = Gate::ALL.into_iter().filter_map(of).collect();
    let compression = first.compression.as_ref();
    let lost =
        compression.and_then(|c| Some(compression_gate(c.metrics.sqnr_db, c.predicted_sqnr_db?)));
    gates.extend(lost);
    let wrong = findings.iter().find_map(|finding| {
        let mut fault = finding.failure.clone()?;
        let inputs = finding.distribution.name();
        fault.why = format!("{} ({inputs} inputs)", fault.why);
        Some((fault, inputs))
    });
    let wrong = wrong.or_else(|| {
        let (compression, lost) = (compression?, lost.filter(|gate| !gate.passed)?);
        let (got, said) = (compression.metrics.sqnr_db, compression.predicted_sqnr_db?);
        let why =
            format!("GQ: {got:.1} dB against full precision, its scales promise {said:.1} dB");
        let fault = Fault { rule: Rule::Gate(Gate::Gq), worst: Some(lost.worst), why };
        Some((fault, first.distribution.name()))
    });
    let failed_by = wrong.as_ref().map(|(fault, inputs)| record::FailedBy {
        rule: fault.rule.name().to_owned(),
        worst: fault.worst,
        inputs: (*inputs).to_owned(),
    });
    let unverified = (gates.is_empty() && !empty).then_some(Failure::Unverified);
    let failure = wrong.map(|(fault, _)| Failure::Wrong(fault.why)).or(unverified);
    let own = &first.judgements[0];
    let ratio = |gate| own.gates.iter().find(|result| result.gate == gate).map(|r| r.worst);
    let metrics = compression.map_or(own.metrics, |compression| compression.metrics);
    let accuracy = record::Accuracy {
        passed: failure.is_none(),
        failed_by,
        gates: gates.into_iter().map(gate_record).collect(),
        max_abs: metrics.max_abs,
        rmse: metrics.rmse,
        nmse: metrics.nmse,
        sqnr_db: metrics.sqnr_db,
        predicted_sqnr_db: compression.and_then(|compression| compression.predicted_sqnr_db),
        cosine: metrics.cosine,
        worst_index: own.metrics.worst_index as u64,
        inputs: first.distribution.name().to_owned(),
        checked: findings.iter().map(|f| f.distribution.name().to_owned()).collect(),
        verified: if findings.iter().any(|f| f.sampled) { "sampled" } else { "all" }.to_owned(),
        against: compression.map(|_| "full precision".to_owned()),
        worst_over_bound: ratio(Gate::G1),
        // The worst ratio may be the largest number there is.
        rms_over_predicted: ratio(Gate::G2)
            .map(|worst| (worst * crate::accuracy::RMS_LIMIT).min(f64::MAX)),
        converted: Vec::new(),
        report_only: false,
    };
    (accuracy, failure)
}

fn gate_record(result: GateResult) -> record::GateRecord {
    record::GateRecord {
        gate: result.gate.name().to_owned(),
        passed: result.passed,
        worst: result.worst,
    }
}
