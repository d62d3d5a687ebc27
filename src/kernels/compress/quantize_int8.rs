//! Codes of eight bits: symmetric (s = absmax/127) for a tensor, row, channel or group, or affine
//! with a zero point, as in ONNX QuantizeLinear and DynamicQuantizeLinear.

use ndarray::{Array2, ArrayView2, Ix2};

use super::codes::{Codes, LEAST, Span, entry, half, originals, padded, restored};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Uncompressed, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &QuantizeInt8;

struct QuantizeInt8;

/// One invocation a span.
const THREAD: Variant = Variant::new("thread", &[("WG", 8.0), ("PARTS", 64.0)]);
/// One workgroup a row, or sixty-four words of groups.
const GROUP: Variant =
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0), ("PARTS", 4096.0)]) };
const VARIANTS: &[Variant] = &[THREAD, half("thread_f16", THREAD), GROUP, half("group_f16", GROUP)];

const MUTANTS: &[Mutant] = &[
    Mutant::new("steps of 128", "/ 127.0", "/ 128.0"),
    Mutant::new("halves rounded away", "round(t)", "trunc(t + 0.5 * sign(t))"),
    Mutant::new("division by a zero scale", "if (a < LEAST)", "if (a < -1.0)"),
    Mutant::new("zero point left out", "round(t) + zero", "round(t)"),
    Mutant::new("no saturation", "vec4<f32>(127.0)", "vec4<f32>(200.0)"),
    Mutant::new(
        "last word not looked at",
        "word < end; word++) { range",
        "word + 1u < end; word++) { range",
    ),
    Mutant::new("four words from three vectors", "packed(i + 3u, scale)", "packed(i + 2u, scale)"),
    Mutant::new("fourth vector not looked at", "widen(range, vec4<f32>(x4[i + 3u]))", "range"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    Mutant::new("negative values ignored", "max(max(-v.x, -v.y), max(-v.z, -v.w))", "0.0"),
    Mutant::new("padding not zero", "select(vec4<i32>(), codes, inside)", "codes"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m k")];

impl Kernel for QuantizeInt8 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "round numbers to codes of eight bits with a scale for each span of them",
            difficulties: &[4],
            dtypes: &[Dtype::I8],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Outliers,
                Distribution::Ties,
                Distribution::Subnormal,
            ],
            operands: Operands::of(OPERANDS).without(&["zeros", "fixed"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, k) = (shape["m"], shape["k"]);
        let group = if let Span::Group(length) = Span::of(shape) { length } else { k };
        let (scale, zero) = calibration(shape, generator.distribution);
        let params = Params::new().size("rows", m).size("k", k).size("group", group);
        let params = params.real("scale", scale).real("inverse", scale.recip());
        Inputs::new(params.real("zero", zero), draw(shape, generator))
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        launch(shape, variant)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, k) = (shape["m"], shape["k"]);
        let (rows, cols) = Span::of(shape).dims(m, k);
        let each = if is_affine(shape) { 8 } else { 4 };
        let float = variant.storage(dtype).bits() / 8;
        Work::new(2 * m * k, m * k * float + m * padded(k, Elem::I8) + each * rows * cols)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        quantize(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        quantize(problem, rows)
    }

    fn uncompressed(&self, problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
        let [s, z, q] = problem.device else { return None };
        let shape = problem.shape;
        let points = is_affine(shape).then_some(z);
        restored(problem, rows, Span::of(shape), &Codes { codes: q, scales: s, points })
    }
}

fn of(m: usize, k: usize) -> Shape {
    Shape::new(&[("m", m), ("k", k)])
}

/// Rows × width; the tags name the span of a scale, zero blocks, a computed zero point, and a
/// scale and zero point that were fixed beforehand.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    match preset {
        Preset::Smoke => vec![
            of(7, 130).tag("tensor"),
            of(3, 6),
            of(5, 1408),
            of(0, 8),
            of(9, 131).tag("channel"),
            of(3, 270).tag("group32"),
            of(3, 208).tag("group64"),
            of(2, 1408).tag("group128"),
            of(4, 128).tag("zeros"),
            of(5, 33).tag("zero_point"),
            of(3, 131).tag("fixed"),
        ],
        Preset::Models => vec![
            of(577, 1024).from("CLIP ViT-L/14-336"),
            of(257, 1408).tag("tensor").from("BLIP-2 ViT-g"),
            of(1024, 1280).tag("group64").from("ImageBind-huge heads, batch 1024"),
            of(576, 4096).tag("zero_point").from("LLaVA-1.5-7B"),
            of(4096, 1024).tag("channel").from("LLaVA-1.5-7B projector weights"),
            of(4096, 4096).tag("group128").from("LLaVA-1.5-7B projector weights"),
            of(12_000, 74).tag("fixed").from("MulT MOSEI audio"),
        ],
        Preset::Sweep => [256, 512, 1024, 2048, 4096].map(|n| of(n, n)).into(),
    }
}

