//! Sizes, lengths and softmax weights of attention between queries and keys of two modalities.

use crate::accuracy::Scalar;
use crate::kernel::{Preset, Shape, Variant};

/// The awkward sizes, published models, and keys from 2^7 to 2^14.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    match preset {
        Preset::Smoke => smoke(),
        Preset::Models => vec![
            of(1, 12, 32, 257, 64).from("BLIP-2 Q-Former"),
            of(1, 20, 448, 1500, 64).from("Whisper-large decoder"),
            of(1, 20, 1, 1500, 64).from("Whisper-large decoder, one token"),
            of(1, 8, 64, 320, 64).from("Flamingo resampler"),
            of(1, 8, 256, 257, 96).from("CoCa pooler"),
            of(24, 5, 50, 500, 6).from("MulT MOSEI text from audio"),
            of(24, 5, 50, 375, 6).from("MulT MOSEI text from vision"),
            of(24, 5, 500, 375, 6).from("MulT MOSEI audio from vision"),
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

fn smoke() -> Vec<Shape> {
    let shapes = vec![
        of(1, 1, 1, 1, 5),
        of(1, 2, 3, 7, 5),
        of(1, 5, 50, 500, 6),
        of(1, 1, 1, 1501, 64),
        of(2, 3, 33, 65, 40),
        of(1, 2, 5, 31, 80),
        of(1, 1, 65, 257, 128),
        of(1, 1, 4, 0, 64),
        of(0, 1, 4, 8, 8),
    ];
    let tails = [of(3, 2, 3, 7, 5), of(2, 3, 33, 65, 40), of(4, 5, 9, 130, 6)];
    let masked = [of(1, 1, 3, 9, 5), of(2, 3, 5, 31, 64), of(3, 2, 17, 33, 80)];
    let tails = tails.map(|shape| shape.tag("tail"));
    shapes.into_iter().chain(tails).chain(masked.map(|shape| shape.tag("masked"))).collect()
}

/// Valid keys of each batch. `tail` shortens every batch but the second, `masked` leaves the first
/// one without any.
pub fn lengths(shape: &Shape) -> Vec<u32> {
    let keys = shape["k"];
    let of = |b: usize| match (shape.option(), b) {
        (Some("tail"), 1) => keys,
        (Some("tail"), b) => (keys / 2 + b).min(keys - 1),
        (Some("masked"), 0) => 0,
        _ => keys,
    };
    (0..shape["b"]).map(|b| of(b) as u32).collect()
}

/// One output row for each batch, query and head.
pub fn output_rows(shape: &Shape) -> usize {
    shape["b"] * shape["h"] * shape["q"]
}

/// 1/√d as the shader receives it.
pub fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

/// What values are multiplied by, and what their sum is divided by.
pub struct Weights<S> {
    pub terms: Vec<S>,
    pub divisor: Option<S>,
}

/// `unfused` divides each weight by the total. `flash` divides the sum, and multiplies what it has
/// summed so far by e^(old − new) whenever the running maximum grows: a factor for earlier terms.
pub fn weigh<S: Scalar>(scores: &[S], variant: &Variant) -> Weights<S> {
    let n = scores.len();
    let mut peaks: Vec<S> = scores.to_vec();
    for j in 1..n {
        peaks[j] = peaks[j - 1].max(scores[j]);
    }
    if variant.name == "flash" {
        let mut shrink = S::one();
        let mut terms = vec![S::zero(); n];
        for j in (0..n).rev() {
            terms[j] = (scores[j] - peaks[j]).exp() * shrink;
            if j > 0 && scores[j].value() > peaks[j - 1].value() {
                shrink = shrink * (peaks[j - 1] - peaks[j]).exp();
            }
        }
        let divisor = (n > 0).then(|| S::sum(terms.iter().copied(), n));
        return Weights { terms, divisor };
    }
    let lanes = variant.constant("WG");
    let terms: Vec<S> = scores.iter().map(|&score| (score - peaks[n - 1]).exp()).collect();
    let total = S::sum(terms.iter().copied(), n.div_ceil(lanes) + lanes.ilog2() as usize);
    Weights { terms: terms.iter().map(|&term| term / total).collect(), divisor: None }
}
