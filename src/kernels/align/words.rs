//! Exact copies of elements: f32 words, or f16 halves two to a word, so that every bit survives.

use ndarray::Array2;
use rayon::prelude::*;

use crate::accuracy::Scalar;
use crate::inputs::{Generator, Tensor};
use crate::kernel::{Buffer, Dtype, Elem, Problem};
use crate::reference::{Rows, by_rows};
use crate::rng;

/// Elements in a word.
pub fn per_word(dtype: Dtype) -> usize {
    4 / dtype.bytes()
}

/// The tensor `x`: the user's, or random bits, NaN patterns and subnormals among them.
pub fn input(generator: &Generator, elements: usize) -> Tensor {
    let words = elements.div_ceil(per_word(generator.dtype));
    if let Some(tensor) = generator.user("x", &[elements]) {
        let mut bytes = tensor.bytes().into_owned();
        bytes.resize(4 * words, 0);
        return Tensor::words("x", &[words], bytemuck::pod_collect_to_vec(&bytes));
    }
    let random = |index| rng::word(generator.seed, 0, index);
    Tensor::words("x", &[words], (0..words as u32).into_par_iter().map(random).collect())
}

/// The output `y` of so many elements, a last half filled up with zero.
pub fn output(elements: usize, dtype: Dtype) -> Buffer {
    let words = elements.div_ceil(per_word(dtype));
    let cols = if words.is_multiple_of(256) { 256 } else { 1 };
    Buffer::new("y", Elem::U32, words / cols, cols)
}

/// The output whose element `e` is a copy of element `source(e)`, or zero.
pub fn gather<S: Scalar>(
    problem: &Problem,
    rows: &Rows,
    elements: usize,
    source: impl Fn(usize) -> Option<usize> + Sync,
) -> Vec<Array2<S>> {
    let x = problem.inputs.words("x");
    let x = x.to_slice().expect("row-major");
    let each = per_word(problem.dtype);
    let bits = 32 / each;
    let element = |e: usize| {
        let from = if e < elements { source(e) } else { None };
        let taken = from.map_or(0, |at| x[at / each] >> (at % each * bits));
        taken & (u32::MAX >> (32 - bits))
    };
    let word =
        |index: usize| (0..each).fold(0, |word, i| word | element(index * each + i) << (i * bits));
    let buffer = output(elements, problem.dtype);
    vec![by_rows(rows, buffer.rows, buffer.cols, |row, mut y| {
        for (col, out) in y.iter_mut().enumerate() {
            *out = S::exact(f64::from(word(row * buffer.cols + col)));
        }
    })]
}

/// What an exact copy moves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One or four words of so many elements.
    Elements(usize),
    /// One f16 element, because runs of them are odd.
    Half,
}

/// The unit of a strategy, `vector` or `word`.
pub fn unit(runs: &[usize], dtype: Dtype, variant: &str) -> Unit {
    let each = per_word(dtype);
    let whole = runs.iter().all(|run| run.is_multiple_of(each));
    match (variant, whole) {
        ("vector", _) => Unit::Elements(4 * each),
        (_, true) => Unit::Elements(each),
        (_, false) => Unit::Half,
    }
}

/// Why `vector` cannot move runs of so many elements; the same for both element sizes.
pub fn refuses_ragged(runs: &[usize]) -> Option<String> {
    let ragged = runs.iter().find(|run| !run.is_multiple_of(8));
    ragged.map(|run| format!("a run of {run} elements is no multiple of eight"))
}
