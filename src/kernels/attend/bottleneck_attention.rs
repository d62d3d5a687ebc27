//! Attention bottlenecks of MBT (arXiv 2107.00135): modalities exchange what they know only through
//! a few tokens that each of them attends to and that are averaged afterwards.

use std::ops::Range;

use ndarray::{Array2, Ix1, Ix4, s};

use super::needle::Needle;
use super::tokens::{AXES, Tokens};
use super::weights::Weights;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    self, Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, refuses_ragged, refuses_uncut, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &BottleneckAttention;

struct BottleneckAttention;

const VARIANTS: &[Variant] = &[
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            let tokens = Tokens::of(shape);
            refuses_uncut(tokens.rows() * tokens.longest())
        },
        ..Variant::new("unfused_slices8", &[("WG", 64.0)])
    },
    Variant { suits: Suits::Gpu, ..Variant::new("unfused", &[("WG", 64.0)]) },
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant { turns, ..Variant::new("flash", &[("WG", 8.0)]) },
    Variant {
        suits: Suits::Gpu,
        turns,
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("tile", &[("WG", 64.0)])
    },
    // WG is that of the mean over the modalities.
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("subgroup_block", &[("WG", 8.0)])
    },
];

/// Rows of one workgroup in `subgroup_block`.
const BLOCK: usize = 16;

