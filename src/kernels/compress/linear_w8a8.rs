//! Linear layer on int8 weights and activations (W8A8 of SmoothQuant, arXiv 2211.10438): exact
//! integer sums, one scale for each row of either side.

use ndarray::{Array2, Ix1, Ix2};

use super::codes::{Columns, Span, half, originals, padded, quantise, scale_tensor};
use super::products::{self, large, of, weight_scale};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Uncompressed, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LinearW8A8;

struct LinearW8A8;

/// Largest k whose sum of products of ±127 fits an i32.
const MAX_K: usize = 131_071;

fn refuses(shape: &Shape) -> Option<String> {
    let k = shape["k"];
    (k > MAX_K).then(|| format!("k is {k}, an i32 holds the sum of {MAX_K} products"))
}

/// No barrier. Eight invocations fill one vector unit of a CPU adapter.
const REGISTER: Variant = Variant { refuses, ..Variant::new("register", &[("WG", 8.0)]) };
const TILED: Variant = Variant { refuses, suits: Suits::Gpu, ..Variant::new("tiled", &[]) };
/// Rows loaded once a subgroup.
const BROADCAST: Variant = Variant {
    needs: &[Need::Subgroup, Need::SubgroupOf8],
    refuses: |shape| {
        let words = shape["k"].div_ceil(4);
        let ragged = !words.is_multiple_of(4);
        let reason = || format!("rows are {words} words of codes, not a multiple of 4");
        refuses(shape).or_else(|| ragged.then(reason))
    },
    ..Variant::new("broadcast", &[])
};
const VARIANTS: &[Variant] = &[
    REGISTER,
    half("register_f16", REGISTER),
    TILED,
    half("tiled_f16", TILED),
    BROADCAST,
    half("broadcast_f16", BROADCAST),
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("a row of another invocation", "Broadcast(own, 5u)", "Broadcast(own, 4u)"),
    Mutant::new(
        "two columns exchanged",
        "vec4<u32>(a.z, b.z, c.z, d.z)",
        "vec4<u32>(b.z, a.z, c.z, d.z)",
    ),
    Mutant::new(
        "sums in f32",
        "acc0 += dots(a0.x, x) + dots(a0.y, y) + dots(a0.z, z) + dots(a0.w, w);",
        "acc0 = vec4<i32>(vec4<f32>(acc0) + vec4<f32>(dots(a0.x, x) + dots(a0.y, y)
            + dots(a0.z, z) + dots(a0.w, w)));",
    ),
    Mutant::new("codes without a sign", "dot4I8Packed(a, w.x)", "i32(dot4U8Packed(a, w.x))"),
    Mutant::new("last word dropped", "i < params.words; i++", "i + 1u < params.words; i++"),
    Mutant::new("last vector dropped", "i < params.words / 4u", "i + 1u < params.words / 4u"),
    Mutant::new("scale of the first row", "sa[row]", "sa[0]"),
    Mutant::new("scale of the weights left out", " * sw[col]", ""),
    Mutant::new("activation left out", "GELU == 0u", "true"),
    Mutant::new("bias left out", " + f32(b[col])", ""),
    Mutant::new("vectors beyond a row counted", ", quad <= last);", ", true);"),
    Mutant::new(
        "words beyond a row counted",
        "four, i < vec4<u32>(params.words)",
        "four, vec4<bool>(true)",
    ),
    Mutant::new("tiles not taken in turn", "at = 256u - at", "at = 0u * at"),
    Mutant::new("last tile dropped", "first < quads; first", "first + 4u < quads; first"),
    Mutant::new("columns of a tile exchanged", "vec4<u32>(c0.z, c1.z", "vec4<u32>(c1.z, c0.z"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "m k").drawn_as("a"), Operand::new("w", "n k"), Operand::new("b", "n")];

