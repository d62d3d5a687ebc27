//! Weighted fusion whose weights renormalise over the modalities that are present.

use ndarray::{Array2, Ix1, Ix3};

use super::modalities;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &WeightedSum;

struct WeightedSum;

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "strips of a row too close",
        "number % strips * 4u * WG",
        "number % strips * 2u * WG",
    ),
    Mutant::new("last vector of the last row", "at < end; at += WG", "at + 1u < end; at += WG"),
    Mutant::new("third modality twice", "term(2u, mask, at", "2.0 * term(2u, mask, at"),
    Mutant::new(
        "fourth modality left out",
        "high = term(3u, mask, at",
        "high = 0.0 * term(3u, mask, at",
    ),
    Mutant::new("last vector of a row left out", "column.z < quads", "column.z + 1u < quads"),
    Mutant::new("total a little too large", "/ total", "/ (total + 1e-5)"),
    Mutant::new("presence ignored", "((mask >> m) & 1u) == 1u", "true"),
    Mutant::new(
        "presence bits from the other end",
        "mask >> m",
        "mask >> (params.modalities - 1u - m)",
    ),
    Mutant::new(
        "last modality dropped",
        "((mask >> m) & 1u) == 1u",
        "((mask >> m) & 1u) == 1u && m + 1u < params.modalities",
    ),
    Mutant::new(
        "presence of the next sample",
        "present[index / params.d]",
        "present[(index / params.d + 1u) % params.batch]",
    ),
    Mutant::new("maximum not subtracted", "peak = max(peak, f32(a[m]));", "peak = 0.0;"),
    Mutant::new("mean in place of the softmax", "exp(f32(a[m]) - peak)", "1.0"),
    Mutant::new(
        "weight of the next modality",
        "f32(a[m]) - peak) / total",
        "f32(a[(m + 1u) % params.modalities]) - peak) / total",
    ),
    Mutant::new(
        "modalities one element too close",
        "m * count + index",
        "m * (count - 1u) + index",
    ),
    Mutant::new("last element dropped", "index >= count", "index + 1u >= count"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m b d"), Operand::new("a", "m")];

impl Kernel for WeightedSum {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add modalities with softmax weights over those present in each sample",
            difficulties: &[2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: modalities::VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS).refusing(modalities::too_many),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        modalities::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
        let present = modalities::presence(shape);
        let x = generator.data("x", &[m, b, d]);
        // Large enough that e^a alone passes the largest f32.
        let spread = if generator.distribution == Distribution::Large { 100.0 } else { 1.0 };
        Inputs::new(
            Params::new().size("modalities", m).size("batch", b).size("d", d),
            vec![
                x.with_garbage(|index| modalities::is_absent(shape, &present, index)),
                generator.weight("a", &[m], spread),
                Tensor::words("present", &[b], present),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        modalities::launch(shape, dtype, variant)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
        Work::new((2 * m - 1) * b * d, dtype.bytes() * ((m + 1) * b * d + m) + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        weighted_sum(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        weighted_sum(problem, rows)
    }
}

fn weighted_sum<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, d) = (problem.shape["b"], problem.shape["d"]);
    let x = problem.inputs.float::<Ix3>("x");
    let a = problem.inputs.float::<Ix1>("a");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b, d, |row, mut y| {
        let members = modalities::members(present[row]);
        let logits: Vec<S> = members.iter().map(|&m| exact(a[m])).collect();
        let Some(peak) = logits.iter().copied().reduce(S::max) else { return };
        let exps: Vec<S> = logits.iter().map(|&logit| (logit - peak).exp()).collect();
        let total = S::sum(exps.iter().copied(), members.len());
        let weights: Vec<S> = exps.iter().map(|&e| e / total).collect();
        for i in 0..d {
            let terms = members.iter().zip(&weights).map(|(&m, &w)| w * exact(x[[m, row, i]]));
            y[i] = S::sum(terms, members.len()).store(problem.storage());
        }
    })]
}
