//! Memory bandwidth of writing alone.

use ndarray::Array2;

use super::memory;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant,
    Work, spill,
};
use crate::reference::Rows;

pub const KERNEL: &dyn Kernel = &Write;

struct Write;

/// Makes word 0 differ from zero.
const PATTERN: u32 = 0x5bd1_e995;

const VARIANTS: &[Variant] = &[
    Variant::new("word", &[("WG", 64.0)]),
    Variant {
        refuses: memory::refuses_ragged,
        ..Variant::new("vec4_stride", &[("WG", 64.0), ("EACH", 16.0)])
    },
    Variant {
        refuses: memory::refuses_ragged,
        ..Variant::new("vec4_span", &[("WG", 8.0), ("EACH", 256.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last word left out", "(index < params.words)", "(index + 1u < params.words)"),
    Mutant::new("vectors one word off", "let first = 4u * index;", "let first = 4u * index + 1u;"),
    Mutant::new("pattern left out", "^ params.pattern", "^ 0u"),
    Mutant::new("every other vector written twice", "first + i * WG", "first + (i & ~1u) * WG"),
    Mutant::new(
        "spans end a vector early",
        "min(start + WG * EACH,",
        "min(start + WG * EACH - 1u,",
    ),
];

impl Kernel for Write {
    fn spec(&self) -> Spec {
        Spec {
            summary: "write words: bandwidth of writing without reading",
            difficulties: &[4],
            dtypes: &[Dtype::F32],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        memory::shapes(preset)
    }

    fn inputs(&self, shape: &Shape, _generator: &Generator) -> Inputs {
        let params = Params::new().size("words", shape["n"] / 4).size("pattern", PATTERN as usize);
        Inputs::new(params, Vec::new())
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let words = shape["n"] / 4;
        let each = if variant.name == "word" { 1 } else { 4 * variant.constant("EACH") };
        let (rows, cols) = memory::layout(words);
        let workgroups = words.div_ceil(each * variant.constant("WG"));
        let mut launch = Launch::single(Buffer::new("y", Elem::U32, rows, cols), spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        Work::new(0, shape["n"])
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        write(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        write(problem, rows)
    }
}

fn write<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let words = problem.shape["n"] / 4;
    memory::exact_words(rows, words, |i| (i as u32).wrapping_mul(2_654_435_761) ^ PATTERN)
}
