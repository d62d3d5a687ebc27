//! Attention weights of each head, and their mean over heads: what a heat map shows.

use ndarray::{Array2, ArrayView4, s};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &AttentionMap;

struct AttentionMap;

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant {
        // Each score is a loop, and weights are looked at three times more.
        turns: |shape| shape["k"] * (shape["d"] / 4 + shape["d"] % 4 + 4),
        ..Variant::new("thread", &[("WG", 8.0)])
    },
    Variant { needs: &[Need::Subgroup, Need::SubgroupOf8], ..Variant::new("subgroup_block", &[]) },
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

/// Queries and keys that a subgroup multiplies at a time in `subgroup_block`.
const BLOCK: usize = 8;
const KEYS: usize = 32;

const MUTANTS: &[Mutant] = &[
    Mutant::new("scale a per mille too large", "* params.scale", "* params.scale * 1.001"),
    Mutant::new("last key dropped", "key < valid; key++) { total", {
        "key + 1u < valid; key++) { total"
    }),
    Mutant::new("last head dropped", "h < params.heads", "h + 1u < params.heads"),
    Mutant::new("length ignored", "min(len[batch_of(row)], params.keys)", "params.keys"),
    Mutant::new("head of the next row", "row / params.queries %", "(row + 1u) / params.queries %"),
    Mutant::new("ragged end of d dropped", "i < params.d", "i + 1u < params.d"),
    Mutant::new("query of another invocation", "subgroupBroadcast(query, 5u)", {
        "subgroupBroadcast(query, 4u)"
    }),
    Mutant::new("products of three elements", "+ v.w * t[3]", ""),
    Mutant::new("sum of one invocation's keys", "subgroupAdd(totals[i])", "8.0 * totals[i]"),
    Mutant::new("maximum and sum swapped", "+ other, is_sum)", "+ other, !is_sum)"),
];

const OPERANDS: &[Operand] = &[Operand::new("q", "b q h d"), Operand::new("k", "b k h d")];

fn refuses_beyond(shape: &Shape) -> Option<String> {
    let (all, valid) = (shape["k"], shape.get("n")?);
    (valid > all).then(|| format!("{valid} of {all} keys are valid"))
}

