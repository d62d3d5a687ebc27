//! Bandwidth of reading workgroup memory, without and with bank conflicts.

use ndarray::Array2;

use super::memory;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Ceiling, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, spill,
};
use crate::reference::Rows;
use crate::rng;

pub const KERNEL: &dyn Kernel = &WorkgroupMemory;

struct WorkgroupMemory;

/// Words of the tile: what WebGPU guarantees a workgroup.
const TILE: usize = 4096;

const VARIANTS: &[Variant] = &[
    Variant { suits: Suits::Gpu, ..Variant::new("stride1", &[("WG", 64.0), ("STRIDE", 1.0)]) },
    Variant { suits: Suits::Gpu, ..Variant::new("stride32", &[("WG", 64.0), ("STRIDE", 32.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last trip dropped", "i < params.trips", "i + 1u < params.trips"),
    Mutant::new("half of the tile not loaded", "i < 4096u", "i < 2048u"),
    Mutant::new("inclusive or", "folded ^= tile", "folded |= tile"),
    Mutant::new("every lane at the same word", "(lane * STRIDE)", "(0u * STRIDE)"),
];

impl Kernel for WorkgroupMemory {
    fn spec(&self) -> Spec {
        Spec {
            summary: "fold words of workgroup memory: its bandwidth, with and without conflicts",
            difficulties: &[4],
            dtypes: &[Dtype::F32],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(n, t)| Shape::new(&[("n", n), ("t", t)]);
        match preset {
            Preset::Smoke => [(0, 4), (1, 0), (1, 1), (31, 3), (257, 33), (65, 500)].map(of).into(),
            Preset::Models => vec![of((65_536, 1_024))],
            Preset::Sweep => (6..=12).map(|log2| of((65_536, 1 << log2))).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let words = (0..TILE as u32).map(|i| rng::word(generator.seed, 2, i)).collect();
        let params = Params::new().size("invocations", shape["n"]).size("trips", shape["t"]);
        Inputs::new(params, vec![Tensor::words("x", &[TILE], words)])
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (rows, cols) = memory::layout(shape["n"]);
        let grid = spill(shape["n"].div_ceil(variant.constant("WG")));
        Launch::single(Buffer::new("y", Elem::U32, rows, cols), grid)
    }

    /// Bytes of workgroup memory, of which no ceiling of the device speaks.
    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        Work { ceiling: Ceiling::None, ..Work::new(0, 4 * shape["n"] * shape["t"]) }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        fold(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        fold(problem, rows)
    }
}

fn fold<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (variant, x) = (problem.variant, memory::x(problem.inputs));
    let (lanes, stride) = (variant.constant("WG"), variant.constant("STRIDE"));
    memory::exact_words(rows, problem.shape["n"], |invocation| {
        let start = invocation % lanes * stride % TILE;
        let step = |(at, folded): (usize, u32), _| {
            let folded = folded ^ x[at];
            ((at + 65 * stride + (folded & 2048) as usize) % TILE, folded)
        };
        (0..problem.shape["t"]).fold((start, 0), step).1
    })
}
