//! Linear layer with optional GELU: every projection of a modality into the shared space.

use ndarray::{Array2, Ix1, Ix2};

use crate::accuracy::functions::{gelu_erf, gelu_quick, gelu_tanh};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Linear;

struct Linear;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("register", &[("WG", 8.0), ("STEP", 8.0)]),
    // No device has run these two. Untuned devices take the last strategy that suits them, so that
    // they come before those that some have.
    Variant {
        needs: &[Need::Subgroup, Need::CooperativeMatrix(8)],
        shader: Some("matrix"),
        suits: Suits::Gpu,
        refuses: refuses_ragged,
        ..Variant::new("matrix8", &[("LANES", 128.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::CooperativeMatrix(16)],
        shader: Some("matrix"),
        suits: Suits::Gpu,
        refuses: refuses_ragged,
        ..Variant::new("matrix16", &[("LANES", 128.0)])
    },
    Variant { suits: Suits::Gpu, ..Variant::new("tiled", &[]) },
    Variant { suits: Suits::Gpu, refuses: refuses_ragged, ..Variant::new("pair", &[]) },
    Variant { suits: Suits::Gpu, refuses: refuses_ragged, ..Variant::new("tall", &[]) },
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| refuses_ragged(shape).or_else(|| refuses_many_tiles(shape)),
        ..Variant::new("split", &[("SPLITS", 4.0)])
    },
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            let m = shape["m"];
            let many = || (m > MAX_FEW_ROWS).then(|| format!("{m} rows, made for {MAX_FEW_ROWS}"));
            crate::kernel::refuses_ragged(shape, "k").or_else(many)
        },
        ..Variant::new("matvec", &[("WG", 64.0), ("STEP", 1.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        shader: Some("block"),
        refuses: |shape| {
            let m = shape["m"];
            refuses_ragged(shape).or_else(|| (m > 1).then(|| format!("{m} rows, made for one")))
        },
        ..Variant::new("one_row", &[])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        shader: Some("block"),
        refuses: |shape| {
            let one = shape["m"] == 1 && refuses_ragged(shape).is_none();
            one.then(|| "one row, for which there is one_row".to_owned())
        },
        ..Variant::new("broadcast", &[("STEP", 8.0)])
    },
];

/// Tiles of 64 by 64 that occupy a GPU without splitting k.
const MAX_SPLIT_TILES: usize = 64;

fn refuses_ragged(shape: &Shape) -> Option<String> {
    let empty = || (shape["k"] == 0).then(|| "k is 0, nothing to load".to_owned());
    crate::kernel::refuses_ragged(shape, "k").or_else(empty)
}

fn refuses_many_tiles(shape: &Shape) -> Option<String> {
    let tiles = shape["m"].div_ceil(64) * shape["n"].div_ceil(64);
    (tiles > MAX_SPLIT_TILES).then(|| format!("{tiles} tiles, made for {MAX_SPLIT_TILES}"))
}

/// With more rows the tiles of `tiled` are no longer mostly empty.
const MAX_FEW_ROWS: usize = 8;

const MUTANTS: &[Mutant] = &[
    Mutant::new("erf a little too large", "(1.0 + erf(", "(1.0 + 1.0001 * erf("),
    Mutant::new("constant of the tanh form cut short", "0.044715", "0.0447"),
    Mutant::new(
        "last vector along k dropped",
        "q < params.k / 4u; q++",
        "q + 1u < params.k / 4u; q++",
    ),
    Mutant::new("bias of the row", "f32(b[col])", "f32(b[min(row, params.n - 1u)])"),
    Mutant::new("last column dropped", "col >= params.n) {", "col + 1u >= params.n) {"),
    Mutant::new("rest of k left out", "q < (params.k + 3u) / 4u", "q < params.k / 4u"),
    Mutant::new("sigmoid of the wrong slope", "sigmoid(1.702 * v)", "sigmoid(1.7 * v)"),
    Mutant::new(
        "tile columns shifted by one",
        "lane % 16u * 5u + q",
        "lane % 16u * 5u + (q + 1u) % 4u",
    ),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    Mutant::new("a row of another invocation", "Broadcast(row, 5u)", "Broadcast(row, 4u)"),
    Mutant::new("lower rows like the upper", "row4(row + 8u + lane, q)", "row4(row + lane, q)"),
    Mutant::new("vectors beyond the part of k counted", ", q < end);", ", true);"),
    Mutant::new("last part of k left out", "s < SPLITS; s++", "s + 1u < SPLITS; s++"),
    Mutant::new("lower half of a tall tile repeated", "x_tall[r + 256u]", "x_tall[r]"),
    Mutant::new("left matrix transposed", "coopLoadT<Left>", "coopLoad<Left>"),
    Mutant::new("weights not transposed", "coopLoad<Right>", "coopLoadT<Right>"),
    Mutant::new("lower matrices like the upper", "MultiplyAdd(a1, b0", "MultiplyAdd(a0, b0"),
    Mutant::new("every subgroup the same block", "(first + subgroup) % BLOCKS", "first"),
    Mutant::new("tiles beyond k not cleared", " && q < quads);", ");"),
    Mutant::new("lower half of a tile left out", "half < 2u", "half < 1u"),
    Mutant::new("a quarter of the columns of one row repeated", "col + 12u, q)", "col + 8u, q)"),
    Mutant::new("lower half of eight repeated", "add_rows(lower, lower_row[1], high)", {
        "add_rows(lower, lower_row[0], high)"
    }),
    Mutant::new("half of eight for one row left out", " + Sum4(row[1]) * cols.high", ""),
    Mutant::new("last of few rows left out", "i >= ROWS", "i + 1u >= ROWS"),
    Mutant::new("sum of one invocation alone", "subgroupAdd(vec4<f32>(part))", "vec4<f32>(part)"),
    Mutant::new("only the first rows of few", "rows4(wid.y * 4u, q)", "rows4(0u, q)"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "m k"), Operand::new("w", "n k"), Operand::new("b", "n")];

impl Kernel for Linear {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project rows by a weight matrix and bias, with an optional GELU",
            difficulties: &[1, 5],
            dtypes: &[Dtype::F32, Dtype::F16, Dtype::F16Acc],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => smoke(),
            Preset::Models => models(),
            Preset::Sweep => {
                let square = [128, 256, 512, 1024, 2048, 4096].map(|n| of(n, n, n));
                let skinny = [1, 4, 16, 64, 256].map(|m| of(m, 4096, 4096));
                square.into_iter().chain(skinny).collect()
            }
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        // Keeps the outputs of the size of the inputs, as trained weights do.
        let scale = (k.max(1) as f32).sqrt().recip();
        Inputs::new(
            Params::new().size("m", m).size("n", n).size("k", k),
            vec![
                generator.data("x", &[m, k]),
                generator.weight("w", &[n, k], scale),
                generator.weight("b", &[n], 1.0),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let vectors = k > 0 && k.is_multiple_of(4);
        let tile = 4 * variant.matrix_side().unwrap_or_default() as usize;
        // With sums of f16 what is loaded by eights would be converted twice, and in f32 the sums
        // of a tile leave registers.
        let eights = k > 0 && k.is_multiple_of(8) && dtype != Dtype::F16Acc;
        let (entry, rows, cols) = match (variant.name, vectors) {
            ("one_row", _) if eights => ("one_row8", 1, 16),
            ("broadcast", _) if eights && dtype == Dtype::F16 => ("broadcast8", 16, 64),
            ("register", true) => ("registers", 8, 8 * variant.constant("WG")),
            ("register", false) => ("registers_any", 4, 4 * variant.constant("WG")),
            ("matvec", _) => ("matvec", 4, 4),
            ("one_row", _) => ("one_row", 1, 16),
            ("pair" | "split", _) => (variant.name, 64, 64),
            ("tall", _) => ("tall", 128, 64),
            ("matrix8" | "matrix16", _) => ("multiply", tile, tile),
            ("broadcast", true) => ("broadcast", 16, 64),
            ("broadcast", false) => ("broadcast_any", 16, 32),
            (_, true) => ("tiled", 64, 64),
            (_, false) => ("tiled_any", 64, 64),
        };
        let grid = [n.div_ceil(cols) as u32, m.div_ceil(rows) as u32, 1];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), m, n), grid);
        launch.dispatches[0].entry = entry;
        if variant.name == "split" {
            let splits = variant.constant("SPLITS");
            launch.dispatches[0].grid[2] = splits as u32;
            launch.scratch.push(Buffer::new("sums", Elem::F32, splits * m, n));
            let merge = spill((m * n).div_ceil(256));
            launch.dispatches.push(Dispatch::new("merge", merge));
        }
        match variant.name {
            "one_row" => launch = launch.with_constant("STEP", 1.0),
            "broadcast" => launch = launch.with_constant("ROWS", m.min(16) as f64),
            _ => {}
        }
        if tile > 0 {
            // With this the tiles of the wider matrices take the 16 KiB that WebGPU guarantees.
            launch = launch.with_constant("STEP", (64 / dtype.bytes()) as f64);
        }
        launch.with_constant("ACTIVATION", activation(shape))
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let bias = if shape.option().is_some() { 10 } else { 1 };
        let work = Work::new(m * n * (2 * k + bias), dtype.bytes() * (m * k + n * k + m * n + n));
        let arithmetic = if variant.matrix_side().is_some() { dtype } else { dtype.arithmetic() };
        Work { arithmetic, ..work }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        linear(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        linear(problem, rows)
    }
}

