//! The noisy gradient of DP-SGD (arXiv 1607.00133): clip, add, add noise, divide.

use ndarray::{Array2, Ix2};

use super::{clip, noise};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Slice, Spec, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &DpSum;

struct DpSum;

/// σ·C for the noise multiplier 1.5 of the published accountant example.
const SCALE: f32 = 1.5 * clip::C;
const _: () = assert!(SCALE > 0.0, "a sum without noise is not private");
/// Columns of one workgroup and slices of the batch in `add_group`.
const COLUMNS: usize = 32;
/// Times eight columns of one invocation where they are read eight at a time.
const SPAN: usize = 4;
const SLICES: usize = 8;

const MUTANTS: &[Mutant] = &[
    Mutant::new("noise left out", "+ noise(column)", ""),
    Mutant::new("sum of samples without clipping", "+ column]) * scale", "+ column])"),
    Mutant::new("padding added", "scale != PADDED", "true"),
    Mutant::new("last sample dropped", "sample < params.batch;", "sample + 1u < params.batch;"),
    Mutant::new("wide sum without clipping", "- 1u)]) * scale", "- 1u)])"),
    Mutant::new("high half of eight not squared", "+ v[1] * v[1]", "+ v[0] * v[1]"),
    Mutant::new("first eight columns for all", "finish8(at, own[i])", "finish8(at, own[0])"),
    Mutant::new("noise of the next block", "column / 4u, params", "column / 4u + 1u, params"),
    Mutant::new("sine for cosine", "select(z.x, z.y", "select(z.y, z.x"),
    Mutant::new("clipped without margin", "{ scale = LIMIT *", "{ scale = 1.002 * LIMIT *"),
    Mutant::new("a slice forgets those before it", "if (params.before > 0u)", "if (false)"),
    Mutant::new("noise added by every slice", "if (params.after > 0u)", "if (false)"),
    Mutant::new("a level of the tree left out", "var half = 4u", "var half = 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("g", "b p")];

impl Kernel for DpSum {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add clipped gradients and noise, averaged over the expected batch",
            difficulties: &[7],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: clip::VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Edges,
                Distribution::Small,
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
                of(9, 770),
                of(33, 1024),
                of(5, 4097),
                of(3, 0),
                // Several slices, the last one shorter, and not all starting alike.
                of(19, 128),
                of(27, 64).tag("masked"),
                of(7, 33).tag("masked"),
                of(20, 260).tag("masked"),
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
        let params = params.size("key0", generator.seed as usize).size("key1", 0);
        let params = params.size("tensor", 3).size("step", 17).real("scale", SCALE);
        let params = params.real("expected", expected(shape)).size("before", 0).size("after", 0);
        Inputs::new(params, clip::tensors(shape, generator))
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, p, lanes) = (shape["b"], shape["p"], variant.constant("WG"));
        let wide = clip::WIDE * SPAN * lanes;
        let (entry, columns) = match variant.name {
            "thread" if clip::is_wide(p, variant) => ("add_thread8", wide),
            "thread" => ("add_thread", lanes),
            "group" => ("add_group", COLUMNS),
            _ if clip::is_wide(p, variant) => ("add_slice8", wide),
            _ => ("add_slice", lanes),
        };
        let slices = clip::slices(shape, variant, dtype.storage());
        let mut dispatches = Vec::new();
        for samples in &slices {
            let first = dispatches.len();
            // Clipped samples are not stored.
            dispatches.extend(clip::factors(samples.len(), p, variant, Elem::F32));
            dispatches.push(Dispatch::new(entry, spill(p.div_ceil(columns))));
            let mut slice = clip::slice(shape, samples, &["g"]);
            if slice != Slice::default() {
                slice.params.push(("after", b - samples.end));
            }
            dispatches[first..].iter_mut().for_each(|dispatch| dispatch.slice = slice.clone());
        }
        let mut scratch = clip::scratch(p, &slices, variant);
        if variant.name == "slices8" {
            scratch.push(Buffer::new("sums", Elem::F32, p, 1));
        }
        Launch { outputs: vec![Buffer::new("y", dtype.storage(), p, 1)], scratch, dispatches }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, p) = (shape["b"], shape["p"]);
        Work::new(4 * b * p + 25 * p, dtype.bytes() * (b * p + p) + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        dp_sum(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        dp_sum(problem, rows)
    }
}

/// Batch size under Poisson sampling, which the one drawn need not equal.
fn expected(shape: &Shape) -> f32 {
    0.75 * shape["b"] as f32
}

fn dp_sum<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, p) = (problem.shape["b"], problem.shape["p"]);
    let g = problem.inputs.float::<Ix2>("g");
    let valid = problem.inputs.words("valid");
    let word = |name: &str| noise::param(problem.inputs, name);
    let key = [word("key0"), word("key1")];
    let factors = by_rows(&Rows::All, b, 1, |sample, mut out| {
        if valid[sample] != 0 {
            out[0] = clip::factor::<S>(g.row(sample), problem.variant, Elem::F32);
        }
    });
    let depth = match problem.variant.name {
        "group" => b.div_ceil(SLICES) + SLICES.ilog2() as usize,
        // A slice's own sum joins those of the slices before it.
        _ => b + 1,
    };
    let exact = |value: f32| S::exact(f64::from(value));
    let samples: Vec<usize> = (0..b).filter(|&sample| valid[sample] != 0).collect();
    vec![by_rows(rows, p, 1, |column, mut y| {
        let of = |&sample: &usize| exact(g[[sample, column]]) * factors[[sample, 0]];
        let sum = S::sum(samples.iter().map(of), depth);
        let counter = [column as u32 / 4, word("tensor"), word("step"), 0];
        let z: S = noise::normal(noise::philox(counter, key), column % 4);
        let noisy = sum + z * exact(SCALE);
        y[0] = (noisy / exact(expected(problem.shape))).store(problem.storage());
    })]
}
