//! How far one stream lags behind another: correlations at every lag, and the lag of the largest.
//!
//! The tag `silent` makes the first stream zero, so that every lag is as good: the first counts.

use std::cmp::Ordering;

use ndarray::{Array2, Ix3, s};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &CrossCorrelationLag;

struct CrossCorrelationLag;

/// Invocations of a subgroup of `subgroup_octets`, and the most octets of lags it has.
const SUBGROUP: usize = 8;
const MOST_OCTETS: usize = 13;

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant {
        turns: |shape| shape["t"] * shape["f"] / if shape["f"].is_multiple_of(4) { 4 } else { 1 },
        ..Variant::new("thread", &[("WG", 8.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        turns: |shape| shape["f"] * (shape["t"].div_ceil(SUBGROUP) + 2),
        ..Variant::new("subgroup_octets", &[("WG", 8.0)])
    },
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("streams swapped", "(sample + early)", "(sample + late)"),
    Mutant::new("overlap one step too short", "max(early, late))", "max(early, late) + 1u)"),
    Mutant::new(
        "last of equal maxima",
        "r[base + l] > r[base + best]",
        "r[base + l] >= r[base + best]",
    ),
    Mutant::new("neighbour on the wrong side", "lane + j < 8u", "lane + j <= 8u"),
    Mutant::new("last octet without its steps", "start + 8u * OCTETS", "start + 8u * OCTETS - 8u"),
    Mutant::new("last step meets the first lag alone", "params.steps + 7u;", "params.steps;"),
    Mutant::new("octet before passed on", "held[k + 1u], next", "held[k], next"),
    Mutant::new("step beyond the stream", "&& step < end", ""),
    Mutant::new("lag counted from zero", "- i32(params.reach)", ""),
    Mutant::new("ties of the tree ignored", "&& place[lane + half] < place[lane]", "&& false"),
    Mutant::new("a level of the tree left out", "half > 0u", "half > 1u"),
];

const OPERANDS: &[Operand] = &[Operand::new("a", "b t f"), Operand::new("b", "b t f")];

impl Kernel for CrossCorrelationLag {
    fn spec(&self) -> Spec {
        Spec {
            summary: "correlate two streams at every lag and find the lag of the maximum",
            difficulties: &[3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Ties,
                Distribution::Needle,
                Distribution::Edges,
            ],
            operands: Operands::of(OPERANDS).without(&["silent"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1, 0),
                of(2, 5, 3, 4),
                of(3, 31, 35, 3),
                of(2, 50, 8, 49),
                of(1, 257, 4, 70),
                of(1, 3, 2, 5),
                of(2, 33, 5, 40).tag("silent"),
                of(0, 4, 4, 2),
            ],
            Preset::Models => vec![
                of(24, 500, 74, 50).from("MulT MOSEI audio against its shifted copy"),
                of(8, 1500, 80, 100).from("Whisper log-mel frames, 2 s either way"),
            ],
            Preset::Sweep => [7, 9, 11]
                .into_iter()
                .flat_map(|log2| [8, 32, 128].map(|reach| of(8, 1 << log2, 64, reach)))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, t, f, reach) = (shape["b"], shape["t"], shape["f"], shape["l"]);
        let dims = [b, t, f];
        let params = Params::new().size("batch", b).size("steps", t).size("d", f);
        let params = params.size("reach", reach);
        if shape.option() == Some("silent") {
            let silence = generator.filled("a", &dims, |_| 0.0);
            return Inputs::new(params, vec![silence, generator.data("b", &dims)]);
        }
        if generator.distribution == Distribution::Edges {
            return Inputs::new(params, impulses(shape, generator));
        }
        if generator.distribution != Distribution::Needle {
            return Inputs::new(
                params,
                vec![generator.data("a", &dims), generator.data("b", &dims)],
            );
        }
        // The second stream is the first one, some steps later.
        let late = (reach.min(t - 1).div_ceil(2) * f) as u32;
        let of = |index: u32| rng::normal(generator.seed, 1, index);
        let a = generator.filled("a", &dims, |index| of(index as u32));
        let b = generator.filled("b", &dims, |index| of((index as u32).wrapping_sub(late)));
        Inputs::new(params, vec![a, b])
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (b, lags, lanes) = (shape["b"], lags(shape), variant.constant("WG"));
        let run = |entry, grid| Dispatch::new(entry, grid);
        let vectors = shape["f"].is_multiple_of(4);
        let dispatches = match variant.name {
            "thread" => vec![
                run(if vectors { "thread4" } else { "thread" }, spill((b * lags).div_ceil(lanes))),
                run("thread_peak", spill(b.div_ceil(lanes))),
            ],
            "subgroup_octets" => {
                let (octets, groups) = octets(lags);
                let correlate = Dispatch {
                    constants: vec![("OCTETS", octets as f64)],
                    ..run("subgroup_octets", spill(b * groups))
                };
                vec![correlate, run("thread_peak", spill(b.div_ceil(lanes)))]
            }
            _ => vec![
                run(if vectors { "group4" } else { "group" }, spill(b * lags)),
                run("group_peak", spill(b)),
            ],
        };
        Launch {
            outputs: vec![
                Buffer::new("r", Elem::F32, b * lags, 1),
                Buffer::new("lag", Elem::I32, b, 1),
            ],
            scratch: Vec::new(),
            dispatches,
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, t, f) = (shape["b"], shape["t"], shape["f"]);
        let steps: usize = (0..lags(shape)).map(|l| overlap(shape, l).0).sum();
        let written = 4 * b * (lags(shape) + 1);
        Work::new(2 * b * f * steps, dtype.bytes() * 2 * b * t * f + written)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        correlate(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        correlate(problem, rows)
    }
}

fn of(b: usize, t: usize, f: usize, l: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("f", f), ("l", l)])
}

fn lags(shape: &Shape) -> usize {
    2 * shape["l"] + 1
}

/// Octets of lags a subgroup has, and how many subgroups share the lags.
fn octets(lags: usize) -> (usize, usize) {
    let all = lags.div_ceil(SUBGROUP);
    let groups = all.div_ceil(MOST_OCTETS);
    (all.div_ceil(groups), groups)
}

/// One impulse in the first stream and two in the second: equal maxima at the lags numbered 1 and
/// 64, of which a workgroup of 64 holds the later one in an earlier lane.
fn impulses(shape: &Shape, generator: &Generator) -> Vec<Tensor> {
    let (t, f, reach) = (shape["t"], shape["f"], shape["l"]);
    let dims = [shape["b"], t, f];
    let at = |index: usize, steps: &[usize]| {
        let step = index / f % t;
        f32::from(u8::from(index.is_multiple_of(f) && steps.contains(&(step + reach))))
    };
    let middle = t / 2;
    let a = generator.filled("a", &dims, |index| at(index, &[middle + reach]));
    let b = generator.filled("b", &dims, |index| at(index, &[middle + 1, middle + 64]));
    vec![a, b]
}

/// Steps both streams have at the lag numbered `l`, and where these start in either.
fn overlap(shape: &Shape, l: usize) -> (usize, usize, usize) {
    let (t, reach) = (shape["t"], shape["l"]);
    let (early, late) = (reach.saturating_sub(l), l.saturating_sub(reach));
    (t.saturating_sub(early.max(late)), early.min(t), late.min(t))
}

/// Most additions one term passes through: the loop of one invocation, then the tree.
fn depth(steps: usize, f: usize, variant: &Variant) -> usize {
    let terms = steps * f;
    let lanes = variant.constant("WG");
    match variant.name {
        "thread" => terms,
        // Of the steps every eighth, which need not start with the overlap.
        "subgroup_octets" => (steps.div_ceil(SUBGROUP) + 1) * f + SUBGROUP,
        _ => 4 * terms.div_ceil(4 * lanes) + lanes.ilog2() as usize,
    }
}

/// The number of the first maximum, undetermined where another value may be as large.
fn first_maximum<S: Scalar>(values: &[S]) -> Result<usize, usize> {
    let mut best = 0;
    for l in 1..values.len() {
        if values[l].value() > values[best].value() {
            best = l;
        }
    }
    let beaten = |l: usize| match values[l].order(values[best]) {
        Some(Ordering::Less) => true,
        Some(Ordering::Equal) => l >= best,
        Some(Ordering::Greater) | None => false,
    };
    let certain = (0..values.len()).all(|l| l == best || beaten(l));
    if certain { Ok(best) } else { Err(best) }
}

fn correlate<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (batch, f, lags) = (shape["b"], shape["f"], lags(shape));
    let a = problem.inputs.float::<Ix3>("a");
    let b = problem.inputs.float::<Ix3>("b");
    let value = |sample: usize, l: usize| {
        let (steps, early, late) = overlap(shape, l);
        let a = a.slice(s![sample, early..early + steps, ..]);
        let b = b.slice(s![sample, late..late + steps, ..]);
        let pairs = a.iter().copied().zip(b.iter().copied());
        S::dot(pairs, depth(steps, f, problem.variant))
    };
    // One row a lag, so that a sample of them is cheap.
    let r = by_rows(rows, batch * lags, 1, |row, mut r| r[0] = value(row / lags, row % lags));
    let lag = by_rows(rows, batch, 1, |sample, mut lag| {
        // The device's own correlations, verified by themselves, leave nothing open.
        let values: Vec<S> = match problem.device.first() {
            Some(answer) => (0..lags).map(|l| S::exact(answer.row(sample * lags + l)[0])).collect(),
            None => (0..lags).map(|l| value(sample, l)).collect(),
        };
        let of = |l: usize| l as f64 - shape["l"] as f64;
        lag[0] = match first_maximum(&values) {
            Ok(l) => S::exact(of(l)),
            Err(l) => S::undetermined(of(l)),
        };
    });
    vec![r, lag]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_maxima_give_the_first_and_close_ones_leave_it_open() {
        let exact = [1.0, 3.0, 3.0].map(Tracked::exact);
        assert_eq!(first_maximum(&exact), Ok(1));
        let rough = Tracked { value: 2.9, worst: 0.2, variance: 0.01 };
        assert_eq!(first_maximum(&[exact[0], exact[1], rough]), Err(1));
        assert_eq!(first_maximum(&[Tracked::exact(0.0); 3]), Ok(0));
    }
}