fn of(m: usize, n: usize, k: usize) -> Shape {
    Shape::new(&[("m", m), ("n", n), ("k", k)])
}

fn smoke() -> Vec<Shape> {
    let few = [(1, 65, 516), (1, 35, 136), (6, 35, 132), (8, 30, 1028), (19, 70, 72)];
    let sizes = [(1, 1, 1), (1, 30, 35), (7, 30, 74), (17, 31, 33), (33, 65, 129), (64, 64, 64)];
    let more = [(50, 30, 300), (5, 3, 1), (8, 8, 0), (0, 8, 8), (65, 129, 20), (3, 257, 770)];
    let plain = sizes.into_iter().chain(few).chain(more).map(|(m, n, k)| of(m, n, k));
    let activated = ["gelu", "gelu_tanh", "gelu_quick"]
        .into_iter()
        .flat_map(|tag| [of(17, 31, 33).tag(tag), of(9, 65, 64).tag(tag), of(8, 8, 0).tag(tag)]);
    plain.chain(activated).collect()
}

fn models() -> Vec<Shape> {
    // Vision, text, audio and thermal, IMU, depth.
    let heads = [1280, 1024, 768, 512, 384]
        .map(|k| of(1024, 1024, k).from("ImageBind-huge heads, batch 1024"));
    let one_each = vec![
        of(77, 768, 768).from("CLIP ViT-L/14-336 text"),
        of(577, 768, 1024).from("CLIP ViT-L/14-336 image"),
        of(32, 768, 768).from("BLIP-2 Q-Former queries"),
        of(257, 1536, 1408).from("BLIP-2 Q-Former keys and values"),
        of(576, 4096, 1024).tag("gelu").from("LLaVA-1.5-7B"),
        of(576, 4096, 4096).from("LLaVA-1.5-7B"),
        of(1, 1024, 1280).from("ImageBind-huge vision head"),
        of(9_000, 30, 35).from("MulT MOSEI vision"),
        of(12_000, 30, 74).from("MulT MOSEI audio"),
    ];
    one_each.into_iter().chain(heads).collect()
}

