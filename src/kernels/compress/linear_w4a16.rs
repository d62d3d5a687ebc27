//! Linear layer on int4 weights with a scale for each group along k, activations kept in floating
//! point: GPTQ (arXiv 2210.17323), AWQ (arXiv 2306.00978).
//!
//! `q` is laid out once for this kernel ([`Elem::I4Split`]): of a word, one mask leaves codes 0 to
//! 3 a byte each, offset by 8, and one shift and the same mask codes 4 to 7.

use ndarray::{Array2, Ix1, Ix2};

use super::codes::{Columns, Span, entry, half, originals, padded, quantise, scale_tensor};
use super::products::{self, large, of, weight_scale};
use super::quantize_int4::group;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Uncompressed, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LinearW4A16;

struct LinearW4A16;

/// No barrier. Eight invocations fill one vector unit of a CPU adapter.
const REGISTER: Variant = Variant::new("register", &[("WG", 8.0)]);
const TILED: Variant = Variant { suits: Suits::Gpu, ..Variant::new("tiled", &[]) };
/// Rows that the lanes of a workgroup of `matvec` keep sums for.
const MAX_FEW_ROWS: usize = 8;
/// Each workgroup four columns, its lanes neighbouring words of them.
const MATVEC: Variant = Variant {
    suits: Suits::Gpu,
    refuses: |shape| {
        let m = shape["m"];
        (m > MAX_FEW_ROWS).then(|| format!("{m} rows, made for {MAX_FEW_ROWS}"))
    },
    ..Variant::new("matvec", &[("WG", 64.0)])
};
/// Rows loaded once a subgroup.
const BROADCAST: Variant =
    Variant { needs: &[Need::Subgroup, Need::SubgroupOf8], ..Variant::new("broadcast", &[]) };
const VARIANTS: &[Variant] = &[
    REGISTER,
    half("register_f16", REGISTER),
    TILED,
    half("tiled_f16", TILED),
    MATVEC,
    half("matvec_f16", MATVEC),
    BROADCAST,
    half("broadcast_f16", BROADCAST),
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("a row of another invocation", "Broadcast(row, 5u)", "Broadcast(row, 4u)"),
    Mutant::new("a part not cleared after its group", "*part = array<vec4<f32>, 8>();", ""),
    Mutant::new("offset of the codes left in", " - 8.0;", ";"),
    Mutant::new("codes of the upper half not masked", "word & 0x0f0f0f0fu", "word"),
    Mutant::new("last group dropped", "group * each < words", "group * each + each < words"),
    Mutant::new("scale of the group before", "/ params.group);", "/ (params.group + 8u));"),
    Mutant::new("activation left out", "GELU == 0u", "true"),
    Mutant::new("scale left out", "part[0] * scales", "part[0]"),
    Mutant::new("halves of a word alike", "codes >> vec4<u32>(4u)", "codes"),
    Mutant::new("halves of a word swapped in a tile", "quad % 2u)", "(quad + 1u) % 2u)"),
    Mutant::new("row starts rounded to vectors", "switch at % 4u", "switch 0u * at"),
    Mutant::new("last vector dropped", "first < quads; first", "first + 4u < quads; first"),
    Mutant::new("tiles not taken in turn", "at = 256u - at", "at = 0u * at"),
    Mutant::new("vectors beyond a row counted", ", quad <= last);", ", true);"),
    Mutant::new("a level of the tree left out", "half > 0u; half /=", "half > 1u; half /="),
    Mutant::new("last of few rows left out", "row >= ROWS", "row + 1u >= ROWS"),
    Mutant::new(
        "scale of a word's neighbour",
        "8u * i / params.group",
        "8u * (i + 1u) / params.group",
    ),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "m k"), Operand::new("w", "n k"), Operand::new("b", "n")];

