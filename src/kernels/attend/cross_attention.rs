//! Cross-attention of one modality's queries over another's keys and values: padding, masks,
//! grouped heads (arXiv 2305.13245), and values of another width. Self-attention is the shape whose
//! queries and keys are as many.

use ndarray::{Array2, ArrayView4, s};

use super::needle::Needle;
use super::pairs::{self, Pairs};
use super::tile::{LANES, OCTET, Tile};
use super::weights::Weights;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &CrossAttention;

struct CrossAttention;

/// What WebGPU guarantees for one binding.
const MAX_SCRATCH_BYTES: usize = 128 << 20;
/// Width of the accumulators where scores do not go through memory.
const MAX_WIDTH: usize = 128;
/// More queries than this fill a device without splitting their keys.
const MAX_SPLIT_QUERIES: usize = 64;

/// No barrier. Eight invocations fill one vector unit of a CPU adapter.
const FLASH: Variant = Variant {
    refuses: too_wide,
    turns: |shape| Pairs::of(shape).turns(),
    ..Variant::new("flash", &[("WG", 8.0)])
};

const VARIANTS: &[Variant] = &[
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            let bytes = 4 * Pairs::of(shape).rows() * (shape["k"] + 1);
            (bytes > MAX_SCRATCH_BYTES)
                .then(|| format!("scores take {bytes} bytes, a binding holds {MAX_SCRATCH_BYTES}"))
        },
        ..Variant::new("unfused", &[("WG", 64.0)])
    },
    // No device has run these two: before those that some have, of which the last one is the rule.
    Variant {
        needs: &[Need::Subgroup, Need::CooperativeMatrix(8)],
        shader: Some("matrix"),
        suits: Suits::Gpu,
        refuses: |shape| too_wide(shape).or_else(|| refuses_ragged(shape)),
        ..Variant::new("matrix8", &[("LANES", 128.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::CooperativeMatrix(16)],
        shader: Some("matrix"),
        suits: Suits::Gpu,
        refuses: |shape| too_wide(shape).or_else(|| refuses_ragged(shape)),
        ..Variant::new("matrix16", &[("LANES", 128.0)])
    },
    FLASH,
    Variant { suits: Suits::Gpu, constants: &[("WG", 64.0)], name: "flash_wide", ..FLASH },
    // For few queries: a GPU takes the next one from nine on. On a CPU adapter `flash` is twice as
    // fast for one query and 1,500 keys.
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            let many = shape["q"] > MAX_SPLIT_QUERIES;
            let reason = || format!("{} queries, made for {MAX_SPLIT_QUERIES}", shape["q"]);
            many.then(reason).or_else(|| too_wide(shape))
        },
        ..Variant::new("split_kv", &[("WG", 64.0)])
    },
    Variant {
        needs: &[Need::Subgroup],
        shader: Some("subgroup"),
        suits: Suits::Gpu,
        refuses: |shape| {
            refuses_few(shape).or_else(|| too_wide(shape)).or_else(|| refuses_ragged(shape))
        },
        turns: |shape| Tile::of(&Pairs::of(shape), 4, LANES).turns(),
        ..Variant::new("subgroup_tile", &[("LANES", LANES as f64)])
    },
    BLOCK,
    Variant {
        refuses: |shape| refuses_few(shape).or_else(|| too_wide(shape)),
        constants: &[("QUERIES", 16.0)],
        name: "subgroup_block16",
        ..BLOCK
    },
];

/// Eight queries or twice as many for a subgroup of eight.
const BLOCK: Variant = Variant {
    needs: &[Need::Subgroup, Need::SubgroupOf8],
    shader: Some("block"),
    refuses: too_wide,
    ..Variant::new("subgroup_block", &[("QUERIES", 8.0)])
};

/// Keys of one invocation in `split_kv`.
const SPLIT_KEYS: usize = 32;

