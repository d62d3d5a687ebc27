//! What the probes compute besides taking time.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "copy" => words(problem.inputs).insert_axis(Axis(1)),
        "read" => read(problem),
        "fma" => fma(problem),
        "launch_overhead" => Array2::from_elem((1, 1), 24_301.0),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
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
