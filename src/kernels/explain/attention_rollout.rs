//! Attention rollout over the layers of a transformer (arXiv 2005.00928).

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView4, Axis, Ix2, s};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Slice, Spec, Suits, Variant, Window, Work, cut, refuses_uncut, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &AttentionRollout;

struct AttentionRollout;

/// Tokens that `fused` holds in workgroup memory.
const MAX_FUSED_T: usize = 1024;

/// Most slices of the layers that `slices8` mixes one after the other.
const SLICES: usize = 8;

const VARIANTS: &[Variant] = &[
    Variant {
        refuses: |shape| refuses_uncut(shape["l"] * shape["h"] * shape["t"] * shape["t"]),
        ..Variant::new("slices8", &[("WG", 8.0)])
    },
    Variant::new("layers", &[("WG", 8.0)]),
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        ..Variant::new("broadcast", &[("WG", 8.0)])
    },
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            (shape["t"] > MAX_FUSED_T)
                .then(|| format!("t is {}, workgroup memory holds {MAX_FUSED_T}", shape["t"]))
        },
        ..Variant::new("fused", &[("WG", 64.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("identity left out", "sum + select(0.0, f32(params.heads), row == column)", "sum"),
    Mutant::new("identity of one head", "select(0.0, f32(params.heads)", "select(0.0, 1.0"),
    Mutant::new("last head dropped", "h < params.heads", "h + 1u < params.heads"),
    Mutant::new("rows not normalised", "/= total", "/= 2.0 * f32(params.heads)"),
    Mutant::new("first layer twice", "let base = (below - 1u)", "let base = (max(below, 2u) - 2u)"),
    Mutant::new("layer transposed", "mixed[base + j * params.t];", {
        "mixed[base - column + column * params.t + j];"
    }),
    Mutant::new("lower rows like the upper ones", "row + 8u + lane", "row + lane"),
    Mutant::new("row of another invocation", "subgroupBroadcast(own, 6u)", {
        "subgroupBroadcast(own, 5u)"
    }),
    Mutant::new("slices all to the first layers", "params.first * params.t + ", ""),
    Mutant::new("last token dropped", "j < params.t; j++) {\n        let rows", {
        "j + 1u < params.t; j++) {\n        let rows"
    }),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("a", "l h t t")];

impl Kernel for AttentionRollout {
    fn spec(&self) -> Spec {
        Spec {
            summary: "follow attention and residual paths through all layers to the input tokens",
            difficulties: &[6],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Constant, Distribution::Large],
            operands: Operands::of(OPERANDS).without(&["masked"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |l, h, t| Shape::new(&[("l", l), ("h", h), ("t", t)]);
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1),
                of(1, 3, 31),
                of(2, 2, 5),
                of(3, 2, 50),
                of(4, 3, 65),
                of(2, 1, 257),
                of(2, 2, 0),
                // Several slices, the last one shorter.
                of(9, 3, 8),
                of(5, 1, 16).tag("masked"),
                of(3, 2, 7).tag("masked"),
                of(2, 3, 33).tag("masked"),
            ],
            Preset::Models => vec![
                of(12, 12, 197).from("ViT-B/16"),
                of(12, 12, 257).from("DINOv2 ViT-B/14"),
                of(12, 12, 50).from("CLIP ViT-B/32"),
                of(24, 16, 577).from("CLIP ViT-L/14-336"),
            ],
            Preset::Sweep => [32, 64, 128, 256, 512].into_iter().map(|t| of(4, 8, t)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (l, h, t) = (shape["l"], shape["h"], shape["t"]);
        Inputs::new(
            Params::new().size("layers", l).size("heads", h).size("t", t).size("first", 0),
            vec![attention(shape, generator)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (l, t) = (shape["l"], shape["t"]);
        let lanes = variant.constant("WG");
        let run = |entry, grid| Dispatch::new(entry, grid);
        let scratch = |name, rows| Buffer::new(name, Elem::F32, rows, t);
        let outputs = vec![Buffer::new("r", dtype.storage(), t, t)];
        if variant.name == "fused" {
            let fused = run("fused", [t.div_ceil(4) as u32, 1, 1]);
            let dispatches = vec![run("mix_group", spill(l * t)), fused];
            return Launch { outputs, scratch: vec![scratch("mixed", l * t)], dispatches };
        }
        let slices = match variant.name {
            "slices8" => cut(l, SLICES, &[shape["h"] * t * t * dtype.bytes()]),
            _ => std::iter::once(0..l).collect(),
        };
        let mix = |layers: &Range<usize>| {
            let grid = spill((layers.len() * t).div_ceil(lanes));
            Dispatch { slice: slice(shape, layers), ..run("mix_thread", grid) }
        };
        let mut dispatches: Vec<Dispatch> = slices.iter().map(mix).collect();
        // Of the attention the other dispatches read nothing.
        let run = |entry, grid| Dispatch {
            slice: slice(shape, &slices[0]),
            ..Dispatch::new(entry, grid)
        };
        if l == 1 {
            dispatches.push(run("finish", spill((t * t).div_ceil(lanes))));
        }
        for (step, layer) in (0..l - 1).rev().enumerate() {
            let source = if step == 0 { 0 } else { 2 - step % 2 };
            let constants = vec![("LAYER", layer as f64), ("SOURCE", source as f64)];
            let multiply = match variant.name {
                "broadcast" => ("multiply_rows", [t.div_ceil(32) as u32, t.div_ceil(16) as u32, 1]),
                _ => ("multiply", [t.div_ceil(lanes) as u32, t.div_ceil(4) as u32, 1]),
            };
            dispatches.push(Dispatch { constants, ..run(multiply.0, multiply.1) });
        }
        let scratch = vec![scratch("mixed", l * t), scratch("ping", t), scratch("pong", t)];
        Launch { outputs, scratch, dispatches }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (l, h, t) = (shape["l"], shape["h"], shape["t"]);
        let flops = 2 * (l - 1) * t * t * t + l * h * t * t;
        Work::new(flops, dtype.bytes() * (l * h + 1) * t * t)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        attention_rollout(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        attention_rollout(problem, rows)
    }
}

/// What a dispatch over some layers sees.
fn slice(shape: &Shape, layers: &Range<usize>) -> Slice {
    let plane = shape["h"] * shape["t"] * shape["t"];
    if *layers == (0..shape["l"]) {
        return Slice::default();
    }
    let elements = layers.start * plane..layers.end * plane;
    Slice {
        windows: vec![Window { buffer: "a", elements }],
        params: vec![("layers", layers.len()), ("first", layers.start)],
    }
}

/// Probabilities from logits of the run's distribution. With the tag `masked` every third query
/// attended to nothing.
fn attention(shape: &Shape, generator: &Generator) -> Tensor {
    let (l, h, t) = (shape["l"], shape["h"], shape["t"]);
    if let Some(tensor) = generator.user("a", &[l, h, t, t]) {
        return tensor;
    }
    let logits = generator.stored_as(Elem::F32).data("a", &[l * h * t, t]);
    let logits = Inputs::new(Params::new(), vec![logits]);
    let mut a = logits.float::<Ix2>("a").to_owned();
    // What is subnormal in the storage type counts as nothing: devices may flush it.
    let least = if generator.storage == Elem::F16 { 1e-4 } else { 1e-30 };
    for (index, mut row) in a.axis_iter_mut(Axis(0)).enumerate() {
        let peak = row.fold(f32::MIN, |peak, &x| peak.max(x));
        row.mapv_inplace(|x| (x - peak).exp());
        let total = row.sum();
        let masked = shape.option() == Some("masked") && index % t % 3 == 1;
        let kept = |p: f32| if masked || p < least { 0.0 } else { p };
        row.mapv_inplace(|x| kept(x / total));
    }
    Tensor::floats("a", generator.storage, &[l, h, t, t], a.into_iter().collect())
}

fn attention_rollout<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (l, h, t) = (problem.shape["l"], problem.shape["h"], problem.shape["t"]);
    let a: ArrayView4<f32> = problem.inputs.float("a");
    let depth = match problem.variant.name {
        "layers" | "slices8" | "broadcast" => t,
        _ => {
            let lanes = problem.variant.constant("WG");
            t.div_ceil(lanes) + lanes.ilog2() as usize
        }
    };
    let mixed = by_rows(&Rows::All, l * t, t, |index, mut out| {
        let (layer, row) = (index / t, index % t);
        for j in 0..t {
            let heads = (0..h).map(|head| S::exact(f64::from(a[[layer, head, row, j]])));
            let identity = if row == j { S::exact(h as f64) } else { S::zero() };
            out[j] = S::sum(heads, h) + identity;
        }
        let total = S::sum(out.iter().copied(), depth);
        out.mapv_inplace(|sum: S| sum / total);
    });
    // Columns are what the product runs through.
    let layer = |layer: usize| mixed.slice(s![layer * t..(layer + 1) * t, ..]);
    let columns: Vec<Array2<S>> =
        (0..l - 1).map(|below| layer(below).t().as_standard_layout().into_owned()).collect();
    vec![by_rows(rows, t, t, |row, mut r| {
        let mut product = layer(l - 1).row(row).to_owned();
        for below in columns.iter().rev() {
            let of =
                |column: ArrayView1<S>| S::sum(product.iter().zip(column).map(|(&a, &b)| a * b), t);
            product = below.outer_iter().map(of).collect();
        }
        (0..t).for_each(|j| r[j] = product[j].store(problem.storage()));
    })]
}
