//! Features scaled to [0, 1] by the limits of the valid rows of each sample.

use std::cmp::Ordering;

use ndarray::{Array2, Ix3, s};

use super::columns;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Generator, Inputs};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &MinMaxScale;

struct MinMaxScale;

const MUTANTS: &[Mutant] = &[
    Mutant::new("range a little too large", "above / range", "above / (range + 1e-6)"),
    Mutant::new("minimum not subtracted", " - limit.x;\n        y", ";\n        y"),
    Mutant::new("an empty range divided by", "range >= SMALLEST", "range >= 0.0"),
    Mutant::new("maximum of the first round", "select(high, max(high, v), inside)", "high"),
    Mutant::new(
        "one track of a period alone",
        "row < min((first + 1u) * rows, valid)",
        "row < min(first * rows + 1u, valid)",
    ),
    Mutant::new(
        "an empty range divided by vectors",
        "range >= vec4<f32>(SMALLEST)",
        "range >= vec4<f32>()",
    ),
    Mutant::new("length ignored", "min(len[batch], params.rows)", "params.rows"),
    Mutant::new(
        "last row of a block dropped",
        "row = first + 1u; row < last",
        "row = first + 1u; row + 1u < last",
    ),
    Mutant::new(
        "zero among the limits",
        "vec2<f32>(f32(x[at(batch, first, feature)]))",
        "vec2<f32>()",
    ),
    Mutant::new(
        "last block not merged",
        "first < valid; first += ROWS",
        "first + ROWS < valid; first += ROWS",
    ),
    Mutant::new(
        "limits of another sample",
        "limits[batch * params.f + feature]",
        "limits[feature]",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "b r f")];

impl Kernel for MinMaxScale {
    fn spec(&self) -> Spec {
        Spec {
            summary: "scale each feature to [0, 1] by the limits of its valid rows",
            difficulties: &[1],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: columns::VARIANTS,
            inputs: columns::INPUTS,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        columns::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        columns::inputs(shape, generator)
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        columns::launch(shape, dtype, variant, "limits")
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        columns::work(shape, dtype, 2)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        min_max_scale(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        min_max_scale(problem, rows)
    }
}

fn min_max_scale<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, r, f) = (problem.shape["b"], problem.shape["r"], problem.shape["f"]);
    let x = problem.inputs.float::<Ix3>("x");
    let len = problem.inputs.words("len");
    let exact = |value: f32| S::exact(f64::from(value));
    let limits = columns::by_column(rows, problem.shape, |batch, feature| {
        let valid = x.slice(s![batch, ..len[batch] as usize, feature]);
        let low = valid.iter().copied().reduce(f32::min).unwrap_or(0.0);
        (low, valid.iter().copied().reduce(f32::max).unwrap_or(0.0))
    });
    vec![by_rows(rows, b * r, f, |row, mut y| {
        let (batch, local) = (row / r, row % r);
        if local >= len[batch] as usize {
            return;
        }
        for (i, &(low, high)) in limits[batch].iter().enumerate() {
            let range = exact(high) - exact(low);
            let above = exact(x[[batch, local, i]]) - exact(low);
            y[i] = match range.order(exact(columns::SMALLEST)) {
                Some(Ordering::Less) => S::zero(),
                Some(_) => (above / range).max(S::zero()).min(S::one()).store(problem.storage()),
                None => S::undetermined(0.0),
            };
        }
    })]
}
