//! Memory bandwidth of reading alone.

use ndarray::Array2;

use super::memory;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant,
    Work, spill,
};
use crate::reference::Rows;

pub const KERNEL: &dyn Kernel = &Read;

struct Read;

const VARIANTS: &[Variant] = &[
    Variant::new("word", &[("WG", 64.0), ("EACH", 16.0)]),
    Variant {
        refuses: memory::refuses_ragged,
        ..Variant::new("vec4_each", &[("WG", 64.0), ("EACH", 16.0)])
    },
    Variant {
        refuses: memory::refuses_ragged,
        ..Variant::new("vec4_span", &[("WG", 8.0), ("EACH", 256.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("inclusive or", "folded ^= x", "folded |= x"),
    Mutant::new("sum", "folded ^= x", "folded += x"),
    Mutant::new("last word left out", "(index < params.words)", "(index + 1u < params.words)"),
    Mutant::new(
        "last vector left out",
        "(index < params.words / 4u)",
        "(index + 1u < params.words / 4u)",
    ),
    Mutant::new("last trip dropped", "i < EACH", "i + 1u < EACH"),
    Mutant::new("a word of the vector left out", " ^ folded.w", ""),
    Mutant::new("first word folded in everywhere", "var folded = 0u;", "var folded = x[0];"),
    Mutant::new(
        "neighbouring lanes swapped",
        "* WG + lane;\n        if",
        "* WG + (lane ^ 1u);\n        if",
    ),
    Mutant::new("spans overlap by a trip", "(group * EACH + i)", "(group * (EACH - 1u) + i)"),
    Mutant::new(
        "spans end a vector early",
        "min(start + WG * EACH,",
        "min(start + WG * EACH - 1u,",
    ),
];

impl Kernel for Read {
    fn spec(&self) -> Spec {
        Spec {
            summary: "fold words by exclusive or: bandwidth of reading with hardly any writing",
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
        let workgroups = workgroups(shape, variant);
        let (rows, cols) = memory::layout(workgroups * variant.constant("WG"));
        let output = Buffer::new("y", Elem::U32, rows, cols);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Work {
        let folded = workgroups(shape, variant) * variant.constant("WG");
        Work::new(0, shape["n"] + 4 * folded)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        read(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        read(problem, rows)
    }
}

/// Words in one load.
fn width(variant: &Variant) -> usize {
    if variant.name == "word" { 1 } else { 4 }
}

fn workgroups(shape: &Shape, variant: &Variant) -> usize {
    let span = width(variant) * variant.constant("WG") * variant.constant("EACH");
    (shape["n"] / 4).div_ceil(span)
}

fn read<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (variant, x) = (problem.variant, memory::x(problem.inputs));
    let (lanes, each) = (variant.constant("WG"), variant.constant("EACH"));
    let width = width(variant);
    let invocations = workgroups(problem.shape, variant) * lanes;
    memory::exact_words(rows, invocations, |invocation| {
        let (group, lane) = (invocation / lanes, invocation % lanes);
        let loads = (0..each).map(|i| ((group * each + i) * lanes + lane) * width);
        let words = loads.flat_map(|first| first..first + width);
        words.filter(|&index| index < x.len()).fold(0, |folded, index| folded ^ x[index])
    })
}
