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
        "kernel_shap" => kernel_shap(problem),
        "lime_surrogate" => lime_surrogate(problem),
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
    // Garbage is 6e4 in f16 and 1e30 in f32.
    let used = |s: &usize| v.row(*s).iter().all(|x| x.abs() < 5e4);
    let present: Vec<usize> = (0..players).filter(|i| v.ncols() == 0 || used(&(1 << i))).collect();
    shapley_of(&v, &present)
}

fn shapley_of(v: &Array2<f64>, present: &[usize]) -> Array2<f64> {
    let players = v.nrows().trailing_zeros() as usize;
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

/// `z` as a matrix of zeros and ones.
fn members(inputs: &Inputs, players: usize) -> Array2<f64> {
    let z = inputs.words("z");
    let sets: Vec<u64> =
        (0..z.len() / 2).map(|row| u64::from(z[[row, 0]]) | u64::from(z[[row, 1]]) << 32).collect();
    Array2::from_shape_fn((sets.len(), players), |(row, i)| (sets[row] >> i & 1) as f64)
}

/// Gauss elimination with the largest pivot; `None` for a singular matrix.
fn eliminate(mut a: Array2<f64>, mut b: Array2<f64>) -> Option<Array2<f64>> {
    let n = a.nrows();
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&i, &j| a[[i, column]].abs().total_cmp(&a[[j, column]].abs()))?;
        if a[[pivot, column]].abs() < 1e-9 {
            return None;
        }
        for m in [&mut a, &mut b] {
            let (upper, lower) = (m.row(column).to_owned(), m.row(pivot).to_owned());
            m.row_mut(pivot).assign(&upper);
            m.row_mut(column).assign(&lower);
        }
        for row in (0..n).filter(|&row| row != column) {
            let factor = a[[row, column]] / a[[column, column]];
            for m in [&mut a, &mut b] {
                let pivot_row = m.row(column).to_owned();
                m.row_mut(row).scaled_add(-factor, &pivot_row);
            }
        }
    }
    let pivots = a.diag().insert_axis(Axis(1)).to_owned();
    Some(b / pivots)
}

/// Least squares in all players with a Lagrange multiplier for their sum.
fn kernel_shap(problem: &Problem) -> Vec<ArrayD<f64>> {
    let (inputs, players) = (problem.inputs, problem.shape["m"]);
    let (y, ends) = (float::<Ix2>(inputs, "y"), float::<Ix2>(inputs, "ends"));
    let z = members(inputs, players);
    let weighted = &z * &float::<Ix1>(inputs, "w").insert_axis(Axis(1));
    let gain = &ends.row(1) - &ends.row(0);
    let mut a = Array2::zeros((players + 1, players + 1));
    let mut b = Array2::zeros((players + 1, y.ncols()));
    a.slice_mut(s![..players, ..players]).assign(&weighted.t().dot(&z));
    a.slice_mut(s![players, ..players]).fill(1.0);
    a.slice_mut(s![..players, players]).fill(1.0);
    b.slice_mut(s![..players, ..]).assign(&weighted.t().dot(&(&y - &ends.row(0))));
    b.row_mut(players).assign(&gain);
    // With one player the constraint alone decides.
    let solution = if players == 1 { Some(gain.insert_axis(Axis(0))) } else { eliminate(a, b) };
    let solved = solution.is_some();
    let phi = match solution {
        Some(all) => all.slice(s![..players, ..]).t().to_owned(),
        None => Array2::zeros((y.ncols(), players)),
    };
    if players > 1 && players <= 10 && y.nrows() == (1 << players) - 2 {
        // All coalitions are there, in order: the fit is exact.
        let game =
            ndarray::concatenate![Axis(0), ends.slice(s![..1, ..]), y, ends.slice(s![1.., ..])];
        let exact = shapley_of(&game, &(0..players).collect::<Vec<_>>());
        let far = (&phi - &exact.t()).fold(0.0_f64, |far, x| far.max(x.abs()));
        assert!(far < 1e-12, "kernel SHAP is {far} from the Shapley values");
    }
    let flags = Array2::from_elem((y.ncols(), 1), f64::from(u8::from(solved)));
    vec![phi.into_dyn(), flags.into_dyn()]
}

/// Ridge with a column of ones that is not penalised.
fn lime_surrogate(problem: &Problem) -> Vec<ArrayD<f64>> {
    let (inputs, m) = (problem.inputs, problem.shape["m"]);
    let y = float::<Ix2>(inputs, "y");
    let width = match problem.shape.option() {
        Some("tabular") => f64::from(0.5 / (0.5625 * m as f32)),
        _ => 8.0,
    };
    let w = float::<Ix1>(inputs, "dist").mapv(|d| (-d * d * width).exp());
    if w.sum() == 0.0 {
        return vec![
            Array2::zeros((y.ncols(), m)).into_dyn(),
            Array2::zeros((y.ncols(), 1)).into_dyn(),
        ];
    }
    let z = members(inputs, m);
    let ones = Array2::ones((z.nrows(), 1));
    let x = ndarray::concatenate![Axis(1), z, ones];
    let weighted = &x * &w.insert_axis(Axis(1));
    let mut a = weighted.t().dot(&x);
    (0..m).for_each(|i| a[[i, i]] += 1.0);
    let all = eliminate(a, weighted.t().dot(&y)).expect("a penalty makes it regular");
    let beta = all.slice(s![..m, ..]).t().to_owned();
    vec![beta.into_dyn(), all.slice(s![m.., ..]).t().to_owned().into_dyn()]
}
