//! Group normalisation of feature maps (arXiv 1803.08494).

use ndarray::{Array2, Ix1};

use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &GroupNorm;

struct GroupNorm;

const EPS: f32 = 1e-5;

/// What one invocation adds up alone: longer sums of f16 elements lose what repeats itself.
const MAX_SPAN: usize = 2048;

/// One invocation a small group, or one workgroup: most groups are few and long, so that its
/// barriers count for little even on a CPU adapter.
const VARIANTS: &[Variant] = &[
    Variant {
        refuses: |shape| {
            let span = span(shape);
            (span > MAX_SPAN)
                .then(|| format!("{span} elements a group, one invocation takes {MAX_SPAN}"))
        },
        ..Variant::new("thread", &[("WG", 8.0)])
    },
    Variant::new("group", &[("WG", 256.0)]),
];

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
        let mean = S::sum(shifted.iter().copied(), depth) / n;
        let centred: Vec<S> = shifted.iter().map(|&x| x - mean).collect();
        let variance = S::sum(centred.iter().map(|&c| c * c), depth) / n;
        let rstd = (variance + eps).rsqrt();
        for i in 0..span {
            let c = row % groups * (channels / groups) + i / l;
            let out = centred[i] * rstd * exact(g[c]) + exact(b[c]);
            y[i] = out.store(problem.storage());
        }
    })]
}
