//! Batch normalisation with stored statistics (arXiv 1502.03167), as at inference.

use ndarray::{Array2, Ix1, Ix3};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &BatchNorm;

struct BatchNorm;

const EPS: f32 = 1e-5;

/// Four elements an invocation, or one workgroup a channel of a sample.
const VARIANTS: &[Variant] = &[
    Variant::new("flat", &[("WG", 64.0)]),
    Variant::new("plane", &[("WG", 64.0)]),
    // Eight invocations fill one vector unit of a CPU adapter, which loads the statistics once for
    // all of a plane then, not once for each eight of 64.
    Variant { suits: Suits::Cpu, ..Variant::new("plane8", &[("WG", 8.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("epsilon ten times as large", "+ params.eps", "+ 10.0 * params.eps"),
    Mutant::new("gain of the first channel", "f32(g[c])", "f32(g[0u * c])"),
    Mutant::new("variance of the neighbour", "variance[c]", "variance[(c + 1u) % params.channels]"),
    Mutant::new("mean added", "- level)", "+ level)"),
    Mutant::new("bias left out", " + bias", ""),
    Mutant::new(
        "channel of the flat index",
        "index / params.l % params.channels",
        "index % params.channels",
    ),
    Mutant::new("last vector of a plane dropped", "q < quads; q += WG", "q + 1u < quads; q += WG"),
    Mutant::new(
        "standard deviation as variance",
        "inverseSqrt(f32(variance[c]) +",
        "1.0 / (f32(variance[c]) +",
    ),
];

const OPERANDS: &[Operand] = &[
    Operand::new("x", "n c l"),
    Operand::new("mean", "c"),
    Operand::new("variance", "c").nonnegative(),
    Operand::new("g", "c"),
    Operand::new("b", "c"),
];

impl Kernel for BatchNorm {
    fn spec(&self) -> Spec {
        Spec {
            summary: "scale and shift channels by stored statistics, as at inference",
            difficulties: &[1],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1),
                of(3, 5, 1),
                of(2, 3, 7),
                of(2, 31, 33),
                of(3, 4, 64),
                of(1, 3, 1028),
                of(2, 65, 4),
                of(0, 3, 4),
                // More planes than one grid dimension holds.
                of(13_108, 5, 1),
            ],
            Preset::Models => vec![
                of(32, 64, 3_136).from("CLIP RN50 layer 1, 56²"),
                of(32, 256, 3_136).from("CLIP RN50 layer 1 output, 56²"),
                of(32, 512, 784).from("CLIP RN50 layer 2 output, 28²"),
                of(32, 2048, 49).from("CLIP RN50 layer 4 output, 7²"),
            ],
            Preset::Sweep => [1, 49, 3_136]
                .into_iter()
                .flat_map(|l| [14, 17, 20, 23, 25].map(|log2| ((1 << log2) / (256 * l), l)))
                .filter(|&(n, _)| n > 0)
                .map(|(n, l)| of(n, 256, l))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, c, l) = (shape["n"], shape["c"], shape["l"]);
        // Small data has a variance of the size of epsilon; one channel is dead.
        let small = generator.distribution == Distribution::Small;
        let size = if small { 2e-5 } else { 2.0 };
        let variance = |c: usize| match c % 7 {
            6 => 0.0,
            _ => size * rng::uniform(generator.seed, 0x00ba_7c4e, c as u32),
        };
        let params = Params::new().size("planes", n * c).size("channels", c);
        Inputs::new(
            params.size("l", l).real("eps", EPS),
            vec![
                generator.data("x", &[n, c, l]),
                generator.data("mean", &[c]),
                generator.filled("variance", &[c], variance),
                generator.weight("g", &[c], 1.0),
                generator.weight("b", &[c], 1.0),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (planes, l) = (shape["n"] * shape["c"], shape["l"]);
        let workgroups = match variant.name {
            "flat" => (planes * l).div_ceil(4 * variant.constant("WG")),
            _ => planes,
        };
        let output = Buffer::new("y", dtype.storage(), planes, l);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = match (variant.name, l.is_multiple_of(4)) {
            ("flat", true) => "flat4",
            ("flat", false) => "flat",
            (_, true) => "plane4",
            (_, false) => "plane",
        };
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (c, elements) = (shape["c"], shape["n"] * shape["c"] * shape["l"]);
        Work::new(4 * elements, dtype.bytes() * (2 * elements + 4 * c))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        batch_norm(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        batch_norm(problem, rows)
    }
}

/// Samples, channels, positions.
fn of(n: usize, c: usize, l: usize) -> Shape {
    Shape::new(&[("n", n), ("c", c), ("l", l)])
}

fn batch_norm<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (channels, l) = (problem.shape["c"], problem.shape["l"]);
    let x = problem.inputs.float::<Ix3>("x");
    let of = |name| problem.inputs.float::<Ix1>(name);
    let (mean, variance, g, b) = (of("mean"), of("variance"), of("g"), of("b"));
    let eps = S::exact(problem.inputs.params.get_real("eps"));
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, problem.shape["n"] * channels, l, |row, mut y| {
        let (sample, c) = (row / channels, row % channels);
        let gain = (exact(variance[c]) + eps).rsqrt() * exact(g[c]);
        for i in 0..l {
            let centred = exact(x[[sample, c, i]]) - exact(mean[c]);
            y[i] = (centred * gain + exact(b[c])).store(problem.storage());
        }
    })]
}
