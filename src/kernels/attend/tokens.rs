//! The tokens of `bottleneck_attention` and the rows whose scores an unfused strategy keeps.

use std::ops::Range;

use crate::kernel::{Dispatch, Shape, Slice, Variant, cut, spill};

/// Axes of the tokens of up to three modalities.
pub const AXES: [&str; 3] = ["s", "t", "u"];
/// Most slices of the rows that `unfused_slices8` takes one after the other.
const SLICES: usize = 8;

/// The packed tokens: those of a modality, then its projections of the bottlenecks.
pub struct Tokens {
    pub b: usize,
    pub h: usize,
    pub f: usize,
    pub d: usize,
    pub ends: Vec<usize>,
    pub has_absent: bool,
}

impl Tokens {
    pub fn of(shape: &Shape) -> Self {
        let f = shape["f"];
        let lengths = shape.axes().iter().filter(|(axis, _)| AXES.contains(axis));
        let mut end = 0;
        let ends = lengths
            .map(|(_, n)| {
                end += n + f;
                end
            })
            .collect();
        let has_absent = shape.option() == Some("present");
        Tokens { b: shape["b"], h: shape["h"], f, d: shape["d"], ends, has_absent }
    }

    /// Where the tokens of a modality are, its bottlenecks at the end.
    pub fn range(&self, m: usize) -> Range<usize> {
        m.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[m]
    }

    pub fn modality(&self, token: usize) -> usize {
        self.ends.iter().filter(|&&end| token >= end).count()
    }

    pub fn all(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Without bottlenecks.
    pub fn plain(&self) -> usize {
        self.all() - self.ends.len() * self.f
    }

    /// Most keys that a row attends to.
    pub fn longest(&self) -> usize {
        (0..self.ends.len()).map(|m| self.range(m).len()).max().unwrap_or(0)
    }

    /// Tokens of every head, as the shader numbers them: by batch, head and token.
    pub fn rows(&self) -> usize {
        self.b * self.h * self.all()
    }

    /// The rows whose scores are in memory at one time.
    pub fn slices(&self, variant: &Variant) -> Vec<Range<usize>> {
        match variant.name {
            "unfused" => std::iter::once(0..self.rows()).collect(),
            "unfused_slices8" => cut(self.rows(), SLICES, &[]),
            _ => Vec::new(),
        }
    }

    /// The dispatches that attend for some rows.
    pub fn unfused(&self, rows: &Range<usize>, lanes: usize) -> [Dispatch; 3] {
        let mut slice = Slice::default();
        if *rows != (0..self.rows()) {
            slice.params = vec![("first", rows.start), ("rows", rows.len())];
        }
        let run = |entry, invocations: usize| Dispatch {
            slice: slice.clone(),
            ..Dispatch::new(entry, spill(invocations.div_ceil(lanes)))
        };
        [
            run("score_pairs", rows.len() * self.longest()),
            run("softmax_rows", rows.len() * lanes),
            run("mix_values", rows.len() * self.d),
        ]
    }

    /// Bits of each sample: all, or with the tag `present` every mask in turn.
    pub fn presence(&self) -> Vec<u32> {
        let masks = 1 << self.ends.len();
        let of = |batch: u32| if self.has_absent { batch % masks } else { masks - 1 };
        (0..self.b as u32).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::PORTABLE_BINDING;

    fn of(tokens: [usize; 2]) -> Tokens {
        let [s, t] = tokens;
        Tokens::of(&Shape::new(&[("b", 1), ("h", 12), ("s", s), ("t", t), ("f", 4), ("d", 64)]))
    }

    #[test]
    fn slices_hold_every_row_once_and_no_more_scores_than_a_binding() {
        let variant = Variant::new("unfused_slices8", &[("WG", 64.0)]);
        for tokens in [[400, 3136], [400, 784], [1, 0], [0, 3]].map(of) {
            let slices = tokens.slices(&variant);
            let rows: Vec<usize> = slices.iter().cloned().flatten().collect();
            assert!(rows.into_iter().eq(0..tokens.rows()), "{slices:?}");
            assert!(slices.len() <= SLICES);
            let most = slices.iter().map(Range::len).max().unwrap_or(0);
            assert!(4 * most * tokens.longest() < PORTABLE_BINDING, "{slices:?}");
        }
        let unfused = of([400, 3136]).slices(&Variant::new("unfused", &[]));
        assert_eq!(unfused.iter().cloned().flatten().count(), 12 * 3544);
        assert!(4 * 12 * 3544 * of([400, 3136]).longest() > PORTABLE_BINDING);
    }

    #[test]
    fn a_slice_says_where_it_starts_and_the_whole_changes_nothing() {
        let tokens = of([7, 33]);
        let [scores, .., mix] = tokens.unfused(&(96..192), 64);
        assert_eq!(scores.slice.params, [("first", 96), ("rows", 96)]);
        assert_eq!((scores.grid, mix.grid), ([56, 1, 1], [96, 1, 1]));
        assert_eq!(tokens.unfused(&(0..tokens.rows()), 64)[0].slice, Slice::default());
    }
}
