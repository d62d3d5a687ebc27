//! The gates: no limit is typed by hand, each follows from the tracked reference.

use super::fault::{Fault, Rule};
use super::tracked::Tracked;

/// False-alarm rate of the probabilistic gate per distribution checked.
const ALPHA: f64 = 1e-9;
/// A correct kernel may be better than predicted, never much worse: observed over predicted RMS
/// error was at most 0.9 for correct kernels and at least 12 for f16-rounded intermediates.
pub const RMS_LIMIT: f64 = 3.0;
/// A bound wider than this share of the value cannot fail and does not count.
const VACUOUS: f64 = 0.5;
/// Fewer inexact elements than this say nothing about an RMS error.
const MIN_ELEMENTS_FOR_RMS: usize = 16;
/// A compressed kernel this much below its predicted SQNR lost precision somewhere else.
const COMPRESSION_SLACK_DB: f64 = 1.0;
/// Resolution of the f64 reference in dB: what an exact result is credited with.
const EXACT_DB: f64 = 319.0;

/// Which rule a result was held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Elements whose bound is zero must agree bit for bit.
    G0,
    /// Worst case: |Δ| ≤ bound for every element.
    G1,
    /// Probabilistic: |Δ| ≤ λ standard deviations for every element.
    G1p,
    /// Precision class: RMS of Δ over the predicted RMS.
    G2,
    /// Compression: not noticeably worse against full precision than the scales promise.
    Gq,
}

impl Gate {
    pub const ALL: [Gate; 5] = [Gate::G0, Gate::G1, Gate::G1p, Gate::G2, Gate::Gq];

    pub fn name(self) -> &'static str {
        match self {
            Gate::G0 => "G0",
            Gate::G1 => "G1",
            Gate::G1p => "G1p",
            Gate::G2 => "G2",
            Gate::Gq => "GQ",
        }
    }
}

/// How the rounding errors of one input distribution behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Continuous data: every rounding is its own.
    Independent,
    /// Large f16 data, or what another kernel computed: errors may go the same way, which the
    /// likely largest does not survive and the RMS does (self-attention over 925 normalised
    /// steps reached 1.1 λ with an RMS error of a third of the predicted one).
    Dependent,
    /// Data with few distinct values: the same rounding happens again and again and errors grow
    /// with n instead of √n (layer norm of integers, 1,408 wide, reached 3.4 λ).
    Repeating,
}

/// One gate's outcome. `worst` is observed over allowed, so above 1 fails; for G0, which allows
/// nothing, it counts the differing elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateResult {
    pub gate: Gate,
    pub passed: bool,
    pub worst: f64,
}

/// Size of the error, over the finite elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    pub max_abs: f64,
    pub rmse: f64,
    pub nmse: f64,
    pub sqnr_db: f64,
    pub cosine: f64,
    /// Element with the largest error against its bound.
    pub worst_index: usize,
}

/// What the gates say about one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The gates that could have failed.
    pub gates: Vec<GateResult>,
    pub metrics: Metrics,
    /// The first failure, `None` when all passed.
    pub failure: Option<Fault>,
}

