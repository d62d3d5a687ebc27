//! LIME (arXiv 1602.04938): a local ridge regression on the presence of features.

use ndarray::{Array2, Ix1, Ix2};

use super::coalitions::{self, bit};
use super::solve::{Bounded, Solver};
use crate::accuracy::Tracked;
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Variant, Work,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &LimeSurrogate;

struct LimeSurrogate;

/// Penalty of the ridge in marcotcr/lime.
const ALPHA: f32 = 1.0;
/// Exponents beyond which the shader's weights are 0.
const FAR: f64 = 80.0;

const MUTANTS: &[Mutant] = &[
    Mutant::new("penalty left out", "select(0.0, params.alpha, i == j)", {
        "select(0.0, 0.01, i == j)"
    }),
    Mutant::new("intercept penalised", "return mean(sum, means[params.features]);", "return 0.0;"),
    Mutant::new("square root left out", "* params.falloff", "* (2.0 * params.falloff)"),
    Mutant::new(
        "last sample dropped",
        "row < params.n; row++) {\n        sum += weights[row] * (c",
        "row + 1u < params.n; row++) {\n        sum += weights[row] * (c",
    ),
    Mutant::new("features of the second word", "feature / 32u]", "0u]"),
    Mutant::new("features not centred", "bit(row, feature) - means[feature]", "bit(row, feature)"),
    Mutant::new("last step of the elimination left out", "k < j; k++) { rest", {
        "k + 1u < j; k++) { rest"
    }),
    Mutant::new("weight of the same invocation's row", "subgroupShuffle(own.weight, at_lane)", {
        "own.weight"
    }),
    Mutant::new("last rows left out", "row < n; row += 8u", "row + 8u < n; row += 8u"),
    Mutant::new(
        "upper word left out by subgroups",
        "feature >= 32u), at_lane)",
        "false), at_lane)",
    ),
    Mutant::new("one of eight left out of the factor", "min(block + 8u, j)", "min(block + 7u, j)"),
    Mutant::new("right columns like the left", "four_of(v, 4u)", "four_of(v, 0u)"),
    Mutant::new("far samples count", "0.0, exponent > FAR", "1e-3, exponent > FAR"),
];

const OPERANDS: &[Operand] = &[Operand::new("y", "n c")];

impl Kernel for LimeSurrogate {
    fn spec(&self) -> Spec {
        Spec {
            summary: "fit a local linear model of a prediction to the presence of features",
            difficulties: &[6],
            dtypes: &[Dtype::F32],
            variants: coalitions::VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Small,
                Distribution::Offset,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |n, m, c| Shape::new(&[("n", n), ("m", m), ("c", c)]);
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1),
                of(8, 2, 3),
                of(64, 6, 65),
                of(257, 20, 2),
                of(300, 50, 1),
                of(33, 5, 0),
                of(64, 7, 3).tag("tabular"),
                // Every weight 0; no samples.
                of(20, 4, 3).tag("far"),
                of(0, 3, 2).tag("far"),
            ],
            Preset::Models => vec![
                of(1000, 50, 1).from("marcotcr/lime, 1,000 images of 50 superpixels"),
                of(1000, 16, 1000).from("BLIP-2 ViT-g, 16 patches"),
                of(2048, 50, 16).from("MulT MOSEI, 50 text tokens").tag("tabular"),
            ],
            Preset::Sweep => [64, 128, 256, 512, 1024, 2048].map(|n| of(n, 16, 16)).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, m, c) = (shape["n"], shape["m"], shape["c"]);
        let sets = samples(shape, generator.seed);
        let params = Params::new().size("n", n).size("features", m).size("c", c);
        Inputs::new(
            params.real("falloff", falloff(shape)).real("alpha", ALPHA),
            vec![
                coalitions::tensor(&sets),
                Tensor::floats("dist", Elem::F32, &[n], distances(shape, &sets, generator.seed)),
                generator.data("y", &[n, c]),
            ],
        )
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (n, m, c) = (shape["n"], shape["m"], shape["c"]);
        let of = |name, rows, cols| Buffer::new(name, Elem::F32, rows, cols);
        let run = |entry, invocations: usize| {
            let groups = invocations.div_ceil(variant.constant("WG")) as u32;
            Dispatch::new(entry, [groups, 1, 1])
        };
        let outputs = vec![of("beta", c, m), of("intercept", c, 1)];
        let scratch = vec![of("weights", n, 1), of("means", m + 1, 1)];
        let centre = match variant.name {
            "broadcast" => run("centre_rows", m),
            _ => run("centre", m + 1),
        };
        let dispatches = vec![run("weigh", n), centre];
        coalitions::launch(variant, outputs, scratch, dispatches, m)
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        let (n, m, c) = (shape["n"], shape["m"], shape["c"]);
        let flops = 4 * n + 2 * n * m * m + m * m * m / 3 + c * (4 * n * m + 2 * m * m);
        Work::new(flops, 12 * n + 4 * c * (n + m + 1))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        lime_surrogate(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        lime_surrogate(problem, rows)
    }
}

