//! Attention by matrix products for each head, with masks as biases.

use fusebench::kernel::Problem;
use ndarray::{Array1, Array2, Array4, ArrayD, ArrayView2, Ix1, Ix2, Ix4, Ix5, s};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "bottleneck_attention" => return bottleneck_attention(problem),
        "cross_attention" => cross_attention(problem),
        "gated_cross_attention" => gated_cross_attention(problem),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
}

/// The size of an axis, or what it is where the shape does not name it.
fn axis(problem: &Problem, name: &str, otherwise: usize) -> usize {
    let axes = problem.shape.axes().iter();
    axes.filter(|(known, _)| *known == name).map(|&(_, size)| size).next().unwrap_or(otherwise)
}

/// What is added to a score: nothing, or so much that the weight vanishes.
fn bias(problem: &Problem, b: usize, query: usize, key: usize) -> f64 {
    let (q, k) = (problem.shape["q"], problem.shape["k"]);
    let bit = || {
        let word = problem.inputs.words("mask")[query * k.div_ceil(32) + key / 32];
        word.rotate_right(key as u32 % 32) % 2 == 1
    };
    let seen = match problem.shape.option() {
        Some("causal") => query >= key,
        // The upper triangle from diagonal 1 + |k - q| on is future.
        Some("band") => (key as i64 - query as i64) < 1 + (k as i64 - q as i64).abs(),
        Some("bits") => bit(),
        _ => true,
    };
    let valid = key < problem.inputs.words("len")[b] as usize;
    if seen && valid { 0.0 } else { f64::NEG_INFINITY }
}

/// Scores of all keys with a bias of minus infinity for hidden ones, every key and value head
/// repeated for its group of heads.
fn cross_attention(problem: &Problem) -> Array2<f64> {
    let inputs = problem.inputs;
    let (q, k) = (float::<Ix4>(inputs, "q"), float::<Ix4>(inputs, "k"));
    let (batch, queries, heads, d) = q.dim();
    let group = heads / axis(problem, "g", heads);
    let e = axis(problem, "e", d);
    let v = float::<Ix4>(inputs, "v").mapv(|v| if v.abs() > 5e4 { 0.0 } else { v });
    let scale = f64::from(1.0 / (d as f32).sqrt());
    let mut o = Array4::zeros((batch, queries, heads, e));
    for b in 0..batch {
        for h in 0..heads {
            let keys = k.slice(s![b, .., h / group, ..]);
            let scores = q.slice(s![b, .., h, ..]).dot(&keys.t()) * scale;
            for (i, row) in scores.rows().into_iter().enumerate() {
                let biased = row.indexed_iter().map(|(j, score)| score + bias(problem, b, i, j));
                let biased: Array1<f64> = biased.collect();
                if biased.iter().all(|score| score.is_infinite()) {
                    continue;
                }
                let mixed = probabilities(&biased).dot(&v.slice(s![b, .., h / group, ..]));
                o.slice_mut(s![b, i, h, ..]).assign(&mixed);
            }
        }
    }
    o.into_shape_with_order((batch * queries * heads, e)).expect("row-major")
}

/// Softmax of biased scores for each row, zeros where a row has no finite one, times the values.
fn attend(scores: Array2<f64>, values: ArrayView2<f64>) -> Array2<f64> {
    let mut weights = scores;
    for mut row in weights.rows_mut() {
        if row.iter().any(|score| score.is_finite()) {
            let weights = probabilities(&row.to_owned());
            row.assign(&weights);
        } else {
            row.fill(0.0);
        }
    }
    weights.dot(&values)
}

/// All latents of a sample at once, those of other media with a bias of minus infinity.
fn gated_cross_attention(problem: &Problem) -> Array2<f64> {
    let (inputs, shape) = (problem.inputs, problem.shape);
    let x = float::<Ix2>(inputs, "x");
    let q = float::<Ix4>(inputs, "q");
    let kv = float::<Ix5>(inputs, "kv");
    let w = float::<Ix2>(inputs, "w");
    let times = inputs.words("times");
    let (batch, queries, heads, d) = q.dim();
    let mut o = Array4::zeros(q.dim());
    for b in 0..batch {
        for h in 0..heads {
            let keys = kv.slice(s![b, .., 0, h, ..]);
            let mut scores: Array2<f64> = q.slice(s![b, .., h, ..]).dot(&keys.t());
            scores *= f64::from(1.0 / (d as f32).sqrt());
            for ((i, key), score) in scores.indexed_iter_mut() {
                if key / shape["l"] + 1 != times[b * queries + i] as usize {
                    *score = f64::NEG_INFINITY;
                }
            }
            let mixed = attend(scores, kv.slice(s![b, .., 1, h, ..]));
            o.slice_mut(s![b, .., h, ..]).assign(&mixed);
        }
    }
    let alpha = if shape.option() == Some("closed") { 0.0 } else { f64::from(0.7_f32) };
    let o = o.into_shape_with_order((batch * queries, heads * d)).expect("row-major");
    x + o.dot(&w.t()) * alpha.tanh()
}

/// Self-attention of each present modality; its last rows are its bottlenecks.
fn bottleneck_attention(problem: &Problem) -> Vec<ArrayD<f64>> {
    let (inputs, shape) = (problem.inputs, problem.shape);
    let [q, k, v] = ["q", "k", "v"].map(|name| float::<Ix4>(inputs, name));
    let f = float::<Ix1>(inputs, "f");
    let (batch, _, heads, d) = q.dim();
    let bottlenecks = shape["f"];
    let axes = shape.axes().iter().filter(|(axis, _)| ["s", "t", "u"].contains(axis));
    let lengths: Vec<usize> = axes.map(|&(_, n)| n).collect();
    let f = f.into_shape_with_order((batch, bottlenecks, heads, d)).expect("row-major");
    let mut z = Array4::zeros((batch, lengths.iter().sum(), heads, d));
    let mut f_next = f.clone();
    for b in 0..batch {
        let bits = inputs.words("present")[b];
        if bits != 0 {
            f_next.slice_mut(s![b, .., .., ..]).fill(0.0);
        }
        for h in 0..heads {
            let (mut packed, mut plain) = (0, 0);
            for (m, &n) in lengths.iter().enumerate() {
                let own = s![b, packed..packed + n + bottlenecks, h, ..];
                if bits >> m & 1 == 1 {
                    let scores = q.slice(own).dot(&k.slice(own).t());
                    let scores = scores * f64::from(1.0 / (d as f32).sqrt());
                    let mixed = attend(scores, v.slice(own));
                    z.slice_mut(s![b, plain..plain + n, h, ..]).assign(&mixed.slice(s![..n, ..]));
                    let share = mixed.slice(s![n.., ..]).mapv(|x| x / f64::from(bits.count_ones()));
                    let mut sum = f_next.slice_mut(s![b, .., h, ..]);
                    sum += &share;
                }
                (packed, plain) = (packed + n + bottlenecks, plain + n);
            }
        }
    }
    vec![z.into_dyn(), f_next.into_dyn()]
}
