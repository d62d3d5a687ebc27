//! Centred crop or zero padding of an image to another size (ONNX CenterCropPad-18), bit for bit.
//!
//! The output starts at half the difference rounded towards zero: what is odd is cropped at the end
//! and padded at the end.

use ndarray::Array2;

use super::words::{self, Unit};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits, Variant,
    Work, spill,
};
use crate::reference::Rows;

pub const KERNEL: &dyn Kernel = &CenterCropPad;

struct CenterCropPad;

const VARIANTS: &[Variant] = &[
    Variant { refuses: refuses_tall, ..Variant::new("word", &[("WG", 64.0)]) },
    Variant {
        refuses: |shape| refuses_tall(shape).or_else(|| words::refuses_ragged(&runs(shape))),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            let run = shape["x"] * shape["c"];
            let ragged = || format!("output rows of {run} elements, no multiple of eight");
            (!run.is_multiple_of(8)).then(ragged)
        },
        ..Variant::new("strip", &[("WG", 8.0), ("VECTORS", 16.0)])
    },
];

/// A grid row for each image row.
fn refuses_tall(shape: &Shape) -> Option<String> {
    let y = shape["y"];
    (y > 65_535).then(|| format!("{y} workgroups in one dimension, the limit is 65535"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "start rounded down",
        "(i32(size) - i32(wanted)) / 2",
        "(i32(size) - i32(wanted)) >> 1u",
    ),
    Mutant::new(
        "rows shifted as columns",
        "start(params.height, params.rows)",
        "start(params.width, params.columns)",
    ),
    Mutant::new("left padding reads the row above", "from_unit >= 0 && from_unit", "from_unit"),
    Mutant::new(
        "last element of a row padded",
        "from_unit < i32(width)",
        "from_unit + 1 < i32(width)",
    ),
    Mutant::new("a word from the vector before", "vec4<u32>(a.w, b.xyz)", "vec4<u32>(a.w, a.xyz)"),
    Mutant::new("the row above not masked", "words & bits", "words"),
    Mutant::new("odd halves not moved", "phase % 2u == 1u", "false"),
    Mutant::new("halves swapped", "16u * (source.index % 2u)", "16u - 16u * (source.index % 2u)"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "h w c")];

impl Kernel for CenterCropPad {
    fn spec(&self) -> Spec {
        Spec {
            summary: "crop or zero-pad an image around its centre, bit for bit",
            difficulties: &[3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1, 1, 1),
                of(7, 9, 3, 4, 4),
                of(4, 4, 3, 7, 9),
                of(3, 10, 5, 6, 7),
                of(10, 3, 2, 7, 6),
                of(31, 33, 1, 31, 257),
                of(1, 500, 74, 1, 50),
                of(9, 24, 8, 4, 33),
                of(20, 7, 16, 33, 4),
                of(9, 31, 3, 12, 40),
                of(12, 51, 3, 7, 24),
                of(5, 41, 5, 5, 256),
                of(4, 4, 4, 0, 4),
            ],
            Preset::Models => vec![
                of(256, 341, 3, 224, 224).from("CLIP ViT-B/32 input"),
                of(480, 640, 3, 224, 224).from("CLIP ViT-B/32 input, uncropped"),
                of(336, 448, 3, 448, 448).from("square padding for LLaVA-1.5"),
                of(24, 375, 35, 24, 500).from("MulT MOSEI vision to the length of audio"),
            ],
            Preset::Sweep => [256, 512, 1024, 2048]
                .into_iter()
                .flat_map(|n| [of(n, n, 4, n / 2, n / 2), of(n / 2, n / 2, 4, n, n)])
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (h, w, c) = (shape["h"], shape["w"], shape["c"]);
        let params = Params::new().size("height", h).size("width", w).size("c", c);
        Inputs::new(
            params.size("rows", shape["y"]).size("columns", shape["x"]),
            vec![words::input(generator, h * w * c)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (rows, columns) = (shape["y"], shape["x"] * shape["c"]);
        if variant.name == "strip" {
            return launch_strip(shape, dtype, variant);
        }
        let unit = words::unit(&runs(shape), dtype, variant.name);
        let lanes = variant.constant("WG");
        let grid = match unit {
            Unit::Half => spill((rows * columns).div_ceil(2).div_ceil(lanes)),
            Unit::Elements(each) => [(columns / each).div_ceil(lanes) as u32, rows as u32, 1],
        };
        let mut launch = Launch::single(words::output(rows * columns, dtype), grid);
        launch.dispatches[0].entry = variant.name;
        match unit {
            Unit::Half => launch.with_constant("HALVES", 1.0),
            Unit::Elements(each) => launch.with_constant("EACH", each as f64),
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let kept = shape["h"].min(shape["y"]) * shape["w"].min(shape["x"]);
        Work::new(0, dtype.bytes() * shape["c"] * (kept + shape["y"] * shape["x"]))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        center_crop_pad(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        center_crop_pad(problem, rows)
    }
}

fn launch_strip(shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
    let (rows, columns) = (shape["y"], shape["x"] * shape["c"]);
    let each = words::per_word(dtype);
    let strips = rows * (columns / (4 * each)).div_ceil(variant.constant("VECTORS"));
    let grid = spill(strips.div_ceil(variant.constant("WG")));
    let mut launch = Launch::single(words::output(rows * columns, dtype), grid);
    launch.dispatches[0].entry = "strip";
    launch.with_constant("EACH", each as f64)
}

fn of(h: usize, w: usize, c: usize, y: usize, x: usize) -> Shape {
    Shape::new(&[("h", h), ("w", w), ("c", c), ("y", y), ("x", x)])
}

/// Elements whose runs decide the unit: an input row, an output row and the shift between them.
fn runs(shape: &Shape) -> [usize; 3] {
    let (w, x, c) = (shape["w"], shape["x"], shape["c"]);
    [w * c, x * c, w.abs_diff(x) / 2 * c]
}

/// Input position of an output position, `None` in the padding.
fn origin(at: usize, size: usize, wanted: usize) -> Option<usize> {
    let (cropped, padded) = (size.saturating_sub(wanted) / 2, wanted.saturating_sub(size) / 2);
    (at + cropped).checked_sub(padded).filter(|&from| from < size)
}

fn center_crop_pad<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (h, w, c, y, x) = (shape["h"], shape["w"], shape["c"], shape["y"], shape["x"]);
    words::gather(problem, rows, y * x * c, |e| {
        let (row, column, channel) = (e / (x * c), e / c % x, e % c);
        Some((origin(row, h, y)? * w + origin(column, w, x)?) * c + channel)
    })
}
