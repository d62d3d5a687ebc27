//! Products of matrices: transposed, scaled and broadcast on the host.

use fusebench::kernel::{Dtype, Elem};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, Ix2, IxDyn, concatenate, s};

use super::quantize::given_scale;
use super::{Outcome, checked, first, flat, joined, storage};
use crate::case::Case;
use crate::common::lab::{Ask, Lab, Run};
use crate::proto::Array;

fn matrix(array: &Array, transposed: bool) -> Array2<f64> {
    let matrix = array.values.clone().into_dimensionality::<Ix2>().expect("a matrix");
    if transposed { matrix.t().as_standard_layout().into_owned() } else { matrix }
}

/// x · wᵀ + b by every strategy of `linear`.
pub fn linear(x: &Array2<f64>, w: &Array2<f64>, b: &[f64], storage: Elem) -> Ask {
    let axes = [("m", x.nrows()), ("n", w.nrows()), ("k", x.ncols())];
    Ask::new("project/linear", storage, &axes)
        .tensor("x", x.iter().copied())
        .tensor("w", w.iter().copied())
        .tensor("b", b.iter().copied())
}

/// A bias that differs between rows is one more input of the layer for each row.
pub fn gemm(lab: &Lab, case: &Case) -> Outcome {
    let (alpha, beta) = (f64::from(case.float("alpha", 1.0)), f64::from(case.float("beta", 1.0)));
    let mut x = matrix(case.needed(0), case.int("transA", 0) == 1) * alpha;
    let mut w = matrix(case.needed(1), case.int("transB", 0) == 0);
    let (m, n) = (x.nrows(), w.nrows());
    let bias =
        case.input(2).map(|c| &c.values * beta).unwrap_or_else(|| ArrayD::zeros(IxDyn(&[1])));
    let by_row = bias.ndim() == 2 && bias.shape()[0] > 1;
    let full = bias.broadcast(IxDyn(&[m, n])).expect("C can be broadcast").to_owned();
    let full = full.into_dimensionality::<Ix2>().expect("a matrix");
    let b = if by_row { vec![0.0; n] } else { full.row(0).to_vec() };
    if by_row {
        x = ndarray::concatenate![Axis(1), x, Array2::eye(m)];
        w = ndarray::concatenate![Axis(1), w, full.t()];
    }
    Ok(first("linear", &lab.run(&linear(&x, &w, &b, storage(case.needed(0)))), &[m, n]))
}

pub fn matmul(lab: &Lab, case: &Case) -> Outcome {
    let (mut a, mut b) = (case.needed(0).values.clone(), case.needed(1).values.clone());
    if a.ndim() == 1 {
        a.insert_axis_inplace(Axis(0));
    }
    if b.ndim() == 1 {
        b.insert_axis_inplace(Axis(1));
    }
    let rank = a.ndim().max(b.ndim());
    let dims = |x: &ArrayD<f64>| [vec![1; rank - x.ndim()], x.shape().to_vec()].concat();
    let (of_a, of_b) = (dims(&a), dims(&b));
    let batch: Vec<usize> = (0..rank - 2).map(|axis| of_a[axis].max(of_b[axis])).collect();
    let whole = |x: &ArrayD<f64>, own: &[usize]| {
        let wanted = [&batch[..], &own[rank - 2..]].concat();
        let all = x.broadcast(IxDyn(&wanted)).expect("batches can be broadcast").to_owned();
        let flat = [batch.iter().product(), own[rank - 2], own[rank - 1]];
        all.into_shape_with_order(flat).expect("row-major")
    };
    let (a, b) = (whole(&a, &of_a), whole(&b, &of_b));
    let bias = vec![0.0; b.dim().2];
    let parts = a.outer_iter().zip(b.outer_iter()).map(|(a, b)| {
        let weights = b.t().as_standard_layout().into_owned();
        lab.run(&linear(&a.to_owned(), &weights, &bias, storage(case.needed(0))))
    });
    let dims = case.output(0).expect("c").values.shape();
    Ok(first("linear", &joined(parts.collect()), dims))
}

