//! What normalisations of features over time share: their two strategies, shapes, valid rows,
//! launch and inputs.

use rayon::prelude::*;

use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Launch, Preset, Shape, Suits, Variant, Work, spill,
};
use crate::reference::Rows;

/// Mesa's llvmpipe ends every loop once an invocation has made 65,535 trips in all, and a column is
/// passed over three times.
const MAX_COLUMN: usize = 16_384;

/// One invocation a column, or blocks of rows of a column that are merged.
pub const VARIANTS: &[Variant] = &[
    Variant {
        refuses: |shape| {
            (shape["r"] > MAX_COLUMN)
                .then(|| format!("{} rows, one invocation takes {MAX_COLUMN}", shape["r"]))
        },
        // Eight invocations fill one vector unit of a CPU adapter.
        ..Variant::new("column", &[("WG", 8.0), ("ROWS", 64.0)])
    },
    Variant::new("split", &[("WG", 64.0), ("ROWS", 64.0)]),
    // The same by vectors, which begin where a row does every so many rows.
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            let size = shape["r"] * shape["f"];
            let ragged = || format!("samples of {size} elements, no multiple of four");
            (!size.is_multiple_of(4)).then(ragged)
        },
        ..Variant::new("split4", &[("WG", 8.0), ("ROWS", 64.0)])
    },
];

/// Rows after which a row begins at a vector again.
pub fn period(f: usize) -> usize {
    match f % 4 {
        0 => 1,
        2 => 2,
        _ => 4,
    }
}

/// Numbers of unlike size, constants, and numbers so small that squares or differences vanish.
pub const INPUTS: &[Distribution] = &[
    Distribution::Normal,
    Distribution::Integers,
    Distribution::Offset,
    Distribution::Small,
    Distribution::Constant,
    Distribution::Subnormal,
];

/// Below this a variance or a range counts as zero, as in the shaders.
pub const SMALLEST: f32 = 1e-30;

/// Batch × rows × features.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    match preset {
        Preset::Smoke => {
            let whole = [
                (1, 1, 1),
                (1, 2, 35),
                (3, 31, 33),
                (1, 257, 74),
                (1, 1, 4),
                (2, 1023, 1),
                (0, 5, 5),
            ];
            let tails = [(6, 130, 35), (12, 7, 5), (6, 64, 9), (7, 310, 74), (6, 260, 4)];
            let tails = tails.map(|(b, r, f)| of(b, r, f).tag("tail"));
            whole.map(|(b, r, f)| of(b, r, f)).into_iter().chain(tails).collect()
        }
        Preset::Models => vec![
            of(1, 12_000, 74).from("MulT MOSEI audio, corpus statistics"),
            of(1, 9_000, 35).from("MulT MOSEI vision, corpus statistics"),
            of(1, 1_200, 300).from("MulT MOSEI text, corpus statistics"),
            of(1, 800, 128).from("Audio spectrogram, 128 bands"),
            of(10, 448, 1_500).from("Whisper-large-v3 alignment heads"),
        ],
        Preset::Sweep => super::rows::sweep().into_iter().map(|(rows, f)| of(1, rows, f)).collect(),
    }
}

fn of(b: usize, r: usize, f: usize) -> Shape {
    Shape::new(&[("b", b), ("r", r), ("f", f)])
}

/// Valid rows of each sample: all, or with the tag `tail` none, one, two, half, all but one, all.
pub fn lengths(shape: &Shape) -> Vec<u32> {
    let r = shape["r"];
    let kinds = match shape.option() {
        Some("tail") => [0, 1, 2, r / 2, r - 1, r],
        _ => [r; 6],
    };
    (0..shape["b"]).map(|batch| kinds[batch % kinds.len()].min(r) as u32).collect()
}

/// `x[b, r, f]` with garbage in its padding, and `len[b]`.
pub fn inputs(shape: &Shape, generator: &Generator) -> Inputs {
    let (b, r, f) = (shape["b"], shape["r"], shape["f"]);
    let mut generator = *generator;
    // In f32 subnormals of f16 are far from vanishing, but a device may flush them on loading.
    if (generator.storage, generator.distribution) == (Elem::F16, Distribution::Subnormal) {
        generator.distribution = Distribution::Ties;
    }
    let len = lengths(shape);
    let x = generator.data("x", &[b, r, f]);
    let x = x.with_garbage(|index| index / f % r >= len[index / f / r] as usize);
    Inputs::new(
        Params::new().size("batch", b).size("rows", r).size("f", f),
        vec![x, Tensor::words("len", &[b], len)],
    )
}

/// One output `y[b, r, f]`. `split` keeps two numbers a block of rows in `parts`, and two a column
/// in a buffer of the kernel's own name.
pub fn launch(shape: &Shape, dtype: Dtype, variant: &Variant, columns: &'static str) -> Launch {
    let (b, r, f) = (shape["b"], shape["r"], shape["f"]);
    let lanes = variant.constant("WG");
    let output = Buffer::new("y", dtype.storage(), b * r, f);
    let whole = spill((b * f).div_ceil(lanes));
    if variant.name == "column" {
        let mut launch = Launch::single(output, whole);
        launch.dispatches[0].entry = "column";
        return launch;
    }
    let is_split4 = variant.name == "split4";
    let (rows, columns_each) = if is_split4 { (period(f), 4) } else { (1, 1) };
    let blocks = b * (r / rows).div_ceil(variant.constant("ROWS"));
    let block = spill((blocks * rows * f / columns_each).div_ceil(lanes));
    let [measure, merge, write] = match is_split4 {
        true => ["measure_quads", "merge_quads", "write_quads"],
        false => ["measure_blocks", "merge_blocks", "write_blocks"],
    };
    Launch {
        outputs: vec![output],
        scratch: vec![
            Buffer::new("parts", Elem::F32, blocks, 2 * rows * f),
            Buffer::new(columns, Elem::F32, b, 2 * f),
        ],
        dispatches: vec![
            Dispatch::new(measure, block),
            Dispatch::new(merge, whole),
            Dispatch::new(write, block),
        ],
    }
}

/// `flops` for each valid element; each is read twice, each output written once.
pub fn work(shape: &Shape, dtype: Dtype, flops: usize) -> Work {
    let (b, r, f) = (shape["b"], shape["r"], shape["f"]);
    let valid = lengths(shape).iter().map(|&len| len as usize * f).sum::<usize>();
    Work::new(flops * valid, dtype.bytes() * (2 * valid + b * r * f) + 4 * b)
}

/// Something about each column of every sample that the selected output rows touch; nothing for
/// the other samples.
pub fn by_column<C: Send>(
    rows: &Rows,
    shape: &Shape,
    compute: impl Fn(usize, usize) -> C + Sync,
) -> Vec<Vec<C>> {
    let (b, r, f) = (shape["b"], shape["r"], shape["f"]);
    let mut wanted = vec![false; b];
    rows.of(b * r).into_iter().for_each(|row| wanted[row / r] = true);
    let of = |batch: usize| {
        let features = if wanted[batch] { f } else { 0 };
        (0..features).into_par_iter().map(|feature| compute(batch, feature)).collect()
    };
    (0..b).map(of).collect()
}
