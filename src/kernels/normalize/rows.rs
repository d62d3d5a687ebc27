//! What the row-wise normalisations share: their two strategies, shapes and launch.

use super::moments::UNIT;
use crate::kernel::{Buffer, Dtype, Launch, Need, Preset, Shape, Suits, Variant, spill};

/// One invocation a row, or one workgroup a row.
pub const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("thread", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

/// The same, and two that reduce within subgroups and keep a row of up to 8 vectors an invocation
/// in registers: one row a workgroup, or one a subgroup.
pub const WITH_SUBGROUPS: &[Variant] = &[
    VARIANTS[0],
    VARIANTS[1],
    Variant {
        suits: Suits::Gpu,
        needs: &[Need::Subgroup],
        refuses: refuses_ragged,
        ..Variant::new("subgroups", &[("WG", 256.0)])
    },
    Variant {
        suits: Suits::Gpu,
        needs: &[Need::Subgroup],
        refuses: |shape| {
            let d = width(shape);
            let wide = || format!("rows are {d} wide, made for {MAX_SUBGROUP_WIDTH}");
            refuses_ragged(shape).or_else(|| (d > MAX_SUBGROUP_WIDTH).then(wide))
        },
        ..Variant::new("subgroup", &[("WG", 128.0)])
    },
];

/// Those of layer norm and RMS norm, whose rows have a gain in common.
pub const NORMS: &[Variant] =
    &[WITH_SUBGROUPS[0], WITH_SUBGROUPS[1], WITH_SUBGROUPS[2], WITH_SUBGROUPS[3], BROADCAST];

/// Subgroups of eight, a row an invocation. What rows have in common is loaded once for all eight
/// and shared by broadcast, [`SHARED`] elements at a time.
pub const BROADCAST: Variant = Variant {
    suits: Suits::Cpu,
    needs: &[Need::Subgroup, Need::SubgroupOf8],
    refuses: |shape| refuses_width(shape, SHARED),
    ..Variant::new("broadcast", &[])
};

/// Rows of a subgroup of eight, and the elements in the eight vectors that it loads at once.
const SUBGROUP: usize = 8;
const SHARED: usize = 4 * SUBGROUP;

/// What a subgroup of the usual size holds in registers.
const MAX_SUBGROUP_WIDTH: usize = 4 * 8 * USUAL_SUBGROUP;

/// Sizes of subgroups that WGSL allows.
const SUBGROUPS: [usize; 6] = [4, 8, 16, 32, 64, 128];
/// The size the grid of `subgroup` is made for.
const USUAL_SUBGROUP: usize = 32;

/// Width of a row, under either of its names.
fn width(shape: &Shape) -> usize {
    shape.get("d").or_else(|| shape.get("n")).expect("a width")
}

fn refuses_ragged(shape: &Shape) -> Option<String> {
    refuses_width(shape, 4)
}

/// Strategies that load so many elements at a time leave other widths to those that load fewer.
fn refuses_width(shape: &Shape, unit: usize) -> Option<String> {
    match width(shape) {
        0 => Some("rows are empty, nothing to load".to_owned()),
        d => (!d.is_multiple_of(unit))
            .then(|| format!("rows are {d} wide, not a multiple of {unit}")),
    }
}

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
            (6, 36),
            (3, 516),
            (2, 1408),
            (65, 257),
            (19, 96),
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
        "broadcast" => r.div_ceil(SUBGROUP),
        "subgroup" => r.div_ceil(variant.constant("WG") / USUAL_SUBGROUP),
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

/// The same by the entry point of `thread` that reads `unit` elements at a time, whose name ends
/// in that number, where rows are a multiple of it long.
pub fn launch_wide(r: usize, d: usize, unit: usize, dtype: Dtype, variant: &Variant) -> Launch {
    let mut launch = launch(r, d, dtype, variant);
    if is_wide(d, unit, variant) {
        launch.dispatches[0].entry = if unit == 8 { "thread8" } else { "thread4" };
    }
    launch
}

/// Whether `thread` reads `unit` elements at a time.
fn is_wide(d: usize, unit: usize, variant: &Variant) -> bool {
    variant.name == "thread" && d > 0 && d.is_multiple_of(unit)
}

/// Whether an invocation merges the moments of every [`UNIT`] elements of its row.
pub fn merges(d: usize, variant: &Variant) -> bool {
    variant.name == BROADCAST.name || is_wide(d, UNIT, variant)
}

/// Most additions one term passes through: the loop of one invocation, then the tree.
pub fn depth(d: usize, variant: &Variant) -> usize {
    match variant.name {
        "thread" | "broadcast" => d,
        // Vectors of an invocation and their elements, then a subgroup of any size in any order.
        "subgroup" => {
            let of = |lanes: usize| (d / 4).div_ceil(lanes) + 4 + lanes;
            SUBGROUPS.map(of).into_iter().max().expect("some size")
        }
        // As many invocations in subgroups of any size, then one subgroup after the other.
        "subgroups" => {
            let lanes = variant.constant("WG");
            let of = |size: usize| (d / 4).div_ceil(lanes) + 4 + size + lanes.div_ceil(size);
            SUBGROUPS.map(of).into_iter().max().expect("some size")
        }
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
        "thread" | "broadcast" => return len,
        _ => variant.constant("WG"),
    };
    let terms = if aligned { 4 * (len / 4).div_ceil(lanes) } else { len.div_ceil(lanes) };
    terms + lanes.ilog2() as usize
}
