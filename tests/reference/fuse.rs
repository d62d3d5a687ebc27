//! Fusions with the absent modalities zeroed first.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use ndarray::{Array2, ArrayD, Axis, Ix1, Ix3, Zip};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "weighted_sum" => weighted_sum(problem.inputs),
        "gated_fusion" => gated_fusion(problem.inputs),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
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
