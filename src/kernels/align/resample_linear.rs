//! Linear interpolation of a stream to other times: regular sampling as in ONNX Resize and
//! `torch.nn.functional.interpolate`, or irregular timestamps as in `numpy.interp`.
//!
//! Tags: none for half-pixel centres, `corners` for aligned ends, `stamps` for `ticks` of each
//! source step (ascending; of equal ones the last counts) and `times` of the targets, in one unit.

use ndarray::{Array2, Ix3};

use super::steps::{self, Place};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &ResampleLinear;

struct ResampleLinear;

const VARIANTS: &[Variant] = &[
    steps::SCALAR,
    steps::VECTOR,
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            let elements = shape["b"] * shape["u"] * shape["f"];
            let ragged = || format!("{elements} elements are no multiple of four");
            (!elements.is_multiple_of(4)).then(ragged)
        },
        turns: |shape| rows_each(shape) * (2 + shape["f"] / 4),
        ..Variant::new("strip", &[("WG", 8.0)])
    },
];

/// Output rows that are whole vectors together.
fn rows_each(shape: &Shape) -> usize {
    [1, 2, 4].into_iter().find(|rows| (rows * shape["f"]).is_multiple_of(4)).expect("four")
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("no shift by half a step", "twice - min(twice, params.targets)", "twice"),
    Mutant::new("not clamped at the last step", "num = min(num, last * den);", ""),
    Mutant::new("ends one target apart", "max(params.targets - 1u, 1u)", "params.targets"),
    Mutant::new(
        "weight of the wrong neighbour",
        "f32(p.num) / f32(p.den)",
        "(1.0 - f32(p.num) / f32(p.den))",
    ),
    Mutant::new("one bisection too few", "high - low > 1u", "high - low > 2u"),
    Mutant::new("end of a row not carried on", "carried = select(value, carried,", {
        "carried = select(value, value,"
    }),
    Mutant::new("a vector behind the low step", "pick(low_before, low_after,", {
        "pick(low_after, low_after,"
    }),
    Mutant::new("high step like the low one", "pick(high_before, high_after, high", {
        "pick(low_before, low_after, low"
    }),
    Mutant::new(
        "steps of the first sample",
        "row / params.targets * params.steps + p.index",
        "p.index",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "b t f")];

