//! The pairwise sigmoid loss of SigLIP (arXiv 2303.15343).

use std::cmp::Ordering;

use ndarray::{Array2, Ix2};

use super::features;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, refuses_ragged,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &SigmoidContrastiveLoss;

struct SigmoidContrastiveLoss;

/// Temperature and bias at the start of training (open_clip, `ViT-B-16-SigLIP.json`).
const TEMPERATURE: f32 = 10.0;
const BIAS: f32 = -10.0;
/// Width of a tile in the shader, and how many columns of it one lane has.
const TILE: usize = 64;
const COLUMNS: usize = 4;
/// Lanes that add up the loss.
const LANES: usize = 256;

const VARIANTS: &[Variant] = &[
    // No barrier but in the last sum. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("stream", &[("WG", 8.0)]),
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("tiled", &[("WG", 64.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("broadcast", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("no pair belongs together", "select(x, -x, j == vec4<u32>(i))", "x"),
    Mutant::new("the other sign", "select(x, -x,", "select(-x, x,"),
    Mutant::new("bias left out", " + params.bias", ""),
    Mutant::new("square left out of the series", "e * (-1.0 / 2.0 +", "e * (0.0 +"),
    Mutant::new("series used too far out", "vec4<f32>(0.0625)", "vec4<f32>(0.5)"),
    Mutant::new("no absolute value", "exp(-abs(x))", "exp(-x)"),
    Mutant::new(
        "columns beyond the batch counted",
        "j < vec4<u32>(params.batch)",
        "j < vec4<u32>(1000u)",
    ),
    Mutant::new("remainder of a row dropped", "v.z = f32(b[at + 2u]);", "v.z = 0.0;"),
    Mutant::new("a lane's share dropped", "i < 16u; i++) { sum", "i < 15u; i++) { sum"),
    Mutant::new("a row of another invocation", "Broadcast(own, 5u)", "Broadcast(own, 4u)"),
    Mutant::new("half of the columns left out", " + losses(row, col + 32u, 8u, right)", ""),
    Mutant::new("last tile not gathered", "(params.batch + 63u) / 64u", "params.batch / 64u"),
    Mutant::new("sum instead of mean", " / f32(max(params.batch, 1u))", ""),
];

const OPERANDS: &[Operand] = &[Operand::new("a", "b d"), Operand::new("b", "b d")];

impl Kernel for SigmoidContrastiveLoss {
    fn spec(&self) -> Spec {
        Spec {
            summary: "SigLIP: ask of each pair of rows by itself whether they belong together",
            difficulties: &[4, 5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Large,
                Distribution::Needle,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        features::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, d) = (shape["b"], shape["d"]);
        let params = Params::new().size("batch", b).size("d", d);
        Inputs::new(
            params.real("scale", features::scale(TEMPERATURE, shape)).real("bias", BIAS),
            features::pairs(shape, generator).into(),
        )
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let b = shape["b"];
        let groups = |each: usize| b.div_ceil(each) as u32;
        let lanes = variant.constant("WG");
        let run = |entry, x, y| Dispatch::new(entry, [x, y, 1]);
        let of = |name, elements| Buffer::new(name, Elem::F32, elements, 1);
        let scratch = vec![of("work", b.div_ceil(TILE) * b)];
        let first = match variant.name {
            "stream" => run("stream", groups(4 * lanes), groups(TILE)),
            "broadcast" => run("broadcast", groups(TILE), groups(16)),
            _ => run("tiles", groups(TILE), groups(TILE)),
        };
        let dispatches = vec![first, run("gather", groups(lanes), 1), run("mean", 1, 1)];
        Launch { outputs: vec![of("rows", b), of("loss", 1)], scratch, dispatches }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, d) = (shape["b"], shape["d"]);
        Work::new(2 * b * b * d + 8 * b * b, dtype.bytes() * 2 * b * d + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        sigmoid_contrastive_loss(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        sigmoid_contrastive_loss(problem, rows)
    }
}

/// log(1 + e) for e in [0, 1]: by its series below 1/16, as the shader does.
fn log1p<S: Scalar>(e: S) -> S {
    if e.order(S::exact(0.0625)) != Some(Ordering::Less) {
        // Also where a device may take the series, which is the closer of the two.
        return (S::one() + e).ln();
    }
    let coefficient = |n: u8| {
        let sign = if n.is_multiple_of(2) { -1.0 } else { 1.0 };
        S::exact(f64::from(sign / f32::from(n)))
    };
    let series = (1..=6).rev().fold(coefficient(7), |sum, n| coefficient(n) + e * sum) * e;
    series.approximating(e.value().ln_1p(), e.value().powi(8) / 8.0)
}

fn softplus<S: Scalar>(x: S) -> S {
    x.max(S::zero()) + log1p((-x.abs()).exp())
}

/// Most additions a loss passes through on its way into the sum of its row.
fn depth(b: usize, variant: &Variant) -> usize {
    let in_tile = match variant.name {
        "stream" => TILE,
        // Eight of one invocation, then the eight of a subgroup in whatever order.
        "broadcast" => 16,
        _ => COLUMNS + TILE / COLUMNS,
    };
    in_tile + b.div_ceil(TILE)
}

fn sigmoid_contrastive_loss<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, d) = (problem.shape["b"], problem.shape["d"]);
    let left = problem.inputs.float::<Ix2>("a");
    let right = problem.inputs.float::<Ix2>("b");
    let exact = |value: f32| S::exact(f64::from(value));
    let of_row = |i: usize| {
        let own = left.row(i).to_slice().expect("a row");
        let loss = |j: usize| {
            let other = right.row(j).to_slice().expect("a row");
            let dot = S::dot(own.iter().copied().zip(other.iter().copied()), d);
            let x = exact(features::scale(TEMPERATURE, problem.shape)) * dot + exact(BIAS);
            softplus(if i == j { -x } else { x })
        };
        let losses: Vec<S> = (0..b).map(loss).collect();
        S::sum(losses.iter().copied(), depth(b, problem.variant))
    };
    let sums = |rows: &Rows| by_rows(rows, b, 1, |i, mut out| out[0] = of_row(i));
    let selected = sums(rows);
    // The loss follows from all of them: the device's own, which are held to these, where it ran.
    let all: Vec<S> = match problem.device.first() {
        Some(answer) => answer.values().into_iter().map(S::exact).collect(),
        None => sums(&Rows::All).into_iter().collect(),
    };
    let loss = by_rows(rows, 1, 1, |_, mut out| {
        if b > 0 {
            let depth = b.div_ceil(LANES) + LANES.ilog2() as usize;
            out[0] = S::sum(all.iter().copied(), depth) / S::exact(b as f64);
        }
    });
    vec![selected, loss]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shader's own arithmetic in f32, to be compared with the tracked bound.
    fn softplus_f32(x: f32) -> f32 {
        let e = (-x.abs()).exp();
        let series = (1..=6_u8).rev().fold(1.0 / 7.0, |sum, n| {
            let sign = if n.is_multiple_of(2) { -1.0 } else { 1.0 };
            sign / f32::from(n) + e * sum
        });
        x.max(0.0) + if e < 0.0625 { series * e } else { (1.0 + e).ln() }
    }

    #[test]
    fn f32_evaluations_of_softplus_stay_within_the_tracked_bound() {
        for step in -3_000..=3_000 {
            let x = step as f32 * 1e-2;
            let bound = softplus(Tracked::exact(f64::from(x)));
            let exact = f64::from(x).max(0.0) + (-f64::from(x).abs()).exp().ln_1p();
            assert!((bound.value - exact).abs() <= 1e-15 * exact.max(1.0), "{x}");
            let error = (f64::from(softplus_f32(x)) - bound.value).abs();
            assert!(error <= bound.worst, "softplus({x}): {error:e} over {:e}", bound.worst);
        }
    }
}
