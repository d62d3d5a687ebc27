//! Attention-weighted pooling of modalities by a query vector: scaled dot-product attention
//! (arXiv 1706.03762) whose keys and values are the embeddings of the present modalities.

use ndarray::{Array2, Ix1, Ix3, s};

use super::modalities;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &ModalityAttention;

struct ModalityAttention;

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("thread", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

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
            _ => b,
        };
        let output = Buffer::new("y", dtype.storage(), b, d);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = match variant.name {
            "group" if d.is_multiple_of(4) => "group4",
            name => name,
        };
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
    if variant.name == "thread" {
        return d;
    }
    let lanes = variant.constant("WG");
    4 * d.div_ceil(4 * lanes) + lanes.ilog2() as usize
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
