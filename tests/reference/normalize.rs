//! Normalisations on whole arrays.

use fusebench::inputs::{Distribution, Generator, Inputs, Tensor};
use fusebench::kernel::{Dtype, Elem, Preset, Problem};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix1, Ix2, Ix3, s};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "add_layer_norm" => return add_layer_norm(problem.inputs),
        "batch_norm" => batch_norm(problem.inputs),
        "group_norm" => group_norm(problem.inputs, problem.shape["g"]),
        "l2_normalize" => l2_normalize(problem.inputs).into_dyn(),
        "layer_norm" => layer_norm(problem.inputs).into_dyn(),
        "min_max_scale" => by_column(problem.inputs, min_max).into_dyn(),
        "rms_norm" => rms_norm(problem.inputs).into_dyn(),
        "softmax" => softmax(problem.inputs).into_dyn(),
        "standardize" => by_column(problem.inputs, z_scores).into_dyn(),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y]
}

fn layer_norm(inputs: &Inputs) -> Array2<f64> {
    normal_rows(float::<Ix2>(inputs, "x"), inputs)
}

/// Layer normalisation with the gain and bias of the inputs.
fn normal_rows(x: Array2<f64>, inputs: &Inputs) -> Array2<f64> {
    let n = x.ncols() as f64;
    let centred = &x - &(x.sum_axis(Axis(1)) / n).insert_axis(Axis(1));
    let deviation =
        centred.map_axis(Axis(1), |row| (row.dot(&row) / n + f64::from(1e-6_f32)).sqrt());
    let scaled = centred / &deviation.insert_axis(Axis(1));
    scaled * &float::<Ix1>(inputs, "g") + &float::<Ix1>(inputs, "b")
}

fn add_layer_norm(inputs: &Inputs) -> Vec<ArrayD<f64>> {
    let sum = float::<Ix2>(inputs, "res") + &float::<Ix1>(inputs, "bias");
    let h = float::<Ix2>(inputs, "x") + &sum;
    let y = normal_rows(h.clone(), inputs);
    vec![h.into_dyn(), y.into_dyn()]
}

/// A vector over the channels, to be spread over samples and positions.
fn channels(inputs: &Inputs, name: &str) -> Array2<f64> {
    float::<Ix1>(inputs, name).insert_axis(Axis(1))
}

fn batch_norm(inputs: &Inputs) -> ArrayD<f64> {
    let deviation = (channels(inputs, "variance") + f64::from(1e-5_f32)).mapv(f64::sqrt);
    let centred = float::<Ix3>(inputs, "x") - &channels(inputs, "mean");
    (centred / &deviation * &channels(inputs, "g") + &channels(inputs, "b")).into_dyn()
}

/// With the variance as the mean of squares less the square of the mean.
fn group_norm(inputs: &Inputs, groups: usize) -> ArrayD<f64> {
    let mut x = float::<Ix3>(inputs, "x");
    let members = x.len_of(Axis(1)) / groups;
    for mut sample in x.outer_iter_mut() {
        for mut group in sample.axis_chunks_iter_mut(Axis(0), members) {
            let mean = group.mean().unwrap_or(0.0);
            let variance = group.mapv(|x| x * x).mean().unwrap_or(0.0) - mean * mean;
            let deviation = (variance.max(0.0) + f64::from(1e-5_f32)).sqrt();
            group.mapv_inplace(|x| (x - mean) / deviation);
        }
    }
    (x * &channels(inputs, "g") + &channels(inputs, "b")).into_dyn()
}

fn l2_normalize(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let norms = x.mapv(|x| x * x).sum_axis(Axis(1)).mapv(|square| square.sqrt().max(1e-12));
    x / &norms.insert_axis(Axis(1))
}

/// A function of the valid rows of each column, zero where there are none.
fn by_column(inputs: &Inputs, f: impl Fn(&Array1<f64>) -> Array1<f64>) -> Array3<f64> {
    let x = float::<Ix3>(inputs, "x");
    let mut y = Array3::zeros(x.dim());
    for (batch, &len) in inputs.words("len").iter().enumerate() {
        for feature in 0..x.len_of(Axis(2)) {
            let valid = s![batch, ..len as usize, feature];
            y.slice_mut(valid).assign(&f(&x.slice(valid).to_owned()));
        }
    }
    y
}

fn z_scores(x: &Array1<f64>) -> Array1<f64> {
    let deviation = x.std(0.0);
    if deviation > 0.0 { (x - x.mean().unwrap_or(0.0)) / deviation } else { x * 0.0 }
}

fn min_max(x: &Array1<f64>) -> Array1<f64> {
    let high = x.fold(f64::MIN, |a, &b| a.max(b));
    let low = x.fold(f64::MAX, |a, &b| a.min(b));
    if high > low { (x - low) / (high - low) } else { x * 0.0 }
}

fn rms_norm(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let n = x.ncols() as f64;
    let rms = x.map_axis(Axis(1), |row| (row.dot(&row) / n + f64::from(1e-5_f32)).sqrt());
    x / &rms.insert_axis(Axis(1)) * &float::<Ix1>(inputs, "g")
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

/// The result of a kernel over columns on its last smoke shape, with every element put through
/// `change`.
fn of_columns(name: &str, change: impl Fn(f32) -> f32) -> Array2<f64> {
    let entry = ALL.iter().find(|entry| entry.name == name).expect("a kernel");
    let shape = &entry.kernel.shapes(Preset::Smoke).pop().expect("a shape");
    let variant = &entry.kernel.spec().variants[0];
    let generator = Generator::new(Dtype::F32, variant, Distribution::Integers, 3);
    let drawn = entry.kernel.inputs(shape, &generator);
    let x = drawn.float::<Ix3>("x").mapv(change);
    let mut tensors = drawn.tensors.clone();
    tensors[0] = Tensor::floats("x", Elem::F32, x.shape(), x.iter().copied().collect());
    let inputs = &Inputs::new(drawn.params.clone(), tensors);
    let problem = Problem { shape, dtype: Dtype::F32, variant, inputs, device: &[] };
    entry.kernel.reference(&problem, &Rows::All).swap_remove(0)
}

#[test]
fn scaled_and_shifted_columns_give_the_same_scores_and_squared_ones_do_not() {
    for name in ["standardize", "min_max_scale"] {
        let plain = of_columns(name, |x| x);
        let far = |other: &Array2<f64>| (&plain - other).iter().any(|gap| gap.abs() > 1e-12);
        assert!(!far(&of_columns(name, |x| 4.0 * x + 64.0)), "{name}");
        assert!(far(&of_columns(name, |x| x * x)), "{name}");
    }
}