impl Kernel for AttentionMap {
    fn spec(&self) -> Spec {
        Spec {
            summary: "show which keys of another modality each query attends to",
            difficulties: &[6],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS).refusing(refuses_beyond),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1, 1, 5),
                of(1, 2, 3, 7, 5),
                of(1, 4, 9, 65, 40),
                of(1, 1, 1, 257, 64),
                of(1, 1, 4, 0, 64),
                of(3, 2, 3, 31, 8).tag("tail"),
                of(2, 3, 5, 33, 64).tag("masked"),
                Shape::new(&[("b", 2), ("h", 3), ("q", 5), ("k", 13), ("d", 6), ("n", 5)]),
            ],
            Preset::Models => vec![
                of(1, 12, 32, 257, 64).from("BLIP-2 Q-Former"),
                of(1, 20, 448, 1500, 64).from("Whisper-large decoder"),
                of(24, 5, 50, 500, 6).from("MulT MOSEI text from audio"),
                of(1, 8, 64, 320, 64).from("Flamingo resampler"),
            ],
            // One invocation may run 65,535 loop iterations on llvmpipe: keys × d/4 of `thread`.
            Preset::Sweep => (7..=11).map(|log2| of(1, 12, 32, 1 << log2, 64)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, h, q, k, d) = (shape["b"], shape["h"], shape["q"], shape["k"], shape["d"]);
        let len = lengths(shape);
        let unused = |index: usize| {
            let key = index / (h * d);
            key % k >= len[key / k] as usize
        };
        let params = Params::new().size("batch", b).size("heads", h).size("queries", q);
        Inputs::new(
            params.size("keys", k).size("d", d).real("scale", scale(d)),
            vec![
                generator.data("q", &[b, q, h, d]),
                // Standard normal whatever the data, as in cross_attention.
                generator.weight("k", &[b, k, h, d], 1.0).with_garbage(unused),
                Tensor::words("len", &[b], len.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, h, q, k) = (shape["b"], shape["h"], shape["q"], shape["k"]);
        if variant.name == "subgroup_block" {
            return in_blocks(shape, dtype);
        }
        let lanes = variant.constant("WG");
        let rows = b * h * q;
        let groups = match (k, variant.name) {
            (0, _) => 0,
            (_, "thread") => rows.div_ceil(lanes),
            _ => rows,
        };
        let run = |entry, grid| Dispatch::new(entry, grid);
        Launch {
            outputs: vec![
                Buffer::new("weights", dtype.storage(), rows, k),
                Buffer::new("map", dtype.storage(), b * q, k),
            ],
            scratch: vec![Buffer::new("scratch", Elem::F32, rows, k)],
            dispatches: vec![
                run(variant.name, spill(groups)),
                run("average", spill((b * q * k).div_ceil(lanes))),
            ],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, h, q, k, d) = (shape["b"], shape["h"], shape["q"], shape["k"], shape["d"]);
        let keys = lengths(shape).iter().map(|&len| len as usize).sum::<usize>();
        let elements = h * d * (b * q + keys) + b * q * k * (h + 1);
        Work::new(h * q * keys * (2 * d + 6), dtype.bytes() * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        attention_map(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        attention_map(problem, rows)
    }
}

/// The launch of `subgroup_block`: scores of eight queries by 32 keys, then their weights.
fn in_blocks(shape: &Shape, dtype: Dtype) -> Launch {
    let (b, h, q, k) = (shape["b"], shape["h"], shape["q"], shape["k"]);
    let rows = b * h * q;
    let blocks = if k == 0 { 0 } else { b * h * q.div_ceil(BLOCK) };
    let entry = if shape["d"].is_multiple_of(4) { "block4" } else { "block_any" };
    Launch {
        outputs: vec![
            Buffer::new("weights", dtype.storage(), rows, k),
            Buffer::new("map", dtype.storage(), b * q, k),
        ],
        scratch: vec![
            Buffer::new("scratch", Elem::F32, rows, k.next_multiple_of(KEYS)),
            Buffer::new("extremes", Elem::F32, rows, 2),
        ],
        dispatches: vec![
            Dispatch::new(entry, spill(blocks)),
            Dispatch::new("weigh4", spill((b * q * k.div_ceil(4)).div_ceil(BLOCK))),
        ],
    }
}

fn of(b: usize, h: usize, q: usize, k: usize, d: usize) -> Shape {
    Shape::new(&[("b", b), ("h", h), ("q", q), ("k", k), ("d", d)])
}

/// Valid keys of each batch: all, or those of the axis `n`. `tail` shortens every batch, `masked`
/// leaves the first one without any.
fn lengths(shape: &Shape) -> Vec<u32> {
    let keys = shape["k"];
    let of = |b: usize| match (shape.option(), b) {
        (Some("tail"), b) => (keys / 2 + 7 * b).min(keys - 1),
        (Some("masked"), 0) => 0,
        _ => shape.get("n").unwrap_or(keys),
    };
    (0..shape["b"]).map(|b| of(b) as u32).collect()
}

/// 1/√d as the shader receives it.
fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

fn attention_map<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (b, h, q, k) = (shape["b"], shape["h"], shape["q"], shape["k"]);
    let elem = problem.storage();
    let weights = by_rows(rows, b * h * q, k, |row, mut out| {
        let of_row: Vec<S> = row_of_weights(problem, row / (h * q), row / q % h, row % q);
        of_row.iter().zip(&mut out).for_each(|(&weight, out)| *out = weight.store(elem));
    });
    let map = by_rows(rows, b * q, k, |row, mut out| {
        let of_head = |head| row_of_weights(problem, row / q, head, row % q);
        let heads: Vec<Vec<S>> = (0..h).map(of_head).collect();
        for (key, out) in out.iter_mut().enumerate().take(heads[0].len()) {
            let mean = S::sum(heads.iter().map(|head| head[key]), h) / S::exact(h as f64);
            *out = mean.store(elem);
        }
    });
    vec![weights, map]
}

/// The weights of one query and head on the valid keys.
fn row_of_weights<S: Scalar>(problem: &Problem, b: usize, head: usize, query: usize) -> Vec<S> {
    let queries: ArrayView4<f32> = problem.inputs.float("q");
    let keys: ArrayView4<f32> = problem.inputs.float("k");
    let d = problem.shape["d"];
    let valid = problem.inputs.words("len")[b] as usize;
    let query = queries.slice(s![b, query, head, ..]);
    let scale = S::exact(problem.inputs.params.get_real("scale"));
    let scores: Vec<S> = (0..valid)
        .map(|key| {
            let key = keys.slice(s![b, key, head, ..]);
            let dot = S::dot(query.iter().copied().zip(key.iter().copied()), d);
            dot * scale
        })
        .collect();
    let Some(peak) = scores.iter().copied().reduce(S::max) else { return Vec::new() };
    let lanes = match problem.variant.name {
        "group" => problem.variant.constant("WG"),
        // Four keys of each invocation join, then those of the next block, then the subgroup's.
        "subgroup_block" => KEYS,
        _ => 1,
    };
    let depth = valid.div_ceil(lanes) + lanes.ilog2() as usize;
    let terms: Vec<S> = scores.iter().map(|&score| (score - peak).exp()).collect();
    let total = S::sum(terms.iter().copied(), depth);
    terms.into_iter().map(|term| term / total).collect()
}