/// The tensor `x`, with blocks of zeros under the tag `zeros`.
pub fn draw(shape: &Shape, generator: &Generator) -> Vec<Tensor> {
    let (m, k) = (shape["m"], shape["k"]);
    let x = generator.data("x", &[m, k]);
    if shape.option() != Some("zeros") {
        return vec![x];
    }
    let drawn = originals(vec![x]);
    let x = drawn.float::<Ix2>("x");
    let value = |i: usize| if is_zero_block(i / k, i % k) { 0.0 } else { x[[i / k, i % k]] };
    vec![generator.filled("x", &[m, k], value)]
}

/// Codes, scales and zero points of rows whose range is spread over all 256 codes.
pub fn affine_rows(x: ArrayView2<f32>) -> (Vec<i8>, Array2<f32>, Vec<i32>) {
    let (m, k) = x.dim();
    let width = padded(k, Elem::I8);
    let (mut codes, mut points) = (vec![0_i8; m * width], Vec::new());
    let mut scales = Array2::from_elem((m, 1), 1.0);
    for (row, values) in x.rows().into_iter().enumerate() {
        let low = values.iter().fold(0.0_f32, |low, &x| low.max(-x));
        let range = low + values.iter().fold(0.0_f32, |high, &x| high.max(x));
        let scale = if range < LEAST { 1.0 } else { range / 255.0 };
        let zero = if range < LEAST { 0.0 } else { (low / scale).round_ties_even() - 128.0 };
        scales[[row, 0]] = scale;
        points.push(zero.clamp(-128.0, 127.0) as i32);
        for (col, &value) in values.iter().enumerate() {
            let code = (value / scale).round_ties_even() + zero;
            codes[row * width + col] = code.clamp(-128.0, 127.0) as i8;
        }
    }
    (codes, scales, points)
}

/// Every third row, and the second group of the others.
fn is_zero_block(row: usize, col: usize) -> bool {
    row.is_multiple_of(3) || col / 32 == 1
}

/// Whether there are zero points.
pub fn is_affine(shape: &Shape) -> bool {
    matches!(shape.option(), Some("zero_point" | "fixed"))
}

/// The scale and zero point of `fixed`: powers of two, so that halves stay halves; some values
/// saturate.
fn calibration(shape: &Shape, distribution: Distribution) -> (f32, f32) {
    match (shape.option(), distribution) {
        (Some("fixed"), Distribution::Ties) => (1.0, -3.0),
        (Some("fixed"), _) => (1.0 / 64.0, -3.0),
        _ => (1.0, 0.0),
    }
}

fn launch(shape: &Shape, variant: &Variant) -> Launch {
    let (m, k) = (shape["m"], shape["k"]);
    let (lanes, parts) = (variant.constant("WG"), variant.constant("PARTS"));
    let span = Span::of(shape);
    let (rows, cols) = span.dims(m, k);
    let words = k.div_ceil(4);
    let mode = match shape.option() {
        Some("zero_point") => 1.0,
        Some("fixed") => 2.0,
        _ => 0.0,
    };
    let aligned = f64::from(u8::from(k.is_multiple_of(4)));
    let by_group = entry(variant) == "group";
    let run = |entry, grid, lanes: usize| Dispatch {
        constants: vec![("MODE", mode), ("LANES", lanes as f64), ("ALIGNED", aligned)],
        ..Dispatch::new(entry, grid)
    };
    let each_word = || spill((m * words).div_ceil(lanes));
    let dispatches = match (span, shape.option()) {
        (Span::Tensor, Some("fixed")) => vec![run("tensor_codes", each_word(), 1)],
        (Span::Tensor, _) => vec![
            run("tensor_range", spill(parts.div_ceil(lanes)), 1),
            run("tensor_scale", [1, 1, 1], lanes),
            run("tensor_codes", each_word(), 1),
        ],
        (Span::Channel, _) => vec![run("channel", spill(words.div_ceil(lanes)), 1)],
        (Span::Row, _) if by_group => vec![run("group", spill(m), lanes)],
        (Span::Group(length), _) if by_group => {
            let tiles = m * words.div_ceil(lanes);
            vec![run("group", spill(tiles), length / 4)]
        }
        (Span::Row | Span::Group(_), _) => {
            let entry = if k.is_multiple_of(16) { "thread16" } else { "thread" };
            vec![run(entry, spill((rows * cols).div_ceil(lanes)), 1)]
        }
    };
    let points = if is_affine(shape) { rows } else { 0 };
    Launch {
        outputs: vec![
            Buffer::new("s", Elem::F32, rows, cols),
            Buffer::new("z", Elem::I32, points, cols),
            Buffer::new("q", Elem::I8, m, 4 * words),
        ],
        scratch: vec![Buffer::new("ranges", Elem::F32, parts, 2)],
        dispatches,
    }
}

