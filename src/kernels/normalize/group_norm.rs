//! Group normalisation of feature maps (arXiv 1803.08494).

use ndarray::{Array2, Ix1};

use super::moments::Moment;
use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &GroupNorm;

struct GroupNorm;

const EPS: f32 = 1e-5;

/// What one invocation adds up alone: longer sums of f16 elements lose what repeats itself.
const MAX_SPAN: usize = 2048;

/// Below this a slice is too short to be worth its start.
const LEAST_CHANNEL: usize = 32;

/// Slices of a group that one invocation merges: their elements are counted in f32.
const MAX_SLICES: usize = 1 << 15;

/// One invocation a small group, one workgroup a group, or slices of channels that are merged:
/// most groups are few and long.
const VARIANTS: &[Variant] = &[
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            let span = span(shape);
            (span > MAX_SPAN)
                .then(|| format!("{span} elements a group, one invocation takes {MAX_SPAN}"))
        },
        ..Variant::new("thread", &[("WG", 8.0)])
    },
    Variant::new("group", &[("WG", 256.0)]),
    Variant {
        suits: Suits::Cpu,
        refuses: refuses_slices,
        ..Variant::new("slices", &[("WG", 8.0), ("QUADS", 128.0)])
    },
];

fn refuses_slices(shape: &Shape) -> Option<String> {
    let l = shape["l"];
    if l < LEAST_CHANNEL {
        return Some(format!("channels of {l} elements, a slice has at least {LEAST_CHANNEL}"));
    }
    let slices = shape["c"] / shape["g"] * slices(l, 128);
    (slices > MAX_SLICES)
        .then(|| format!("{slices} slices a group, one invocation merges {MAX_SLICES}"))
}

/// Slices of a channel, each of so many vectors that a channel may begin and end inside.
fn slices(l: usize, quads: usize) -> usize {
    let most = if l.is_multiple_of(4) { l / 4 } else { (l + 6) / 4 };
    most.div_ceil(quads)
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("epsilon ten times as large", "+ params.eps", "+ 10.0 * params.eps"),
    Mutant::new("unbiased variance", "squares / f32(span())", "squares / (f32(span()) - 1.0)"),
    Mutant::new("channel of the first group", "channel_of(row) + i / params.l", "i / params.l"),
    Mutant::new(
        "gain of the group, not of the channel",
        "channel_of(row) + 4u * q / params.l",
        "channel_of(row)",
    ),
    Mutant::new(
        "last element dropped",
        "i < span(); i += step) { total",
        "i + 1u < span(); i += step) { total",
    ),
    Mutant::new(
        "last vector dropped",
        "q < quads; q += step) { sums",
        "q + 1u < quads; q += step) { sums",
    ),
    Mutant::new(
        "no shift by the first element",
        "let shift = f32(x[row * span()]);",
        "let shift = 0.0;",
    ),
    Mutant::new("slices weighted alike", "b.count / count", "0.5"),
    Mutant::new("distance of the means left out", "squares) + apart", "squares)"),
    Mutant::new(
        "neighbouring channels not masked",
        "f32>(), v, inside)",
        "f32>(), v, vec4<bool>(true))",
    ),
    Mutant::new(
        "gain of the next channel",
        "channel % params.channels;",
        "(channel + 1u) % params.channels;",
    ),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "n c l"), Operand::new("g", "c"), Operand::new("b", "c")];

fn refuses_ragged(shape: &Shape) -> Option<String> {
    let (c, g) = (shape["c"], shape["g"]);
    (!c.is_multiple_of(g)).then(|| format!("{c} channels are no multiple of {g} groups"))
}

