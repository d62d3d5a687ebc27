//! Peak rate of the packed 8-bit dot product (WGSL `dot4I8Packed`).

use ndarray::{Array2, ArrayView2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant,
    Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &Dot4;

struct Dot4;

/// Independent chains of one invocation, enough to hide the latency of one.
const CHAINS: usize = 8;
/// Four products and four additions.
const OPERATIONS: usize = 8;

const VARIANTS: &[Variant] =
    &[Variant::new("chains", &[("WG", 64.0)]), Variant::new("unrolled", &[("WG", 64.0)])];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last trip dropped", "i < params.trips", "i + 1u < params.trips"),
    Mutant::new("unsigned product", "dot4I8Packed(a.z", "dot4U8Packed(a.z"),
    Mutant::new("chains crossed", "u32(dot4I8Packed(a.w, x.w))", "u32(dot4I8Packed(a.w, x.x))"),
    Mutant::new("sum replaced", "high += dots", "high = dots"),
    Mutant::new("a step of a turn left out", "step2(step2(a, x), x)", "step2(step(a, x), x)"),
    Mutant::new("trips after the last turn left out", "params.trips % 4u", "0u"),
];

impl Kernel for Dot4 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "run chains of packed 8-bit dot products: the integer peak of the device",
            difficulties: &[4],
            dtypes: &[Dtype::I8],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(n, t)| Shape::new(&[("n", n), ("t", t)]);
        match preset {
            Preset::Smoke => [(0, 4), (1, 0), (1, 1), (31, 3), (257, 33)].map(of).into(),
            // Twice the trips must take twice the time.
            Preset::Models => [(65_536, 1_024), (262_144, 4_096)].map(of).into(),
            Preset::Sweep => (6..=12).map(|log2| of((65_536, 1 << log2))).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, t) = (shape["n"], shape["t"]);
        let words = (0..(n * CHAINS) as u32).map(|i| rng::word(generator.seed, 1, i)).collect();
        let params = Params::new().size("threads", n).size("trips", t);
        Inputs::new(params, vec![Tensor::words("x", &[n, CHAINS], words)])
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let output = Buffer::new("y", Elem::U32, shape["n"], CHAINS);
        let groups = spill(shape["n"].div_ceil(variant.constant("WG")));
        let mut launch = Launch::single(output, groups);
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        let elements = shape["n"] * CHAINS;
        let work = Work::new(OPERATIONS * elements * shape["t"], 8 * elements);
        Work { arithmetic: Dtype::I8, ..work }
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
    let words = problem.inputs.words("x");
    let x: ArrayView2<u32> = words.into_dimensionality::<Ix2>().expect("eight words a thread");
    vec![by_rows(rows, n, CHAINS, |row, mut y| {
        for chain in 0..CHAINS {
            let factor = x[[row, chain]];
            let sum = (0..t).fold(factor, |a, _| a.wrapping_add(dot4(a, factor) as u32));
            y[chain] = S::exact(f64::from(sum));
        }
    })]
}

/// The dot product of four signed bytes.
fn dot4(a: u32, b: u32) -> i32 {
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum()
}