/// Scale and zero point of a span that reaches from −low to high.
fn scale_of<S: Scalar>(shape: &Shape, (low, high): (f32, f32)) -> (S, S) {
    let exact = |value: f32| S::exact(f64::from(value));
    if shape.option() != Some("zero_point") {
        let peak = low.max(high);
        let scale = if peak < LEAST { S::one() } else { exact(peak) / exact(127.0) };
        return (scale, S::zero());
    }
    let width = exact(low) + exact(high);
    if width.value() < f64::from(LEAST) {
        return (S::one(), S::zero());
    }
    let scale = width / exact(255.0);
    (scale, point_of(low, scale))
}

/// Adds a whole number to one: exact, so that a code which devices may round either way stays free
/// of rounding noise.
fn shifted<S: Scalar>(code: S, by: f64) -> S {
    code.approximating(code.value() + by, 0.0)
}

fn point_of<S: Scalar>(low: f32, scale: S) -> S {
    let zero = shifted((S::exact(f64::from(low)) / scale).round(), -128.0);
    zero.max(S::exact(-128.0)).min(S::exact(127.0))
}

fn quantize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (m, k) = (shape["m"], shape["k"]);
    let span = Span::of(shape);
    let (scale_rows, cols) = span.dims(m, k);
    let x = problem.inputs.float::<Ix2>("x");
    let mut ranges = Array2::from_elem((scale_rows, cols), (0.0_f32, 0.0_f32));
    for ((row, col), &value) in x.indexed_iter() {
        let (low, high) = &mut ranges[span.place(row, col)];
        (*low, *high) = (low.max(-value), high.max(value));
    }
    let fixed = shape.option() == Some("fixed");
    // Later outputs follow from the device's own scales and zero points, which are verified first.
    let given = |output: usize| problem.device.get(output).map(|answer| answer.values());
    let (scales, points) = (given(0), given(1));
    let scale = problem.inputs.params.get_real("scale");
    let inverse = problem.inputs.params.get_real("inverse");
    let zero = problem.inputs.params.get_real("zero");
    let known = |values: &Option<Vec<f64>>, row: usize, col: usize| {
        values.as_ref().map(|values| S::exact(values[row * cols + col]))
    };
    let scale_at = |row: usize, col: usize| match fixed {
        true => S::exact(scale),
        false => {
            known(&scales, row, col).unwrap_or_else(|| scale_of::<S>(shape, ranges[[row, col]]).0)
        }
    };
    let s = by_rows(rows, scale_rows, cols, |row, mut s| {
        for col in 0..cols {
            let computed = scale_of::<S>(shape, ranges[[row, col]]).0;
            s[col] = if fixed { S::exact(scale) } else { computed };
        }
    });
    let affine = is_affine(shape);
    let point = |row: usize, col: usize| {
        let (low, high) = ranges[[row, col]];
        let degenerate = f64::from(low) + f64::from(high) < f64::from(LEAST);
        match (fixed, degenerate) {
            (true, _) => S::exact(zero),
            (false, true) => S::zero(),
            (false, false) => point_of(low, scale_at(row, col)),
        }
    };
    let z = by_rows(rows, if affine { scale_rows } else { 0 }, cols, |row, mut z| {
        (0..cols).for_each(|col| z[col] = point(row, col));
    });
    let q = by_rows(rows, m, padded(k, Elem::I8), |row, mut q| {
        for col in 0..k {
            let at = span.place(row, col);
            let value = S::exact(f64::from(x[[row, col]]));
            let steps =
                if fixed { value * S::exact(inverse) } else { value / scale_at(at.0, at.1) };
            let code = match affine {
                true => {
                    let zero = known(&points, at.0, at.1).unwrap_or_else(|| point(at.0, at.1));
                    shifted(steps.round(), zero.value())
                }
                false => steps.round(),
            };
            q[col] = code.max(S::exact(-128.0)).min(S::exact(127.0));
        }
    });
    vec![s, z, q]
}
