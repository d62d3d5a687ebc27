//! Clipping of samples to a norm: how squares are summed, and the margin that rounding needs.

use crate::accuracy::{Scalar, UNIT_F16, UNIT_F32};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Elem, Shape, Slice, Suits, Variant, Window, cut, refuses_uncut,
};
use ndarray::{ArrayView1, Ix2};
use std::ops::Range;

/// The norm that no clipped sample exceeds.
pub const C: f32 = 1.0;
const _: () = assert!(C > 0.0, "a norm of zero or less would clip everything away");

/// Elements that are read at a time where the length of a sample is a multiple of them.
pub const WIDE: usize = 8;

/// Partial sums that are added before they join the total.
const BLOCK: usize = 32;

/// Most slices of the batch that `slices8` takes one after the other.
const SLICES: usize = 8;

/// A partial sum for each invocation, or for each workgroup.
pub const VARIANTS: &[Variant] = &[
    Variant {
        refuses: |shape| refuses_uncut(shape["b"] * shape["p"]),
        ..Variant::new("slices8", &[("WG", 64.0), ("EACH", 256.0)])
    },
    Variant::new("thread", &[("WG", 8.0), ("EACH", 256.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 256.0), ("EACH", 16.0)]) },
];

/// Workgroups along a sample, of which every invocation takes EACH elements.
pub fn groups(p: usize, variant: &Variant) -> usize {
    p.div_ceil(variant.constant("WG") * variant.constant("EACH"))
}

/// Partial sums of one sample.
fn parts(p: usize, variant: &Variant) -> usize {
    match variant.name {
        "group" => groups(p, variant),
        _ => groups(p, variant) * variant.constant("WG"),
    }
}

/// Whether gradients are read eight elements at a time; `group`, made for GPUs, never does.
pub fn is_wide(p: usize, variant: &Variant) -> bool {
    variant.name != "group" && p > 0 && p.is_multiple_of(WIDE)
}

/// Most additions that one square passes through.
fn depth(p: usize, variant: &Variant) -> usize {
    let tree = if variant.name == "group" { variant.constant("WG").ilog2() as usize } else { 0 };
    let parts = parts(p, variant);
    let each = variant.constant("EACH").min(p.div_ceil(variant.constant("WG")));
    // Both halves of eight join, then the sum, whose four elements join at the end.
    let each = if is_wide(p, variant) { each.div_ceil(WIDE) + 3 } else { each };
    each + tree + BLOCK.min(parts) + parts.div_ceil(BLOCK)
}

/// C·(1 − δ), rounded down, for results stored as `elem`.
///
/// δ = ½γ(h+1) from the sum of squares of depth h, 8 units for `inverseSqrt` (2), the two products
/// and what is of second order, and one unit of the storage type. Below the normal range of f16 an
/// element may move by the spacing of 2^-24 instead, which adds at most √p of that to the norm.
pub fn limit(p: usize, variant: &Variant, elem: Elem) -> f32 {
    let h = (depth(p, variant) + 1) as f64 * UNIT_F32;
    let (unit, spacing) = match elem {
        Elem::F16 => (UNIT_F16, 1.0 / f64::from(1 << 24)),
        _ => (UNIT_F32, 0.0),
    };
    let subnormal = (p as f64).sqrt() * spacing / f64::from(C);
    let delta = 0.5 * h / (1.0 - h) + 8.0 * UNIT_F32 + unit + subnormal;
    ((f64::from(C) * (1.0 - delta)) as f32).next_down()
}

/// The samples' gradients and which of them are there. With the tag `masked` every third is
/// padding; norms of `Edges` are 0, C, a twentieth and 135 times C in turn.
pub fn tensors(shape: &Shape, generator: &Generator) -> Vec<Tensor> {
    let (b, p) = (shape["b"], shape["p"]);
    let valid: Vec<u32> =
        (0..b).map(|i| u32::from(shape.option() != Some("masked") || i % 3 != 1)).collect();
    let mut g = generator.data("g", &[b, p]);
    if generator.distribution == Distribution::Edges {
        let drawn = Inputs::new(Params::new(), vec![g]);
        let mut scaled = drawn.float::<Ix2>("g").to_owned();
        for (sample, mut row) in scaled.rows_mut().into_iter().enumerate() {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let wanted = f64::from(C) * [0.0, 1.0, 0.05, 135.0][sample % 4];
            row.mapv_inplace(|x| (f64::from(x) * wanted / norm) as f32);
        }
        g = Tensor::floats("g", generator.storage, &[b, p], scaled.into_iter().collect());
    }
    let g = g.with_garbage(|index| valid[index / p] == 0);
    vec![g, Tensor::words("valid", &[b], valid)]
}

