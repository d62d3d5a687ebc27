//! Cross-attention of one modality's queries over another's keys and values, with padding.

use ndarray::{Array2, ArrayView4, s};

use super::pairs;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &CrossAttention;

struct CrossAttention;

/// What WebGPU guarantees for one binding.
const MAX_SCORE_BYTES: usize = 128 << 20;
/// Width of the accumulators in `flash`.
const MAX_FLASH_D: usize = 128;

const VARIANTS: &[Variant] = &[
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            let bytes = 4 * pairs::output_rows(shape) * shape["k"];
            (bytes > MAX_SCORE_BYTES)
                .then(|| format!("scores take {bytes} bytes, a binding holds {MAX_SCORE_BYTES}"))
        },
        ..Variant::new("unfused", &[("WG", 64.0)])
    },
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant {
        refuses: |shape| {
            (shape["d"] > MAX_FLASH_D)
                .then(|| format!("d is {}, the accumulators hold {MAX_FLASH_D}", shape["d"]))
        },
        ..Variant::new("flash", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("scale a per mille too large", "* params.scale", "* params.scale * 1.001"),
    Mutant::new("last key dropped", "key < valid; key++", "key + 1u < valid; key++"),
    Mutant::new(
        "heads and queries swapped",
        "index % params.queries) * params.heads + h",
        "h) * 1u + 0u * h",
    ),
    Mutant::new("sum not rescaled when the maximum grows", "total *= shrink;", ""),
    Mutant::new("length ignored", "min(len[b], params.keys)", "params.keys"),
];

impl Kernel for CrossAttention {
    fn spec(&self) -> Spec {
        Spec {
            summary: "let queries of one modality attend to the valid keys of another",
            difficulties: &[2, 3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        pairs::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, h, q, k, d) = (shape["b"], shape["h"], shape["q"], shape["k"], shape["d"]);
        let len = pairs::lengths(shape);
        let unused = |index: usize| {
            let key = index / (h * d);
            key % k >= len[key / k] as usize
        };
        let params = Params::new().size("batch", b).size("heads", h).size("queries", q);
        Inputs::new(
            params.size("keys", k).size("d", d).real("scale", pairs::scale(d)),
            vec![
                generator.data("q", &[b, q, h, d]),
                // Standard normal whatever the data: two large factors would put the scores where
                // neighbouring f32 values are whole units apart.
                generator.weight("k", &[b, k, h, d], 1.0).with_garbage(unused),
                generator.data("v", &[b, k, h, d]).with_garbage(unused),
                Tensor::words("len", &[b], len.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (rows, k, d) = (pairs::output_rows(shape), shape["k"], shape["d"]);
        let lanes = variant.constant("WG");
        let output = Buffer::new("o", dtype.storage(), rows, d);
        let run = |entry, grid| Dispatch { entry, grid, constants: Vec::new() };
        if variant.name == "flash" {
            let mut launch = Launch::single(output, spill(rows.div_ceil(lanes)));
            launch.dispatches[0].entry = "flash";
            return launch.with_constant("QUADS", d.div_ceil(4) as f64);
        }
        Launch {
            outputs: vec![output],
            scratch: vec![Buffer::new("scores", Elem::F32, rows, k)],
            dispatches: vec![
                run("score_pairs", spill((rows * k).div_ceil(lanes))),
                run("softmax_rows", spill(rows)),
                run("mix_values", spill((rows * d).div_ceil(lanes))),
            ],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, h, q, d) = (shape["b"], shape["h"], shape["q"], shape["d"]);
        let keys = pairs::lengths(shape).iter().map(|&len| len as usize).sum::<usize>();
        let elements = 2 * b * q * h * d + 2 * keys * h * d;
        Work::new(h * q * keys * (4 * d + 5), dtype.bytes() * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        cross_attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        cross_attention(problem, rows)
    }
}

fn cross_attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (h, q, d) = (problem.shape["h"], problem.shape["q"], problem.shape["d"]);
    let queries: ArrayView4<f32> = problem.inputs.float("q");
    let keys: ArrayView4<f32> = problem.inputs.float("k");
    let values: ArrayView4<f32> = problem.inputs.float("v");
    let len = problem.inputs.words("len");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, pairs::output_rows(problem.shape), d, |row, mut o| {
        let (b, head) = (row / (q * h), row % h);
        let query = queries.slice(s![b, row / h % q, head, ..]);
        let valid = len[b] as usize;
        let scores: Vec<S> = (0..valid)
            .map(|key| {
                let key = keys.slice(s![b, key, head, ..]);
                let products = query.iter().copied().zip(key.iter().copied());
                S::dot(products, d) * exact(pairs::scale(d))
            })
            .collect();
        let weights = pairs::weigh(&scores, problem.variant);
        for i in 0..d {
            let column = values.slice(s![b, ..valid, head, i]);
            let terms = column.iter().zip(&weights.terms).map(|(&v, &weight)| weight * exact(v));
            let sum = S::sum(terms, valid);
            let out = weights.divisor.map_or(sum, |total| sum / total);
            o[i] = out.store(problem.storage());
        }
    })]
}