/// Over the keys, and for each of them over the query and the value, by fours where they may be.
fn turns(shape: &Shape) -> usize {
    let columns = shape["d"] / if shape["d"].is_multiple_of(4) { 4 } else { 1 };
    kernel::turns(Tokens::of(shape).longest(), &[columns, columns])
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((present[b] >> m) & 1u) == 1u", "true"),
    Mutant::new("mean over all modalities", "sum / count", "sum / f32(params.modalities)"),
    Mutant::new("bottlenecks not kept", "= f[index]", "= to_storage(0.0)"),
    Mutant::new(
        "bottlenecks not attended to",
        "key < end; key++",
        "key + params.bottlenecks < end; key++",
    ),
    Mutant::new("keys of the modality before", "var key = start_of(r.m);", "var key = 0u;"),
    Mutant::new("sum not rescaled when the maximum grows", "total *= shrink;", ""),
    Mutant::new(
        "last key of a tile dropped",
        "j < min(TILE, end - first)",
        "j + 1u < min(TILE, end - first)",
    ),
    Mutant::new("tile loaded from its first key", "min(first + i / (D / 4u), end - 1u)", "first"),
    Mutant::new("rows of the first octet for both", "q4[rows.y + c]", "q4[rows.x + c]"),
    Mutant::new("weights of one invocation for all keys", "queries[n].weights, i)", {
        "queries[n].weights, 0u)"
    }),
    Mutant::new("older sums of a block not shrunk", "(*octet).sums[0][i] *= shrink;", ""),
    Mutant::new("keys beyond the modality weighed", "own >= vec4<u32>(end)", {
        "own > vec4<u32>(end)"
    }),
    Mutant::new("slices all of the first rows", "row_of(params.first + index)", "row_of(index)"),
    Mutant::new("last key left out of the values", "key < keys; key++", "key + 1u < keys; key++"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    Mutant::new("scores over the parts", "return parts + index", "return index"),
    Mutant::new("keys of the first modality scored", "start_of(r.m) + key", "key"),
    Mutant::new(
        "tokens of later modalities not moved up",
        "- r.m * params.bottlenecks",
        "- min(r.m, 1u) * params.bottlenecks",
    ),
];

const OPERANDS: &[Operand] = &[
    Operand::new("q", "b T h d"),
    Operand::new("k", "b T h d"),
    Operand::new("v", "b T h d"),
    Operand::new("f", "b f h d"),
];

impl Kernel for BottleneckAttention {
    fn spec(&self) -> Spec {
        Spec {
            summary: "let modalities attend to themselves and to bottleneck tokens they share",
            difficulties: &[2, 4],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Needle,
                Distribution::Large,
                Distribution::Integers,
            ],
            operands: Operands::of(OPERANDS).deriving(|shape| Tokens::of(shape).all()),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => smoke(),
            Preset::Models => vec![
                of(1, 12, &[400, 784], 4, 64).from("MBT-B, spectrogram and 8 frames"),
                of(1, 12, &[400, 196], 4, 64).from("MBT-B, spectrogram and one frame"),
                of(1, 12, &[400, 3136], 4, 64).from("MBT-B, spectrogram and 32 frames"),
            ],
            Preset::Sweep => {
                (6..=12).map(|log2| of(1, 12, &[1 << log2, 1 << log2], 4, 64)).collect()
            }
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let tokens = Tokens::of(shape);
        let Tokens { b, h, f, d, .. } = tokens;
        let present = tokens.presence();
        let dims = [b, tokens.all(), h, d];
        let absent = |index: usize| {
            let (batch, token) = (index / (h * d * dims[1]), index / (h * d) % dims[1]);
            present[batch] >> tokens.modality(token) & 1 == 0
        };
        let params = Params::new().size("batch", b).size("heads", h);
        let params = params.size("modalities", tokens.ends.len()).size("bottlenecks", f);
        let end = |m: usize| tokens.ends.get(m).copied().unwrap_or(tokens.all());
        let params = params.size("end0", end(0)).size("end1", end(1)).size("end2", end(2));
        let params = params.real("scale", scale(d)).size("first", 0).size("rows", tokens.rows());
        let (q, k) = queries_and_keys(&tokens, generator);
        Inputs::new(
            params.size("longest", tokens.longest()),
            vec![
                q.with_garbage(absent),
                k.with_garbage(absent),
                generator.data("v", &dims).with_garbage(absent),
                generator.data("f", &[b * f * h * d]),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let tokens = Tokens::of(shape);
        let Tokens { b, h, f, d, .. } = tokens;
        let modalities = tokens.ends.len();
        let lanes = variant.constant("WG");
        let slices = tokens.slices(variant);
        let mut dispatches: Vec<Dispatch> = match variant.name {
            "flash" => {
                let entry = if d.is_multiple_of(4) { "flash" } else { "flash_any" };
                vec![Dispatch::new(entry, spill(tokens.rows().div_ceil(lanes)))]
            }
            "tile" => {
                let tiles = tokens.longest().div_ceil(lanes) as u32;
                vec![Dispatch::new("tile", [tiles, modalities as u32, (b * h) as u32])]
            }
            "subgroup_block" => {
                let blocks = tokens.longest().div_ceil(BLOCK) as u32;
                let grid = [blocks, modalities as u32, (b * h) as u32];
                vec![Dispatch::new("subgroup_block", grid)]
            }
            _ => slices.iter().flat_map(|rows| tokens.unfused(rows, lanes)).collect(),
        };
        dispatches.push(Dispatch::new("average", spill((b * f * h * d).div_ceil(lanes))));
        let dispatches =
            dispatches.into_iter().map(|run| Dispatch { constants: vec![("D", d as f64)], ..run });
        let scores = slices.iter().map(Range::len).max().unwrap_or(0) * tokens.longest();
        let parts = modalities * b * f * h * d;
        Launch {
            outputs: vec![
                Buffer::new("z", dtype.storage(), b * tokens.plain() * h, d),
                Buffer::new("f_next", dtype.storage(), b * f * h, d),
            ],
            scratch: vec![Buffer::new("scratch", Elem::F32, 1, parts + scores)],
            dispatches: dispatches.collect(),
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let tokens = Tokens::of(shape);
        let Tokens { b, h, f, d, .. } = tokens;
        let present = tokens.presence();
        let (mut pairs, mut rows) = (0, 0);
        for bits in &present {
            for m in (0..tokens.ends.len()).filter(|m| bits >> m & 1 == 1) {
                let n = tokens.range(m).len();
                (pairs, rows) = (pairs + n * n, rows + n);
            }
        }
        let elements = 3 * rows * h * d + b * (tokens.plain() + f) * h * d;
        let flops = h * pairs * (4 * d + 5) + b * f * h * d * tokens.ends.len();
        Work::new(flops, dtype.bytes() * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        bottleneck_attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        bottleneck_attention(problem, rows)
    }
}

/// Batch, heads, tokens of each modality, bottlenecks, and width of a head.
fn of(b: usize, h: usize, tokens: &[usize], f: usize, d: usize) -> Shape {
    let modalities = AXES.iter().copied().zip(tokens.iter().copied());
    let axes: Vec<_> =
        [("b", b), ("h", h)].into_iter().chain(modalities).chain([("f", f), ("d", d)]).collect();
    Shape::new(&axes)
}

fn smoke() -> Vec<Shape> {
    vec![
        of(1, 1, &[1], 1, 5),
        of(5, 2, &[7, 33], 4, 8).tag("present"),
        of(9, 1, &[3, 1, 5], 4, 5).tag("present"),
        of(1, 2, &[31, 70], 4, 12),
        of(9, 1, &[5, 2, 17], 2, 8).tag("present"),
        of(1, 1, &[61, 5], 4, 64),
        of(1, 1, &[20, 9], 4, 128),
        of(1, 2, &[0, 3], 2, 8),
        of(0, 1, &[3, 4], 4, 8),
    ]
}

fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

/// In a `Needle` run the rows of a modality take turns to be answered by its keys, from the last
/// one down, and codes differ between modalities, heads and batches.
fn queries_and_keys(tokens: &Tokens, generator: &Generator) -> (Tensor, Tensor) {
    let Tokens { b, h, d, .. } = *tokens;
    let dims = [b, tokens.all(), h, d];
    if generator.distribution != Distribution::Needle {
        // Keys are standard normal whatever the data, as in cross_attention.
        return (generator.data("q", &dims), generator.weight("k", &dims, 1.0));
    }
    let needle = Needle::new(tokens.longest(), d);
    let code = |index: usize, of: &dyn Fn(usize, usize) -> usize| {
        let (head, batch) = (index / d % h, index / (d * h * dims[1]));
        let token = index / (d * h) % dims[1];
        let m = tokens.modality(token);
        let range = tokens.range(m);
        of(token - range.start, range.len()) + 5 * m + 7 * head + 3 * batch
    };
    let query = |i: usize| needle.query(code(i, &|token, n| n - 1 - token % n), i % d);
    let key = |i: usize| needle.key(code(i, &|token, _| token), i % d);
    (generator.filled("q", &dims, query), generator.filled("k", &dims, key))
}

/// Most additions a weight passes through in the total of an unfused row.
fn depth(keys: usize, variant: &Variant) -> usize {
    let lanes = variant.constant("WG");
    keys.div_ceil(lanes) + lanes.ilog2() as usize
}

fn bottleneck_attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let tokens = Tokens::of(problem.shape);
    let Tokens { b, h, f, d, .. } = tokens;
    let [q, k, v] = ["q", "k", "v"].map(|name| problem.inputs.float::<Ix4>(name));
    let unchanged = problem.inputs.float::<Ix1>("f");
    let present = problem.inputs.words("present");
    let members = |batch: usize| -> Vec<usize> {
        (0..tokens.ends.len()).filter(|m| present[batch] >> m & 1 == 1).collect()
    };
    let exact = |value: f32| S::exact(f64::from(value));
    let attend = |batch: usize, token: usize, head: usize| -> Vec<S> {
        let range = tokens.range(tokens.modality(token));
        let query = q.slice(s![batch, token, head, ..]);
        let score = |key: usize| {
            let key = k.slice(s![batch, key, head, ..]);
            S::dot(query.iter().copied().zip(key.iter().copied()), d) * exact(scale(d))
        };
        let scores: Vec<S> = range.clone().map(score).collect();
        let weights = match problem.variant.name {
            "flash" | "tile" | "subgroup_block" => Weights::running(&scores),
            _ => Weights::in_passes(&scores, depth(scores.len(), problem.variant)),
        };
        let column = |i: usize| v.slice_move(s![batch, range.clone(), head, i]);
        (0..d).map(|i| weights.mean(&column(i).to_vec(), Elem::F32, scores.len())).collect()
    };
    let plain = tokens.plain();
    let z = by_rows(rows, b * plain * h, d, |row, mut z| {
        let (batch, head) = (row / (plain * h), row % h);
        let mut token = row / h % plain;
        for m in 0..tokens.ends.len() {
            if token >= tokens.range(m).end - f {
                token += f;
            }
        }
        if members(batch).contains(&tokens.modality(token)) {
            let mixed = attend(batch, token, head);
            z.iter_mut().zip(mixed).for_each(|(z, mixed)| *z = mixed.store(problem.storage()));
        }
    });
    let f_next = by_rows(rows, b * f * h, d, |row, mut out| {
        let (batch, token, head) = (row / (f * h), row / h % f, row % h);
        let bottleneck = |m: usize| attend(batch, tokens.range(m).end - f + token, head);
        let parts: Vec<Vec<S>> = members(batch).into_iter().map(bottleneck).collect();
        for i in 0..d {
            let sum = S::sum(parts.iter().map(|part| part[i]), parts.len());
            out[i] = match parts.len() {
                0 => exact(unchanged[row * d + i]),
                count => (sum / S::exact(count as f64)).store(problem.storage()),
            };
        }
    });
    vec![z, f_next]
}