impl Kernel for LinearW4A16 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project floating-point rows by int4 weights with a scale for each group",
            difficulties: &[4],
            dtypes: &[Dtype::I4],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Outliers,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        if preset != Preset::Smoke {
            return large(preset).into_iter().map(|shape| shape.tag("group128")).collect();
        }
        let groups = [
            ((1, 30, 35), "group32"),
            ((17, 31, 33), "group32"),
            ((33, 40, 130), "group64"),
            ((34, 66, 256), "group128"),
            ((8, 8, 0), "group32"),
            ((0, 8, 8), "group32"),
            ((5, 7, 1408), "group128"),
            ((9, 33, 66), "group32_gelu"),
        ];
        groups.map(|(sizes, group)| of(sizes).tag(group)).into()
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let drawn = originals(vec![generator.weight("w", &[n, k], weight_scale(k))]);
        let span = Span::of(shape);
        let w = quantise(drawn.float::<Ix2>("w"), span, Elem::I4, generator.storage);
        let params = Params::new().size("m", m).size("n", n).size("k", k);
        Inputs {
            params: params.size("group", group(shape)),
            tensors: vec![
                generator.data("x", &[m, k]),
                Tensor::codes("q", Elem::I4Split, &[n, padded(k, Elem::I4)], w.codes),
                scale_tensor("s", generator.storage, &w.scales),
                generator.weight("b", &[n], 1.0),
            ],
            originals: drawn.tensors,
        }
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let aligned = f64::from(u8::from(shape["k"].is_multiple_of(8)));
        let rows = shape["m"].clamp(1, MAX_FEW_ROWS) as f64;
        let launch = products::launch_activated(shape, dtype, variant);
        launch.with_constant("ALIGNED", aligned).with_constant("ROWS", rows)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let (rows, cols) = Span::of(shape).dims(n, k);
        let float = variant.storage(dtype).bits() / 8;
        let codes = n * padded(k, Elem::I4) / 2;
        Work::new(2 * m * n * k, codes + float * (m * k + rows * cols + m * n + n))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        linear(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        linear(problem, rows)
    }

    fn uncompressed(&self, problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
        let inputs = problem.inputs;
        let all: Vec<usize> = (0..problem.shape["n"]).collect();
        let scales = (inputs.float::<Ix2>("s"), Span::of(problem.shape));
        let w = Columns::of(inputs.float::<Ix2>("w"), Some(scales), &all);
        let chosen = rows.of(problem.shape["m"]);
        let noise = Columns::of(inputs.float::<Ix2>("x"), None, &chosen).product_noise(&w);
        Some(products::uncompressed(problem, rows, ("x", "w"), noise))
    }
}

fn linear<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, n, k) = (problem.shape["m"], problem.shape["n"], problem.shape["k"]);
    let length = group(problem.shape);
    let inputs = problem.inputs;
    let (x, s) = (inputs.float::<Ix2>("x"), inputs.float::<Ix2>("s"));
    let q = inputs.codes::<Ix2>("q");
    let b = inputs.float::<Ix1>("b");
    let scaled_first = entry(problem.variant) == "tiled";
    // Sums that are scaled at once, and additions that they pass through then.
    let (part, depth) = if entry(problem.variant) == "matvec" {
        let lanes = problem.variant.constant("WG");
        (8, k.div_ceil(8).div_ceil(lanes) + lanes.ilog2() as usize)
    } else {
        (length, k.div_ceil(length))
    };
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, m, n, |row, mut y| {
        let values = x.row(row);
        let values = values.as_slice().expect("row-major");
        for col in 0..n {
            let codes = q.row(col);
            let codes = &codes.as_slice().expect("row-major")[..k];
            let dot = if scaled_first {
                let terms = values.iter().zip(codes).enumerate().map(|(i, (&x, &code))| {
                    exact(x) * (exact(f32::from(code)) * exact(s[[col, i / length]]))
                });
                S::sum(terms, k)
            } else {
                let parts = values.chunks(part).zip(codes.chunks(part)).enumerate();
                let parts: Vec<S> = parts
                    .map(|(i, (values, codes))| {
                        let codes = codes.iter().map(|&code| f32::from(code));
                        let pairs = values.iter().copied().zip(codes);
                        S::dot(pairs, values.len()) * exact(s[[col, i * part / length]])
                    })
                    .collect();
                S::sum(parts.iter().copied(), depth)
            };
            let sum = dot + exact(b[col]);
            y[col] = products::activate(problem.shape, sum).store(problem.storage());
        }
    })]
}