impl Judgement {
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// Compares device values with the tracked reference, element by element; `origin` numbers the
/// elements in the whole output, of which they may be a sample. `noise` says whether the rounding
/// errors behave like independent noise, which the gates G1p and G2 presume.
///
/// # Panics
/// When the lengths differ, which is a bug in the caller.
pub fn judge(device: &[f64], reference: &[Tracked], origin: &[usize], noise: Noise) -> Judgement {
    assert_eq!(device.len(), reference.len(), "one device value per reference element");
    assert_eq!(device.len(), origin.len(), "one number per element");
    let pairs = || device.iter().copied().zip(reference.iter().copied());
    let metrics = measure(pairs(), origin);
    let mut gates = Vec::new();
    gates.extend(exact_gate(pairs()));
    gates.extend(worst_case_gate(pairs()));
    if noise == Noise::Independent {
        gates.extend(probabilistic_gate(pairs()));
    }
    if noise != Noise::Repeating {
        gates.extend(precision_gate(pairs()));
    }
    let failure =
        nonfinite(device, origin).or_else(|| describe_failure(&gates, device, reference, origin));
    Judgement { gates, metrics, failure }
}

/// G0: every element that no conforming device may round.
fn exact_gate(pairs: impl Iterator<Item = (f64, Tracked)>) -> Option<GateResult> {
    let (mut total, mut differing) = (0_usize, 0_usize);
    for (device, reference) in pairs.filter(|(_, reference)| reference.worst == 0.0) {
        total += 1;
        differing += usize::from(device != reference.value);
    }
    (total > 0).then_some(GateResult {
        gate: Gate::G0,
        passed: differing == 0,
        worst: differing as f64,
    })
}

/// G1, left out when most bounds are too wide to fail.
fn worst_case_gate(pairs: impl Iterator<Item = (f64, Tracked)>) -> Option<GateResult> {
    let mut ratio = 0.0_f64;
    let (mut total, mut wide) = (0_usize, 0_usize);
    for (device, reference) in pairs.filter(|(_, reference)| reference.worst > 0.0) {
        total += 1;
        wide += usize::from(reference.worst > VACUOUS * reference.value.abs());
        if reference.worst.is_finite() {
            ratio = ratio.max(over(device - reference.value, reference.worst));
        }
    }
    let vacuous = 2 * wide > total;
    // A failure is reported even where the gate would be too weak to count as a pass.
    (total > 0 && (!vacuous || ratio > 1.0)).then_some(within(Gate::G1, ratio))
}

/// G1p with λ = √(2 ln(2N/α)), the two-sided Gaussian tail over N elements.
fn probabilistic_gate(pairs: impl Iterator<Item = (f64, Tracked)>) -> Option<GateResult> {
    let (mut n, mut z) = (0_usize, 0.0_f64);
    for (device, reference) in pairs.filter(|(_, reference)| trackable(reference)) {
        n += 1;
        z = z.max(over(device - reference.value, reference.variance.sqrt()));
    }
    let lambda = (2.0 * (2.0 * n as f64 / ALPHA).ln()).sqrt();
    (n > 0).then(|| within(Gate::G1p, z / lambda))
}

/// G2: the error as a whole against the predicted one.
fn precision_gate(pairs: impl Iterator<Item = (f64, Tracked)>) -> Option<GateResult> {
    let (mut n, mut observed, mut predicted) = (0_usize, 0.0, 0.0);
    for (device, reference) in pairs.filter(|(_, reference)| trackable(reference)) {
        n += 1;
        observed += (device - reference.value).powi(2);
        predicted += reference.variance;
    }
    let ratio = if observed == 0.0 { 0.0 } else { (observed / predicted).sqrt() };
    (n >= MIN_ELEMENTS_FOR_RMS).then(|| within(Gate::G2, finite(ratio) / RMS_LIMIT))
}

/// GQ: the measured signal over error of a compressed kernel against the one its scales predict,
/// both in dB. Rounding to codes spreads errors evenly enough that Gaussian data came within
/// 0.15 dB of the prediction; [`COMPRESSION_SLACK_DB`] more is a finding.
pub fn compression_gate(measured_db: f64, predicted_db: f64) -> GateResult {
    within(Gate::Gq, ((predicted_db - measured_db) / COMPRESSION_SLACK_DB).max(0.0))
}

fn trackable(reference: &Tracked) -> bool {
    reference.worst > 0.0 && reference.variance > 0.0 && reference.variance.is_finite()
}

fn within(gate: Gate, ratio: f64) -> GateResult {
    GateResult { gate, passed: ratio <= 1.0, worst: finite(ratio) }
}

fn over(difference: f64, allowed: f64) -> f64 {
    finite(difference.abs() / allowed)
}

/// NaN and infinities count as the largest possible error.
fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { f64::MAX }
}

