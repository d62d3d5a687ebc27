//! What the row-wise normalisations share: their two strategies, shapes and launch.

use crate::kernel::{Buffer, Dtype, Launch, Preset, Shape, Suits, Variant, spill};

/// One invocation a row, or one workgroup a row.
pub const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("thread", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

/// Rows × width of the vision and audio towers in `kernels.md`, and the awkward sizes.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |r, d| Shape::new(&[("r", r), ("d", d)]);
    match preset {
        Preset::Smoke => [
            (1, 1),
            (1, 30),
            (3, 5),
            (7, 31),
            (5, 33),
            (4, 65),
            (3, 770),
            (2, 1023),
            (2, 1025),
            (2, 1408),
            (65, 257),
            (0, 8),
            // More rows than one grid dimension holds.
            (65_537, 5),
        ]
        .map(|(r, d)| of(r, d))
        .into(),
        Preset::Models => vec![
            of(257, 1408).from("BLIP-2 ViT-g"),
            of(577, 1024).from("CLIP ViT-L/14-336"),
            of(1500, 1280).from("Whisper-large encoder"),
            of(22_200, 30).from("MulT MOSEI"),
        ],
        Preset::Sweep => sweep().into_iter().map(|(r, d)| of(r, d)).collect(),
    }
}

/// Rows × width for five widths, each with 2^14 to 2^25 elements.
pub fn sweep() -> Vec<(usize, usize)> {
    [64, 768, 1408, 4096, 8192]
        .into_iter()
        .flat_map(|d| [14, 17, 20, 23, 25].map(|log2| (((1 << log2) / d).max(1), d)))
        .collect()
}

/// One output `y[r, d]`.
pub fn launch(r: usize, d: usize, dtype: Dtype, variant: &Variant) -> Launch {
    let workgroups = match variant.name {
        "thread" => r.div_ceil(variant.constant("WG")),
        _ => r,
    };
    let output = Buffer::new("y", dtype.storage(), r, d);
    let mut launch = Launch::single(output, spill(workgroups));
    launch.dispatches[0].entry = variant.name;
    launch
}

/// The same by the entry points that read vec4, which end in 4, where `aligned`.
pub fn launch_quads(r: usize, d: usize, aligned: bool, dtype: Dtype, variant: &Variant) -> Launch {
    let mut launch = launch(r, d, dtype, variant);
    if aligned {
        launch.dispatches[0].entry = if variant.name == "thread" { "thread4" } else { "group4" };
    }
    launch
}

/// Most additions one term passes through: the loop of one invocation, then the tree.
pub fn depth(d: usize, variant: &Variant) -> usize {
    match variant.name {
        "thread" => d,
        _ => {
            let lanes = variant.constant("WG");
            d.div_ceil(lanes) + lanes.ilog2() as usize
        }
    }
}

/// The same where rows are read as vec4 if their channels are a multiple of four long, and one
/// element at a time if not: a lane then adds whole vectors.
pub fn depth_of_quads(len: usize, aligned: bool, variant: &Variant) -> usize {
    let lanes = match variant.name {
        "thread" => return len,
        _ => variant.constant("WG"),
    };
    let terms = if aligned { 4 * (len / 4).div_ceil(lanes) } else { len.div_ceil(lanes) };
    terms + lanes.ilog2() as usize
}
