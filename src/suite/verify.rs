//! Whether a kernel's output is right, by the gates of [`crate::accuracy`].

use ndarray::Array2;

use super::cell::Cell;
use crate::accuracy::{Gate, GateResult, Judgement, Noise, Tracked, choose_rows, judge};
use crate::gpu::{BufferSet, Gpu, GpuError, Output, Program};
use crate::inputs::{Distribution, Generator, Inputs, decode};
use crate::kernel::{Launch, Problem};
use crate::record;
use crate::reference::Rows;

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
}

/// One verified run: what was uploaded, the buffers, and what came back.
pub struct Checked {
    pub inputs: Inputs,
    pub set: BufferSet,
    pub outputs: Vec<Output>,
}

/// What stands against a cell.
pub enum Failure {
    Wrong(String),
    /// No gate had power: nothing is known.
    Unverified,
}

/// Runs the program on each distribution, `timed` being the data of the first, and holds the output
/// to the tracked reference.
pub fn verify(
    gpu: &Gpu,
    program: &Program,
    cell: &Cell,
    scope: &Scope,
    timed: Inputs,
) -> Result<Verdict, GpuError> {
    let mut findings = Vec::new();
    let mut sampled = false;
    let (mut first, mut timed) = (None, Some(timed));
    for &distribution in &scope.distributions {
        let generator = Generator { dtype: cell.dtype, distribution, seed: scope.seed };
        let inputs = timed.take();
        let inputs = inputs.unwrap_or_else(|| cell.entry.kernel.inputs(&cell.shape, &generator));
        let (checked, judgement, rows) =
            check_one(gpu, program, cell, scope, distribution, inputs)?;
        sampled |= rows != Rows::All;
        first.get_or_insert(checked);
        let failed = judgement.failure.is_some();
        findings.push((distribution, judgement));
        if failed {
            break;
        }
    }
    let (accuracy, failure) = summarise(&findings, sampled, cell.is_empty());
    let first = first.expect("at least one distribution is checked");
    Ok(Verdict { first, accuracy, failure })
}

fn check_one(
    gpu: &Gpu,
    program: &Program,
    cell: &Cell,
    scope: &Scope,
    distribution: Distribution,
    inputs: Inputs,
) -> Result<(Checked, Judgement, Rows), GpuError> {
    let launch = cell.launch();
    let set = gpu.allocate(program, &inputs, &launch)?;
    gpu.run(program, &set)?;
    let outputs = gpu.read(&set)?;
    let total = cell.rows();
    let work = cell.work();
    let cost = (work.flops + work.bytes) / total.max(1) as f64;
    let rows = choose_rows(total, cost, scope.flops, scope.seed);
    let problem =
        Problem { shape: &cell.shape, dtype: cell.dtype, variant: cell.variant, inputs: &inputs };
    let reference = cell.entry.kernel.tracked(&problem, &rows);
    let noise = if distribution.is_continuous() { Noise::Independent } else { Noise::Repeating };
    let judgement = compare(&outputs, &launch, &reference, &rows, noise);
    Ok((Checked { inputs, set, outputs }, judgement, rows))
}

/// Judges all outputs of a run as one.
fn compare(
    outputs: &[Output],
    launch: &Launch,
    reference: &[Array2<Tracked>],
    rows: &Rows,
    noise: Noise,
) -> Judgement {
    let (mut device, mut expected, mut origin) = (Vec::new(), Vec::new(), Vec::new());
    let mut damage = None;
    for ((output, buffer), reference) in outputs.iter().zip(&launch.outputs).zip(reference) {
        let values = decode(buffer.elem, &output.bytes);
        if !output.guard_intact {
            damage.get_or_insert(format!("wrote past the end of `{}`", buffer.name));
        }
        // Rows outside the sample are still searched for elements that were never written.
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let what = "is not finite or was never written";
            damage.get_or_insert(format!("element {index} of `{}` {what}", buffer.name));
        }
        for row in rows.of(buffer.rows) {
            let elements = row * buffer.cols..(row + 1) * buffer.cols;
            device.extend_from_slice(&values[elements.clone()]);
            origin.extend(elements);
        }
        expected.extend(reference.iter().copied());
    }
    let judgement = judge(&device, &expected, &origin, noise);
    Judgement { failure: judgement.failure.or(damage), ..judgement }
}

fn summarise(
    findings: &[(Distribution, Judgement)],
    sampled: bool,
    empty: bool,
) -> (record::Accuracy, Option<Failure>) {
    let (first, judged) = &findings[0];
    let of = |gate: Gate| {
        let all = findings.iter().flat_map(|(_, judgement)| &judgement.gates);
        let worst = |a: GateResult, b: GateResult| if b.worst > a.worst { b } else { a };
        all.copied().filter(|result| result.gate == gate).reduce(worst)
    };
    let gates: Vec<GateResult> = Gate::ALL.into_iter().filter_map(of).collect();
    let wrong = findings.iter().find_map(|(distribution, judgement)| {
        let why = judgement.failure.as_ref()?;
        Some(Failure::Wrong(format!("{why} ({} inputs)", distribution.name())))
    });
    let unverified = (gates.is_empty() && !empty).then_some(Failure::Unverified);
    let failure = wrong.or(unverified);
    let ratio = |gate| judged.gates.iter().find(|result| result.gate == gate).map(|r| r.worst);
    let metrics = judged.metrics;
    let accuracy = record::Accuracy {
        passed: failure.is_none(),
        gates: gates.into_iter().map(gate_record).collect(),
        max_abs: metrics.max_abs,
        rmse: metrics.rmse,
        nmse: metrics.nmse,
        sqnr_db: metrics.sqnr_db,
        predicted_sqnr_db: None,
        cosine: metrics.cosine,
        worst_index: metrics.worst_index as u64,
        inputs: first.name().to_owned(),
        checked: findings.iter().map(|(distribution, _)| distribution.name().to_owned()).collect(),
        verified: if sampled { "sampled" } else { "all" }.to_owned(),
        worst_over_bound: ratio(Gate::G1),
        rms_over_predicted: ratio(Gate::G2).map(|worst| worst * crate::accuracy::RMS_LIMIT),
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
