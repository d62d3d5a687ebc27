//! Codes of four bits back to numbers, a scale for each group along k.

use ndarray::{Array2, Ix2};

use super::codes::{Span, half, originals, padded, quantise, scale_tensor};
use super::dequantize_int8::{rows_or_words, uncompressed};
use super::quantize_int4::{group, shapes};
use super::quantize_int8::draw;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Uncompressed, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &DequantizeInt4;

struct DequantizeInt4;

/// One invocation a word of eight codes.
const WORD: Variant = Variant::new("word", &[("WG", 64.0)]);
/// One workgroup a row, 32 codes an invocation and turn.
const STRIP: Variant = Variant {
    suits: Suits::Cpu,
    refuses: |shape| {
        let whole = |length: usize, what: &str| {
            (!length.is_multiple_of(32))
                .then(|| format!("{what} is {length}, not a multiple of 32"))
        };
        whole(shape["k"], "k").or_else(|| whole(group(shape), "a group"))
    },
    ..Variant::new("strip", &[("WG", 8.0)])
};
const VARIANTS: &[Variant] = &[WORD, half("word_f16", WORD), STRIP, half("strip_f16", STRIP)];

const MUTANTS: &[Mutant] = &[
    Mutant::new("scale of the first group", "+ 8u * word / params.group", ""),
    Mutant::new("codes without a sign", ">> vec4<u32>(28u)", ">> vec4<u32>(27u)"),
    Mutant::new(
        "halves of a word swapped",
        "nibbles(code >> 16u) * scale",
        "nibbles(code) * scale",
    ),
    Mutant::new("scale of the first of a row's groups", "+ 32u * i / GROUP", ""),
    Mutant::new("third word like the second", "codes.z", "codes.y"),
    Mutant::new("last codes of a row dropped", "i < end; i += WG", "i + 1u < end; i += WG"),
    Mutant::new(
        "last element dropped",
        "i < min(8u, params.k - 8u * word)",
        "i + 1u < min(8u, params.k - 8u * word)",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m k")];

impl Kernel for DequantizeInt4 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "turn codes of four bits back into numbers",
            difficulties: &[4],
            dtypes: &[Dtype::I4],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Outliers],
            operands: Operands::of(OPERANDS).without(&["zeros"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, k) = (shape["m"], shape["k"]);
        let drawn = originals(draw(shape, generator));
        let span = Span::of(shape);
        let coded = quantise(drawn.float::<Ix2>("x"), span, Elem::I4, generator.storage);
        Inputs {
            params: Params::new().size("rows", m).size("k", k).size("group", group(shape)),
            tensors: vec![
                Tensor::codes("q", Elem::I4, &[m, padded(k, Elem::I4)], coded.codes),
                scale_tensor("s", generator.storage, &coded.scales),
            ],
            originals: drawn.tensors,
        }
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, k) = (shape["m"], shape["k"]);
        let launch = rows_or_words((m, k), Elem::I4, dtype, variant);
        launch.with_constant("GROUP", group(shape) as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, k) = (shape["m"], shape["k"]);
        let (rows, cols) = Span::of(shape).dims(m, k);
        let float = variant.storage(dtype).bits() / 8;
        let codes = m * padded(k, Elem::I4) / 2;
        Work::new(m * k, float * (m * k + rows * cols) + codes)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        dequantize(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        dequantize(problem, rows)
    }

    fn uncompressed(&self, problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
        uncompressed(problem, rows, Span::of(problem.shape))
    }
}

fn dequantize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, k) = (problem.shape["m"], problem.shape["k"]);
    let length = group(problem.shape);
    let q = problem.inputs.codes::<Ix2>("q");
    let s = problem.inputs.float::<Ix2>("s");
    vec![by_rows(rows, m, k, |row, mut y| {
        for col in 0..k {
            let scale = S::exact(f64::from(s[[row, col / length]]));
            let code = S::exact(f64::from(q[[row, col]]));
            y[col] = (code * scale).store(problem.storage());
        }
    })]
}
