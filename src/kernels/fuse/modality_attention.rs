//! Attention-weighted pooling of modalities by a query vector: scaled dot-product attention
//! (arXiv 1706.03762) whose keys and values are the embeddings of the present modalities.

use ndarray::{Array2, Ix1, Ix3, s};

use super::modalities;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, refuses_ragged, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &ModalityAttention;

struct ModalityAttention;

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("thread", &[("WG", 8.0)]),
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        suits: Suits::Cpu,
        refuses: |shape| {
            let d = shape["d"];
            let wide = || format!("rows of {d} elements, eight invocations hold 1024");
            let is_wide = vectors_held(d) > MAX_HELD;
            refuses_ragged(shape, "d").or_else(|| is_wide.then(wide))
        },
        ..Variant::new("registers", &[])
    },
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

/// Vectors of an embedding that each of eight invocations keeps in registers, at most.
const MAX_HELD: usize = 32;
/// Samples of a subgroup in `registers`.
const ROWS: usize = 8;

fn vectors_held(d: usize) -> usize {
    if d.is_multiple_of(8) { 2 * d.div_ceil(64) } else { d.div_ceil(32) }
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((mask >> m) & 1u) == 1u", "true"),
    Mutant::new("presence bits from the other end", "mask >> m", "mask >> (MODALITIES - 1u - m)"),
    Mutant::new("last modality dropped", "m < MODALITIES", "m + 1u < MODALITIES"),
    Mutant::new("scale a per mille too large", "* params.scale", "* (1.001 * params.scale)"),
    Mutant::new("maximum not subtracted", "exp((*weights)[m] - peak)", "exp((*weights)[m])"),
    Mutant::new("plain mean", "exp((*weights)[m] - peak)", "1.0"),
    Mutant::new("weights not normalised", "(*weights)[m] /= total", "(*weights)[m] *= 1.0"),
    Mutant::new(
        "last element of the scores dropped",
        "sum += f32(query[i])",
        "sum += select(0.0, 1.0, i + 1u < params.d) * f32(query[i])",
    ),
    Mutant::new("query one vector late", "query4[q]", "query4[(q + 1u) % quads]"),
    Mutant::new("older sums not shrunk", "sum.b * shrink +", "sum.b +"),
    Mutant::new("total not shrunk", "total * shrink + weight", "total + weight"),
    Mutant::new(
        "upper half of a wide row left out",
        "own += score_part(query_high, high)",
        "own *= 1.0",
    ),
    Mutant::new("score of one invocation", "subgroupAdd((own.x + own.y) + (own.z + own.w))", {
        "((own.x + own.y) + (own.z + own.w))"
    }),
    Mutant::new("vectors beyond the row scored", "place(i, k) <= last", "true"),
    Mutant::new(
        "second vector of an invocation not stored",
        "put(row, i, k + 1u, m[1] * factor);",
        "",
    ),
    Mutant::new("rows and modalities swapped", "m * params.batch + row", "row * MODALITIES + m"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m b d"), Operand::new("query", "d")];

impl Kernel for ModalityAttention {
    fn spec(&self) -> Spec {
        Spec {
            summary: "pool present modalities by softmax of their products with a query vector",
            difficulties: &[2, 6],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Large,
                Distribution::Constant,
                Distribution::Ratio,
            ],
            operands: Operands::of(OPERANDS).refusing(modalities::too_many),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(m, b, d)| Shape::new(&[("m", m), ("b", b), ("d", d)]);
        if preset != Preset::Smoke {
            return modalities::shapes(preset);
        }
        let whole = [(1, 1, 1), (2, 3, 257), (6, 5, 64), (3, 0, 8)].map(of);
        // Every mask at least once.
        let masked = [(1, 3, 5), (2, 9, 35), (3, 17, 257), (3, 17, 36), (6, 65, 33), (6, 65, 64)];
        let masked = masked.into_iter().chain([(3, 9, 504), (2, 9, 1000)]);
        let masked = masked.map(|size| of(size).tag("present"));
        whole.into_iter().chain(masked).collect()
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
        let present = modalities::presence(shape);
        let absent = |index: usize| modalities::is_absent(shape, &present, index);
        let params = Params::new().size("modalities", m).size("batch", b).size("d", d);
        Inputs::new(
            params.real("scale", scale(d)),
            vec![
                generator.data("x", &[m, b, d]).with_garbage(absent),
                generator.weight("query", &[d], 1.0),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
        let workgroups = match variant.name {
            "thread" => b.div_ceil(variant.constant("WG")),
            "registers" => b.div_ceil(ROWS),
            _ => b,
        };
        let output = Buffer::new("y", dtype.storage(), b, d);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = match variant.name {
            "group" if d.is_multiple_of(4) => "group4",
            "registers" if d.is_multiple_of(8) => "registers8",
            name => name,
        };
        if variant.name == "registers" {
            let by_eights = f64::from(u8::from(d.is_multiple_of(8)));
            launch = launch.with_constant("VECTORS", vectors_held(d) as f64);
            launch = launch.with_constant("BY_EIGHTS", by_eights);
        }
        launch.with_constant("MODALITIES", m as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
        let bytes = dtype.bytes() * ((m + 1) * b * d + d) + 4 * b;
        Work::new(b * (4 * m * d + 5 * m), bytes)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        modality_attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        modality_attention(problem, rows)
    }
}

/// 1/√d as the shader receives it.
fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

/// Most additions a term of a score passes through.
fn depth(d: usize, variant: &Variant) -> usize {
    match variant.name {
        "thread" => return d,
        // Vectors of an invocation and their elements, then eight invocations in any order.
        "registers" => return vectors_held(d) + 4 + 8,
        _ => {}
    }
    let lanes = variant.constant("WG");
    4 * d.div_ceil(4 * lanes) + lanes.ilog2() as usize
}

/// What older sums shrink by and the weight of each modality, relative to the largest score so far;
/// the sum of weights relative to the largest of all, 1 where there is none.
fn running<S: Scalar>(scores: &[S]) -> (Vec<(S, S)>, S) {
    let Some(&first) = scores.first() else { return (Vec::new(), S::one()) };
    let (mut peak, mut total) = (first, S::zero());
    let mut steps = Vec::new();
    for &score in scores {
        let before = peak;
        peak = peak.max(score);
        let step = ((before - peak).exp(), (score - peak).exp());
        total = total * step.0 + step.1;
        steps.push(step);
    }
    (steps, total)
}

fn modality_attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, d) = (problem.shape["b"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix3>("x");
    let query = problem.inputs.float::<Ix1>("query");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b, d, |row, mut y| {
        let members = modalities::members(present[row]);
        let score = |&m: &usize| {
            let embedding = x.slice(s![m, row, ..]);
            let pairs = query.iter().copied().zip(embedding.iter().copied());
            S::dot(pairs, depth(d, problem.variant)) * exact(scale(d))
        };
        let scores: Vec<S> = members.iter().map(score).collect();
        if problem.variant.name == "registers" {
            let (steps, total) = running(&scores);
            for i in 0..d {
                let terms = steps.iter().zip(&members);
                let sum = terms.fold(S::zero(), |sum, (&(shrink, weight), &m)| {
                    sum * shrink + weight * exact(x[[m, row, i]])
                });
                y[i] = (sum * (S::one() / total)).store(problem.storage());
            }
            return;
        }
        let Some(peak) = scores.iter().copied().reduce(S::max) else { return };
        let exps: Vec<S> = scores.iter().map(|&score| (score - peak).exp()).collect();
        let total = S::sum(exps.iter().copied(), members.len());
        let weights: Vec<S> = exps.iter().map(|&e| e / total).collect();
        for i in 0..d {
            let terms = members.iter().zip(&weights).map(|(&m, &w)| w * exact(x[[m, row, i]]));
            y[i] = S::sum(terms, members.len()).store(problem.storage());
        }
    })]
}
