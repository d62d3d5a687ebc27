//! What one dispatch costs before it computes anything.

use ndarray::Array2;

use super::memory;
use crate::accuracy::Tracked;
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant,
    Work,
};
use crate::reference::Rows;

pub const KERNEL: &dyn Kernel = &LaunchOverhead;

struct LaunchOverhead;

/// Neither zero nor a poison pattern.
const WORD: u32 = 24_301;

const VARIANTS: &[Variant] = &[Variant::new("single", &[])];

const MUTANTS: &[Mutant] = &[
    Mutant::new("another word", "= params.word", "= 1u + params.word"),
    Mutant::new("upper half of the word left out", "= params.word", "= params.word & 0xffu"),
    Mutant::new("written beside", "y[0]", "y[1]"),
    Mutant::new("nothing written", "y[0] =", "if (params.word == 0u) { return; } var unused ="),
];

impl Kernel for LaunchOverhead {
    fn spec(&self) -> Spec {
        Spec {
            summary: "write one word: the cost of a dispatch that does next to nothing",
            difficulties: &[4],
            dtypes: &[Dtype::F32],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, _preset: Preset) -> Vec<Shape> {
        vec![Shape::new(&[("n", 1)])]
    }

    fn inputs(&self, _shape: &Shape, _generator: &Generator) -> Inputs {
        Inputs::new(Params::new().size("word", WORD as usize), Vec::new())
    }

    fn launch(&self, _shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Launch {
        Launch::single(Buffer::new("y", Elem::U32, 1, 1), [1, 1, 1])
    }

    fn work(&self, _shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        Work::new(0, 4)
    }

    fn reference(&self, _problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        memory::exact_words(rows, 1, |_| WORD)
    }

    fn tracked(&self, _problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        memory::exact_words(rows, 1, |_| WORD)
    }
}
