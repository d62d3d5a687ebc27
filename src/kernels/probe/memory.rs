//! What the memory probes share: sizes, random words, the strategies' span of a workgroup.

use ndarray::Array2;
use rayon::prelude::*;

use crate::accuracy::Scalar;
use crate::inputs::{Generator, Inputs, Params, Tensor};
use crate::kernel::{Preset, Shape};
use crate::reference::{Rows, by_rows};
use crate::rng;

/// Bytes read: awkward ones, a few of each memory level, and every power of two.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |n: usize| Shape::new(&[("n", n)]);
    match preset {
        Preset::Smoke => {
            [0, 4, 16, 20, 1_024, 1_028, 4_112, 65_552, 262_148, 1 << 20].map(of).into()
        }
        Preset::Models => [20, 26].map(|log2| of(1 << log2)).into(),
        Preset::Sweep => (13..=27).map(|log2| of(1 << log2)).collect(),
    }
}

/// Why a strategy that moves vectors of four words cannot do a size.
pub fn refuses_ragged(shape: &Shape) -> Option<String> {
    let n = shape["n"];
    (!n.is_multiple_of(16)).then(|| format!("{n} bytes are no multiple of 16"))
}

/// Random bits, NaN patterns and subnormals among them.
pub fn inputs(shape: &Shape, generator: &Generator) -> Inputs {
    let words = shape["n"] / 4;
    let random = |index| rng::word(generator.seed, 0, index);
    let x = (0..words as u32).into_par_iter().map(random).collect();
    Inputs::new(Params::new().size("words", words), vec![Tensor::words("x", &[words], x)])
}

/// Rows and columns of an output of `words` words, so that samples of it are spread and cheap.
pub fn layout(words: usize) -> (usize, usize) {
    let cols = if words.is_multiple_of(256) { 256 } else { 1 };
    (words / cols, cols)
}

/// An output of exact words, each given by its index.
pub fn exact_words<S: Scalar>(
    rows: &Rows,
    words: usize,
    word: impl Fn(usize) -> u32 + Sync,
) -> Vec<Array2<S>> {
    let (total, cols) = layout(words);
    vec![by_rows(rows, total, cols, |row, mut y| {
        for col in 0..cols {
            y[col] = S::exact(f64::from(word(row * cols + col)));
        }
    })]
}

/// The words of the input.
pub fn x(inputs: &Inputs) -> &[u32] {
    inputs.words("x").to_slice().expect("row-major")
}
