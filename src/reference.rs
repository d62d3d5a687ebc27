//! How references run: over a chosen set of output rows, in parallel.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayViewMut1, Axis};

/// Which output rows a reference computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    /// Ascending row numbers, for sampled verification of large shapes.
    Some(Vec<usize>),
}

impl Rows {
    /// The selected row numbers of an output with `total` rows.
    pub fn of(&self, total: usize) -> Vec<usize> {
        match self {
            Rows::All => (0..total).collect(),
            Rows::Some(rows) => rows.iter().copied().filter(|&row| row < total).collect(),
        }
    }
}

/// Fills the selected rows of a `total × cols` output in parallel; `compute(row, out)` writes one.
pub fn by_rows<S: Clone + Default + Send + Sync>(
    rows: &Rows,
    total: usize,
    cols: usize,
    compute: impl Fn(usize, ArrayViewMut1<S>) + Sync,
) -> Array2<S> {
    let selected = rows.of(total);
    let mut out = Array2::from_elem((selected.len(), cols), S::default());
    out.axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(selected.par_iter())
        .for_each(|(out, &row)| compute(row, out));
    out
}
