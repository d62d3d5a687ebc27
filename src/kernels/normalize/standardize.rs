//! Z-scores of features over the valid rows of each sample: unlike scales made comparable.

use std::cmp::Ordering;

use ndarray::{Array2, Ix3, s};

use super::columns;
use super::moments::Moment;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Generator, Inputs};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Standardize;

struct Standardize;

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "sample instead of population",
        "moment.y / f32(valid)",
        "moment.y / (f32(valid) - 1.0)",
    ),
    Mutant::new(
        "an epsilon under the root",
        "inverseSqrt(max(variance, SMALLEST))",
        "inverseSqrt(variance + 1e-6)",
    ),
    Mutant::new("a constant column divided by", "select(0.0, rstd, variance >= SMALLEST)", "rstd"),
    Mutant::new(
        "no shift by the first element",
        "let shift = f32(x[at(batch, 0u, feature)]);",
        "let shift = 0.0;",
    ),
    Mutant::new("length ignored", "min(len[batch], params.rows)", "params.rows"),
    Mutant::new(
        "last row of a block dropped",
        "min(start + ROWS, last); row++) {\n            part",
        "min(start + ROWS - 1u, last); row++) {\n            part",
    ),
    Mutant::new(
        "distance of the block means left out",
        "part.y + delta * delta * (before * share)",
        "part.y",
    ),
    Mutant::new(
        "shares of four rounds alike",
        "b.count / max(count, vec4<f32>(1.0))",
        "vec4<f32>(0.5)",
    ),
    Mutant::new("padding counted", "min(valid, vec4<u32>(last))", "vec4<u32>(last)"),
    Mutant::new(
        "one track of a period alone",
        "row < min((first + 1u) * rows, valid)",
        "row < min(first * rows + 1u, valid)",
    ),
    Mutant::new("blocks weighted alike", "more / (before + more)", "0.5"),
    Mutant::new(
        "last block not merged",
        "first < valid; first += ROWS",
        "first + ROWS < valid; first += ROWS",
    ),
    Mutant::new(
        "padding keeps its old values",
        "for (var row = end; row < last",
        "for (var row = end + 1u; row < last",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "b r f")];

impl Kernel for Standardize {
    fn spec(&self) -> Spec {
        Spec {
            summary: "bring each feature to zero mean and unit variance over its valid rows",
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
        columns::launch(shape, dtype, variant, "moments")
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        columns::work(shape, dtype, 6)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        standardize(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        standardize(problem, rows)
    }
}

/// Of values summed in blocks of so many, then over the blocks.
fn in_blocks<S: Scalar>(shifted: &[S], block: usize) -> Moment<S> {
    let sum = |terms: &[S]| {
        let parts = terms.chunks(block).map(|part| S::sum(part.iter().copied(), part.len()));
        S::sum(parts, terms.len().div_ceil(block))
    };
    let count = shifted.len();
    let mean = sum(shifted) / S::exact(count as f64);
    let centred = shifted.iter().map(|&x| x - mean);
    let squares = sum(&centred.map(|c| c * c).collect::<Vec<_>>());
    Moment { count, mean, squares }
}

/// Of every so many rows, in blocks of so many of them: four at a time, merged one after the other.
fn in_tracks<S: Scalar>(shifted: &[S], period: usize, block: usize) -> Moment<S> {
    let none = Moment { count: 0, mean: S::zero(), squares: S::zero() };
    let of_block = |rows: &[S]| {
        let of_track = |first: usize| {
            let track: Vec<S> = rows.iter().skip(first).step_by(period).copied().collect();
            track.chunks(4).map(Moment::of).fold(none, Moment::merged)
        };
        (0..period.min(rows.len())).map(of_track).collect::<Vec<_>>()
    };
    shifted.chunks(period * block).flat_map(of_block).fold(none, Moment::merged)
}

/// What a column's elements are shifted by and then scaled by.
struct Column<S> {
    shift: S,
    mean: S,
    spread: Spread<S>,
}

enum Spread<S> {
    None,
    Reciprocal(S),
    /// Devices may disagree whether there is one.
    Unclear,
}

fn column<S: Scalar>(values: &[S], features: usize, variant: &Variant) -> Column<S> {
    let none = Column { shift: S::zero(), mean: S::zero(), spread: Spread::None };
    if values.len() < 2 {
        return none;
    }
    let shift = values[0];
    let shifted: Vec<S> = values.iter().map(|&x| x - shift).collect();
    let block = variant.constant("ROWS");
    let moment = match variant.name {
        "split" => {
            let moments = shifted.chunks(block).map(|part| in_blocks(part, block));
            moments.reduce(Moment::merged).expect("two rows")
        }
        "split4" => in_tracks(&shifted, columns::period(features), block),
        _ => in_blocks(&shifted, block),
    };
    let variance = moment.variance();
    let spread = match variance.order(S::exact(f64::from(columns::SMALLEST))) {
        Some(Ordering::Less) => Spread::None,
        Some(_) => Spread::Reciprocal(variance.rsqrt()),
        None => Spread::Unclear,
    };
    Column { shift, mean: moment.mean, spread }
}

fn standardize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, r, f) = (problem.shape["b"], problem.shape["r"], problem.shape["f"]);
    let x = problem.inputs.float::<Ix3>("x");
    let len = problem.inputs.words("len");
    let exact = |value: f32| S::exact(f64::from(value));
    let all = columns::by_column(rows, problem.shape, |batch, feature| {
        let valid = x.slice(s![batch, ..len[batch] as usize, feature]);
        let values: Vec<S> = valid.iter().map(|&x| exact(x)).collect();
        column(&values, f, problem.variant)
    });
    vec![by_rows(rows, b * r, f, |row, mut y| {
        let (batch, local) = (row / r, row % r);
        if local >= len[batch] as usize {
            return;
        }
        for (i, column) in all[batch].iter().enumerate() {
            let centred = exact(x[[batch, local, i]]) - column.shift - column.mean;
            y[i] = match column.spread {
                Spread::None => S::zero(),
                Spread::Reciprocal(scale) => (centred * scale).store(problem.storage()),
                Spread::Unclear => S::undetermined(0.0),
            };
        }
    })]
}
