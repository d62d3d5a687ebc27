//! Every kernel's f64 reference against an independent formulation on whole arrays with ndarray,
//! and its tracked instance against the plain one.

use fusebench::accuracy::F16_MAX;
use fusebench::inputs::{Distribution, Generator, Inputs};
use fusebench::kernel::{Dtype, Elem, Kernel, Preset, Problem, Shape, Variant};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use ndarray::{Array1, Array2, ArrayD, Axis, Dimension, Ix1, Ix2, Ix3, Ix4, Zip, s};

/// Both formulations are in f64 and sum at most some thousand terms.
const TOLERANCE: f64 = 1e-12;
/// Larger outputs only repeat what the smaller ones show.
const MAX_ELEMENTS: usize = 50_000;

fn float<D: Dimension>(inputs: &Inputs, name: &str) -> ndarray::Array<f64, D> {
    inputs.float::<D>(name).mapv(f64::from)
}

/// The expected output of a kernel, before storage.
fn oracle(name: &str, problem: &Problem) -> Array2<f64> {
    match name {
        "layer_norm" => layer_norm(problem.inputs),
        "rms_norm" => rms_norm(problem.inputs),
        "softmax" => softmax(problem.inputs),
        "linear" => linear(problem),
        "cross_attention" => cross_attention(problem.inputs),
        "weighted_sum" => weighted_sum(problem.inputs),
        "gated_fusion" => gated_fusion(problem.inputs),
        "copy" => words(problem.inputs).insert_axis(Axis(1)),
        "read" => read(problem),
        "fma" => fma(problem),
        "launch_overhead" => Array2::from_elem((1, 1), 24_301.0),
        _ => panic!("write an oracle for {name}"),
    }
}

fn layer_norm(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let n = x.ncols() as f64;
    let centred = &x - &(x.sum_axis(Axis(1)) / n).insert_axis(Axis(1));
    let deviation =
        centred.map_axis(Axis(1), |row| (row.dot(&row) / n + f64::from(1e-6_f32)).sqrt());
    let scaled = centred / &deviation.insert_axis(Axis(1));
    scaled * &float::<Ix1>(inputs, "g") + &float::<Ix1>(inputs, "b")
}

fn rms_norm(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let n = x.ncols() as f64;
    let rms = x.map_axis(Axis(1), |row| (row.dot(&row) / n + f64::from(1e-5_f32)).sqrt());
    x / &rms.insert_axis(Axis(1)) * &float::<Ix1>(inputs, "g")
}

/// e^(x − log Σ e^x) over a whole vector.
fn probabilities(x: &Array1<f64>) -> Array1<f64> {
    let peak = x.fold(f64::MIN, |a, &b| a.max(b));
    let log_total = peak + x.mapv(|x| (x - peak).exp()).sum().ln();
    x.mapv(|x| (x - log_total).exp())
}

fn softmax(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let mut y = Array2::zeros(x.dim());
    for (row, &len) in inputs.words("len").iter().enumerate() {
        let valid = s![row, ..len as usize];
        y.slice_mut(valid).assign(&probabilities(&x.slice(valid).to_owned()));
    }
    y
}

fn linear(problem: &Problem) -> Array2<f64> {
    let x = float::<Ix2>(problem.inputs, "x");
    let w = float::<Ix2>(problem.inputs, "w");
    let y = x.dot(&w.t()) + &float::<Ix1>(problem.inputs, "b");
    // The constants are f32 in the shader.
    let of = |x: f32| f64::from(x);
    match problem.shape.option() {
        Some("gelu") => y.mapv(|x| x * 0.5 * libm::erfc(-x * of(std::f32::consts::FRAC_1_SQRT_2))),
        Some("gelu_tanh") => {
            let inner = |x: f64| of(0.797_884_6) * x * (1.0 + of(0.044_715) * x * x);
            y.mapv(|x| x / (1.0 + (-2.0 * inner(x)).exp()))
        }
        Some("gelu_quick") => y.mapv(|x| x * (0.5 + 0.5 * (0.5 * of(1.702) * x).tanh())),
        _ => y,
    }
}

