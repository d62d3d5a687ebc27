//! Which query of one modality sees which key of another: sizes, lengths and masks.

use crate::inputs::Inputs;
use crate::kernel::{Preset, Shape, turns};
use crate::rng;

/// The awkward sizes, published models, and keys from 2^7 to 2^14.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    match preset {
        Preset::Smoke => smoke(),
        Preset::Models => vec![
            of(1, 12, 32, 257, 64).from("BLIP-2 Q-Former"),
            of(1, 20, 448, 1500, 64).from("Whisper-large decoder"),
            of(1, 20, 1, 1500, 64).from("Whisper-large decoder, one token"),
            of(1, 20, 448, 448, 64).tag("causal").from("Whisper-large decoder, self-attention"),
            of(1, 8, 64, 320, 64).from("Flamingo resampler"),
            of(1, 8, 256, 257, 96).from("CoCa pooler"),
            grouped(1, 32, 8, 32, 6404, 128, 128).from("Llama-3.2-11B-Vision, four tiles"),
            of(1, 12, 404, 404, 64).from("MBT-B self-attention, spectrogram and bottleneck"),
            of(24, 5, 50, 500, 6).from("MulT MOSEI text from audio"),
            of(24, 5, 50, 375, 6).from("MulT MOSEI text from vision"),
            of(24, 5, 500, 375, 6).from("MulT MOSEI audio from vision"),
            of(24, 5, 500, 375, 6).tag("band").from("MulT MOSEI audio from vision"),
        ],
        Preset::Sweep => [1, 32, 448]
            .into_iter()
            .flat_map(|q| (7..=14).map(move |log2| of(1, 12, q, 1 << log2, 64)))
            .collect(),
    }
}

fn of(b: usize, h: usize, q: usize, k: usize, d: usize) -> Shape {
    Shape::new(&[("b", b), ("h", h), ("q", q), ("k", k), ("d", d)])
}

/// With `g` key heads, and values `e` wide.
fn grouped(b: usize, h: usize, g: usize, q: usize, k: usize, d: usize, e: usize) -> Shape {
    Shape::new(&[("b", b), ("h", h), ("g", g), ("q", q), ("k", k), ("d", d), ("e", e)])
}

/// The first `n` keys are valid in every batch, as where whole modalities are absent.
fn valid(b: usize, q: usize, k: usize, n: usize) -> Shape {
    Shape::new(&[("b", b), ("h", 2), ("q", q), ("k", k), ("d", 6), ("n", n)])
}

fn smoke() -> Vec<Shape> {
    vec![
        of(1, 1, 1, 1, 5),
        of(3, 2, 3, 7, 5).tag("tail"),
        grouped(2, 4, 2, 5, 33, 8, 12),
        grouped(1, 3, 1, 9, 35, 8, 10),
        of(1, 1, 3, 9, 5).tag("masked"),
        of(1, 2, 5, 31, 80),
        of(3, 2, 17, 33, 80).tag("masked"),
        of(2, 2, 33, 33, 8).tag("causal"),
        of(1, 2, 35, 30, 6).tag("band"),
        of(1, 1, 9, 130, 16).tag("band"),
        grouped(3, 4, 2, 9, 130, 16, 8).tag("bits"),
        of(1, 2, 6, 37, 7).tag("bits"),
        of(2, 3, 33, 65, 40).tag("tail"),
        of(1, 5, 50, 500, 6),
        of(1, 1, 1, 1501, 64),
        of(1, 1, 65, 257, 128),
        of(1, 1, 4, 0, 64),
        of(0, 1, 4, 8, 8),
        valid(2, 5, 27, 14),
        valid(2, 3, 9, 0),
    ]
}

/// Axes that a shape leaves out: as many key heads as heads, values as wide as keys, every key
/// valid.
pub const IMPLIED: &[(&str, &str)] = &[("g", "h"), ("e", "d"), ("n", "k")];
/// All axes in the order of an id.
pub const ORDER: &[&str] = &["b", "h", "g", "q", "k", "d", "e", "n"];

/// Heads share a key head in equal numbers, and no more keys are valid than there are.
pub fn refuses_ragged_heads(shape: &Shape) -> Option<String> {
    let Pairs { h, g, k, n, .. } = Pairs::of(shape);
    let ragged = || format!("{h} heads cannot share {g} key heads");
    let beyond = || format!("{n} of {k} keys are valid");
    (!h.is_multiple_of(g)).then(ragged).or_else(|| (n > k).then(beyond))
}

/// Sizes and masks of one shape: `b` batches, `h` heads that share `g` key heads, `q` queries, `k`
/// keys, queries and keys `d` wide, values `e` wide.
pub struct Pairs {
    pub b: usize,
    pub h: usize,
    pub g: usize,
    pub q: usize,
    pub k: usize,
    pub d: usize,
    pub e: usize,
    /// Valid keys, where the tag does not shorten them.
    n: usize,
    tag: Option<&'static str>,
}

