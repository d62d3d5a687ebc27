//! The symmetric InfoNCE loss of CLIP (arXiv 2103.00020), with pairs that may be absent.

use ndarray::{Array2, ArrayView1, Ix2};

use super::features;
use super::lse::{Parts, log_sum_exp};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, refuses_ragged,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &ContrastiveLoss;

struct ContrastiveLoss;

/// 1/0.07, CLIP's temperature at the start of training.
const TEMPERATURE: f32 = 14.285_714;
/// The log-sum-exp of nothing, as in the shader.
const LOWEST: f32 = -3.0e38;
/// Width of a tile in the shader.
const TILE: usize = 64;
/// Rows of a tile of `broadcast`, which is as wide.
const HIGH: usize = 16;
/// Lanes that add up the loss.
const LANES: usize = 256;

/// What `broadcast` stores: for each row the LSE of every 64 columns, for each column that of
/// every 16 rows.
fn broadcast_parts(b: usize) -> usize {
    (b.div_ceil(TILE) + b.div_ceil(HIGH)) * b
}

const VARIANTS: &[Variant] = &[
    // No barrier but in the last sum. Eight invocations fill one vector unit of a CPU adapter.
    Variant {
        refuses: |shape| features::refuses_over_limit(4 * shape["b"] * shape["b"]),
        ..Variant::new("logits", &[("WG", 8.0)])
    },
    Variant::new("fused", &[("WG", 8.0)]),
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("tiled", &[("WG", 64.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let parts = 4 * broadcast_parts(shape["b"]);
            refuses_ragged(shape, "d").or_else(|| features::refuses_over_limit(parts))
        },
        ..Variant::new("broadcast", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("maximum not subtracted", "exp(l[i] - peak)", "exp(l[i])"),
    Mutant::new(
        "sum not rescaled when the maximum grows",
        "total *= select(",
        "total = total + 0.0 * select(",
    ),
    Mutant::new("absent pairs counted", "present[min(i, params.batch - 1u)] != 0u", "true"),
    Mutant::new(
        "last row dropped",
        "params.batch); first += 4u",
        "params.batch - 1u); first += 4u",
    ),
    Mutant::new("remainder of a row dropped", "return v;", "return vec4<f32>();"),
    Mutant::new(
        "scale left out of the diagonal",
        "diagonal[i] = sum * params.scale",
        "diagonal[i] = sum",
    ),
    Mutant::new("columns instead of rows", "own * params.batch, along", "own, along"),
    Mutant::new(
        "last tile not gathered",
        "i < count; i++) { if (kept(i)) { sum",
        "i + 1u < count; i++) { if (kept(i)) { sum",
    ),
    Mutant::new("columns of a tile in the order of its rows", "16u * c + r", "lane"),
    Mutant::new(
        "mean over the whole batch",
        "max(shares[0].y, 1.0)",
        "max(f32(params.batch), 1.0)",
    ),
    Mutant::new("a row of another invocation", "Broadcast(own, 5u)", "Broadcast(own, 4u)"),
    Mutant::new("right columns like the left", "columns(col + 32u, q)", "columns(col, q)"),
    Mutant::new("absent rows counted in columns", "is_live != 0u);", "true);"),
    Mutant::new("maximum of an invocation alone", "subgroupMax(max(max(top", "(max(max(top"),
    Mutant::new("last part not gathered", "(params.batch + each - 1u) / each", {
        "params.batch / each"
    }),
    Mutant::new("L_ii from the other half", "row % 64u >= 32u", "row % 64u < 32u"),
    Mutant::new("lower half of columns left out", "weights_of(lower, ", "0.0 * weights_of(lower, "),
    Mutant::new("L of the wrong pair", "work[i * params.batch + i]", "work[i * params.batch]"),
    Mutant::new("only one direction", " + (col_lse[i] - diagonal[i])", ""),
    Mutant::new(
        "a level of the last sum left out",
        "half > 0u; half /= 2u",
        "half > 1u; half /= 2u",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("a", "b d"), Operand::new("b", "b d")];

impl Kernel for ContrastiveLoss {
    fn spec(&self) -> Spec {
        Spec {
            summary: "InfoNCE: tell each row's partner from all other rows, in both directions",
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
        let mut shapes = features::shapes(preset);
        if preset == Preset::Smoke {
            let missing = [(67, 36), (9, 5)].map(|(b, d)| features::of(b, d).tag("missing"));
            shapes.extend(missing);
            shapes.push(features::of(3, 8).tag("none"));
        }
        shapes
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, d) = (shape["b"], shape["d"]);
        let present = presence(shape);
        let params = Params::new().size("batch", b).size("d", d);
        let absent = |index: usize| present[index / d] == 0;
        let mut tensors: Vec<Tensor> =
            features::pairs(shape, generator).map(|x| x.with_garbage(absent)).into();
        tensors.push(Tensor::words("present", &[b], present.clone()));
        Inputs::new(params.real("scale", features::scale(TEMPERATURE, shape)), tensors)
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let b = shape["b"];
        let groups = |each: usize| b.div_ceil(each) as u32;
        let lanes = variant.constant("WG");
        let side = |entry, side: u32, tiled: u32, x| {
            let constants = vec![("SIDE", f64::from(side)), ("TILED", f64::from(tiled))];
            Dispatch { constants, ..Dispatch::new(entry, [x, 1, 1]) }
        };
        let logits =
            Dispatch { grid: [groups(4 * lanes), groups(4), 1], ..side("logits", 1, 0, 0) };
        let broadcast =
            Dispatch { grid: [groups(TILE), groups(HIGH), 1], ..side("broadcast", 0, 0, 0) };
        let tiles = Dispatch { grid: [groups(TILE), groups(TILE), 1], ..side("tiles", 0, 1, 0) };
        let gather = |tiled| [0, 1].map(|s| side("gather", s, tiled, groups(lanes)));
        let stream = [0, 1].map(|s| Dispatch {
            grid: [groups(4 * lanes), groups(TILE), 1],
            ..side("stream", s, 1, 0)
        });
        let of = |name, elements| Buffer::new(name, Elem::F32, elements, 1);
        let mut scratch = vec![of("diagonal", b)];
        let mut dispatches = match variant.name {
            "logits" => {
                scratch.push(of("work", b * b));
                [vec![logits], gather(0).into()].concat()
            }
            "broadcast" => {
                scratch.push(of("work", broadcast_parts(b)));
                [vec![broadcast], gather(2).into()].concat()
            }
            name => {
                scratch.push(of("work", 2 * b.div_ceil(TILE) * b));
                let parts = if name == "tiled" { vec![tiles] } else { stream.into() };
                [parts, gather(1).into()].concat()
            }
        };
        dispatches.push(Dispatch::new("mean", [1, 1, 1]));
        Launch {
            outputs: vec![of("row_lse", b), of("col_lse", b), of("loss", 1)],
            scratch,
            dispatches,
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (b, d) = (shape["b"], shape["d"]);
        let stored = if variant.name == "logits" { 8 * b * b } else { 0 };
        Work::new(2 * b * b * d + 6 * b * b, dtype.bytes() * 2 * b * d + 8 * b + stored)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        contrastive_loss(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        contrastive_loss(problem, rows)
    }
}

/// All pairs; with the tag `missing` two of three; with `none` none.
fn presence(shape: &Shape) -> Vec<u32> {
    let of = |pair: usize| match shape.option() {
        Some("missing") => u32::from(pair % 3 != 1),
        Some("none") => 0,
        _ => 1,
    };
    (0..shape["b"]).map(of).collect()
}

/// In which parts the strategy takes the log-sum-exp of a row (side 0) or a column.
fn parts(variant: &Variant, side: usize) -> Parts {
    match variant.name {
        "fused" => Parts::Runs { length: TILE, block: 4 },
        "tiled" => Parts::Tiles { width: TILE, lanes: 16 },
        "broadcast" => {
            let length = [TILE, HIGH][side];
            Parts::Runs { length, block: length }
        }
        _ => Parts::Whole,
    }
}

/// Up to this batch all logits are kept for both directions: 24 bytes each when tracked.
const MAX_KEPT: usize = 2048;

fn contrastive_loss<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, d) = (problem.shape["b"], problem.shape["d"]);
    let sides = [problem.inputs.float::<Ix2>("a"), problem.inputs.float::<Ix2>("b")];
    let present: Vec<bool> = problem.inputs.words("present").iter().map(|&bit| bit != 0).collect();
    let exact = |value: f32| S::exact(f64::from(value));
    let logit = |u: ArrayView1<f32>, v: ArrayView1<f32>| {
        let (u, v) = (u.to_slice().expect("a row"), v.to_slice().expect("a row"));
        S::dot(u.iter().copied().zip(v.iter().copied()), d)
            * exact(features::scale(TEMPERATURE, problem.shape))
    };
    let kept = (*rows == Rows::All && b <= MAX_KEPT).then(|| {
        by_rows(rows, b, b, |i, mut out| {
            (0..b).for_each(|j| out[j] = logit(sides[0].row(i), sides[1].row(j)));
        })
    });
    let lse = |side: usize, i: usize| {
        if !present[i] {
            return exact(LOWEST);
        }
        let of = |j: usize| match &kept {
            _ if !present[j] => None,
            Some(logits) => Some(logits[if side == 0 { [i, j] } else { [j, i] }]),
            None => Some(logit(sides[side].row(i), sides[1 - side].row(j))),
        };
        log_sum_exp(&(0..b).map(of).collect::<Vec<_>>(), parts(problem.variant, side))
    };
    let lses = |side, rows: &Rows| by_rows(rows, b, 1, |i, mut out| out[0] = lse(side, i));
    let [of_rows, of_columns] = [0, 1].map(|side| lses(side, rows));
    // The loss follows from all of them: the device's own, which are held to these, where it ran.
    let all = |side: usize| -> Vec<S> {
        match problem.device.get(side) {
            Some(answer) => answer.values().into_iter().map(S::exact).collect(),
            None => lses(side, &Rows::All).into_iter().collect(),
        }
    };
    let (row_lse, col_lse) = (all(0), all(1));
    let members: Vec<usize> = (0..b).filter(|&i| present[i]).collect();
    let loss = by_rows(rows, 1, 1, |_, mut out| {
        let terms: Vec<S> = members
            .iter()
            .map(|&i| {
                let own = logit(sides[0].row(i), sides[1].row(i));
                (row_lse[i] - own) + (col_lse[i] - own)
            })
            .collect();
        if !terms.is_empty() {
            let depth = b.div_ceil(LANES) + LANES.ilog2() as usize;
            let total = S::sum(terms.iter().copied(), depth);
            out[0] = S::exact(0.5) * total / S::exact(members.len() as f64);
        }
    });
    vec![of_rows, of_columns, loss]
}
