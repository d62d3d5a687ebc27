//! Convolution along time, as in the stems of audio encoders; with the tag `depthwise` every
//! channel is smoothed by taps of its own.

use ndarray::{Array2, Ix1, Ix2, Ix3, s};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Conv1d;

struct Conv1d;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant { refuses: refuses_long, ..Variant::new("register", &[("WG", 8.0)]) },
    Variant { suits: Suits::Gpu, refuses: refuses_unshared, ..Variant::new("tiled", &[]) },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let few = targets(shape) < MIN_BROADCAST_STEPS;
            let reason = || format!("{} steps, made for {MIN_BROADCAST_STEPS}", targets(shape));
            few.then(reason).or_else(|| refuses_unshared(shape))
        },
        ..Variant::new("broadcast", &[])
    },
];

/// Of sixteen that are loaded.
const MIN_BROADCAST_STEPS: usize = 4;

fn refuses_unshared(shape: &Shape) -> Option<String> {
    let alone = "every output channel has one input channel: nothing to share".to_owned();
    is_depthwise(shape).then_some(alone).or_else(|| refuses_long(shape))
}

/// A grid row for four output steps, a grid layer for each sample.
fn refuses_long(shape: &Shape) -> Option<String> {
    let most = targets(shape).div_ceil(4).max(shape["b"]);
    (most > 65_535).then(|| format!("{most} workgroups in one dimension, the limit is 65535"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "padding one step too wide",
        "i32(params.pad * params.c)",
        "i32((params.pad + 1u) * params.c)",
    ),
    Mutant::new(
        "padding reads the first step",
        "select(Sum4(), Sum4(x4[index]), inside)",
        "Sum4(x4[index])",
    ),
    Mutant::new("stride ignored", "j * params.stride", "j"),
    Mutant::new("last tap dropped", "q < end; q++", "q + 1u < end; q++"),
    Mutant::new("bias of the step", "f32(bias[column])", "f32(bias[min(j, params.outputs - 1u)])"),
    Mutant::new(
        "last vector along k dropped",
        "(params.width * params.c + 3u) / 4u",
        "params.width * params.c / 4u",
    ),
    Mutant::new("a window of another invocation", "Broadcast(own, 5u)", "Broadcast(own, 4u)"),
    Mutant::new("lower windows like the upper", "j + 8u + lane, q)", "j + lane, q)"),
    Mutant::new("right channels like the left", "taps(column + 32u, 8u", "taps(column, 8u"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "b t c"), Operand::new("w", "o w c"), Operand::new("bias", "o")];

impl Kernel for Conv1d {
    fn spec(&self) -> Spec {
        Spec {
            summary: "convolve a stream along time with stride, zero padding and bias",
            difficulties: &[1, 3],
            dtypes: &[Dtype::F32, Dtype::F16, Dtype::F16Acc],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Offset],
            operands: Operands::of(OPERANDS).without(&["depthwise"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1, 1, 1, 1, 0),
                of(2, 7, 5, 3, 3, 1, 1),
                of(1, 50, 35, 30, 3, 1, 1),
                of(2, 33, 8, 65, 5, 2, 2),
                of(1, 70, 64, 33, 3, 2, 1),
                of(1, 3, 4, 5, 7, 1, 3),
                of(1, 2, 4, 8, 5, 1, 0),
                of(0, 8, 4, 5, 3, 1, 1),
                depthwise(2, 31, 35, 5, 1, 2),
                depthwise(1, 257, 16, 9, 1, 4),
                depthwise(3, 10, 8, 3, 2, 1),
            ],
            Preset::Models => vec![
                of(1, 3000, 128, 1280, 3, 1, 1).from("Whisper-large-v3 first convolution"),
                of(1, 3000, 1280, 1280, 3, 2, 1).from("Whisper-large second convolution"),
                of(24, 500, 74, 30, 1, 1, 0).from("MulT MOSEI audio"),
                of(24, 375, 35, 30, 1, 1, 0).from("MulT MOSEI vision"),
                depthwise(24, 500, 74, 5, 1, 2).from("MulT MOSEI audio, smoothed"),
            ],
            Preset::Sweep => [64, 128, 256, 512, 1024]
                .into_iter()
                .flat_map(|c| [of(1, 1024, c, c, 3, 1, 1), depthwise(8, 1024, c, 5, 1, 2)])
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, t, c, o, w) = (shape["b"], shape["t"], shape["c"], shape["o"], shape["w"]);
        let terms = if is_depthwise(shape) { w } else { w * c };
        let taps = if is_depthwise(shape) { vec![c, w] } else { vec![o, w, c] };
        // Keeps the outputs of the size of the inputs, as trained weights do.
        let scale = (terms as f32).sqrt().recip();
        let params = Params::new().size("batch", b).size("steps", t).size("c", c);
        let params = params.size("targets", targets(shape)).size("outputs", o);
        Inputs::new(
            params.size("width", w).size("stride", shape["s"]).size("pad", shape["p"]),
            vec![
                generator.data("x", &[b, t, c]),
                generator.weight("w", &taps, scale),
                generator.weight("bias", &[o], 1.0),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, c, o, u) = (shape["b"], shape["c"], shape["o"], targets(shape));
        let vectors = c.is_multiple_of(4);
        let lanes = || variant.constant("WG");
        let (entry, rows, columns) = match (variant.name, vectors) {
            _ if is_depthwise(shape) => ("depthwise", 4, 64),
            ("register", true) => ("registers", 8, 8 * lanes()),
            ("register", false) => ("registers_any", 4, 4 * lanes()),
            ("broadcast", true) => ("broadcast", 16, 64),
            ("broadcast", false) => ("broadcast_any", 16, 32),
            (_, true) => ("tiled", 64, 64),
            (_, false) => ("tiled_any", 64, 64),
        };
        let grid = [o.div_ceil(columns) as u32, u.div_ceil(rows) as u32, b as u32];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b * u, o), grid);
        launch.dispatches[0].entry = entry;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, t, c, o, w) = (shape["b"], shape["t"], shape["c"], shape["o"], shape["w"]);
        let u = targets(shape);
        let terms = if is_depthwise(shape) { w } else { w * c };
        let elements = b * t * c + o * terms + o + b * u * o;
        let work = Work::new(b * u * o * (2 * terms + 1), dtype.bytes() * elements);
        Work { arithmetic: dtype.arithmetic(), ..work }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        conv1d(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        conv1d(problem, rows)
    }
}