/// Size of the error over the finite elements; `origin` numbers them in the whole output.
pub fn measure(pairs: impl Iterator<Item = (f64, Tracked)>, origin: &[usize]) -> Metrics {
    let (mut max_abs, mut worst, mut worst_index) = (0.0_f64, -1.0_f64, 0);
    let (mut error, mut power, mut device_power, mut dot, mut n) = (0.0, 0.0, 0.0, 0.0, 0_usize);
    let determined = |(_, (_, reference)): &(usize, (f64, Tracked))| !reference.is_undetermined();
    for (index, (device, reference)) in pairs.enumerate().filter(determined) {
        let difference = finite(device - reference.value).abs();
        let ratio = if difference == 0.0 { 0.0 } else { over(difference, reference.worst) };
        if ratio > worst {
            (worst, worst_index) = (ratio, index);
        }
        // A reference is only finite on finite inputs.
        if !device.is_finite() || !reference.value.is_finite() {
            continue;
        }
        n += 1;
        max_abs = max_abs.max(difference);
        error += difference * difference;
        power += reference.value * reference.value;
        device_power += device * device;
        dot += device * reference.value;
    }
    let nmse = if error == 0.0 { 0.0 } else { finite(error / power) };
    let norms = (power * device_power).sqrt();
    Metrics {
        max_abs,
        rmse: if n == 0 { 0.0 } else { (error / n as f64).sqrt() },
        nmse,
        sqnr_db: (-10.0 * nmse.log10()).clamp(-EXACT_DB, EXACT_DB),
        cosine: if norms > 0.0 { dot / norms } else { f64::from(u8::from(error == 0.0)) },
        worst_index: origin.get(worst_index).copied().unwrap_or(0),
    }
}

fn nonfinite(device: &[f64], origin: &[usize]) -> Option<Fault> {
    let count = device.iter().filter(|value| !value.is_finite()).count();
    let first = device.iter().position(|value| !value.is_finite())?;
    let why = format!(
        "{count} of {} outputs are not finite or were never written, the first at {}",
        device.len(),
        origin[first]
    );
    Some(Fault { rule: Rule::Written, worst: None, why })
}

fn describe_failure(
    gates: &[GateResult],
    device: &[f64],
    reference: &[Tracked],
    origin: &[usize],
) -> Option<Fault> {
    let failed = gates.iter().find(|gate| !gate.passed)?;
    let at = match failed.gate {
        Gate::G0 => {
            worst_by(device, reference, |d, r| (r.worst == 0.0).then(|| (d - r.value).abs()))
        }
        Gate::G1 => worst_by(device, reference, |d, r| {
            (r.worst > 0.0).then(|| (d - r.value).abs() / r.worst)
        }),
        Gate::G1p | Gate::G2 | Gate::Gq => worst_by(device, reference, |d, r| {
            trackable(&r).then(|| (d - r.value).abs() / r.variance.sqrt())
        }),
    };
    let rule = match failed.gate {
        Gate::G0 => format!("G0: {} elements that must be exact differ", failed.worst),
        Gate::G1 => format!("G1: an error of {:.3} times its bound", failed.worst),
        Gate::G1p => format!("G1p: an error of {:.3} times the likely largest", failed.worst),
        Gate::G2 | Gate::Gq => {
            format!("G2: RMS error {:.3} times the predicted", failed.worst * RMS_LIMIT)
        }
    };
    let (value, expected) = (device[at], reference[at]);
    let why = format!(
        "{rule}; element {} is {value:.9e}, expected {:.9e} ± {:.1e}",
        origin[at], expected.value, expected.worst
    );
    Some(Fault { rule: Rule::Gate(failed.gate), worst: Some(failed.worst), why })
}