impl Kernel for GroupNorm {
    fn spec(&self) -> Spec {
        Spec {
            summary: "normalise groups of channels of each sample, then scale and shift channels",
            difficulties: &[1],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Small,
                Distribution::Constant,
            ],
            operands: Operands::of(OPERANDS).refusing(refuses_ragged),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1, 1),
                of(2, 6, 5, 3),
                of(3, 4, 33, 2),
                of(1, 8, 64, 4),
                of(2, 32, 49, 32),
                of(2, 12, 1, 2),
                of(1, 64, 260, 8),
                of(1, 6, 1025, 1),
                of(0, 4, 4, 2),
            ],
            Preset::Models => vec![
                // 800 × 1,333 pixels at strides 8, 16, 32 and 64.
                of(1, 256, 16_700, 32).from("Grounding DINO level 1, 100 × 167"),
                of(1, 256, 4_200, 32).from("Grounding DINO level 2, 50 × 84"),
                of(1, 256, 1_050, 32).from("Grounding DINO level 3, 25 × 42"),
                of(1, 256, 273, 32).from("Grounding DINO level 4, 13 × 21"),
                // Two seconds at 16 kHz through a window of 10 and a stride of 5.
                of(1, 512, 6_399, 512).from("wav2vec 2.0 base, first layer"),
            ],
            Preset::Sweep => {
                [14, 17, 20, 23, 25].map(|log2| of(1, 256, (1 << log2) / 256, 32)).into()
            }
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, c, l, g) = (shape["n"], shape["c"], shape["l"], shape["g"]);
        let params = Params::new().size("groups", g).size("all_groups", n * g);
        Inputs::new(
            params.size("channels", c).size("l", l).real("eps", EPS),
            vec![
                generator.data("x", &[n, c, l]),
                generator.weight("g", &[c], 1.0),
                generator.weight("b", &[c], 1.0),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let aligned = shape["l"].is_multiple_of(4);
        if variant.name == "slices" {
            return launch_slices(shape, aligned, dtype, variant);
        }
        rows::launch_quads(shape["n"] * shape["g"], span(shape), aligned, dtype, variant)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (c, elements) = (shape["c"], shape["n"] * shape["c"] * shape["l"]);
        Work::new(9 * elements, dtype.bytes() * (2 * elements + 2 * c))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        group_norm(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        group_norm(problem, rows)
    }
}

fn launch_slices(shape: &Shape, aligned: bool, dtype: Dtype, variant: &Variant) -> Launch {
    let (channels, groups) = (shape["n"] * shape["c"], shape["n"] * shape["g"]);
    let parts = channels * slices(shape["l"], variant.constant("QUADS"));
    let run = |entry, invocations: usize| {
        Dispatch::new(entry, spill(invocations.div_ceil(variant.constant("WG"))))
    };
    let write = if aligned { "write_slices4" } else { "write_slices" };
    Launch {
        outputs: vec![Buffer::new("y", dtype.storage(), groups, span(shape))],
        scratch: vec![
            Buffer::new("parts", Elem::F32, parts, 2),
            Buffer::new("moments", Elem::F32, groups, 2),
        ],
        dispatches: vec![
            run("measure_slices", parts),
            run("merge_slices", groups),
            run(write, parts),
        ],
    }
}

/// Samples, channels, positions, groups of a sample.
fn of(n: usize, c: usize, l: usize, g: usize) -> Shape {
    Shape::new(&[("n", n), ("c", c), ("l", l), ("g", g)])
}

/// Elements of a group.
fn span(shape: &Shape) -> usize {
    shape["c"] / shape["g"] * shape["l"]
}

fn group_norm<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (shape, span) = (problem.shape, span(problem.shape));
    let (channels, l, groups) = (shape["c"], shape["l"], shape["g"]);
    let x = problem.inputs.float::<ndarray::Ix3>("x");
    let x = x.to_shape((shape["n"] * groups, span)).expect("row-major");
    let g = problem.inputs.float::<Ix1>("g");
    let b = problem.inputs.float::<Ix1>("b");
    let depth = rows::depth_of_quads(span, l.is_multiple_of(4), problem.variant);
    let exact = |value: f32| S::exact(f64::from(value));
    let (n, eps) = (S::exact(span as f64), S::exact(problem.inputs.params.get_real("eps")));
    vec![by_rows(rows, shape["n"] * groups, span, |row, mut y| {
        let shift = exact(x[[row, 0]]);
        let shifted: Vec<S> = x.row(row).iter().map(|&x| exact(x) - shift).collect();
        let (mean, variance) = if problem.variant.name == "slices" {
            let moment = of_slices(&shifted, l, row * span, problem.variant.constant("QUADS"));
            (moment.mean, moment.variance())
        } else {
            let mean = S::sum(shifted.iter().copied(), depth) / n;
            let centred = shifted.iter().map(|&x| x - mean);
            (mean, S::sum(centred.map(|c| c * c), depth) / n)
        };
        let rstd = (variance + eps).rsqrt();
        for i in 0..span {
            let c = row % groups * (channels / groups) + i / l;
            let out = (shifted[i] - mean) * rstd * exact(g[c]) + exact(b[c]);
            y[i] = out.store(problem.storage());
        }
    })]
}

/// The moments of a group whose first element is number `start`: those of the vectors that memory
/// has, merged over each slice of a channel, and slices after each other.
fn of_slices<S: Scalar>(shifted: &[S], l: usize, start: usize, quads: usize) -> Moment<S> {
    let none = Moment { count: 0, mean: S::zero(), squares: S::zero() };
    let of_channel = |(number, values): (usize, &[S])| {
        let until_vector = (start + number * l).next_multiple_of(4) - (start + number * l);
        let (head, rest) = values.split_at(until_vector.min(l));
        let vectors = [head].into_iter().filter(|head| !head.is_empty()).chain(rest.chunks(4));
        let moments: Vec<Moment<S>> = vectors.map(Moment::of).collect();
        let merged = |slice: &[Moment<S>]| slice.iter().copied().fold(none, Moment::merged);
        moments.chunks(quads).map(merged).collect::<Vec<_>>()
    };
    shifted.chunks(l).enumerate().flat_map(of_channel).fold(none, Moment::merged)
}
