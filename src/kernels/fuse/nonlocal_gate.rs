//! The non-local gate of MultiBench (after "What Makes Training Multi-Modal Classification
//! Networks Hard?", arXiv 1905.12681): attention without scale, added to its queries.

use ndarray::{Array2, Ix3, s};

use super::modalities;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &NonlocalGate;

struct NonlocalGate;

/// Width of the accumulators.
const MAX_D: usize = 128;
/// Bits of `present`.
const QUERIES: u32 = 1;
const BOTH: u32 = 3;

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant { refuses: refuses_wide, ..Variant::new("thread", &[("WG", 8.0)]) },
    Variant {
        refuses: refuses_wide,
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        ..Variant::new("subgroup_keys", &[])
    },
    Variant { refuses: refuses_wide, suits: Suits::Gpu, ..Variant::new("staged", &[("WG", 64.0)]) },
];

fn refuses_wide(shape: &Shape) -> Option<String> {
    let d = shape["d"];
    (d > MAX_D).then(|| format!("d is {d}, the accumulators hold {MAX_D}"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("length ignored", "min(len[b], params.keys)", "params.keys"),
    Mutant::new("absent keys read", "mask == 3u", "(mask & 1u) == 1u"),
    Mutant::new("absent queries copied", "(mask & 1u) == 1u", "true"),
    Mutant::new("queries not added", "{ out = query[c]; }", "{ out = vec4<f32>(); }"),
    Mutant::new("last key dropped", "key < valid; key++", "key + 1u < valid; key++"),
    Mutant::new("last staged key dropped", "key < staged_keys", "key + 1u < staged_keys"),
    Mutant::new("sum not rescaled when the maximum grows", "(*state).total *= shrink;", ""),
    Mutant::new("values not rescaled when the maximum grows", "(*state).sums[c] *= shrink;", ""),
    Mutant::new("total not rescaled by the subgroup", "total = total * shrink +", "total +="),
    Mutant::new("values not rescaled by the subgroup", "(*sums)[0] * shrink", "(*sums)[0]"),
    Mutant::new("last query of eight stores nothing", "mine >= params.queries)", {
        "mine + 1u >= params.queries)"
    }),
    Mutant::new("keys from another invocation", "subgroupBroadcast(part, 1u)", {
        "subgroupBroadcast(part, 0u)"
    }),
    Mutant::new("scaled after all", "weigh(&state, score)", "weigh(&state, 0.5 * score)"),
    Mutant::new("keys of the first sample for all", "(b * params.keys", "(0u * params.keys"),
    Mutant::new(
        "last element of a key dropped",
        "if (i + 2u < params.d) { row.z",
        "if (i + 3u < params.d) { row.z",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("q", "b q d"), Operand::new("k", "b k d")];

impl Kernel for NonlocalGate {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add to each query what it attends to in another modality, scores unscaled",
            difficulties: &[2],
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
        let of = |(b, q, k, d)| Shape::new(&[("b", b), ("q", q), ("k", k), ("d", d)]);
        match preset {
            Preset::Smoke => {
                let whole =
                    [(1, 1, 1, 1), (1, 3, 7, 5), (2, 65, 33, 35), (1, 4, 0, 64), (0, 4, 8, 8)];
                let tails = [(5, 3, 31, 7), (3, 17, 65, 64)].map(|size| of(size).tag("tail"));
                let masked = [(3, 5, 9, 30)].map(|size| of(size).tag("masked"));
                let present = [(9, 3, 17, 5), (5, 9, 40, 128)].map(|size| of(size).tag("present"));
                whole.map(of).into_iter().chain(tails).chain(masked).chain(present).collect()
            }
            Preset::Models => vec![
                of((128, 24, 10, 30)).from("MultiBench MIMIC"),
                of((24, 50, 500, 30)).from("MulT MOSEI text from audio"),
                of((24, 500, 375, 30)).from("MulT MOSEI audio from vision"),
            ],
            Preset::Sweep => (7..=13).map(|log2| of((12, 32, 1 << log2, 64))).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, q, k, d) = (shape["b"], shape["q"], shape["k"], shape["d"]);
        let (len, present) = (lengths(shape), modalities::masks(shape, 2));
        // Standard normal whatever the data: large scores come from large queries.
        let keys = generator.weight("k", &[b, k, d], 1.0);
        let values = Inputs::new(Params::new(), vec![keys.clone()]);
        let values = values.float::<Ix3>("k");
        let queries = if generator.distribution == Distribution::Needle && k > 0 {
            // Query i is a multiple of the valid key it should find.
            generator.filled("q", &[b, q, d], |index| {
                let (sample, query) = (index / d / q, index / d % q);
                4.0 * values[[sample, query % (len[sample].max(1) as usize), index % d]]
            })
        } else {
            generator.data("q", &[b, q, d])
        };
        let unused = |index: usize| {
            let (sample, key) = (index / d / k, index / d % k);
            key >= len[sample] as usize || present[sample] & 2 == 0
        };
        let params = Params::new().size("batch", b).size("queries", q).size("keys", k);
        Inputs::new(
            params.size("d", d),
            vec![
                queries.with_garbage(|index| present[index / d / q] & QUERIES == 0),
                keys.with_garbage(unused),
                Tensor::words("len", &[b], len.clone()),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, q, d) = (shape["b"], shape["q"], shape["d"]);
        let workgroups = match variant.name {
            "thread" => (b * q).div_ceil(variant.constant("WG")),
            "subgroup_keys" => b * q.div_ceil(8),
            _ => b * q.div_ceil(variant.constant("WG")),
        };
        let output = Buffer::new("y", dtype.storage(), b * q, d);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        launch.with_constant("QUADS", d.div_ceil(4) as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, q, d) = (shape["b"], shape["q"], shape["d"]);
        let keys = lengths(shape).iter().map(|&len| len as usize).sum::<usize>();
        let elements = 2 * b * q * d + keys * d;
        Work::new(q * keys * (4 * d + 4) + b * q * d, dtype.bytes() * elements + 8 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        nonlocal_gate(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        nonlocal_gate(problem, rows)
    }
}

/// Valid keys of each sample. `tail` shortens every other sample, `masked` leaves the first one
/// without any.
fn lengths(shape: &Shape) -> Vec<u32> {
    let keys = shape["k"];
    let of = |b: usize| match (shape.option(), b) {
        (Some("tail"), b) if b % 2 == 0 => (keys / 2 + b).min(keys - 1),
        (Some("masked"), 0) => 0,
        _ => keys,
    };
    (0..shape["b"]).map(|b| of(b) as u32).collect()
}

/// The factor of each key in the sums that are divided at the end: its weight against the maximum
/// up to then, times e^(old − new) for every time the maximum grew afterwards.
fn weights<S: Scalar>(scores: &[S]) -> Vec<S> {
    let mut peaks = scores.to_vec();
    for j in 1..peaks.len() {
        peaks[j] = peaks[j - 1].max(scores[j]);
    }
    let mut shrink = S::one();
    let mut weights = vec![S::zero(); scores.len()];
    for j in (0..scores.len()).rev() {
        weights[j] = (scores[j] - peaks[j]).exp() * shrink;
        if j > 0 && scores[j].value() > peaks[j - 1].value() {
            shrink = shrink * (peaks[j - 1] - peaks[j]).exp();
        }
    }
    weights
}

fn nonlocal_gate<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, q, d) = (problem.shape["b"], problem.shape["q"], problem.shape["d"]);
    let queries = problem.inputs.float::<Ix3>("q");
    let keys = problem.inputs.float::<Ix3>("k");
    let len = problem.inputs.words("len");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b * q, d, |row, mut y| {
        let sample = row / q;
        if present[sample] & QUERIES == 0 {
            return;
        }
        let query = queries.slice(s![sample, row % q, ..]);
        let valid = if present[sample] == BOTH { len[sample] as usize } else { 0 };
        let score = |key: usize| {
            let key = keys.slice(s![sample, key, ..]);
            S::dot(query.iter().copied().zip(key.iter().copied()), d)
        };
        let weights = weights(&(0..valid).map(score).collect::<Vec<S>>());
        let total = S::sum(weights.iter().copied(), valid);
        for i in 0..d {
            let column = keys.slice(s![sample, ..valid, i]);
            let terms = column.iter().zip(&weights).map(|(&v, &weight)| weight * exact(v));
            let own = exact(query[i]);
            let out = if valid == 0 { own } else { own + S::sum(terms, valid) / total };
            y[i] = out.store(problem.storage());
        }
    })]
}
