//! Memory bandwidth of a copy.

use ndarray::Array2;

use super::memory;
use crate::accuracy::Tracked;
use crate::inputs::{Distribution, Generator, Inputs};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant,
    Work, spill,
};
use crate::reference::Rows;

pub const KERNEL: &dyn Kernel = &Copy;

struct Copy;

const VARIANTS: &[Variant] = &[
    Variant::new("word", &[("WG", 64.0)]),
    Variant { refuses: memory::refuses_ragged, ..Variant::new("vec4_each", &[("WG", 64.0)]) },
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
    Mutant::new("neighbouring words swapped", "y[index] = x[index]", "y[index] = x[index ^ 1u]"),
    Mutant::new("sign bit lost", "y[index] = x[index]", "y[index] = x[index] & 0x7fffffffu"),
    Mutant::new("last word left out", "index < params.words)", "index + 1u < params.words)"),
    Mutant::new(
        "last vector left out",
        "index < params.words / 4u",
        "index + 1u < params.words / 4u",
    ),
    Mutant::new("words of a vector in reverse", "= x4[index]", "= x4[index].wzyx"),
    Mutant::new("every other vector twice", "= x4[index]", "= x4[index & ~1u]"),
    Mutant::new("last trip dropped", "i < EACH", "i + 1u < EACH"),
    Mutant::new("workgroups overlap by a lane", "* WG + lane;", "* (WG - 1u) + lane;"),
    Mutant::new("lanes of a trip shifted by one", "first + i * WG", "first + i * (WG + 1u)"),
    Mutant::new(
        "spans end a vector early",
        "min(start + WG * EACH,",
        "min(start + WG * EACH - 1u,",
    ),
];

impl Kernel for Copy {
    fn spec(&self) -> Spec {
        Spec {
            summary: "copy words: the memory bandwidth other kernels are measured against",
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

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        memory::inputs(shape, generator)
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let words = shape["n"] / 4;
        let each = match variant.name {
            "word" => 1,
            "vec4_each" => 4,
            _ => 4 * variant.constant("EACH"),
        };
        let (rows, cols) = memory::layout(words);
        let workgroups = words.div_ceil(each * variant.constant("WG"));
        let output = Buffer::new("y", Elem::U32, rows, cols);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        Work::new(0, 2 * shape["n"])
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        let x = memory::x(problem.inputs);
        memory::exact_words(rows, x.len(), |index| x[index])
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        let x = memory::x(problem.inputs);
        memory::exact_words(rows, x.len(), |index| x[index])
    }
}
