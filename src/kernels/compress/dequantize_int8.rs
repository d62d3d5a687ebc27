//! Codes of eight bits back to numbers, as in ONNX DequantizeLinear.

use ndarray::{Array2, Ix2};

use super::codes::{
    Span, entry, half, noise_ratio, originals, padded, power, quantise, scale_tensor, sqnr_db,
};
use super::quantize_int8;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Uncompressed, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &DequantizeInt8;

struct DequantizeInt8;

/// One invocation a word of four codes.
const WORD: Variant = Variant::new("word", &[("WG", 64.0)]);
/// One workgroup a row, sixteen codes an invocation and turn.
const STRIP: Variant = Variant {
    suits: Suits::Cpu,
    refuses: |shape| {
        let k = shape["k"];
        let ragged = (!k.is_multiple_of(16)).then(|| format!("k is {k}, not a multiple of 16"));
        let channels = Span::of(shape) == Span::Channel;
        ragged.or_else(|| channels.then(|| "every column has a scale of its own".to_owned()))
    },
    ..Variant::new("strip", &[("WG", 8.0)])
};
const VARIANTS: &[Variant] = &[WORD, half("word_f16", WORD), STRIP, half("strip_f16", STRIP)];

const MUTANTS: &[Mutant] = &[
    Mutant::new("zero point left out", "- z[row]", ""),
    Mutant::new("scale of the first group", "+ 4u * word / params.group", ""),
    Mutant::new("scale of the first of a row's groups", "+ 16u * i / GROUP", ""),
    Mutant::new("zero point of the first row", "z[row]", "z[0]"),
    Mutant::new("third word like the second", "(words.z)", "(words.y)"),
    Mutant::new("last codes of a row dropped", "i < end; i += WG", "i + 1u < end; i += WG"),
    Mutant::new("scale of the first channel", "4u * word + i, params.k", "i, params.k"),
    Mutant::new("codes without a sign", "unpack4xI8(code)", "vec4<i32>(unpack4xU8(code))"),
    Mutant::new(
        "last element dropped",
        "4u * word + i < params.k",
        "4u * word + i + 1u < params.k",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m k")];

impl Kernel for DequantizeInt8 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "turn codes of eight bits back into numbers",
            difficulties: &[4],
            dtypes: &[Dtype::I8],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Outliers,
                Distribution::Extreme,
            ],
            operands: Operands::of(OPERANDS).without(&["zeros", "fixed"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |m, k, tag| Shape::new(&[("m", m), ("k", k)]).tag(tag);
        // Rows of whole strips.
        let strips = [of(4, 48, "zero_point"), of(3, 64, "tensor")];
        let strips = strips.into_iter().filter(|_| preset == Preset::Smoke);
        let all = quantize_int8::shapes(preset).into_iter();
        all.filter(|shape| shape.option() != Some("fixed")).chain(strips).collect()
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, k) = (shape["m"], shape["k"]);
        let span = Span::of(shape);
        let group = if let Span::Group(length) = span { length } else { k };
        let drawn = originals(quantize_int8::draw(shape, generator));
        let x = drawn.float::<Ix2>("x");
        let (codes, scales, points) = if quantize_int8::is_affine(shape) {
            quantize_int8::affine_rows(x)
        } else {
            let coded = quantise(x, span, Elem::I8, Elem::F32);
            (coded.codes, coded.scales, Vec::new())
        };
        Inputs {
            params: Params::new().size("rows", m).size("k", k).size("group", group),
            tensors: vec![
                Tensor::codes("q", Elem::I8, &[m, padded(k, Elem::I8)], codes),
                scale_tensor("s", Elem::F32, &scales),
                Tensor::words("z", &[points.len()], points.iter().map(|&z| z as u32).collect()),
            ],
            originals: drawn.tensors,
        }
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, k) = (shape["m"], shape["k"]);
        let span = match Span::of(shape) {
            Span::Tensor => 0.0,
            Span::Row => 1.0,
            Span::Channel => 2.0,
            Span::Group(_) => 3.0,
        };
        let affine = f64::from(u8::from(quantize_int8::is_affine(shape)));
        let mut launch = rows_or_words((m, k), Elem::I8, dtype, variant);
        if let ("strip", Span::Group(length)) = (entry(variant), Span::of(shape)) {
            launch = launch.with_constant("GROUP", length as f64);
        }
        launch.with_constant("SPAN", span).with_constant("AFFINE", affine)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, k) = (shape["m"], shape["k"]);
        let (rows, cols) = Span::of(shape).dims(m, k);
        let each = if quantize_int8::is_affine(shape) { 8 } else { 4 };
        let float = variant.storage(dtype).bits() / 8;
        Work::new(2 * m * k, m * k * float + m * padded(k, Elem::I8) + each * rows * cols)
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

/// One output `y[m, k]` from packed codes: a workgroup a row in `strip`, otherwise an invocation a
/// word.
pub fn rows_or_words(
    (m, k): (usize, usize),
    codes: Elem,
    dtype: Dtype,
    variant: &Variant,
) -> Launch {
    let words = m * padded(k, codes) * codes.bits() / 32;
    let (entry, workgroups) = match (entry(variant), k.is_multiple_of(4)) {
        ("strip", _) => ("strip", m),
        (_, true) => ("vector", words.div_ceil(variant.constant("WG"))),
        (_, false) => ("ragged", words.div_ceil(variant.constant("WG"))),
    };
    let output = Buffer::new("y", variant.storage(dtype), m, k);
    let mut launch = Launch::single(output, spill(workgroups));
    launch.dispatches[0].entry = entry;
    launch
}

/// The original rows, and what their scales promise; also for int4.
pub fn uncompressed(problem: &Problem, rows: &Rows, span: Span) -> Option<Uncompressed> {
    let x = problem.inputs.float::<Ix2>("x");
    let scales = problem.inputs.float::<Ix2>("s");
    let output = by_rows(rows, x.nrows(), x.ncols(), |row, mut y| {
        y.iter_mut().zip(x.row(row)).for_each(|(y, &x)| *y = f64::from(x));
    });
    let noise = noise_ratio(power(x, scales, span, &rows.of(x.nrows())));
    let predicted_sqnr_db = sqnr_db(noise, output.len());
    Some(Uncompressed { output, restored: None, predicted_sqnr_db })
}

fn dequantize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, k) = (problem.shape["m"], problem.shape["k"]);
    let span = Span::of(problem.shape);
    let q = problem.inputs.codes::<Ix2>("q");
    let s = problem.inputs.float::<Ix2>("s");
    let z = problem.inputs.words("z");
    vec![by_rows(rows, m, k, |row, mut y| {
        let zero = if z.is_empty() { 0 } else { z[row] as i32 };
        for col in 0..k {
            let steps = S::exact(f64::from(i32::from(q[[row, col]]) - zero));
            let scale = S::exact(f64::from(s[span.place(row, col)]));
            y[col] = (steps * scale).store(problem.storage());
        }
    })]
}
