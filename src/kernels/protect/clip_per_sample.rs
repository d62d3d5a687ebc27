//! Per-sample gradient clipping of DP-SGD (arXiv 1607.00133), with a margin for rounding.

use ndarray::{Array2, Ix2};

use super::clip;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape,
    Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &ClipPerSample;

struct ClipPerSample;

const MUTANTS: &[Mutant] = &[
    Mutant::new("clipped without margin", "{ scale = LIMIT *", "{ scale = 1.002 * LIMIT *"),
    Mutant::new(
        "every sample scaled to the norm",
        "if (total > LIMIT * LIMIT)",
        "if (total > 0.0)",
    ),
    Mutant::new("last element dropped", "at < params.p", "at + 1u < params.p"),
    Mutant::new("factor of the first sample", "factor[wid.y]", "factor[0]"),
    Mutant::new("high half of eight not squared", "+ v[1] * v[1]", "+ v[0] * v[1]"),
    Mutant::new("low half of eight twice", "to_storage4(out[1])", "to_storage4(out[0])"),
    Mutant::new("padding clipped too", "valid[params.before + wid.y] != 0u", "true"),
    Mutant::new("norm not squared", "sum += value * value", "sum += abs(value)"),
    Mutant::new("slices all from the first sample", "params.before + ", ""),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("g", "b p")];

impl Kernel for ClipPerSample {
    fn spec(&self) -> Spec {
        Spec {
            summary: "scale each sample's gradient down to a norm it then never exceeds",
            difficulties: &[7],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: clip::VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Edges,
                Distribution::Small,
                Distribution::Outliers,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |b, p| Shape::new(&[("b", b), ("p", p)]);
        match preset {
            Preset::Smoke => vec![
                of(1, 1),
                of(3, 5),
                of(5, 770),
                of(4, 1024),
                of(3, 4097),
                of(0, 8),
                of(3, 0),
                // Several slices, the last one shorter, and not all starting alike.
                of(19, 128),
                of(27, 64).tag("masked"),
                of(7, 33).tag("masked"),
                of(5, 260).tag("masked"),
            ],
            Preset::Models => vec![
                of(1024, 32_400).from("MulT MOSEI, a 180 × 180 layer, batch 1,024"),
                of(32, 786_432).from("CLIP ViT-L/14-336 projection, batch 32"),
                of(64, 786_432).from("CLIP ViT-L/14-336 projection, batch 64"),
            ],
            Preset::Sweep => [12, 14, 16, 18, 20].map(|log2| of(32, 1 << log2)).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let params = Params::new().size("batch", shape["b"]).size("p", shape["p"]);
        let params = params.size("before", 0);
        Inputs::new(params, clip::tensors(shape, generator))
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, p) = (shape["b"], shape["p"]);
        let lanes = variant.constant("WG");
        let (entry, across) = match p % 4 {
            _ if clip::is_wide(p, variant) => ("scale_eight", clip::groups(p, variant)),
            0 => ("scale_four", p.div_ceil(4 * lanes)),
            _ => ("scale_each", p.div_ceil(lanes)),
        };
        let slices = clip::slices(shape, variant, dtype.storage());
        let mut dispatches = Vec::new();
        for samples in &slices {
            let first = dispatches.len();
            dispatches.extend(clip::factors(samples.len(), p, variant, dtype.storage()));
            let grid = [across as u32, samples.len() as u32, 1];
            dispatches.push(Dispatch::new(entry, grid));
            let slice = clip::slice(shape, samples, &["g", "y"]);
            dispatches[first..].iter_mut().for_each(|dispatch| dispatch.slice = slice.clone());
        }
        let outputs = vec![Buffer::new("y", dtype.storage(), b, p)];
        Launch { outputs, scratch: clip::scratch(p, &slices, variant), dispatches }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, p) = (shape["b"], shape["p"]);
        Work::new(3 * b * p, dtype.bytes() * 2 * b * p + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        clip_per_sample(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        clip_per_sample(problem, rows)
    }
}

fn clip_per_sample<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, p) = (problem.shape["b"], problem.shape["p"]);
    let g = problem.inputs.float::<Ix2>("g");
    let valid = problem.inputs.words("valid");
    let elem = problem.storage();
    vec![by_rows(rows, b, p, |sample, mut y| {
        if valid[sample] == 0 {
            return;
        }
        let factor: S = clip::factor(g.row(sample), problem.variant, elem);
        for i in 0..p {
            y[i] = (S::exact(f64::from(g[[sample, i]])) * factor).store(elem);
        }
    })]
}
