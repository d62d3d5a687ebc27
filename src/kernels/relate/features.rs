//! Pairs of embeddings: what the comparisons of two modalities share.

use crate::inputs::{Distribution, Generator, Tensor};
use crate::kernel::{Preset, Shape};
use crate::rng;

/// A standard normal tensor `[rows, d]` with some rows all zeros.
pub fn blanked(
    generator: &Generator,
    name: &'static str,
    rows: usize,
    d: usize,
    blank: impl Fn(usize) -> bool + Sync,
) -> Tensor {
    let stream = u32::from(name.as_bytes()[0]) << 8 | 1;
    generator.filled(name, &[rows, d], |index| match blank(index / d) {
        true => 0.0,
        false => rng::normal(generator.seed, stream, index as u32),
    })
}

/// Two embeddings `a` and `b[b, d]` whose rows belong together. The first is data of the wanted
/// distribution, the second standard normal whatever that is, because two large factors would put
/// the logits where neighbouring f32 values are whole units apart. With `Needle` both are equal:
/// only a row's own partner is close to it.
pub fn pairs(shape: &Shape, generator: &Generator) -> [Tensor; 2] {
    let dims = [shape["b"], shape["d"]];
    if generator.distribution == Distribution::Needle {
        let same = |index: usize| rng::normal(generator.seed, 0x6e65_6564, index as u32);
        return ["a", "b"].map(|name| generator.filled(name, &dims, same));
    }
    if is_unit(shape) {
        let size = (shape["d"].max(1) as f32).sqrt().recip();
        return ["a", "b"].map(|name| generator.weight(name, &dims, size));
    }
    [generator.data("a", &dims), generator.weight("b", &dims, 1.0)]
}

/// Whether embeddings are unit vectors, as behind `l2_normalize`; otherwise their elements are
/// standard normal.
fn is_unit(shape: &Shape) -> bool {
    shape.option() == Some("unit")
}

/// What dot products are multiplied by: the temperature, over what the squared norm is expected to
/// be, so that logits are as large either way.
pub fn scale(temperature: f32, shape: &Shape) -> f32 {
    if is_unit(shape) { temperature } else { temperature / shape["d"] as f32 }
}

/// Pairs × width, without the sizes that a kernel needs a tag for.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    match preset {
        Preset::Smoke => vec![of(1, 5), of(2, 770), of(67, 31), of(130, 64), of(257, 20), of(0, 8)]
            .into_iter()
            .chain([of(33, 24).tag("unit")])
            .collect(),
        Preset::Models => vec![
            of(256, 512).from("CLIP ViT-B/32"),
            of(1024, 768).from("CLIP ViT-L/14-336"),
            of(1024, 1024).from("ImageBind-huge"),
            of(4096, 768).from("CLIP ViT-L/14-336"),
            of(32_768, 768).from("CLIP ViT-L/14-336, the batch it was trained with"),
        ],
        Preset::Sweep => (8..=15).map(|log2| of(1 << log2, 768)).collect(),
    }
}

/// Pairs of a batch, width of an embedding.
pub fn of(b: usize, d: usize) -> Shape {
    Shape::new(&[("b", b), ("d", d)])
}

/// What WebGPU guarantees for one binding.
const MAX_BINDING: usize = 128 << 20;

/// Strategies that store every logit are limited by the largest binding.
pub fn refuses_over_limit(bytes: usize) -> Option<String> {
    (bytes > MAX_BINDING)
        .then(|| format!("logits take {bytes} bytes, a binding holds {MAX_BINDING}"))
}
