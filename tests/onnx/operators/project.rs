//! Products of matrices: transposed, scaled and broadcast on the host.

use fusebench::kernel::{Dtype, Elem};
use ndarray::{Array2, ArrayD, Axis, Ix2, IxDyn, concatenate};

use super::{Outcome, first, flat, joined, storage};
use crate::case::Case;
use crate::common::lab::{Ask, Lab};
use crate::outside::Outside;
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
        x = concatenate![Axis(1), x, Array2::eye(m)];
        w = concatenate![Axis(1), w, full.t()];
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

/// Codes less their zero point, where that still fits eight bits.
pub fn matmul_integer(lab: &Lab, case: &Case) -> Outcome {
    let codes = |at: usize, transposed| {
        let zero = case.input(at + 2).map_or(0.0, |zero| zero.values.sum());
        matrix(case.needed(at), transposed) - zero
    };
    let (a, b) = (codes(0, false), codes(1, true));
    if a.iter().chain(&b).any(|code| !(-128.0..=127.0).contains(code)) {
        return Err(Outside::WideCodes);
    }
    let (m, n, k) = (a.nrows(), b.nrows(), a.ncols());
    let padded = |codes: Array2<f64>| {
        let mut whole = Array2::zeros((codes.nrows(), k.next_multiple_of(4)));
        whole.slice_mut(ndarray::s![.., ..k]).assign(&codes);
        whole.into_raw_vec_and_offset().0
    };
    let ask = Ask::new("compress/linear_w8a8", Elem::F32, &[("m", m), ("n", n), ("k", k)])
        .dtype(Dtype::I8)
        .tensor("qa", padded(a))
        .tensor("sa", vec![1.0; m])
        .tensor("qw", padded(b))
        .tensor("sw", vec![1.0; n])
        .tensor("b", vec![0.0; n]);
    Ok(first("linear_w8a8", &lab.run(&ask), &[m, n]))
}
