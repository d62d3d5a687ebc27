//! Comparisons of embeddings by whole matrices.

use std::cmp::Ordering;

use fusebench::inputs::{Distribution, Generator, Inputs, Tensor};
use fusebench::kernel::{Dtype, Elem, Entry, Preset, Problem};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    match name {
        "contrastive_loss" => contrastive_loss(problem),
        "cosine_similarity" => vec![cosine_similarity(problem.inputs).into_dyn()],
        "sigmoid_contrastive_loss" => sigmoid_contrastive_loss(problem),
        "top_k" => top_k(problem),
        _ => panic!("write an oracle for {name}"),
    }
}

/// Rows of unit length, or of zeros.
fn unit_rows(x: Array2<f64>) -> Array2<f64> {
    let norms = x.map_axis(Axis(1), |row| row.dot(&row).sqrt());
    x / &norms.mapv(|norm| if norm > 0.0 { norm } else { 1.0 }).insert_axis(Axis(1))
}

fn cosine_similarity(inputs: &Inputs) -> Array2<f64> {
    let (a, b) = (unit_rows(float::<Ix2>(inputs, "a")), unit_rows(float::<Ix2>(inputs, "b")));
    a.dot(&b.t()) * f64::from(14.285_714_f32)
}

/// Embeddings have elements of size 1 unless they are said to be unit vectors.
fn scale(temperature: f32, problem: &Problem) -> f32 {
    match problem.shape.option() {
        Some("unit") => temperature,
        _ => temperature / problem.shape["d"] as f32,
    }
}

/// The rows of `x` whose pair is there, and their numbers.
fn members(x: &Array2<f64>, present: &[bool]) -> (Array2<f64>, Vec<usize>) {
    let kept: Vec<usize> = (0..present.len()).filter(|&i| present[i]).collect();
    (x.select(Axis(0), &kept), kept)
}

/// As a classification: minus the mean log-probability of the diagonal, both ways, among the pairs
/// that are there.
fn contrastive_loss(problem: &Problem) -> Vec<ArrayD<f64>> {
    let b = problem.shape["b"];
    let words = problem.inputs.words("present");
    let present: Vec<bool> = words.iter().map(|&bit| bit == 1).collect();
    let (left, kept) = members(&float::<Ix2>(problem.inputs, "a"), &present);
    let (right, _) = members(&float::<Ix2>(problem.inputs, "b"), &present);
    let logits = left.dot(&right.t()) * f64::from(scale(14.285_714, problem));
    let peak = logits.fold(0.0, |a: f64, &b| a.max(b));
    let log_sums = |logits: &Array2<f64>| {
        logits.mapv(|l| (l - peak).exp()).sum_axis(Axis(1)).mapv(|sum| peak + sum.ln())
    };
    let (of_rows, of_columns) = (log_sums(&logits), log_sums(&logits.t().to_owned()));
    let gaps = &of_rows + &of_columns - 2.0 * &logits.diag();
    let loss = gaps.mean().map_or(0.0, |mean| mean / 2.0);
    let spread = |known: Array1<f64>| {
        let mut all = Array1::from_elem(b, f64::from(-3.0e38_f32));
        kept.iter().zip(&known).for_each(|(&i, &lse)| all[i] = lse);
        all.into_dyn()
    };
    vec![spread(of_rows), spread(of_columns), Array1::from_elem(1, loss).into_dyn()]
}

fn sigmoid_contrastive_loss(problem: &Problem) -> Vec<ArrayD<f64>> {
    let b = problem.shape["b"];
    let (left, right) = (float::<Ix2>(problem.inputs, "a"), float::<Ix2>(problem.inputs, "b"));
    let logits = left.dot(&right.t()) * f64::from(scale(10.0, problem)) - 10.0;
    let signs = 1.0 - 2.0 * Array2::<f64>::eye(b);
    // Minus the logarithm of the sigmoid.
    let losses = (logits * signs).mapv(|x| -(1.0 / (1.0 + x.exp())).ln());
    let rows = losses.sum_axis(Axis(1));
    let loss = if b > 0 { rows.sum() / b as f64 } else { 0.0 };
    vec![rows.into_dyn(), Array1::from_elem(1, loss).into_dyn()]
}

/// One maximum after the other, each taken out of the row once found.
fn top_k(problem: &Problem) -> Vec<ArrayD<f64>> {
    let (r, k) = (problem.shape["r"], problem.shape["k"]);
    let mut x = float::<Ix2>(problem.inputs, "x");
    let (mut values, mut indices) = (Array2::zeros((r, k)), Array2::zeros((r, k)));
    for (row, mut x) in x.outer_iter_mut().enumerate() {
        for place in 0..k {
            let first = |best: usize, i: usize| match x[i].total_cmp(&x[best]) {
                Ordering::Greater => i,
                _ => best,
            };
            let best = (0..x.len()).fold(0, first);
            values[[row, place]] = x[best];
            indices[[row, place]] = best as f64;
            x[best] = f64::NEG_INFINITY;
        }
    }
    vec![values.into_dyn(), indices.into_dyn()]
}

/// Both losses, on the largest smoke shape with all pairs present, of `a` and `b` after `change`.
fn losses(change: impl Fn(Array2<f32>, Array2<f32>) -> [Array2<f32>; 2]) -> Vec<f64> {
    let is_loss = |entry: &&Entry| entry.name.ends_with("contrastive_loss");
    let of = |entry: &Entry| {
        let shape = entry.kernel.shapes(Preset::Smoke).into_iter().find(|s| s["b"] == 130);
        let shape = shape.expect("130 pairs");
        let variant = &entry.kernel.spec().variants[0];
        let generator = Generator::new(Dtype::F32, variant, Distribution::Normal, 3);
        let drawn = entry.kernel.inputs(&shape, &generator);
        let side = |name| drawn.float::<Ix2>(name).to_owned();
        let changed = change(side("a"), side("b"));
        let mut tensors: Vec<Tensor> = ["a", "b"]
            .into_iter()
            .zip(&changed)
            .map(|(name, x)| {
                let values = x.iter().copied().collect();
                Tensor::floats(name, Elem::F32, x.shape(), values)
            })
            .collect();
        tensors.extend(drawn.tensors.iter().filter(|tensor| tensor.name == "present").cloned());
        let inputs = Inputs::new(drawn.params.clone(), tensors);
        let (dtype, shape) = (Dtype::F32, &shape);
        let problem = Problem { shape, dtype, variant, inputs: &inputs, device: &[] };
        let outputs = entry.kernel.reference(&problem, &Rows::All);
        outputs.last().expect("a loss")[[0, 0]]
    };
    ALL.iter().filter(is_loss).map(of).collect()
}

fn differ(one: &[f64], other: &[f64]) -> bool {
    assert_eq!((one.len(), other.len()), (2, 2));
    one.iter().zip(other).any(|(a, b)| (a - b).abs() > 1e-12 * a.abs())
}

#[test]
fn losses_depend_on_which_rows_are_pairs_and_not_on_their_order_or_sides() {
    let plain = losses(|a, b| [a, b]);
    assert!(!differ(&plain, &losses(|a, b| [b, a])), "sides swapped");
    let order: Vec<usize> = (0..130).map(|i| i * 37 % 130).collect();
    let both = losses(|a, b| [a.select(Axis(0), &order), b.select(Axis(0), &order)]);
    assert!(!differ(&plain, &both), "pairs in another order");
    assert!(differ(&plain, &losses(|a, b| [a.select(Axis(0), &order), b])), "other pairs");
}
