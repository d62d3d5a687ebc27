//! The gated multimodal unit (arXiv 1702.01992) on pre-activations.

use ndarray::{Array2, Ix3};

use super::modalities;
use crate::accuracy::functions::{sigmoid, tanh};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &GatedFusion;

struct GatedFusion;

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
    Mutant::new("tanh clamped too early", "vec4<f32>(15.0)", "vec4<f32>(5.0)"),
    Mutant::new("gate left out", "sum += gate *", "sum +="),
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
    Mutant::new("sigmoid clamped too early", "vec4<f32>(-80.0)", "vec4<f32>(-8.0)"),
    Mutant::new("sign of tanh lost", "-magnitude, x <", "magnitude, x <"),
    Mutant::new("exponent of tanh not doubled", "exp(2.0 * clamped)", "exp(clamped)"),
    Mutant::new("gate of the value itself", "f32(v[m", "f32(u[m"),
    Mutant::new(
        "modalities one element too close",
        "m * count + index",
        "m * (count - 1u) + index",
    ),
    Mutant::new("last element dropped", "index >= count", "index + 1u >= count"),
];

const OPERANDS: &[Operand] = &[Operand::new("u", "m b d"), Operand::new("v", "m b d")];

impl Kernel for GatedFusion {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add modalities, each squashed by tanh and scaled by its own sigmoid gate",
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
        let absent = |index: usize| modalities::is_absent(shape, &present, index);
        Inputs::new(
            Params::new().size("modalities", m).size("batch", b).size("d", d),
            vec![
                generator.data("u", &[m, b, d]).with_garbage(absent),
                generator.data("v", &[m, b, d]).with_garbage(absent),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        modalities::launch(shape, dtype, variant)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
        Work::new(10 * m * b * d, dtype.bytes() * (2 * m + 1) * b * d + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        gated_fusion(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        gated_fusion(problem, rows)
    }
}

fn gated_fusion<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, d) = (problem.shape["b"], problem.shape["d"]);
    let u = problem.inputs.float::<Ix3>("u");
    let v = problem.inputs.float::<Ix3>("v");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b, d, |row, mut y| {
        let members = modalities::members(present[row]);
        for i in 0..d {
            let terms = members
                .iter()
                .map(|&m| sigmoid(exact(v[[m, row, i]])) * tanh(exact(u[[m, row, i]])));
            y[i] = S::sum(terms, members.len()).store(problem.storage());
        }
    })]
}