impl Kernel for ResampleLinear {
    fn spec(&self) -> Spec {
        Spec {
            summary: "interpolate a stream linearly at other times, regular or irregular",
            difficulties: &[1, 3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Constant,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(2, 500, 50, 74),
                of(2, 375, 50, 35),
                of(1, 1, 7, 5),
                of(3, 7, 1, 8),
                of(1, 50, 50, 31),
                of(1, 3, 1501, 4),
                of(2, 8, 0, 4),
                of(3, 7, 1, 5).tag("corners"),
                of(2, 33, 65, 8).tag("corners"),
                of(3, 20, 37, 8).tag("stamps"),
                of(2, 257, 31, 3).tag("stamps"),
                of(1, 1, 5, 1).tag("stamps"),
            ],
            Preset::Models => vec![
                of(24, 500, 50, 74).from("MulT MOSEI audio to text"),
                of(24, 375, 50, 35).from("MulT MOSEI vision to text"),
                of(24, 500, 50, 74).tag("stamps").from("MulT MOSEI audio at word times"),
                of(8, 1500, 448, 1280).from("Whisper-large encoder to decoder"),
            ],
            Preset::Sweep => [6, 8, 10, 12, 14]
                .into_iter()
                .flat_map(|log2| {
                    [1 << (log2 - 1), 1 << (log2 + 1)].map(|u| of(8, 1 << log2, u, 64))
                })
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, t, u, f) = (shape["b"], shape["t"], shape["u"], shape["f"]);
        let params = Params::new().size("batch", b).size("steps", t);
        let stamped = shape.option() == Some("stamps");
        let (ticks, times) =
            if stamped { stamps(shape, generator.seed) } else { (Vec::new(), Vec::new()) };
        let dims = |n: usize| if stamped { [b, n] } else { [0, n] };
        Inputs::new(
            params.size("targets", u).size("d", f),
            vec![
                generator.data("x", &[b, t, f]),
                Tensor::words("ticks", &dims(t), ticks),
                Tensor::words("times", &dims(u), times),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let rows = shape["b"] * shape["u"];
        let mut launch = steps::launch(rows, shape["f"], dtype, variant);
        if variant.name == "strip" {
            let strips = rows.div_ceil(rows_each(shape));
            launch.dispatches[0].grid = spill(strips.div_ceil(variant.constant("WG")));
        }
        let stamped = shape.option() == Some("stamps");
        launch.scratch = vec![Buffer::new("lower", Elem::U32, if stamped { rows } else { 0 }, 1)];
        if stamped {
            let grid = spill(rows.div_ceil(variant.constant("WG")));
            launch.dispatches.insert(0, Dispatch::new("locate", grid));
        }
        let launch = launch.with_constant("SAMPLING", sampling(shape));
        launch.with_constant("ROWS", rows_each(shape) as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, t, u, f) = (shape["b"], shape["t"], shape["u"], shape["f"]);
        let stamps = if shape.option() == Some("stamps") { 4 * b * (t + u) } else { 0 };
        Work::new(3 * b * u * f, dtype.bytes() * b * f * (t + u) + stamps)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        resample(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        resample(problem, rows)
    }
}

fn of(b: usize, t: usize, u: usize, f: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("u", u), ("f", f)])
}

/// The override constant of the shader.
fn sampling(shape: &Shape) -> f64 {
    match shape.option() {
        Some("corners") => 1.0,
        Some("stamps") => 2.0,
        _ => 0.0,
    }
}

/// Ascending ticks with gaps of 0 to 40, and times from before the first to after the last.
fn stamps(shape: &Shape, seed: u32) -> (Vec<u32>, Vec<u32>) {
    let (mut ticks, mut times) = (Vec::new(), Vec::new());
    for b in 0..shape["b"] as u32 {
        let mut now = 50;
        for i in 0..shape["t"] as u32 {
            ticks.push(now);
            now += rng::word(seed, 2 * b, i) % 41;
        }
        times.extend((0..shape["u"] as u32).map(|j| rng::word(seed, 2 * b + 1, j) % (now + 50)));
    }
    (ticks, times)
}

/// The last of the ascending ticks at or before a time inside them, and the way to the next.
fn between(ticks: &[u32], time: u32) -> Place {
    let last = ticks.len() - 1;
    let time = time.clamp(ticks[0], ticks[last]);
    let index = ticks.partition_point(|&tick| tick <= time) - 1;
    let (start, end) = (ticks[index], ticks[last.min(index + 1)]);
    Place { index, num: (time - start) as usize, den: (end - start) as usize }
}

fn resample<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (b, t, u, f) = (shape["b"], shape["t"], shape["u"], shape["f"]);
    let x = problem.inputs.float::<Ix3>("x");
    let (ticks, times) = (problem.inputs.words("ticks"), problem.inputs.words("times"));
    let ticks = ticks.to_slice().expect("row-major");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b * u, f, |row, mut y| {
        let (sample, j) = (row / u, row % u);
        let place = match shape.option() {
            Some("stamps") => between(&ticks[sample * t..(sample + 1) * t], times[[sample, j]]),
            option => steps::place(j, t, u, option == Some("corners")),
        };
        let weight = S::exact(place.num as f64) / S::exact(place.den.max(1) as f64);
        for i in 0..f {
            let low = exact(x[[sample, place.index, i]]);
            let value = if place.num == 0 {
                low
            } else {
                low + weight * (exact(x[[sample, place.index + 1, i]]) - low)
            };
            y[i] = value.store(problem.storage());
        }
    })]
}
