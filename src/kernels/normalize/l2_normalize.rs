//! Rows scaled to unit Euclidean norm, as embeddings are before they are compared.

use std::ops::Range;

use ndarray::{Array2, Ix2};

use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Slice, Spec, Variant,
    Window, Work, cut, refuses_uncut,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &L2Normalize;

struct L2Normalize;

/// Square of the smallest norm divided by: 1e-12, as in PyTorch's `nn.functional.normalize`.
const FLOOR: f32 = 1e-24;

/// Most slices of the rows that one launch takes one after the other.
const SLICES: usize = 8;

/// Those of all row-wise kernels, and each over slices of the rows.
const VARIANTS: &[Variant] = &[
    sliced("thread_slices8", rows::VARIANTS[0]),
    sliced("group_slices8", rows::VARIANTS[1]),
    rows::VARIANTS[0],
    rows::VARIANTS[1],
];

const fn sliced(name: &'static str, variant: Variant) -> Variant {
    Variant { name, refuses: |shape| refuses_uncut(shape["r"] * shape["d"]), ..variant }
}

/// The strategy for the rows of one slice.
fn unsliced(variant: &Variant) -> Variant {
    Variant { name: variant.name.trim_end_matches("_slices8"), ..*variant }
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("smallest norm 1e-8", "max(squares, params.floor)", "max(squares, 1e-16)"),
    Mutant::new("a zero row divided by", "max(squares, params.floor)", "squares"),
    Mutant::new("norm added to the smallest", "max(squares, params.floor)", "(squares + 1e-6)"),
    Mutant::new("square root left out", "inverseSqrt(max(", "1.0 / (max("),
    Mutant::new(
        "last element dropped",
        "i < params.d; i += step) {\n        let",
        "i + 1u < params.d; i += step) {\n        let",
    ),
    Mutant::new(
        "last vector dropped",
        "q < quads; q += step) {\n        let",
        "q + 1u < quads; q += step) {\n        let",
    ),
    Mutant::new(
        "a lane of the vector left out",
        "(sums.x + sums.y) + (sums.z + sums.w)",
        "sums.x + sums.y + sums.z",
    ),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "r d")];

impl Kernel for L2Normalize {
    fn spec(&self) -> Spec {
        Spec {
            summary: "scale each row to unit Euclidean norm",
            difficulties: &[1, 5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Small,
                Distribution::Ratio,
                Distribution::Edges,
            ],
            operands: Operands::of(OPERANDS).without(&["zero"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |r, d| Shape::new(&[("r", r), ("d", d)]);
        match preset {
            Preset::Models => [256, 4096, 32_768]
                .into_iter()
                .flat_map(|r| [512, 768, 1024, 1280].map(|d| of(r, d)))
                .map(|shape| {
                    let model = match shape["d"] {
                        512 => "CLIP ViT-B/32 embeddings",
                        768 => "CLIP ViT-L/14-336 embeddings",
                        1024 => "ImageBind-huge embeddings",
                        _ => "CLIP ViT-bigG embeddings",
                    };
                    shape.from(model)
                })
                .collect(),
            Preset::Smoke => {
                // The last has several slices, the last one shorter.
                let zero = [(4, 5), (6, 64), (131, 36)].map(|(r, d)| of(r, d).tag("zero"));
                rows::shapes(preset).into_iter().chain(zero).collect()
            }
            Preset::Sweep => rows::shapes(preset),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (r, d) = (shape["r"], shape["d"]);
        Inputs::new(
            Params::new().size("rows", r).size("d", d).real("floor", FLOOR),
            vec![draw(shape, generator)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (r, d) = (shape["r"], shape["d"]);
        let plain = unsliced(variant);
        let of = |rows| rows::launch_quads(rows, d, d.is_multiple_of(4), dtype, &plain);
        let mut launch = of(r);
        let slices = cut(r, SLICES, &[d * dtype.bytes()]);
        if plain.name == variant.name || slices.len() == 1 {
            return launch;
        }
        let over = |rows: Range<usize>| {
            let mut dispatches = of(rows.len()).dispatches;
            let elements = rows.start * d..rows.end * d;
            let window = |buffer| Window { buffer, elements: elements.clone() };
            dispatches[0].slice = Slice {
                windows: vec![window("x"), window("y")],
                params: vec![("rows", rows.len())],
            };
            dispatches
        };
        launch.dispatches = slices.into_iter().flat_map(over).collect();
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (r, d) = (shape["r"], shape["d"]);
        Work::new(3 * r * d, dtype.bytes() * 2 * r * d)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        l2_normalize(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        l2_normalize(problem, rows)
    }
}

/// With the tag `zero` every second row is zeros. The kernel's own limits are norms on either side
/// of the smallest that is divided by.
fn draw(shape: &Shape, generator: &Generator) -> Tensor {
    let dims = [shape["r"], shape["d"]];
    let edge = |index: usize| {
        let size = [1.0, 1e-10, 1e-12, 1e-14, 0.0][index / dims[1] % 5];
        size * rng::normal(generator.seed, 0x12_0001, index as u32)
    };
    let zero = |index: usize| match index / dims[1] % 2 {
        0 => 0.0,
        _ => rng::normal(generator.seed, 0x12_0002, index as u32),
    };
    match (shape.option(), generator.distribution) {
        (Some("zero"), _) => generator.filled("x", &dims, zero),
        (_, Distribution::Edges) => generator.filled("x", &dims, edge),
        _ => generator.data("x", &dims),
    }
}

fn l2_normalize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, d) = (problem.shape["r"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix2>("x");
    let depth = rows::depth_of_quads(d, d.is_multiple_of(4), &unsliced(problem.variant));
    let floor = S::exact(problem.inputs.params.get_real("floor"));
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, r, d, |row, mut y| {
        let values = x.row(row);
        let squares = S::dot(values.iter().map(|&x| (x, x)), depth);
        let scale = squares.max(floor).rsqrt();
        for i in 0..d {
            y[i] = (exact(values[i]) * scale).store(problem.storage());
        }
    })]
}