impl Pairs {
    pub fn of(shape: &Shape) -> Self {
        let or = |name, otherwise| shape.get(name).unwrap_or(otherwise);
        let (h, d) = (shape["h"], shape["d"]);
        Pairs {
            b: shape["b"],
            h,
            g: or("g", h),
            q: shape["q"],
            k: shape["k"],
            d,
            e: or("e", d),
            n: or("n", shape["k"]),
            tag: shape.option(),
        }
    }

    /// One output row for each batch, query and head.
    pub fn rows(&self) -> usize {
        self.b * self.q * self.h
    }

    /// Turns of the loops of an invocation that takes a whole query: over the keys, and in each of
    /// them over the query and the value, by fours where both are so many.
    pub fn turns(&self) -> usize {
        let Pairs { k, d, e, .. } = *self;
        let step = if d.is_multiple_of(4) && e.is_multiple_of(4) { 4 } else { 1 };
        turns(k, &[d / step, e / step])
    }

    /// 1/√d as the shader receives it.
    pub fn scale(&self) -> f32 {
        (self.d as f32).sqrt().recip()
    }

    /// The key head of a head.
    pub fn key_head(&self, h: usize) -> usize {
        h / (self.h / self.g)
    }

    /// Valid keys of each batch: all, or those of the axis `n`. `tail` and `bits` shorten every
    /// batch but the second, `masked` leaves the first one without any.
    pub fn lengths(&self) -> Vec<u32> {
        let of = |b: usize| match (self.tag, b) {
            (Some("tail" | "bits"), 1) => self.k,
            (Some("tail" | "bits"), b) => (self.k / 2 + b).min(self.k - 1),
            (Some("masked"), 0) => 0,
            _ => self.n,
        };
        (0..self.b).map(|b| of(b) as u32).collect()
    }

    /// Query i sees the keys up to i + reach.
    pub fn reach(&self) -> usize {
        match self.tag {
            Some("causal") => 0,
            // `buffered_future_mask` of MulT.
            Some("band") => self.q.abs_diff(self.k),
            _ => self.k,
        }
    }

    pub fn has_bits(&self) -> bool {
        self.tag == Some("bits")
    }

    /// `[q, ceil(k/32)]` words, one word where there is no such mask: every other bit or so, the
    /// second query sees nothing, the third one key.
    pub fn mask(&self) -> Vec<u32> {
        if !self.has_bits() {
            return vec![0];
        }
        let words = self.k.div_ceil(32);
        let word = |index: usize| match (index / words, index % words) {
            (1, _) => 0,
            (2, first) => u32::from(first == 0) << 3,
            _ => rng::word(1, 0x6d61, index as u32),
        };
        (0..self.q * words).map(word).collect()
    }

    /// The keys a query sees by the lengths, the reach and the mask that were uploaded.
    pub fn seen_by(&self, inputs: &Inputs, b: usize, query: usize) -> Vec<usize> {
        let reach = inputs.params.get_size("reach");
        let end = (inputs.words("len")[b] as usize).min(self.k).min(query + reach + 1);
        let (mask, words) = (inputs.words("mask"), self.k.div_ceil(32));
        let bit = |key: usize| mask[query * words + key / 32] >> (key % 32) & 1 == 1;
        (0..end).filter(|&key| !self.has_bits() || bit(key)).collect()
    }

    /// Keys from here on are hidden from the query.
    fn end(&self, b: usize, query: usize) -> usize {
        (self.lengths()[b] as usize).min(query + self.reach() + 1)
    }

    /// The keys a query sees, ascending.
    pub fn visible(&self, b: usize, query: usize) -> Vec<usize> {
        let end = self.end(b, query);
        let mask = self.mask();
        let words = self.k.div_ceil(32);
        let bit = |key: usize| mask[query * words + key / 32] >> (key % 32) & 1 == 1;
        (0..end).filter(|&key| !self.has_bits() || bit(key)).collect()
    }

    /// Pairs of a query and a key it sees, over all batches.
    pub fn seen(&self) -> usize {
        let positions = (0..self.b).flat_map(|b| (0..self.q).map(move |query| (b, query)));
        let count = |(b, query)| match self.has_bits() {
            true => self.visible(b, query).len(),
            false => self.end(b, query),
        };
        positions.map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hide_what_they_say() {
        let causal = Pairs::of(&of(1, 1, 3, 3, 4).tag("causal"));
        assert_eq!([0, 1, 2].map(|i| causal.visible(0, i).len()), [1, 2, 3]);
        let band = Pairs::of(&of(1, 1, 2, 5, 4).tag("band"));
        assert_eq!([0, 1].map(|i| band.visible(0, i).len()), [4, 5]);
        let bits = Pairs::of(&of(2, 1, 5, 64, 4).tag("bits"));
        assert_eq!(bits.visible(1, 1), [0; 0]);
        assert_eq!(bits.visible(1, 2), [3]);
        assert!((16..48).contains(&bits.visible(1, 0).len()));
        assert!(bits.visible(0, 0).len() < bits.visible(1, 0).len(), "the first batch is shorter");
    }
}
