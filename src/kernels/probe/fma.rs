//! Peak rate of multiply-add in f32 and, where the device has it, in f16.

use ndarray::{Array2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant, Work,
    spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &Fma;

struct Fma;

/// Independent chains of one invocation, enough to hide the latency of one.
const CHAINS: usize = 8;
const C: f32 = -0.5;

const VARIANTS: &[Variant] =
    &[Variant::new("chains", &[("WG", 64.0)]), Variant::new("unrolled", &[("WG", 64.0)])];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last trip dropped", "i < params.trips", "i + 1u < params.trips"),
    Mutant::new("a trip too many", "i < params.trips", "i <= params.trips"),
    Mutant::new("constant left out", "fma(low, low, c)", "low * low"),
    Mutant::new("constant a little too large", "T(params.c)", "T(1.002 * params.c)"),
    Mutant::new("sign of the constant", "T(params.c)", "T(-params.c)"),
    Mutant::new("two chains multiplied", "fma(high, high, c)", "fma(high, high.yxwz, c)"),
    Mutant::new("upper chains started as the lower", "x[2u * thread + 1u]", "x[2u * thread]"),
    Mutant::new("lower chains stored twice", "vec4<f32>(high)", "vec4<f32>(low)"),
    Mutant::new("a step of a turn left out", "step2(step2(x, c), c)", "step2(step(x, c), c)"),
    Mutant::new("trips after the last turn left out", "params.trips % 8u", "0u"),
    Mutant::new(
        "last thread left out",
        "thread >= params.threads",
        "thread + 1u >= params.threads",
    ),
];

impl Kernel for Fma {
    fn spec(&self) -> Spec {
        Spec {
            summary: "run chains of multiply-add: the arithmetic peak of the device",
            difficulties: &[4],
            dtypes: &[Dtype::F32, Dtype::F16Acc],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(n, t)| Shape::new(&[("n", n), ("t", t)]);
        match preset {
            Preset::Smoke => [(0, 4), (1, 0), (1, 1), (31, 3), (257, 33), (65, 257)].map(of).into(),
            // Twice the trips must take twice the time.
            Preset::Models => [(65_536, 1_024), (262_144, 4_096)].map(of).into(),
            Preset::Sweep => (6..=12).map(|log2| of((65_536, 1 << log2))).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, t) = (shape["n"], shape["t"]);
        let start = |index| 2.0 * rng::uniform(generator.seed, 0, index as u32) - 1.0;
        Inputs::new(
            Params::new().size("threads", n).size("trips", t).real("c", C),
            vec![generator.filled("x", &[n, CHAINS], start)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let output = Buffer::new("y", dtype.storage(), shape["n"], CHAINS);
        let groups = spill(shape["n"].div_ceil(variant.constant("WG")));
        let mut launch = Launch::single(output, groups);
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let elements = shape["n"] * CHAINS;
        let work = Work::new(2 * elements * shape["t"], 2 * elements * dtype.bytes());
        Work { arithmetic: dtype, ..work }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        chains(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        chains(problem, rows)
    }
}

fn chains<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, t) = (problem.shape["n"], problem.shape["t"]);
    let x = problem.inputs.float::<Ix2>("x");
    let c = S::exact(f64::from(C));
    // In f16 arithmetic both steps round to f16.
    let elem = problem.storage();
    vec![by_rows(rows, n, CHAINS, |row, mut y| {
        for chain in 0..CHAINS {
            let start = S::exact(f64::from(x[[row, chain]]));
            y[chain] = (0..t).fold(start, |x, _| ((x * x).store(elem) + c).store(elem));
        }
    })]
}
