//! Occlusion (arXiv 1311.2901): copies of a sequence, each with one patch hidden by a baseline.

use ndarray::{Array2, Ix1, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, refuses_ragged,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Occlusion;

struct Occlusion;

const VARIANTS: &[Variant] = &[
    Variant::new("scalar", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            (!shape["d"].is_multiple_of(8))
                .then(|| format!("d is {}, not a multiple of 8", shape["d"]))
        },
        ..Variant::new("eights", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("patch starts one token early", "(token + 1u) * params.patches - 1u", {
        "(token + 1u) * params.patches"
    }),
    Mutant::new(
        "patches of rounded length",
        "((token + 1u) * params.patches - 1u) / params.tokens",
        "token / max(params.tokens / params.patches, 1u)",
    ),
    Mutant::new("last patch dropped", "j < patches", "j + 1u < patches"),
    Mutant::new("kept and hidden swapped", "select(kept, hidden,", "select(hidden, kept,"),
    Mutant::new("baseline of the first column", "baseline[column]", "baseline[0]"),
    Mutant::new("baseline of the first eight", "baseline8[column]", "baseline8[0]"),
    Mutant::new(
        "nothing hidden",
        "y8[first + hidden_in(token) * step] =",
        "y8[first + 0u * step] =",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "t d"), Operand::new("baseline", "d")];

impl Kernel for Occlusion {
    fn spec(&self) -> Spec {
        Spec {
            summary: "copy a token sequence once per patch, that patch replaced by a baseline",
            difficulties: &[6],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Subnormal],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |p, t, d| Shape::new(&[("p", p), ("t", t), ("d", d)]);
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1),
                of(3, 7, 5),
                of(4, 31, 36),
                of(16, 33, 257),
                of(7, 50, 64),
                of(3, 0, 8),
                // More patches than tokens: some hide nothing.
                of(5, 3, 31).tag("empty"),
                of(6, 4, 8).tag("empty"),
            ],
            Preset::Models => vec![
                of(16, 257, 1408).from("BLIP-2 ViT-g, 16 patches"),
                of(24, 576, 1024).from("LLaVA-1.5, 24 rows of patches"),
                of(77, 77, 768).from("CLIP ViT-L/14-336 text, each token"),
            ],
            Preset::Sweep => [2, 4, 8, 16, 32].into_iter().map(|p| of(p, 256, 1024)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (p, t, d) = (shape["p"], shape["t"], shape["d"]);
        Inputs::new(
            Params::new().size("tokens", t).size("d", d).size("patches", p),
            vec![generator.data("x", &[t, d]), generator.weight("baseline", &[d], 1.0)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (p, t, d) = (shape["p"], shape["t"], shape["d"]);
        let each = match variant.name {
            "scalar" => 1,
            "vector" => 4,
            _ => 8,
        };
        let across = d.div_ceil(each * variant.constant("WG"));
        let output = Buffer::new("y", dtype.storage(), p * t, d);
        let mut launch = Launch::single(output, [across as u32, t as u32, 1]);
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (p, t, d) = (shape["p"], shape["t"], shape["d"]);
        Work::new(0, dtype.bytes() * (t * d * (1 + p) + d))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        occlusion(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        occlusion(problem, rows)
    }
}

fn occlusion<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (p, t, d) = (problem.shape["p"], problem.shape["t"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix2>("x");
    let baseline = problem.inputs.float::<Ix1>("baseline");
    vec![by_rows(rows, p * t, d, |row, mut y| {
        let (patch, token) = (row / t, row % t);
        let hidden = (patch * t / p..(patch + 1) * t / p).contains(&token);
        for i in 0..d {
            let kept = if hidden { baseline[i] } else { x[[token, i]] };
            y[i] = S::exact(f64::from(kept));
        }
    })]
}