/// The samples that are clipped together: all, or slices whose gradients are `elem` in a window.
pub fn slices(shape: &Shape, variant: &Variant, elem: Elem) -> Vec<Range<usize>> {
    let (b, p) = (shape["b"], shape["p"]);
    match variant.name {
        "slices8" => cut(b, SLICES, &[elem.bytes_of(p)]),
        _ => std::iter::once(0..b).collect(),
    }
}

/// What a dispatch over these samples sees: of `buffers`, `p` elements for each of them.
pub fn slice(shape: &Shape, samples: &Range<usize>, buffers: &[&'static str]) -> Slice {
    let (b, p) = (shape["b"], shape["p"]);
    if *samples == (0..b) {
        return Slice::default();
    }
    let elements = samples.start * p..samples.end * p;
    let window = |&buffer: &&'static str| Window { buffer, elements: elements.clone() };
    Slice {
        windows: buffers.iter().map(window).collect(),
        params: vec![("batch", samples.len()), ("before", samples.start)],
    }
}

/// Scratch buffers for the longest slice.
pub fn scratch(p: usize, slices: &[Range<usize>], variant: &Variant) -> Vec<Buffer> {
    let longest = slices.iter().map(Range::len).max().unwrap_or(0);
    vec![
        Buffer::new("squares", Elem::F32, longest, parts(p, variant)),
        Buffer::new("factor", Elem::F32, longest, 1),
    ]
}

/// The dispatches that fill `factor` for `b` samples, with the constants of `elem`.
pub fn factors(b: usize, p: usize, variant: &Variant, elem: Elem) -> Vec<Dispatch> {
    let parts = parts(p, variant);
    let constants =
        vec![("LIMIT", f64::from(limit(p, variant, elem))), ("PARTS", parts.max(1) as f64)];
    let norms = match variant.name {
        "group" => "norms_group",
        _ if is_wide(p, variant) => "norms_eight",
        _ => "norms_thread",
    };
    let per_sample = if p == 0 { 0 } else { b.div_ceil(variant.constant("WG")) };
    let run = |entry, grid| Dispatch { constants: constants.clone(), ..Dispatch::new(entry, grid) };
    let parts_of_all = [groups(p, variant) as u32, b as u32, 1];
    vec![run(norms, parts_of_all), run("factors", [per_sample as u32, 1, 1])]
}

/// What a sample is multiplied by.
pub fn factor<S: Scalar>(sample: ArrayView1<f32>, variant: &Variant, elem: Elem) -> S {
    let p = sample.len();
    let squares = S::dot(sample.iter().map(|&x| (x, x)), depth(p, variant));
    let limit = S::exact(f64::from(limit(p, variant, elem)));
    let within = S::one();
    match squares.order(limit * limit) {
        Some(std::cmp::Ordering::Greater) => limit * squares.rsqrt(),
        Some(_) => within,
        // Devices may decide either way, between two factors of about 1.
        None => {
            let clipped = limit * squares.rsqrt();
            clipped.approximating(clipped.value(), (1.0 - clipped.value()).abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_those_of_the_derivation() {
        let of = |name| VARIANTS.iter().find(|variant| variant.name == name).expect("a variant");
        let [thread, group] = ["thread", "group"].map(of);
        let margin = |p, variant, elem| 1.0 - f64::from(limit(p, variant, elem));
        // A chain of 16, a tree of 8 levels, 8 parts in one block.
        assert_eq!(depth(32_400, group), 16 + 8 + 8 + 1);
        assert!(margin(32_400, group, Elem::F32) < 4e-6);
        assert!(margin(786_432, thread, Elem::F32) < 3e-5);
        assert!((9e-4..1.1e-3).contains(&margin(770, group, Elem::F16)));
    }
}
