//! Projections by matrix products.

use fusebench::kernel::Problem;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, concatenate, s};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "embedding_lookup" => return embedding_lookup(problem),
        "linear" => linear(problem),
        "linear_batched" => linear_batched(problem),
        "mlp_projector" => mlp_projector(problem),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
}

/// One-hot rows times the table.
fn embedding_lookup(problem: &Problem) -> Vec<ArrayD<f64>> {
    let inputs = problem.inputs;
    let table = float::<Ix2>(inputs, "table");
    let ids = inputs.words("ids");
    let mut hot = Array2::zeros((ids.len(), table.nrows()));
    for (mut row, &id) in hot.rows_mut().into_iter().zip(&ids) {
        if let Some(element) = row.get_mut(id as usize) {
            *element = 1.0;
        }
    }
    let known = hot.sum_axis(Axis(1)).insert_axis(Axis(1));
    let mut y = hot.dot(&table);
    if problem.shape.option() == Some("positions") {
        let places = float::<Ix2>(inputs, "positions");
        let copies = vec![places.view(); problem.shape["b"]];
        y += &(concatenate(Axis(0), &copies).expect("equal rows") * &known);
    }
    vec![y.into_dyn(), known.into_dyn()]
}

/// One matrix product for each member, on the part of the buffers that is its own.
fn linear_batched(problem: &Problem) -> Array2<f64> {
    let shape = problem.shape;
    let (b, m, n, k) = (shape["b"], shape["m"], shape["n"], shape["k"]);
    let [x, w, bias] = ["x", "w", "b"].map(|name| float::<Ix1>(problem.inputs, name));
    let members = |values: &Array1<f64>, rows: usize, cols: usize| -> Vec<Array2<f64>> {
        let own = rows * cols;
        let stride = if values.len() == own { 0 } else { values.len() / b.max(1) };
        let of = |i: usize| values.slice(s![i * stride..i * stride + own]).to_owned();
        let square = |i| of(i).into_shape_with_order((rows, cols)).expect("row-major");
        (0..b).map(square).collect()
    };
    let (x, w, bias) = (members(&x, m, k), members(&w, n, k), members(&bias, 1, n));
    let mut y = Array2::zeros((b * m, n));
    for i in 0..b {
        let member = x[i].dot(&w[i].t()) + &bias[i];
        y.slice_mut(s![i * m..(i + 1) * m, ..]).assign(&member);
    }
    y
}

fn mlp_projector(problem: &Problem) -> Array2<f64> {
    let [x, w, u] = ["x", "w", "u"].map(|name| float::<Ix2>(problem.inputs, name));
    let [b, c] = ["b", "c"].map(|name| float::<Ix1>(problem.inputs, name));
    gelu(x.dot(&w.t()) + &b).dot(&u.t()) + &c
}

/// By the complementary error function; the constant is f32 in the shaders.
fn gelu(x: Array2<f64>) -> Array2<f64> {
    x.mapv(|x| x * 0.5 * libm::erfc(-x * f64::from(std::f32::consts::FRAC_1_SQRT_2)))
}

fn linear(problem: &Problem) -> Array2<f64> {
    let x = float::<Ix2>(problem.inputs, "x");
    let w = float::<Ix2>(problem.inputs, "w");
    let y = x.dot(&w.t()) + &float::<Ix1>(problem.inputs, "b");
    // The constants are f32 in the shader.
    let of = |x: f32| f64::from(x);
    match problem.shape.option() {
        Some("gelu") => gelu(y),
        Some("gelu_tanh") => {
            let inner = |x: f64| of(0.797_884_6) * x * (1.0 + of(0.044_715) * x * x);
            y.mapv(|x| x / (1.0 + (-2.0 * inner(x)).exp()))
        }
        Some("gelu_quick") => y.mapv(|x| x * (0.5 + 0.5 * (0.5 * of(1.702) * x).tanh())),
        _ => y,
    }
}