fn cross_attention(inputs: &Inputs) -> Array2<f64> {
    let (q, k) = (float::<Ix4>(inputs, "q"), float::<Ix4>(inputs, "k"));
    let v = float::<Ix4>(inputs, "v");
    let (batch, queries, heads, d) = q.dim();
    let scale = f64::from(1.0 / (d as f32).sqrt());
    let mut o = q.clone();
    for b in 0..batch {
        let valid = inputs.words("len")[b] as usize;
        for h in 0..heads {
            let keys = k.slice(s![b, ..valid, h, ..]);
            let mut scores = q.slice(s![b, .., h, ..]).dot(&keys.t()) * scale;
            for mut row in scores.rows_mut() {
                let weights = probabilities(&row.to_owned());
                row.assign(&weights);
            }
            let mixed = scores.dot(&v.slice(s![b, ..valid, h, ..]));
            o.slice_mut(s![b, .., h, ..]).assign(&mixed);
        }
    }
    let rows = batch * queries * heads;
    o.into_shape_with_order((rows, d)).expect("row-major")
}

/// 1 where a modality is present: `[m, b]`.
fn presence(inputs: &Inputs, modalities: usize) -> Array2<f64> {
    let bits = inputs.words("present");
    Array2::from_shape_fn((modalities, bits.len()), |(m, b)| f64::from(bits[b] >> m & 1))
}

/// Zeroes the garbage of absent modalities.
fn masked(x: ndarray::Array3<f64>, present: &Array2<f64>) -> ndarray::Array3<f64> {
    let present = present.view().insert_axis(Axis(2));
    let present = present.broadcast(x.dim()).expect("one bit for each row").to_owned();
    Zip::from(&x).and(&present).map_collect(|&x, &bit| if bit == 0.0 { 0.0 } else { x })
}

fn weighted_sum(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix3>(inputs, "x");
    let present = presence(inputs, x.len_of(Axis(0)));
    let a = float::<Ix1>(inputs, "a").mapv(f64::exp).insert_axis(Axis(1));
    let odds = &present * &a;
    let total = odds.sum_axis(Axis(0)).mapv(|total| if total == 0.0 { 1.0 } else { total });
    let weights = (odds / &total).insert_axis(Axis(2));
    (masked(x, &present) * &weights).sum_axis(Axis(0))
}

fn gated_fusion(inputs: &Inputs) -> Array2<f64> {
    let u = float::<Ix3>(inputs, "u");
    let present = presence(inputs, u.len_of(Axis(0)));
    let gates = float::<Ix3>(inputs, "v").mapv(|v| 0.5 + 0.5 * (0.5 * v).tanh());
    (masked(u, &present).mapv(f64::tanh) * &gates).sum_axis(Axis(0))
}

fn words(inputs: &Inputs) -> Array1<f64> {
    inputs.words("x").iter().copied().map(f64::from).collect()
}

/// Scatters every word to the invocation that reads it.
fn read(problem: &Problem) -> Array2<f64> {
    let variant = problem.variant;
    let (lanes, each) = (variant.constant("WG"), variant.constant("EACH"));
    let width = if variant.name == "word" { 1 } else { 4 };
    let words = problem.inputs.words("x");
    let x = words.as_slice().expect("row-major");
    let mut folded = vec![0_u32; x.len().div_ceil(lanes * each * width) * lanes];
    for (index, word) in x.iter().enumerate() {
        let load = index / width;
        folded[load / (lanes * each) * lanes + load % lanes] ^= word;
    }
    Array1::from(folded).mapv(f64::from).insert_axis(Axis(1))
}

fn fma(problem: &Problem) -> Array2<f64> {
    let start = float::<Ix2>(problem.inputs, "x");
    (0..problem.shape["t"]).fold(start, |x, _| x.mapv(|x| x.mul_add(x, -0.5)))
}

/// Says which element differs. Shapes may differ: only the row-major order counts.
fn compare(got: &Array2<f64>, wanted: &Array2<f64>) -> Result<(), String> {
    if got.len() != wanted.len() {
        return Err(format!("{} elements, the oracle has {}", got.len(), wanted.len()));
    }
    let scale = wanted.iter().fold(0.0_f64, |scale, x| scale.max(x.abs()));
    let mut pairs = got.iter().zip(wanted).enumerate();
    // Written so that a NaN on either side differs.
    let differing = pairs.find(|(_, (g, w))| {
        let close = (*g - *w).abs() <= TOLERANCE * scale;
        !close
    });
    differing.map_or(Ok(()), |(i, (g, w))| Err(format!("element {i} is {g:e}, not {w:e}")))
}

