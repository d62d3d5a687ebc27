//! Attributions by matrix products, permutations and normal equations.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use ndarray::{Array2, Array4, ArrayD, Axis, Ix1, Ix2, Ix3, Ix4, s};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    match name {
        "attention_map" => attention_map(problem.inputs),
        "attention_rollout" => vec![attention_rollout(problem.inputs).into_dyn()],
        "emap" => vec![emap(problem.inputs).into_dyn()],
        "occlusion" => vec![occlusion(problem).into_dyn()],
        "shapley_modalities" => vec![shapley(problem.inputs).into_dyn()],
        _ => panic!("write an oracle for {name}"),
    }
}

/// Grand mean plus the effects of row and column, as in an analysis of variance.
fn emap(inputs: &Inputs) -> Array2<f64> {
    let f = float::<Ix3>(inputs, "f");
    let (n, _, c) = f.dim();
    let Some(grand) = f.mean_axis(Axis(0)).and_then(|rows| rows.mean_axis(Axis(0))) else {
        return Array2::zeros((n, c));
    };
    let centred = &f - &grand;
    let text = centred.mean_axis(Axis(1)).expect("n is not 0");
    let image = centred.mean_axis(Axis(0)).expect("n is not 0");
    text + image + grand
}

/// Starts from whole copies and overwrites blocks.
fn occlusion(problem: &Problem) -> ndarray::Array3<f64> {
    let x = float::<Ix2>(problem.inputs, "x");
    let baseline = float::<Ix1>(problem.inputs, "baseline");
    let (p, t) = (problem.shape["p"], x.nrows());
    let mut y = x.broadcast((p, t, x.ncols())).expect("copies").to_owned();
    for patch in 0..p {
        // Patch j begins at the first token k with k·p + p > j·t.
        let begins = |j: usize| (0..t).find(|k| (k + 1) * p > j * t).unwrap_or(t);
        y.slice_mut(s![patch, begins(patch)..begins(patch + 1), ..]).assign(&baseline);
    }
    y
}

/// Mean gain over all orders in which the present players may arrive.
fn shapley(inputs: &Inputs) -> Array2<f64> {
    let v = float::<Ix2>(inputs, "v");
    let players = v.nrows().trailing_zeros() as usize;
    let used = |s: &usize| v.row(*s).iter().all(|x| x.abs() < 1e29);
    let present: Vec<usize> = (0..players).filter(|i| v.ncols() == 0 || used(&(1 << i))).collect();
    let mut phi = Array2::zeros((players, v.ncols()));
    // Arrivals after i never matter, so orders are counted by the set that came first.
    let m = present.len();
    let mut orders = vec![0.0; 1 << players];
    orders[0] = 1.0;
    let mask: usize = present.iter().map(|i| 1 << i).sum();
    for s in (0..1_usize << players).filter(|s| s & !mask == 0) {
        for &i in present.iter().filter(|&&i| s >> i & 1 == 0) {
            let after = m - 1 - s.count_ones() as usize;
            let share = orders[s] * (1..=after).map(|n| n as f64).product::<f64>();
            let gain = &v.row(s | 1 << i) - &v.row(s);
            phi.row_mut(i).scaled_add(share, &gain);
            orders[s | 1 << i] += orders[s];
        }
    }
    phi / (1..=m).map(|n| n as f64).product::<f64>()
}

/// Products from the first layer on, of matrices averaged as in the paper.
fn attention_rollout(inputs: &Inputs) -> Array2<f64> {
    let a = float::<Ix4>(inputs, "a");
    let t = a.len_of(Axis(2));
    let mut rollout = Array2::eye(t);
    for layer in a.axis_iter(Axis(0)) {
        let mean = layer.mean_axis(Axis(0)).expect("heads");
        let mixed: Array2<f64> = 0.5 * mean + 0.5 * Array2::<f64>::eye(t);
        let totals = mixed.sum_axis(Axis(1)).insert_axis(Axis(1));
        rollout = (mixed / totals).dot(&rollout);
    }
    for row in rollout.rows() {
        assert!((row.sum() - 1.0).abs() < 1e-12, "a row of the rollout sums to {}", row.sum());
    }
    rollout
}

/// One product of matrices for each batch and head.
fn attention_map(inputs: &Inputs) -> Vec<ArrayD<f64>> {
    let (q, k) = (float::<Ix4>(inputs, "q"), float::<Ix4>(inputs, "k"));
    let (batch, queries, heads, d) = q.dim();
    let scale = f64::from(1.0 / (d as f32).sqrt());
    let mut weights = Array4::zeros((batch, heads, queries, k.len_of(Axis(1))));
    for (b, &len) in inputs.words("len").iter().enumerate() {
        for h in 0..heads {
            let keys = k.slice(s![b, ..len as usize, h, ..]);
            let scores = q.slice(s![b, .., h, ..]).dot(&keys.t()) * scale;
            for (query, row) in scores.rows().into_iter().enumerate() {
                let mut out = weights.slice_mut(s![b, h, query, ..len as usize]);
                out.assign(&probabilities(&row.to_owned()));
            }
        }
    }
    let map = weights.sum_axis(Axis(1)) / heads as f64;
    vec![weights.into_dyn(), map.into_dyn()]
}