fn of(b: usize, t: usize, c: usize, o: usize, w: usize, s: usize, p: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("c", c), ("o", o), ("w", w), ("s", s), ("p", p)])
}

fn depthwise(b: usize, t: usize, c: usize, w: usize, s: usize, p: usize) -> Shape {
    of(b, t, c, c, w, s, p).tag("depthwise")
}

fn is_depthwise(shape: &Shape) -> bool {
    shape.option() == Some("depthwise")
}

/// Output steps of one sample.
fn targets(shape: &Shape) -> usize {
    let padded = shape["t"] + 2 * shape["p"];
    padded.checked_sub(shape["w"]).map_or(0, |rest| rest / shape["s"] + 1)
}

fn conv1d<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (b, t, c, o) = (shape["b"], shape["t"], shape["c"], shape["o"]);
    let (width, stride, pad, u) = (shape["w"], shape["s"], shape["p"], targets(shape));
    let x = problem.inputs.float::<Ix3>("x");
    let bias = problem.inputs.float::<Ix1>("bias");
    let kept_in = problem.dtype.sum();
    // One invocation adds all products, in whatever order its compiler likes.
    vec![by_rows(rows, b * u, o, |row, mut y| {
        let (sample, first) = (row / u, row % u * stride);
        // The taps that meet the sample, and the steps they meet.
        let taps = pad.saturating_sub(first).min(width)..(t + pad).saturating_sub(first).min(width);
        let step = |tap: usize| (tap + first).saturating_sub(pad).min(t);
        let steps = step(taps.start)..step(taps.end);
        let window = x.slice(s![sample, steps, ..]);
        for column in 0..o {
            let sum = if is_depthwise(shape) {
                let w = problem.inputs.float::<Ix2>("w");
                let taps = w.slice_move(s![column, taps.clone()]);
                let values = window.column(column);
                S::dot_in(kept_in, values.iter().copied().zip(taps.iter().copied()), width)
            } else {
                let w = problem.inputs.float::<Ix3>("w");
                let taps = w.slice_move(s![column, taps.clone(), ..]);
                S::dot_in(kept_in, window.iter().copied().zip(taps.iter().copied()), width * c)
            };
            y[column] = (sum + S::exact(f64::from(bias[column]))).store(problem.storage());
        }
    })]
}
