//! Layer normalisation over rows, shifted by each row's first element (arXiv 1607.06450).

use ndarray::{Array2, Ix1, Ix2};

use super::moments::{UNIT, merged_moments};
use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LayerNorm;

struct LayerNorm;

/// Epsilon of BLIP-2's vision tower (LAVIS `eva_vit.py`).
const EPS: f32 = 1e-6;

const MUTANTS: &[Mutant] = &[
    Mutant::new("moments merged without the distance of means", "+ apart)", ")"),
    Mutant::new(
        "high half of eight left out",
        "(v[0] - shift) + (v[1] - shift)",
        "2.0 * (v[0] - shift)",
    ),
    Mutant::new(
        "cached vectors beyond the row counted",
        ", first + c * lanes < quads);",
        ", true);",
    ),
    Mutant::new(
        "vectors beyond the cache left out",
        "total += shifted4(base, i, ",
        "total += 0.0 * shifted4(base, i, ",
    ),
    Mutant::new(
        "one subgroup's share left out",
        "i < count; i++) { sum +=",
        "i + 1u < count; i++) { sum +=",
    ),
    Mutant::new("epsilon ten times as large", "+ params.eps", "+ 10.0 * params.eps"),
    Mutant::new("gain of another invocation", "subgroupBroadcast(v, 5u)", {
        "subgroupBroadcast(v, 4u)"
    }),
    Mutant::new("bias of the lower half for both", "gain[1] + bias[1]);\n    }\n}\n\n// Sub", {
        "gain[1] + bias[0]);\n    }\n}\n\n// Sub"
    }),
    Mutant::new("unbiased variance", "squares / n", "squares / (n - 1.0)"),
    Mutant::new(
        "last element dropped",
        "i < params.d; i++) { total",
        "i + 1u < params.d; i++) { total",
    ),
    Mutant::new("gain of the first column", "f32(g[i])", "f32(g[0])"),
    Mutant::new("no shift by the first element", "let shift = f32(x[base]);", "let shift = 0.0;"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    Mutant::new("bias left out", " + f32(b[i])", ""),
    Mutant::new("shift by the first element of all", "f32(x[base]);", "f32(x[0]);"),
    Mutant::new("rows further apart in the result", "y[row * params.d + i]", "y[i]"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "r d"), Operand::new("g", "d"), Operand::new("b", "d")];

impl Kernel for LayerNorm {
    fn spec(&self) -> Spec {
        Spec {
            summary: "normalise each row to zero mean and unit variance, then scale and shift",
            difficulties: &[1],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: rows::NORMS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        rows::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (r, d) = (shape["r"], shape["d"]);
        Inputs::new(
            Params::new().size("rows", r).size("d", d).real("eps", EPS),
            vec![
                generator.data("x", &[r, d]),
                generator.weight("g", &[d], 1.0),
                generator.weight("b", &[d], 1.0),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        rows::launch_wide(shape["r"], shape["d"], UNIT, dtype, variant)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (r, d) = (shape["r"], shape["d"]);
        Work::new(9 * r * d, dtype.bytes() * (2 * r * d + 2 * d))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        layer_norm(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        layer_norm(problem, rows)
    }
}

fn layer_norm<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, d) = (problem.shape["r"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix2>("x");
    let g = problem.inputs.float::<Ix1>("g");
    let b = problem.inputs.float::<Ix1>("b");
    let depth = rows::depth(d, problem.variant);
    let exact = |value: f32| S::exact(f64::from(value));
    let (n, eps) = (S::exact(d as f64), S::exact(problem.inputs.params.get_real("eps")));
    vec![by_rows(rows, r, d, |row, mut y| {
        let shift = exact(x[[row, 0]]);
        let shifted: Vec<S> = x.row(row).iter().map(|&x| exact(x) - shift).collect();
        let (mean, variance) = if rows::merges(d, problem.variant) {
            merged_moments(&shifted)
        } else {
            let mean = S::sum(shifted.iter().copied(), depth) / n;
            let squares = shifted.iter().map(|&x| (x - mean) * (x - mean));
            (mean, S::sum(squares, depth) / n)
        };
        let rstd = (variance + eps).rsqrt();
        for i in 0..d {
            let out = (shifted[i] - mean) * rstd * exact(g[i]) + exact(b[i]);
            y[i] = out.store(problem.storage());
        }
    })]
}
