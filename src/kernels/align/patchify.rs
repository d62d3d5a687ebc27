//! An image cut into the tokens of a vision transformer (arXiv 2010.11929), bit for bit.

use ndarray::Array2;

use super::words::{self, Unit};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits, Variant,
    Work, spill,
};
use crate::reference::Rows;

pub const KERNEL: &dyn Kernel = &Patchify;

struct Patchify;

const VARIANTS: &[Variant] = &[
    Variant { refuses: refuses_tall, ..Variant::new("word", &[("WG", 64.0)]) },
    Variant {
        refuses: |shape| refuses_tall(shape).or_else(|| words::refuses_ragged(&runs(shape))),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        suits: Suits::Cpu,
        refuses: refuses_strip,
        turns: |shape| 4 * shape["p"] * (2 + shape["p"] * shape["c"] / 4),
        ..Variant::new("strip", &[("WG", 8.0)])
    },
];

/// Tokens that are whole vectors together, and no element of which is half a word.
fn refuses_strip(shape: &Shape) -> Option<String> {
    let (rows, columns) = padded(shape);
    let odd = runs(shape).into_iter().find(|run| !run.is_multiple_of(2));
    let ragged = || format!("{} elements are no multiple of eight", rows * columns);
    odd.map(|run| format!("a run of {run} elements is odd"))
        .or_else(|| (!(rows * columns).is_multiple_of(8)).then(ragged))
}

/// Tokens of one invocation of `strip`.
fn tokens(shape: &Shape, dtype: Dtype) -> usize {
    let words = shape["p"] * shape["p"] * shape["c"] / words::per_word(dtype);
    [1, 2, 4].into_iter().find(|tokens| (tokens * words).is_multiple_of(4)).expect("four")
}

/// A grid row for each image row.
fn refuses_tall(shape: &Shape) -> Option<String> {
    let h = shape["h"].next_multiple_of(shape["p"]);
    (h > 65_535).then(|| format!("{h} workgroups in one dimension, the limit is 65535"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "patches in columns",
        "row / params.patch_rows * params.across + unit / line",
        "unit / line * params.down + row / params.patch_rows",
    ),
    Mutant::new(
        "right edge not padded",
        "wid.y < params.height && unit < width",
        "wid.y < params.height",
    ),
    Mutant::new("last row dropped", "wid.y < params.height &&", "wid.y + 1u < params.height &&"),
    Mutant::new(
        "halves beyond the edge kept",
        "row >= params.height || column >= params.width",
        "row >= params.height",
    ),
    Mutant::new("end of a line not carried on", "carried = select(own", "carried = select(carried"),
    Mutant::new("words beyond the right edge kept", "min(width - across * line, line)", "line"),
    Mutant::new("rows beyond the lower edge kept", "row < p.height);", "true);"),
    Mutant::new("words of a vector not shifted", "pick(before, after, behind % 4u)", "before"),
    Mutant::new("vectors one too early", "x4[min(behind / 4u + i, last)]", "before"),
    Mutant::new("halves swapped", "16u * (at % 2u)", "16u - 16u * (at % 2u)"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "h w c")];

impl Kernel for Patchify {
    fn spec(&self) -> Spec {
        Spec {
            summary: "cut an image into square patches, one token each, bit for bit",
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
                of(1, 1, 1, 1),
                of(7, 9, 3, 3),
                of(8, 12, 3, 2),
                of(31, 33, 1, 5),
                of(5, 3, 5, 7),
                of(28, 42, 3, 14),
                of(18, 24, 8, 4),
                of(33, 31, 8, 16),
                of(34, 40, 1, 6),
                of(2, 8, 1, 2),
                of(0, 8, 3, 4),
            ],
            Preset::Models => vec![
                of(336, 336, 3, 14).from("CLIP ViT-L/14-336"),
                of(224, 224, 3, 16).from("SigLIP ViT-B/16"),
                of(224, 224, 3, 32).from("CLIP ViT-B/32"),
                of(128, 204, 1, 16).from("ImageBind-huge audio spectrogram"),
            ],
            Preset::Sweep => [256, 512, 1024, 2048]
                .into_iter()
                .flat_map(|n| [14, 16].map(|p| of(n, n, 3, p)))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (h, w, c, p) = (shape["h"], shape["w"], shape["c"], shape["p"]);
        let params = Params::new().size("height", h).size("width", w * c).size("line", p * c);
        let params = params.size("patch_rows", p).size("across", w.div_ceil(p));
        Inputs::new(params.size("down", h.div_ceil(p)), vec![words::input(generator, h * w * c)])
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (rows, columns) = padded(shape);
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
        let (rows, columns) = padded(shape);
        Work::new(0, dtype.bytes() * (shape["h"] * shape["w"] * shape["c"] + rows * columns))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        patchify(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        patchify(problem, rows)
    }
}

fn launch_strip(shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
    let ((rows, columns), p, tokens) = (padded(shape), shape["p"], tokens(shape, dtype));
    let strips = (rows * columns / (p * p * shape["c"])).div_ceil(tokens);
    let grid = spill(strips.div_ceil(variant.constant("WG")));
    let mut launch = Launch::single(words::output(rows * columns, dtype), grid);
    launch.dispatches[0].entry = "strip";
    let launch = launch.with_constant("EACH", words::per_word(dtype) as f64);
    launch.with_constant("TOKENS", tokens as f64)
}

fn of(h: usize, w: usize, c: usize, p: usize) -> Shape {
    Shape::new(&[("h", h), ("w", w), ("c", c), ("p", p)])
}

/// Rows, and elements of a row, of the image filled up to whole patches.
fn padded(shape: &Shape) -> (usize, usize) {
    let (h, w, c, p) = (shape["h"], shape["w"], shape["c"], shape["p"]);
    (h.next_multiple_of(p), w.next_multiple_of(p) * c)
}

/// Elements whose runs decide the unit: an image row and a patch row.
fn runs(shape: &Shape) -> [usize; 2] {
    [shape["w"] * shape["c"], shape["p"] * shape["c"]]
}

fn patchify<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (h, w, c, p) = (shape["h"], shape["w"], shape["c"], shape["p"]);
    let (total_rows, total_columns) = padded(shape);
    words::gather(problem, rows, total_rows * total_columns, |e| {
        let (token, inside) = (e / (p * p * c), e % (p * p * c));
        let across = w.div_ceil(p);
        let row = token / across * p + inside / (p * c);
        let column = token % across * p + inside / c % p;
        (row < h && column < w).then(|| (row * w + column) * c + inside % c)
    })
}
