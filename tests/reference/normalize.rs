//! Row-wise normalisations on whole arrays.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use ndarray::{Array2, ArrayD, Axis, Ix1, Ix2, s};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "layer_norm" => layer_norm(problem.inputs),
        "rms_norm" => rms_norm(problem.inputs),
        "softmax" => softmax(problem.inputs),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
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

fn softmax(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let mut y = Array2::zeros(x.dim());
    for (row, &len) in inputs.words("len").iter().enumerate() {
        let valid = s![row, ..len as usize];
        y.slice_mut(valid).assign(&probabilities(&x.slice(valid).to_owned()));
    }
    y
}
