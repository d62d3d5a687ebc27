//! Root-mean-square normalisation over rows (arXiv 1910.07467).

use ndarray::{Array2, Ix1, Ix2};

use super::moments::UNIT;
use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &RmsNorm;

struct RmsNorm;

/// Epsilon of the Llama language towers that fused models sit on.
const EPS: f32 = 1e-5;

const MUTANTS: &[Mutant] = &[
    Mutant::new("high half of eight left out", "+ v[1] * v[1]", ""),
    Mutant::new("vectors beyond the row repeat its last", ", i < quads);", ", true);"),
    Mutant::new("vectors beyond the cache left out", "squares += v * v;", ""),
    Mutant::new(
        "one subgroup's share left out",
        "i < count; i++) { sum +=",
        "i + 1u < count; i++) { sum +=",
    ),
    Mutant::new("gain of another invocation", "subgroupBroadcast(v, 5u)", {
        "subgroupBroadcast(v, 4u)"
    }),
    Mutant::new("epsilon ten times as large", "+ params.eps", "+ 10.0 * params.eps"),
    Mutant::new("gain of the first column", "f32(g[", "f32(g[0u * "),
    Mutant::new("sum instead of mean", "/ f32(params.d)", ""),
    Mutant::new("absolute values instead of squares", "value * value", "abs(value)"),
    Mutant::new("square root left out", "inverseSqrt(", "1.0 / ("),
    Mutant::new(
        "last element dropped",
        "i < params.d; i++) { squares",
        "i + 1u < params.d; i++) { squares",
    ),
    Mutant::new("a lane's second element dropped", "i += WG) { squares", "i += 2u * WG) { squares"),
    Mutant::new("first row everywhere", "let base = row * params.d;", "let base = 0u * row;"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "r d"), Operand::new("g", "d")];

impl Kernel for RmsNorm {
    fn spec(&self) -> Spec {
        Spec {
            summary: "scale each row to unit root mean square, then by a learned gain",
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
            vec![generator.data("x", &[r, d]), generator.weight("g", &[d], 1.0)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        rows::launch_wide(shape["r"], shape["d"], UNIT, dtype, variant)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (r, d) = (shape["r"], shape["d"]);
        Work::new(4 * r * d, dtype.bytes() * (2 * r * d + d))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        rms_norm(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        rms_norm(problem, rows)
    }
}

fn rms_norm<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, d) = (problem.shape["r"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix2>("x");
    let g = problem.inputs.float::<Ix1>("g");
    let depth = rows::depth(d, problem.variant);
    let eps = S::exact(problem.inputs.params.get_real("eps"));
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, r, d, |row, mut y| {
        let values: Vec<S> = x.row(row).iter().map(|&x| exact(x)).collect();
        let squares = S::sum(values.iter().map(|&x| x * x), depth);
        let scale = (squares / S::exact(d as f64) + eps).rsqrt();
        for i in 0..d {
            y[i] = (values[i] * scale * exact(g[i])).store(problem.storage());
        }
    })]
}