impl Kernel for LinearW8A8 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project int8 rows by int8 weights with exact integer sums",
            difficulties: &[4],
            dtypes: &[Dtype::I8],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Outliers,
                Distribution::Extreme,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        if preset != Preset::Smoke {
            return large(preset);
        }
        let sizes = [
            (1, 1, 1),
            (1, 30, 35),
            (17, 31, 33),
            (33, 40, 130),
            (34, 66, 256),
            (9, 20, 96),
            (8, 8, 0),
            (0, 8, 8),
            (5, 7, 1408),
            // The longest exact sum.
            (1, 2, MAX_K),
        ];
        let plain = sizes.map(of).into_iter();
        plain.chain([of((17, 31, 33)).tag("gelu"), of((5, 9, 64)).tag("gelu")]).collect()
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let drawn = originals(match generator.distribution {
            Distribution::Extreme => vec![
                generator.filled("a", &[m, k], |i| extreme(i / k, i % k, 127.0)),
                generator.filled("w", &[n, k], |i| extreme(i / k, i % k, 126.0)),
            ],
            _ => {
                vec![generator.data("a", &[m, k]), generator.weight("w", &[n, k], weight_scale(k))]
            }
        });
        let code = |name: &str| quantise(drawn.float::<Ix2>(name), Span::Row, Elem::I8, Elem::F32);
        let (a, w) = (code("a"), code("w"));
        let width = padded(k, Elem::I8);
        Inputs {
            params: Params::new().size("m", m).size("n", n).size("words", width / 4),
            tensors: vec![
                Tensor::codes("qa", Elem::I8, &[m, width], a.codes),
                scale_tensor("sa", Elem::F32, &a.scales),
                Tensor::codes("qw", Elem::I8, &[n, width], w.codes),
                scale_tensor("sw", Elem::F32, &w.scales),
                generator.weight("b", &[n], 1.0),
            ],
            originals: drawn.tensors,
        }
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let mut launch = products::launch_activated(shape, dtype, variant);
        let name = &mut launch.dispatches[0].entry;
        if !shape["k"].div_ceil(4).is_multiple_of(4) {
            match *name {
                "registers" => *name = "registers_any",
                "tiled" => *name = "tiled_any",
                _ => {}
            }
        }
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let float = variant.storage(dtype).bits() / 8;
        let codes = (m + n) * padded(k, Elem::I8);
        let bytes = codes + 4 * (m + n) + float * (m * n + n);
        Work { arithmetic: Dtype::I8, ..Work::new(2 * m * n * k, bytes) }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        linear(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        linear(problem, rows)
    }

    fn uncompressed(&self, problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
        let inputs = problem.inputs;
        let columns = |x: &str, s: &str, rows: &[usize]| {
            let scales = (inputs.float::<Ix2>(s), Span::Row);
            Columns::of(inputs.float::<Ix2>(x), Some(scales), rows)
        };
        let chosen = rows.of(problem.shape["m"]);
        let all: Vec<usize> = (0..problem.shape["n"]).collect();
        let noise = columns("a", "sa", &chosen).product_noise(&columns("w", "sw", &all));
        Some(products::uncompressed(problem, rows, ("a", "w"), noise))
    }
}

/// Codes of one sign in each row, so that sums grow as far as they can. Every fourth one may be
/// `fourth` instead of 127, which makes the sum of four products odd: an f32 rounds it away.
fn extreme(row: usize, col: usize, fourth: f32) -> f32 {
    let size = if col % 4 == 3 { fourth } else { 127.0 };
    if row % 2 == 1 { -size } else { size }
}

fn linear<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, n) = (problem.shape["m"], problem.shape["n"]);
    let inputs = problem.inputs;
    let (qa, qw) = (inputs.codes::<Ix2>("qa"), inputs.codes::<Ix2>("qw"));
    let (sa, sw) = (inputs.float::<Ix2>("sa"), inputs.float::<Ix2>("sw"));
    let b = inputs.float::<Ix1>("b");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, m, n, |row, mut y| {
        let codes = qa.row(row);
        let codes = codes.as_slice().expect("row-major");
        for col in 0..n {
            let weights = qw.row(col);
            let pairs = codes.iter().zip(weights.as_slice().expect("row-major"));
            let acc: i32 = pairs.map(|(&a, &w)| i32::from(a) * i32::from(w)).sum();
            // A device rounds what has more than 24 bits when it becomes an f32.
            let (high, low) = (acc & !0xfff, acc & 0xfff);
            let sum = S::exact(f64::from(high)) + S::exact(f64::from(low));
            let scaled = sum * exact(sa[[row, 0]]) * exact(sw[[col, 0]]);
            let sum = scaled + exact(b[col]);
            y[col] = products::activate(problem.shape, sum).store(problem.storage());
        }
    })]
}