/// The override constant of `linear.wgsl`.
fn activation(shape: &Shape) -> f64 {
    match shape.option() {
        Some("gelu") => 1.0,
        Some("gelu_tanh") => 2.0,
        Some("gelu_quick") => 3.0,
        _ => 0.0,
    }
}

/// Most additions one product passes through.
fn depth(k: usize, variant: &Variant) -> usize {
    if variant.name == "split" {
        let splits = variant.constant("SPLITS");
        return 4 * (k / 4).div_ceil(splits) + splits;
    }
    match variant.name {
        "matvec" => {
            let lanes = variant.constant("WG");
            4 * (k / 4).div_ceil(lanes) + lanes.ilog2() as usize
        }
        // Eight invocations, whose sums the driver adds in whatever order it likes.
        "one_row" => 8 * k.div_ceil(64) + 7,
        // One invocation adds all k products, in whatever order its compiler likes.
        _ => k,
    }
}

fn linear<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, n, k) = (problem.shape["m"], problem.shape["n"], problem.shape["k"]);
    let x = problem.inputs.float::<Ix2>("x");
    let w = problem.inputs.float::<Ix2>("w");
    let b = problem.inputs.float::<Ix1>("b");
    let exact = |value: f32| S::exact(f64::from(value));
    let depth = depth(k, problem.variant);
    let activate = match problem.shape.option() {
        Some("gelu") => gelu_erf,
        Some("gelu_tanh") => gelu_tanh,
        Some("gelu_quick") => gelu_quick,
        _ => |value| value,
    };
    vec![by_rows(rows, m, n, |row, mut y| {
        let values = x.row(row);
        for col in 0..n {
            let weights = w.row(col);
            let pairs = values.iter().copied().zip(weights.iter().copied());
            let dot = S::dot_in(problem.dtype.sum(), pairs, depth);
            y[col] = activate(dot + exact(b[col])).store(problem.storage());
        }
    })]
}