/// The instance itself, then features switched off by coins.
fn samples(shape: &Shape, seed: u32) -> Vec<u64> {
    let (n, m) = (shape["n"], shape["m"]);
    let whole = (1 << m) - 1;
    (0..n).map(|row| if row == 0 { whole } else { coalitions::coins(seed, row, m) }).collect()
}

/// Of each sample from the instance: cosine distance as for images and text, Euclidean with the tag
/// `tabular`, far beyond any weight with `far`. Up to a twentieth more for what the features of a
/// sample were replaced by: otherwise there are only M + 1 weights, whose roundings repeat.
fn distances(shape: &Shape, sets: &[u64], seed: u32) -> Vec<f32> {
    let m = shape["m"] as f32;
    let of = |(row, set): (usize, &u64)| {
        let kept = set.count_ones() as f32;
        let distance = match shape.option() {
            Some("tabular") => (m - kept).sqrt(),
            Some("far") => 1000.0,
            _ => 1.0 - (kept / m).sqrt(),
        };
        distance * (1.0 + 0.05 * rng::uniform(seed, 0xd157, row as u32))
    };
    sets.iter().enumerate().map(of).collect()
}

/// 1/(2·width²) with the widths of marcotcr/lime: 0.25 for images, 0.75·√M for tables.
fn falloff(shape: &Shape) -> f32 {
    match shape.option() {
        Some("tabular") => 0.5 / (0.5625 * shape["m"] as f32),
        _ => 8.0,
    }
}

fn lime_surrogate<S: Bounded>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, m, c) = (problem.shape["n"], problem.shape["m"], problem.shape["c"]);
    let z = problem.inputs.words("z");
    let y = problem.inputs.float::<Ix2>("y");
    let exact = |value: f32| S::exact(f64::from(value));
    let falloff = exact(falloff(problem.shape));
    let weigh = |&d: &f32| {
        let exponent = exact(d) * exact(d) * falloff;
        if exponent.value() > FAR { S::zero() } else { (-exponent).exp() }
    };
    let weights: Vec<S> = problem.inputs.float::<Ix1>("dist").iter().map(weigh).collect();
    let total = S::sum(weights.iter().copied(), n);
    let mean = |sum: S| if total.value() > 0.0 { sum / total } else { S::zero() };
    let bit = |row, feature| S::exact(bit(&z, row, feature));
    let means: Vec<S> = (0..m)
        .map(|feature| mean(S::sum((0..n).map(|row| weights[row] * bit(row, feature)), n)))
        .collect();
    let centred = |row, feature: usize| bit(row, feature) - means[feature];
    let normal = |at: usize| {
        let (i, j) = (at / m, at % m);
        let of_row = |row| weights[row] * (centred(row, i) * centred(row, j));
        let sum = S::sum((0..n).map(of_row), n);
        if i == j { sum + exact(ALPHA) } else { sum }
    };
    // Every pivot is at least alpha.
    let solver = Solver::new((0..m * m).map(normal).collect(), m, 0.0);
    let fit = |column: usize| {
        let level = mean(S::sum((0..n).map(|row| weights[row] * exact(y[[row, column]])), n));
        let side = |feature| {
            let rest = |row: usize| exact(y[[row, column]]) - level;
            let of_row = |row| weights[row] * (centred(row, feature) * rest(row));
            S::sum((0..n).map(of_row), n)
        };
        let beta = solver.solve(&(0..m).map(side).collect::<Vec<S>>());
        let shares = beta.iter().zip(&means).map(|(&beta, &mean)| -(mean * beta));
        let terms: Vec<S> = std::iter::once(level).chain(shares).collect();
        (S::sum(terms.into_iter(), m + 1), beta)
    };
    vec![
        by_rows(rows, c, m, |column, mut out| {
            fit(column).1.into_iter().enumerate().for_each(|(i, beta)| out[i] = beta);
        }),
        by_rows(rows, c, 1, |column, mut out| out[0] = fit(column).0),
    ]
}
