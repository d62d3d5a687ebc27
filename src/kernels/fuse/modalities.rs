//! What fusions of several modalities with missing ones share: strategies, shapes, presence.

use crate::kernel::{Buffer, Dtype, Launch, Preset, Shape, Variant, spill};

/// One invocation an element, or four neighbouring elements of a row.
pub const VARIANTS: &[Variant] = &[
    Variant::new("scalar", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| {
            (!shape["d"].is_multiple_of(4))
                .then(|| format!("d is {}, not a multiple of 4", shape["d"]))
        },
        ..Variant::new("vector", &[("WG", 64.0)])
    },
];

/// Modalities × batch × width.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |m, b, d| Shape::new(&[("m", m), ("b", b), ("d", d)]);
    match preset {
        Preset::Smoke => {
            let whole = [of(1, 1, 1), of(2, 3, 257), of(6, 5, 64), of(3, 0, 8)];
            // Twice all presence masks and one more row.
            let present = [1, 2, 3, 6]
                .into_iter()
                .flat_map(|m| [1, 5, 35, 36, 257].map(|d| of(m, (2 << m) + 1, d).tag("present")));
            whole.into_iter().chain(present).collect()
        }
        Preset::Models => vec![
            of(2, 128, 512).from("MultiBench"),
            of(3, 22_200, 60).from("MulT MOSEI, batch 24 × 925 steps"),
            of(4, 1024, 1024).from("ImageBind-huge, batch 1024"),
        ],
        Preset::Sweep => [14, 16, 18, 20, 22, 24]
            .into_iter()
            .flat_map(|log2| (2..=6).map(move |m| (m, (1_usize << log2) / 512)))
            // One f32 binding holds 128 MiB.
            .filter(|(m, b)| m * b * 512 * 4 <= 128 << 20)
            .map(|(m, b)| of(m, b, 512))
            .collect(),
    }
}

/// Presence bits of each sample: all, or with the tag `present` every mask in turn.
pub fn presence(shape: &Shape) -> Vec<u32> {
    let masks = 1_u32 << shape["m"];
    let of = |row: u32| if shape.option() == Some("present") { row % masks } else { masks - 1 };
    (0..shape["b"] as u32).map(of).collect()
}

/// Whether the flat index of a `[m, b, d]` tensor belongs to an absent modality.
pub fn is_absent(shape: &Shape, presence: &[u32], index: usize) -> bool {
    let (b, d) = (shape["b"], shape["d"]);
    presence[index / d % b] >> (index / (b * d)) & 1 == 0
}

/// The modalities present in a sample, ascending.
pub fn members(presence: u32) -> Vec<usize> {
    (0..u32::BITS as usize).filter(|m| presence >> m & 1 == 1).collect()
}

/// One output `y[b, d]`.
pub fn launch(shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
    let (b, d) = (shape["b"], shape["d"]);
    let each = if variant.name == "scalar" { 1 } else { 4 };
    let workgroups = (b * d / each).div_ceil(variant.constant("WG"));
    let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b, d), spill(workgroups));
    launch.dispatches[0].entry = variant.name;
    launch
}
