//! Attention by matrix products for each head.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use ndarray::{Array2, ArrayD, Ix4, s};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "cross_attention" => cross_attention(problem.inputs),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
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
