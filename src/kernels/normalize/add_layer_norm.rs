//! Residual addition and layer normalisation in one pass, as every transformer block has them.

use ndarray::{Array2, Ix1, Ix2};

use super::moments::merged_moments;
use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec,
    Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &AddLayerNorm;

struct AddLayerNorm;

/// Epsilon of BLIP-2's vision tower (LAVIS `eva_vit.py`), as in `layer_norm`.
const EPS: f32 = 1e-6;

const VARIANTS: &[Variant] = &[rows::VARIANTS[0], rows::VARIANTS[1], rows::BROADCAST];

const MUTANTS: &[Mutant] = &[
    Mutant::new("epsilon ten times as large", "+ params.eps", "+ 10.0 * params.eps"),
    Mutant::new("bias left out", " + f32(bias[i])", ""),
    Mutant::new("residual left out of vectors", " + vec4<f32>(res4[at])", ""),
    Mutant::new("bias of the first vector", "bias4[q]", "bias4[0u * q]"),
    Mutant::new(
        "h before the bias",
        "h[row * params.d + i] = to_storage(v);",
        "h[row * params.d + i] = to_storage(v - f32(bias[i]));",
    ),
    Mutant::new(
        "last vector of h never stored",
        "h4[row * quads + q] = to_storage4(v);",
        "if (q + 1u < quads) { h4[row * quads + q] = to_storage4(v); }",
    ),
    Mutant::new("moments merged without the distance of means", " + apart)", ")"),
    Mutant::new(
        "bias of another invocation",
        "subgroupBroadcast(v, 5u)",
        "subgroupBroadcast(v, 4u)",
    ),
    Mutant::new("eight elements not stored in h", "h4[2u * at + 1u] = to_storage4(v[1]);", ""),
    Mutant::new("unbiased variance", "squares / f32(params.d)", "squares / (f32(params.d) - 1.0)"),
    Mutant::new(
        "no shift by the first element",
        "let shift = joined4(row, 0u).x;",
        "let shift = 0.0;",
    ),
    Mutant::new("gain of the first column", "f32(g[i])", "f32(g[0])"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[
    Operand::new("x", "r d"),
    Operand::new("res", "r d"),
    Operand::new("bias", "d"),
    Operand::new("g", "d"),
    Operand::new("b", "d"),
];

impl Kernel for AddLayerNorm {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add a residual and a bias, keep the sum, and layer-normalise it",
            difficulties: &[1, 4],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS).without(&["constant"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |r, d| Shape::new(&[("r", r), ("d", d)]);
        match preset {
            Preset::Smoke => {
                let sizes = [(1, 1), (7, 31), (4, 64), (3, 770), (2, 1408), (0, 8), (65_537, 5)];
                let constant = [(3, 33), (2, 128)].map(|(r, d)| of(r, d).tag("constant"));
                sizes.map(|(r, d)| of(r, d)).into_iter().chain(constant).collect()
            }
            Preset::Models => vec![
                of(32, 768).from("BLIP-2 Q-Former queries"),
                of(257, 1408).from("BLIP-2 ViT-g"),
                of(577, 1024).from("CLIP ViT-L/14-336"),
                of(1500, 1280).from("Whisper-large encoder"),
            ],
            Preset::Sweep => rows::sweep().into_iter().map(|(r, d)| of(r, d)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (r, d) = (shape["r"], shape["d"]);
        // A bias of size 1 would hide how small the rest is from the variance.
        let small = generator.distribution == Distribution::Small;
        let bias_scale = if small { 1e-3 } else { 1.0 };
        let (x, res, bias) = match shape.option() {
            // The sum is exact, and the same over every row.
            Some("constant") => (
                generator.filled("x", &[r, d], |_| 1000.1),
                generator.filled("res", &[r, d], |_| 0.5),
                generator.filled("bias", &[d], |_| 0.0),
            ),
            _ => (
                generator.data("x", &[r, d]),
                generator.data("res", &[r, d]),
                generator.weight("bias", &[d], bias_scale),
            ),
        };
        let (g, b) = (generator.weight("g", &[d], 1.0), generator.weight("b", &[d], 1.0));
        let params = Params::new().size("rows", r).size("d", d).real("eps", EPS);
        Inputs::new(params, vec![x, res, bias, g, b])
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (r, d) = (shape["r"], shape["d"]);
        let mut launch = match variant.name {
            "broadcast" => {
                let launch = rows::launch(r, d, dtype, variant);
                launch.with_constant("REJOIN", f64::from(u8::from(dtype == Dtype::F16)))
            }
            _ => rows::launch_quads(r, d, d.is_multiple_of(4), dtype, variant),
        };
        launch.outputs.insert(0, Buffer::new("h", dtype.storage(), r, d));
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (r, d) = (shape["r"], shape["d"]);
        Work::new(11 * r * d, dtype.bytes() * (4 * r * d + 3 * d))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        add_layer_norm(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        add_layer_norm(problem, rows)
    }
}

fn add_layer_norm<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, d) = (problem.shape["r"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix2>("x");
    let res = problem.inputs.float::<Ix2>("res");
    let bias = problem.inputs.float::<Ix1>("bias");
    let g = problem.inputs.float::<Ix1>("g");
    let b = problem.inputs.float::<Ix1>("b");
    let depth = rows::depth_of_quads(d, d.is_multiple_of(4), problem.variant);
    let exact = |value: f32| S::exact(f64::from(value));
    let joined = |row: usize, i: usize| {
        S::sum([x[[row, i]], res[[row, i]], bias[i]].into_iter().map(exact), 2)
    };
    let h = by_rows(rows, r, d, |row, mut h| {
        (0..d).for_each(|i| h[i] = joined(row, i).store(problem.storage()));
    });
    let (n, eps) = (S::exact(d as f64), S::exact(problem.inputs.params.get_real("eps")));
    let y = by_rows(rows, r, d, |row, mut y| {
        let shift = joined(row, 0);
        let shifted: Vec<S> = (0..d).map(|i| joined(row, i) - shift).collect();
        let (mean, variance) = if problem.variant.name == "broadcast" {
            merged_moments(&shifted)
        } else {
            let mean = S::sum(shifted.iter().copied(), depth) / n;
            let squares = shifted.iter().map(|&x| (x - mean) * (x - mean));
            (mean, S::sum(squares, depth) / n)
        };
        let centred = shifted.iter().map(|&x| x - mean).collect::<Vec<S>>();
        let rstd = (variance + eps).rsqrt();
        for i in 0..d {
            y[i] = (centred[i] * rstd * exact(g[i]) + exact(b[i])).store(problem.storage());
        }
    });
    vec![h, y]
}
