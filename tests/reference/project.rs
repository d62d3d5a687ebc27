//! Projections by matrix products.

use fusebench::kernel::Problem;
use ndarray::{Array2, ArrayD, Ix1, Ix2};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "linear" => linear(problem),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
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
