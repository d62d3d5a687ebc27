//! What fusions of several modalities with missing ones share: strategies, shapes, presence.

use super::widths::MAX_MODALITIES;
use crate::kernel::{Buffer, Dtype, Launch, Preset, Shape, Suits, Variant, refuses_ragged, spill};

/// One invocation an element, or four neighbouring elements of a row; eight a row, as wide as the
/// vector unit of a CPU adapter; or a workgroup that fills a GPU the strip of a row that the grid
/// gives it.
pub const VARIANTS: &[Variant] = &[
    Variant::new("scalar", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| refuses_ragged(shape, "d").or_else(|| too_many(shape)),
        ..Variant::new("row", &[("WG", 8.0)])
    },
    Variant {
        suits: Suits::Gpu,
        refuses: refuses_narrow,
        ..Variant::new("strip", &[("WG", 64.0)])
    },
];

/// Elements that one invocation of a strip takes.
const EACH: usize = 16;
/// Narrower rows leave most of a strip idle.
const MIN_STRIP: usize = 32 * EACH;

fn refuses_narrow(shape: &Shape) -> Option<String> {
    let d = shape["d"];
    let narrow = || (d < MIN_STRIP).then(|| format!("d is {d}, made for {MIN_STRIP} and more"));
    refuses_ragged(shape, "d").or_else(narrow)
}

/// Modalities × batch × width.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |m, b, d| Shape::new(&[("m", m), ("b", b), ("d", d)]);
    match preset {
        Preset::Smoke => {
            // The widest is two strips, the second one longer than half.
            let whole = [of(1, 1, 1), of(2, 3, 257), of(6, 5, 64), of(3, 0, 8), of(2, 3, 1604)];
            // Twice all presence masks and one more row.
            let present = [1, 2, 3, 6].into_iter().flat_map(|m| {
                [1, 5, 35, 36, 257, 516].map(|d| of(m, (2 << m) + 1, d).tag("present"))
            });
            whole.into_iter().chain(present).collect()
        }
        Preset::Models => vec![
            of(2, 128, 512).from("MultiBench"),
            of(3, 22_200, 60).from("MulT MOSEI, batch 24 × 925 steps"),
            of(4, 1024, 1024).from("ImageBind-huge, batch 1024"),
        ],
        Preset::Sweep => sweep().into_iter().map(|(m, b)| of(m, b, SWEEP_WIDTH)).collect(),
    }
}

/// Shaders keep so many in registers, and masks of presence are made for them.
pub fn too_many(shape: &Shape) -> Option<String> {
    let m = shape["m"];
    (m > MAX_MODALITIES).then(|| format!("{m} modalities, at most {MAX_MODALITIES}"))
}

/// Width of every modality in a sweep.
pub const SWEEP_WIDTH: usize = 512;

/// Modalities × batch with 2^14 to 2^24 elements a modality.
pub fn sweep() -> Vec<(usize, usize)> {
    [14, 16, 18, 20, 22, 24]
        .into_iter()
        .flat_map(|log2| (2..=6).map(move |m| (m, (1_usize << log2) / SWEEP_WIDTH)))
        // One f32 binding holds 128 MiB.
        .filter(|(m, b)| m * b * SWEEP_WIDTH * 4 <= 128 << 20)
        .collect()
}

/// Presence bits of each sample: those of the axis `p`, else all, or with the tag `present` every
/// mask in turn.
pub fn presence(shape: &Shape) -> Vec<u32> {
    masks(shape, shape["m"])
}

/// The same for a kernel that has no axis `m`; `present` may follow another word in the tag.
pub fn masks(shape: &Shape, modalities: usize) -> Vec<u32> {
    let masks = 1_u32 << modalities;
    if let Some(bits) = shape.get("p") {
        return vec![bits as u32; shape["b"]];
    }
    let all = !shape.option().is_some_and(|tag| tag.ends_with("present"));
    (0..shape["b"] as u32).map(|row| if all { masks - 1 } else { row % masks }).collect()
}

/// Whether the flat index of a `[m, b, d]` tensor belongs to an absent modality.
pub fn is_absent(shape: &Shape, presence: &[u32], index: usize) -> bool {
    is_absent_of((shape["b"], shape["d"]), presence, index)
}

/// The same for samples of any width: `(samples, width)`.
pub fn is_absent_of((b, d): (usize, usize), presence: &[u32], index: usize) -> bool {
    presence[index / d % b] >> (index / (b * d)) & 1 == 0
}

/// The modalities present in a sample, ascending.
pub fn members(presence: u32) -> Vec<usize> {
    (0..u32::BITS as usize).filter(|m| presence >> m & 1 == 1).collect()
}

/// One output `y[b, d]`.
pub fn launch(shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
    let (b, d) = (shape["b"], shape["d"]);
    let lanes = variant.constant("WG");
    let (entry, workgroups) = match variant.name {
        "scalar" => ("scalar", (b * d).div_ceil(lanes)),
        "vector" => ("vector", (b * d / 4).div_ceil(lanes)),
        "row" => ("row", b),
        _ => ("strip", b * d.div_ceil(EACH * lanes)),
    };
    let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b, d), spill(workgroups));
    launch.dispatches[0].entry = entry;
    launch.with_constant("COUNT", shape["m"] as f64)
}