/// Runs a check on every smoke problem of moderate size.
fn for_each_problem(kernel: &dyn Kernel, mut check: impl FnMut(&Problem)) {
    for shape in kernel.shapes(Preset::Smoke) {
        for &dtype in kernel.spec().dtypes {
            let generator = Generator { dtype, distribution: Distribution::Normal, seed: 5 };
            let inputs = kernel.inputs(&shape, &generator);
            for variant in kernel.spec().variants {
                if (variant.refuses)(&shape).is_none()
                    && elements(kernel, &shape, dtype, variant) <= MAX_ELEMENTS
                {
                    check(&Problem { shape: &shape, dtype, variant, inputs: &inputs });
                }
            }
        }
    }
}

fn elements(kernel: &dyn Kernel, shape: &Shape, dtype: Dtype, variant: &Variant) -> usize {
    kernel.launch(shape, dtype, variant).outputs.iter().map(|output| output.len()).sum()
}

fn describe(name: &str, problem: &Problem) -> String {
    let (variant, dtype) = (problem.variant.name, problem.dtype.name());
    format!("{name}/{variant}/{dtype}/{}", problem.shape)
}

/// What storage does to an exact value.
fn stored(x: f64, elem: Elem) -> f64 {
    if elem == Elem::F16 { x.clamp(-F16_MAX, F16_MAX) } else { x }
}

#[test]
fn every_reference_agrees_with_an_independent_formulation() {
    for entry in ALL {
        for_each_problem(entry.kernel, |problem| {
            let got = entry.kernel.reference(problem, &Rows::All);
            let wanted = oracle(entry.name, problem);
            let wanted = wanted.mapv(|x| stored(x, problem.dtype.storage()));
            assert_eq!(got.len(), 1, "{}", entry.name);
            let agreement = compare(&got[0], &wanted);
            assert_eq!(agreement, Ok(()), "{}", describe(entry.name, problem));
        });
    }
}

#[test]
fn tracked_values_are_the_plain_ones_and_bounds_are_numbers() {
    for entry in ALL {
        for_each_problem(entry.kernel, |problem| {
            let plain = entry.kernel.reference(problem, &Rows::All).swap_remove(0);
            let tracked = entry.kernel.tracked(problem, &Rows::All).swap_remove(0);
            let values = tracked.mapv(|t| t.value);
            let id = describe(entry.name, problem);
            assert_eq!(compare(&values, &plain), Ok(()), "{id}");
            let sound = tracked.iter().all(|t| t.worst.is_finite() && t.variance >= 0.0);
            assert!(sound, "{id} has an unbounded element");
        });
    }
}

#[test]
fn outputs_have_the_declared_size_and_rows_select_them() {
    for entry in ALL {
        for_each_problem(entry.kernel, |problem| {
            // The layout of the rows does not depend on the precision.
            if problem.dtype != Dtype::F32 {
                return;
            }
            let launch = entry.kernel.launch(problem.shape, problem.dtype, problem.variant);
            let all = entry.kernel.reference(problem, &Rows::All).swap_remove(0);
            let id = describe(entry.name, problem);
            assert_eq!(all.dim(), (launch.outputs[0].rows, launch.outputs[0].cols), "{id}");
            let rows: Vec<usize> = (0..all.nrows()).step_by(3).collect();
            let some = entry.kernel.reference(problem, &Rows::Some(rows.clone())).swap_remove(0);
            assert_eq!(some, all.select(Axis(0), &rows), "{id}");
        });
    }
}

#[test]
fn garbage_in_padding_and_absent_modalities_never_shows() {
    let mut masked = 0;
    for entry in ALL {
        for_each_problem(entry.kernel, |problem| {
            if !matches!(problem.shape.option(), Some("tail" | "masked" | "present")) {
                return;
            }
            masked += 1;
            let y: ArrayD<f64> =
                entry.kernel.reference(problem, &Rows::All).swap_remove(0).into_dyn();
            assert!(y.iter().all(|y| y.abs() < 100.0), "{}", describe(entry.name, problem));
        });
    }
    assert!(masked > 50, "only {masked} problems with padding");
}

#[test]
fn one_corrupted_element_is_found() {
    let entry = ALL.iter().find(|entry| entry.name == "linear").expect("a kernel");
    for_each_problem(entry.kernel, |problem| {
        let right = oracle(entry.name, problem);
        for index in [0, right.len() / 2, right.len().saturating_sub(1)] {
            let mut wrong = right.clone();
            let Some(element) = wrong.iter_mut().nth(index) else { return };
            *element += 1e-9;
            assert!(compare(&wrong, &right).is_err(), "{}", describe(entry.name, problem));
            *wrong.iter_mut().nth(index).expect("the same element") = f64::NAN;
            assert!(compare(&wrong, &right).is_err(), "{}", describe(entry.name, problem));
        }
    });
}