/// The activation of a layer of one input, weight 1 and no bias.
pub fn gelu(lab: &Lab, case: &Case) -> Outcome {
    let x = case.needed(0);
    let tag = if case.text("approximate", "none") == "tanh" { "gelu_tanh" } else { "gelu" };
    let column = Array2::from_shape_vec((x.values.len(), 1), flat(x.values.view())).expect("one");
    let ask = linear(&column, &Array2::ones((1, 1)), &[0.0], storage(x)).tag(tag);
    Ok(first("linear", &lab.run(&ask), x.values.shape()))
}

/// Codes less their zero point. They may have nine bits, which is the sum of two codes of eight.
fn centred(codes: &Array, zero: Option<&Array>) -> [ArrayD<f64>; 2] {
    let whole = &codes.values - zero.map_or(0.0, |zero| zero.values.sum());
    let half = whole.mapv(|code| (code / 2.0).trunc());
    [&whole - &half, half]
}

/// Integer sums of `[m, k]` and `[k, n]` codes, times a scale for each row of either side.
fn linear_w8a8(a: ArrayView2<f64>, b: ArrayView2<f64>, (sa, sb): (f64, f64)) -> Ask {
    let (m, n, k) = (a.nrows(), b.ncols(), a.ncols());
    let padded = |codes: ArrayView2<f64>| {
        let mut whole = Array2::zeros((codes.nrows(), k.next_multiple_of(4)));
        whole.slice_mut(s![.., ..k]).assign(&codes);
        whole.into_raw_vec_and_offset().0
    };
    Ask::new("compress/linear_w8a8", Elem::F32, &[("m", m), ("n", n), ("k", k)])
        .dtype(Dtype::I8)
        .tensor("qa", padded(a))
        .tensor("sa", vec![sa; m])
        .tensor("qw", padded(b.t()))
        .tensor("sw", vec![sb; n])
        .tensor("b", vec![0.0; n])
}

pub fn matmul_integer(lab: &Lab, case: &Case) -> Outcome {
    let runs = products(lab, case, [0, 1], [2, 3], (1.0, 1.0));
    Ok(first("linear_w8a8", &runs, case.output(0).expect("Y").values.shape()))
}

/// Products of two inputs of codes, batch by batch, by a layer four times as deep: each half of one
/// side meets each half of the other.
fn products(
    lab: &Lab,
    case: &Case,
    codes: [usize; 2],
    zeros: [usize; 2],
    scales: (f64, f64),
) -> Vec<Run> {
    let batches = |side: usize, turns: [usize; 4]| -> Array3<f64> {
        let halves = centred(case.needed(codes[side]), case.input(zeros[side]));
        let dims = halves[0].shape();
        let (rows, cols) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let dims = (halves[0].len() / rows / cols, rows, cols);
        let halves = halves.map(|half| half.into_shape_with_order(dims).expect("row-major"));
        let turns = turns.map(|turn| halves[turn].view());
        concatenate(Axis(2 - side), &turns).expect("halves are of one size")
    };
    let (a, b) = (batches(0, [0, 1, 0, 1]), batches(1, [0, 0, 1, 1]));
    let parts = a.outer_iter().zip(b.outer_iter());
    joined(parts.map(|(a, b)| lab.run(&linear_w8a8(a, b, scales))).collect())
}

/// Products of codes, then codes of the products: what the device gave first is quantised next.
pub fn qlinear_matmul(lab: &Lab, case: &Case) -> Outcome {
    let number = |at: usize| case.needed(at).values.sum();
    let y = case.output(0).expect("y");
    let mut all = Vec::new();
    for products in products(lab, case, [0, 3], [2, 5], (number(1), number(4))) {
        let values: Vec<f64> = products.outputs[0].iter().map(|element| element.device).collect();
        for (run, codes) in given_scale(lab, y.kind, &values, number(6) as f32, number(7)) {
            let codes = ArrayD::from_shape_vec(y.values.raw_dim(), codes).expect("its size");
            all.push(checked("linear_w8a8, quantize_int8", &run, 0, codes));
        }
    }
    Ok(all)
}
