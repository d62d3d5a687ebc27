//! Peak rate of matrix products that a subgroup computes together: tensor cores and their like.

use ndarray::{Array2, ArrayView2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Need, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &CooperativeMatrix;

struct CooperativeMatrix;

/// Blocks of a workgroup, which its subgroups share.
const BLOCKS: usize = 16;
/// Independent chains of a block, enough to hide the latency of one.
const CHAINS: usize = 4;
/// Entries are integers up to this, so that sums of up to 2^14 trips, and twice as many, are exact
/// in f32: 2^15 · 16 · 3² < 2^24.
const LARGEST: i32 = 3;

const VARIANTS: &[Variant] = &[
    Variant {
        needs: &[Need::Subgroup, Need::CooperativeMatrix(8)],
        suits: Suits::Gpu,
        ..Variant::new("side8", &[("WG", 128.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::CooperativeMatrix(16)],
        suits: Suits::Gpu,
        ..Variant::new("side16", &[("WG", 128.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last trip dropped", "i < params.trips", "i + 1u < params.trips"),
    Mutant::new("left matrix transposed", "coopLoadT<Left>", "coopLoad<Left>"),
    Mutant::new("right matrix transposed", "coopLoadT<Right>", "coopLoad<Right>"),
    Mutant::new("factors of another chain", "coopMultiplyAdd(a1, b0", "coopMultiplyAdd(a0, b1"),
    Mutant::new("total of another chain", "coopMultiplyAdd(a1, b1, c11)", {
        "coopMultiplyAdd(a1, b1, c10)"
    }),
    Mutant::new("rows one apart", "coopStoreT(c01, &y[at + AREA]", "coopStoreT(c01, &y[at + SIDE]"),
    Mutant::new("last block left out", "block < BLOCKS", "block + 1u < BLOCKS"),
    Mutant::new("every group the first", "(group * BLOCKS + block)", "(block)"),
];

impl Kernel for CooperativeMatrix {
    fn spec(&self) -> Spec {
        Spec {
            summary: "multiply matrices held by subgroups: the peak of tensor cores and their like",
            difficulties: &[4],
            // Sums stay f32: in f16 they would be exact for no number of trips worth timing.
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(n, t)| Shape::new(&[("n", n), ("t", t)]);
        match preset {
            Preset::Smoke => [(0, 4), (1, 0), (1, 1), (2, 3), (3, 33)].map(of).into(),
            // Twice the trips must take twice the time.
            Preset::Models => [(512, 1_024), (512, 2_048)].map(of).into(),
            Preset::Sweep => (6..=12).map(|log2| of((512, 1 << log2))).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, t) = (shape["n"], shape["t"]);
        // Both sides fill their tensors with the widest matrices; narrower ones use the first rows.
        let entry = |stream| {
            move |index: usize| {
                rng::integer(generator.seed, stream, index as u32, LARGEST as u32) as f32
            }
        };
        let side = MOST;
        let factor = |name, stream| generator.filled(name, &[2, side * side], entry(stream));
        let totals = generator.stored_as(Elem::F32);
        Inputs::new(
            Params::new().size("groups", n).size("trips", t),
            vec![
                factor("a", 11),
                factor("b", 12),
                totals.filled("c", &[n * BLOCKS * CHAINS * side, side], entry(13)),
            ],
        )
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (n, side) = (shape["n"], side(variant));
        let output = Buffer::new("y", Elem::F32, n * BLOCKS * CHAINS * side, side);
        Launch::single(output, spill(n))
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let side = side(variant);
        let totals = shape["n"] * BLOCKS * CHAINS * side * side;
        let factors = 4 * side * side * dtype.bytes();
        let work = Work::new(2 * side * totals * shape["t"], 8 * totals + factors);
        Work { arithmetic: dtype, ..work }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        products(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        products(problem, rows)
    }
}

/// The longest side of a variant's matrices: tensors do not depend on the variant.
const MOST: usize = 16;

fn side(variant: &Variant) -> usize {
    variant.matrix_side().expect("every variant names its matrices") as usize
}

/// A matrix and the one after it, `side` rows and columns each.
fn pair<'a>(inputs: &'a Inputs, name: &str, side: usize) -> [ArrayView2<'a, f32>; 2] {
    let values = inputs.float::<Ix2>(name).to_slice().expect("row-major");
    [0, 1].map(|i| {
        let values = &values[i * side * side..][..side * side];
        ArrayView2::from_shape((side, side), values).expect("a square")
    })
}

/// Every sum is an integer below 2^24, exact in any order.
fn products<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let side = side(problem.variant);
    let (a, b) = (pair(problem.inputs, "a", side), pair(problem.inputs, "b", side));
    let c = problem.inputs.float::<Ix2>("c").to_slice().expect("row-major");
    let total = problem.shape["n"] * BLOCKS * CHAINS * side;
    let trips = problem.shape["t"] as f64;
    vec![by_rows(rows, total, side, |row, mut y| {
        let (chain, i) = (row / side % CHAINS, row % side);
        for j in 0..side {
            let terms = (0..side).map(|k| f64::from(a[chain / 2][[i, k]] * b[chain % 2][[k, j]]));
            y[j] = S::exact(f64::from(c[row * side + j]) + trips * terms.sum::<f64>());
        }
    })]
}