fn worst_by(
    device: &[f64],
    reference: &[Tracked],
    badness: impl Fn(f64, Tracked) -> Option<f64>,
) -> usize {
    let scored = device.iter().zip(reference).enumerate();
    let scored = scored.filter_map(|(i, (&d, &r))| badness(d, r).map(|score| (i, score)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::Scalar;

    fn dot(n: usize) -> Vec<Tracked> {
        let term = |row: usize, i: usize| {
            let x = ((row * 7919 + i * 104_729) % 2003) as f64 / 1001.0 - 1.0;
            Tracked::exact(f64::from(x as f32)) * Tracked::exact(f64::from(0.37_f32))
        };
        (0..64).map(|row| Tracked::sum((0..n).map(|i| term(row, i)), n)).collect()
    }

    fn values(reference: &[Tracked]) -> Vec<f64> {
        reference.iter().map(|r| f64::from(r.value as f32)).collect()
    }

    fn whole(device: &[f64], reference: &[Tracked]) -> Judgement {
        judge(device, reference, &(0..device.len()).collect::<Vec<_>>(), Noise::Independent)
    }

    fn failing(judgement: &Judgement) -> Vec<Gate> {
        judgement.gates.iter().filter(|g| !g.passed).map(|g| g.gate).collect()
    }

    #[test]
    fn a_correct_result_passes_every_gate() {
        let reference = dot(100);
        let judgement = whole(&values(&reference), &reference);
        assert!(judgement.passed(), "{judgement:?}");
        assert_eq!(judgement.gates.len(), 3, "G1, G1p and G2 apply: {judgement:?}");
    }

    #[test]
    fn one_corrupted_element_is_caught_and_named() {
        let reference = dot(100);
        for index in [0, 17, 63] {
            let mut device = values(&reference);
            device[index] += 1e-3;
            let judgement = whole(&device, &reference);
            assert!(failing(&judgement).contains(&Gate::G1p), "{judgement:?}");
            assert_eq!(judgement.metrics.worst_index, index);
            assert!(judgement.failure.unwrap().why.contains(&format!("element {index} ")));
        }
    }

    #[test]
    fn one_bit_is_caught_where_the_result_is_exact() {
        let reference: Vec<Tracked> = (0..50).map(|i| Tracked::exact(f64::from(i))).collect();
        let mut device: Vec<f64> = reference.iter().map(|r| r.value).collect();
        assert_eq!(failing(&whole(&device, &reference)), []);
        device[31] = f64::from(31.0_f32.next_up());
        let judgement = whole(&device, &reference);
        assert_eq!(failing(&judgement), [Gate::G0]);
        let fault = judgement.failure.expect("it is caught");
        assert_eq!((fault.rule, fault.worst), (Rule::Gate(Gate::G0), Some(1.0)));
    }

    #[test]
    fn a_precision_class_too_low_is_caught_by_the_rms_gate() {
        let reference = dot(100);
        let device: Vec<f64> =
            reference.iter().map(|r| half::f16::from_f64(r.value).to_f64()).collect();
        assert!(failing(&whole(&device, &reference)).contains(&Gate::G2));
    }

    #[test]
    fn nan_never_passes() {
        let reference = dot(10);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut device = values(&reference);
            device[5] = bad;
            let judgement = whole(&device, &reference);
            let fault = judgement.failure.expect("it is caught");
            assert_eq!(fault.rule, Rule::Written, "{fault:?}");
            assert!(judgement.metrics.rmse.is_finite());
        }
    }

    #[test]
    fn figures_stay_finite_where_the_reference_is_not() {
        let mut reference = dot(10);
        let device = values(&reference);
        reference[3].value = f64::NAN;
        reference[4].value = f64::INFINITY;
        let metrics = whole(&device, &reference).metrics;
        let figures = [metrics.max_abs, metrics.rmse, metrics.nmse, metrics.cosine];
        assert!(figures.iter().all(|figure| figure.is_finite()), "{metrics:?}");
        assert!(metrics.max_abs < 1.0, "{metrics:?}");
    }

    #[test]
    fn a_bound_that_cannot_fail_does_not_count() {
        let wide = vec![Tracked { value: 1.0, worst: 0.9, variance: 0.0 }; 40];
        let judgement = whole(&[1.0; 40], &wide);
        assert_eq!(judgement.gates, [], "no gate had power");
    }
}