const MUTANTS: &[Mutant] = &[
    Mutant::new("scale a per mille too large", "* params.scale", "* params.scale * 1.001"),
    Mutant::new("last key dropped", "key < end; key +=", "key + 1u < end; key +="),
    Mutant::new("last key dropped from the values", "key < end; key++", "key + 1u < end; key++"),
    Mutant::new(
        "heads and queries swapped",
        "row % params.heads / (",
        "row / params.queries % params.heads / (",
    ),
    Mutant::new("sum not rescaled when the maximum grows", "total *= shrink;", ""),
    Mutant::new("length ignored", "min(len[batch_of(row)], params.keys)", "params.keys"),
    Mutant::new("causal mask hides the query's own key", "params.reach + 1u", "params.reach"),
    Mutant::new(
        "key heads taken in turn",
        "/ (params.heads / params.kv_heads)",
        "% params.kv_heads",
    ),
    Mutant::new("mask bits of the word's other end", ">> (key % 32u)", ">> (31u - key % 32u)"),
    Mutant::new("splits not brought to one maximum", "exp(scratch[s] - highest) *", "1.0 *"),
    Mutant::new(
        "last split left out",
        "s < base + SPLITS; s++) {\n",
        "s + 1u < base + SPLITS; s++) {\n",
    ),
    Mutant::new("a query of another invocation", "Broadcast(query, 3u)", "Broadcast(query, 2u)"),
    Mutant::new("older sums of a query not shrunk", "(*octet).sums[0][i] *= Sum(shrink);", ""),
    Mutant::new("weights of one invocation for all keys", "queries[n].weights, i)", {
        "queries[n].weights, 0u)"
    }),
    Mutant::new("total of one invocation's keys", "subgroupAdd((*octet).queries[i].total)", {
        "(*octet).queries[i].total"
    }),
    Mutant::new("second octet loads the queries of the first", "lane + 8u) * (D", "lane) * (D"),
    Mutant::new(
        "second octet masked like the first",
        "weigh_octet(&high, at, 8u",
        "weigh_octet(&high, at, 0u",
    ),
    Mutant::new(
        "key beyond the mask seen",
        "query + params.reach + 1u));",
        "query + params.reach + 2u));",
    ),
    Mutant::new("keys not transposed", "coopLoad<Right>(&keys", "coopLoadT<Right>(&keys"),
    Mutant::new("values transposed", "coopLoadT<Right>(&values", "coopLoad<Right>(&values"),
    Mutant::new("sums of squares not shrunk", "sums[row * E_WIDE + i] *= Sum(shrink);", ""),
    Mutant::new("weights of the first square for all", "&weights[s]", "&weights[0]"),
    Mutant::new("upper half of eight values repeated", "part + 1u, i, values.high", {
        "part + 1u, i, values.low"
    }),
    Mutant::new("upper half of eight of a key repeated", "add_scores(&high, next[1], high_t)", {
        "add_scores(&high, next[1], low_t)"
    }),
    Mutant::new("total of a row's first part", "all += parts[row * PARTS + i]", {
        "all = parts[row * PARTS]"
    }),
    Mutant::new("keys of one half for both", "products[2]);", "products[0]);"),
    Mutant::new("second four rows weighed by the first", "scores[(quad + 1u) * KEYS + key]", {
        "scores[quad * KEYS + key]"
    }),
    Mutant::new(
        "sums of a tile not shrunk",
        "more_sums = shrunk(more_sums,",
        "let none = shrunk(more_sums,",
    ),
    Mutant::new(
        "maximum of one invocation's keys",
        "let peak = subgroupMax(highest)",
        "let peak = highest",
    ),
    Mutant::new("total of the last tile alone", "totals[quad] * shrink + total", "total"),
    Mutant::new("hidden keys seen", "is_seen = score > vec4<f32>(LOWEST)", {
        "is_seen = score >= vec4<f32>(LOWEST)"
    }),
    Mutant::new("values of the tile's first key for all", "tile[key * V_STEP + column]", {
        "tile[column]"
    }),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

fn too_wide(shape: &Shape) -> Option<String> {
    let pairs = Pairs::of(shape);
    let width = pairs.d.max(pairs.e);
    (width > MAX_WIDTH).then(|| format!("rows are {width} wide, accumulators hold {MAX_WIDTH}"))
}

fn refuses_few(shape: &Shape) -> Option<String> {
    let q = shape["q"];
    (q <= OCTET).then(|| format!("{q} queries, made for more than {OCTET}"))
}

fn refuses_ragged(shape: &Shape) -> Option<String> {
    let Pairs { d, e, .. } = Pairs::of(shape);
    let ragged = !d.is_multiple_of(4) || !e.is_multiple_of(4);
    ragged.then(|| format!("rows are {d} and {e} wide, not multiples of 4"))
}

/// Invocations that share a query row; one alone would not leave its result to be merged.
fn splits(keys: usize, variant: &Variant) -> usize {
    if variant.name == "split_kv" { keys.div_ceil(SPLIT_KEYS).max(2) } else { 1 }
}

const OPERANDS: &[Operand] =
    &[Operand::new("q", "b q h d"), Operand::new("k", "b k g d"), Operand::new("v", "b k g e")];

impl Kernel for CrossAttention {
    fn spec(&self) -> Spec {
        Spec {
            summary: "let queries of one modality attend to the visible keys of another",
            difficulties: &[2, 3],
            dtypes: &[Dtype::F32, Dtype::F16, Dtype::F16Acc],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Needle,
                Distribution::Large,
                Distribution::Integers,
                Distribution::Ties,
            ],
            operands: Operands::of(OPERANDS)
                .implying(pairs::IMPLIED, pairs::ORDER)
                .refusing(pairs::refuses_ragged_heads),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        pairs::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let pairs = Pairs::of(shape);
        let Pairs { b, h, g, q, k, d, e, .. } = pairs;
        let len = pairs.lengths();
        let unused = |key: usize| key % k >= len[key / k] as usize;
        let params = Params::new().size("rows", pairs.rows()).size("heads", h);
        let params = params.size("kv_heads", g).size("queries", q).size("keys", k);
        let (queries, keys) = queries_and_keys(&pairs, generator);
        Inputs::new(
            params.size("reach", pairs.reach()).real("scale", pairs.scale()),
            vec![
                queries,
                keys.with_garbage(|index| unused(index / (g * d))),
                values(&pairs, generator).with_garbage(|index| unused(index / (g * e))),
                Tensor::words("len", &[b], len.clone()),
                Tensor::words("mask", &[pairs.mask().len()], pairs.mask()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let pairs = Pairs::of(shape);
        let (rows, k, d, e) = (pairs.rows(), pairs.k, pairs.d, pairs.e);
        let bits = f64::from(u8::from(pairs.has_bits()));
        let constants = [("D", d as f64), ("E", e as f64), ("BITS", bits)];
        let outputs = vec![Buffer::new("o", dtype.storage(), rows, e)];
        // A workgroup so many queries of one head.
        let one = |entry, queries: usize, own: &[(&'static str, usize)]| {
            let own = own.iter().map(|&(name, value)| (name, value as f64));
            let constants = constants.iter().copied().chain(own).collect();
            let grid = spill(pairs.b * pairs.h * pairs.q.div_ceil(queries));
            let dispatches = vec![Dispatch { constants, ..Dispatch::new(entry, grid) }];
            Launch { outputs: outputs.clone(), scratch: Vec::new(), dispatches }
        };
        if let Some(side) = variant.matrix_side() {
            return one("attend", side as usize, &[]);
        }
        if variant.name == "subgroup_tile" {
            let tile = Tile::of(&pairs, dtype.bytes(), variant.constant("LANES"));
            let own = [("OCTETS", tile.octets), ("KEYS", tile.keys)];
            return one("subgroup_tile", tile.queries(), &own);
        }
        let vectors = d.is_multiple_of(4) && e.is_multiple_of(4);
        if variant.shader == BLOCK.shader {
            let queries = variant.constant("QUERIES");
            // In f32 eight elements are two loads anyway.
            if dtype == Dtype::F16 && d.is_multiple_of(8) && e.is_multiple_of(8) {
                return one("subgroup_block8", queries, &[("EIGHTS", 1)]);
            }
            // One entry point cannot bind a buffer as scalars and as vectors.
            let entry = if vectors { "subgroup_block" } else { "subgroup_block_any" };
            return one(entry, queries, &[]);
        }
        let lanes = variant.constant("WG");
        let splits = splits(k, variant);
        let run = |entry, invocations: usize| {
            let splits = [("SPLITS", splits as f64)];
            let constants = constants.iter().copied().chain(splits).collect();
            Dispatch { constants, ..Dispatch::new(entry, spill(invocations.div_ceil(lanes))) }
        };
        let flash = run(if vectors { "flash" } else { "flash_any" }, rows * splits);
        let (scratch, dispatches) = match variant.name {
            // Bound, because one entry point serves both, and never written.
            "flash" | "flash_wide" => (0, vec![flash]),
            "split_kv" => (splits * (e + 2), vec![flash, run("merge_splits", rows * e)]),
            _ => {
                let softmax = run("softmax_rows", rows * lanes);
                (k + 1, vec![run("score_pairs", rows * k), softmax, run("mix_values", rows * e)])
            }
        };
        Launch {
            outputs,
            scratch: vec![Buffer::new("scratch", Elem::F32, rows, scratch)],
            dispatches,
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let pairs = Pairs::of(shape);
        let Pairs { b, h, g, q, d, e, .. } = pairs;
        let keys = pairs.lengths().iter().map(|&len| len as usize).sum::<usize>();
        let elements = b * q * h * (d + e) + keys * g * (d + e);
        let flops = h * pairs.seen() * (2 * d + 2 * e + 5);
        let work = Work::new(flops, dtype.bytes() * elements + 4 * b);
        let arithmetic = if variant.matrix_side().is_some() { dtype } else { dtype.arithmetic() };
        Work { arithmetic, ..work }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        cross_attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        cross_attention(problem, rows)
    }
}

/// In a `Needle` run output rows take turns to be answered by the keys they see, from the last one
/// down, and codes differ between key heads and batches. In a `Ties` run every key is as good as
/// the next, so that every weight is 1.
fn queries_and_keys(pairs: &Pairs, generator: &Generator) -> (Tensor, Tensor) {
    let Pairs { b, h, g, q, k, d, .. } = *pairs;
    let (queries, keys) = ([b, q, h, d], [b, k, g, d]);
    if generator.distribution != Distribution::Needle {
        let queries = match generator.distribution {
            Distribution::Ties => generator.filled("q", &queries, |_| 0.0),
            _ => generator.data("q", &queries),
        };
        // Keys are standard normal whatever the data: two large factors would put the scores where
        // neighbouring f32 values are whole units apart.
        return (queries, generator.weight("k", &keys, 1.0));
    }
    let needle = Needle::new(k, d);
    let code = |batch: usize, key: usize, key_head: usize| key + 3 * batch + 7 * key_head;
    let target = |row: usize| {
        let (batch, query, head) = (row / (q * h), row / h % q, row % h);
        let visible = pairs.visible(batch, query);
        let key =
            visible.len().checked_sub(1).map_or(0, |last| visible[last - row % visible.len()]);
        code(batch, key, pairs.key_head(head))
    };
    let targets: Vec<usize> = (0..pairs.rows()).map(target).collect();
    let queries = generator.filled("q", &queries, |i| needle.query(targets[i / d], i % d));
    let keys = generator.filled("k", &keys, |i| {
        let (row, batch) = (i / d, i / (k * g * d));
        needle.key(code(batch, row / g % k, row % g), i % d)
    });
    (queries, keys)
}

/// In a `Ties` run -1, 0 and 1, and zeros beyond so many keys that every sum is exact in f16 too,
/// however long: at most 2^11 others in a column.
fn values(pairs: &Pairs, generator: &Generator) -> Tensor {
    let dims = [pairs.b, pairs.k, pairs.g, pairs.e];
    if generator.distribution != Distribution::Ties {
        return generator.data("v", &dims);
    }
    let apart = pairs.k.div_ceil(2048).max(1);
    generator.filled("v", &dims, |i| {
        let is_kept = (i / (pairs.g * pairs.e) % pairs.k).is_multiple_of(apart);
        if is_kept { rng::integer(generator.seed, 0x7469, i as u32, 1) as f32 } else { 0.0 }
    })
}

fn cross_attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let pairs = Pairs::of(problem.shape);
    let Pairs { h, q, k, d, e, .. } = pairs;
    let queries: ArrayView4<f32> = problem.inputs.float("q");
    let keys: ArrayView4<f32> = problem.inputs.float("k");
    let values: ArrayView4<f32> = problem.inputs.float("v");
    let splits = splits(k, problem.variant);
    let scale = S::exact(problem.inputs.params.get_real("scale"));
    let sum = problem.dtype.sum();
    // Where the maximum grows, sums in f16 are multiplied by a factor that was rounded too.
    let steps = if sum == Elem::F16 { 3 } else { 1 };
    vec![by_rows(rows, pairs.rows(), e, |row, mut o| {
        let (b, query, head) = (row / (q * h), row / h % q, row % h);
        let key_head = pairs.key_head(head);
        let visible = pairs.seen_by(problem.inputs, b, query);
        let query = queries.slice(s![b, query, head, ..]);
        let score = |&key: &usize| {
            let key = keys.slice(s![b, key, key_head, ..]);
            let pairs = query.iter().copied().zip(key.iter().copied());
            S::dot_in(sum, pairs, d) * scale
        };
        let scores: Vec<S> = visible.iter().map(score).collect();
        let (weights, depth) = match problem.variant.name {
            // A maximum that grows in steps of 32 keys shrinks older sums less often than this.
            "flash" | "flash_wide" | "subgroup_block" | "subgroup_block16" | "subgroup_tile" => {
                (Weights::running(&scores), steps * visible.len())
            }
            "matrix8" | "matrix16" => {
                let weights = Weights::running(&scores).stored(problem.storage());
                (weights, steps * visible.len())
            }
            "split_kv" => {
                let of: Vec<usize> = visible.iter().map(|key| key % splits).collect();
                (Weights::merged(&scores, &of, SPLIT_KEYS + splits), steps * SPLIT_KEYS)
            }
            _ => {
                let lanes = problem.variant.constant("WG");
                let depth = k.div_ceil(lanes) + lanes.ilog2() as usize;
                (Weights::in_passes(&scores, depth), visible.len())
            }
        };
        for i in 0..e {
            let column: Vec<f32> =
                visible.iter().map(|&key| values[[b, key, key_head, i]]).collect();
            o[i] = weights.mean(&column, sum, depth).store(problem.storage());
        }
    })]
}
