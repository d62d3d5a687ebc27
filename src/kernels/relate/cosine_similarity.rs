//! Cosine similarity of two sets of embeddings: zero-shot scores and retrieval.

use ndarray::{Array2, ArrayView1, Ix2};

use super::features;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, refuses_ragged,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &CosineSimilarity;

struct CosineSimilarity;

/// Square of the smallest norm divided by, as in `l2_normalize`.
const FLOOR: f32 = 1e-24;
/// 1/0.07, CLIP's temperature at the start of training (arXiv 2103.00020).
const TEMPERATURE: f32 = 14.285_714;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("register", &[("WG", 8.0)]),
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("tiled", &[])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let few = shape["m"] < MIN_BROADCAST_ROWS;
            few.then(|| format!("{} rows, made for {MIN_BROADCAST_ROWS} and more", shape["m"]))
        },
        ..Variant::new("broadcast", &[("WG", 8.0)])
    },
];

/// Of sixteen that are loaded.
const MIN_BROADCAST_ROWS: usize = 4;

const MUTANTS: &[Mutant] = &[
    Mutant::new("temperature left out", "params.temperature * ", ""),
    Mutant::new("norm of a left out", "dot * of_a * of_b", "dot * of_b"),
    Mutant::new("norm of the wrong row", "inverse[params.m + at]", "inverse[at]"),
    Mutant::new("a zero row divided by", "max(squares, params.floor)", "squares"),
    Mutant::new(
        "an epsilon added to the squares",
        "max(squares, params.floor)",
        "(squares + 1e-5)",
    ),
    Mutant::new("last vector dropped", "q < params.d / 4u; q++", "q + 1u < params.d / 4u; q++"),
    Mutant::new("last element dropped", "i < vec4<u32>(params.d)", "i < vec4<u32>(params.d - 1u)"),
    Mutant::new("a quarter of the squares left out", " + shares[4u * i + 3u]", ""),
    Mutant::new("transposed result", "s[row * params.n + col]", "s[col * params.m + row]"),
    Mutant::new("a row of another invocation", "Broadcast(own, 5u)", "Broadcast(own, 4u)"),
    Mutant::new("lower rows like the upper", "a_quad(row + 8u + lane, q)", "a_quad(row + lane, q)"),
    Mutant::new(
        "padding of the last tile kept",
        "select(vec4<f32>(), b_quad",
        "select(b_quad(wid.x * 64u + lane / 4u, q), b_quad",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("a", "m d"), Operand::new("b", "n d")];

impl Kernel for CosineSimilarity {
    fn spec(&self) -> Spec {
        Spec {
            summary: "compare every row of one embedding with every row of another by their angle",
            difficulties: &[5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Small,
                Distribution::Ratio,
                Distribution::Constant,
            ],
            operands: Operands::of(OPERANDS).without(&["zero"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 5),
                of(2, 31, 770),
                of(33, 17, 64),
                of(65, 70, 36),
                of(31, 2, 33),
                of(67, 130, 68).tag("zero"),
                of(5, 3, 7).tag("zero"),
                of(0, 3, 8),
            ],
            Preset::Models => vec![
                of(24, 24, 60).from("MulT MOSEI, one batch"),
                of(256, 1000, 768).from("CLIP ViT-L/14-336, zero-shot ImageNet"),
                of(1024, 1024, 1024).from("ImageBind-huge, batch 1024"),
                of(4096, 4096, 512).from("CLIP ViT-B/32, batch 4096"),
            ],
            Preset::Sweep => (8..=12).map(|log2| of(1 << log2, 1 << log2, 768)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, n, d) = (shape["m"], shape["n"], shape["d"]);
        let params = Params::new().size("m", m).size("n", n).size("d", d);
        Inputs::new(
            params.real("floor", FLOOR).real("temperature", TEMPERATURE),
            vec![draw(shape, generator, "a", m), draw(shape, generator, "b", n)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, n, d) = (shape["m"], shape["n"], shape["d"]);
        let output = Buffer::new("s", dtype.storage(), m, n);
        let run = |entry, cols: usize, rows: usize| {
            let grid = [n.div_ceil(cols) as u32, m.div_ceil(rows) as u32, 1];
            Dispatch::new(entry, grid)
        };
        if variant.name == "tiled" {
            let dispatches = vec![run("tiled", 64, 64)];
            return Launch { outputs: vec![output], scratch: Vec::new(), dispatches };
        }
        let lanes = variant.constant("WG");
        let groups = [(m + n).div_ceil(lanes) as u32, 1, 1];
        let (norms, product) = match (variant.name, d.is_multiple_of(4)) {
            ("broadcast", true) => ("norms", run("broadcast", 64, 16)),
            ("broadcast", false) => ("norms_any", run("broadcast_any", 32, 16)),
            (_, true) => ("norms", run("registers", 4 * lanes, 8)),
            (_, false) => ("norms_any", run("registers_any", 4 * lanes, 4)),
        };
        Launch {
            outputs: vec![output],
            scratch: vec![Buffer::new("inverse", Elem::F32, 1, m + n)],
            dispatches: vec![Dispatch::new(norms, groups), product],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, n, d) = (shape["m"], shape["n"], shape["d"]);
        let flops = 2 * m * n * d + 3 * (m + n) * d;
        Work::new(flops, dtype.bytes() * (m * d + n * d + m * n))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        cosine_similarity(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        cosine_similarity(problem, rows)
    }
}

/// Rows of a, rows of b, width.
fn of(m: usize, n: usize, d: usize) -> Shape {
    Shape::new(&[("m", m), ("n", n), ("d", d)])
}

/// With the tag `zero` every third row is zeros.
fn draw(shape: &Shape, generator: &Generator, name: &'static str, rows: usize) -> Tensor {
    let d = shape["d"];
    if shape.option() == Some("zero") {
        return features::blanked(generator, name, rows, d, |row| row % 3 == 1);
    }
    generator.data(name, &[rows, d])
}

/// Most additions a square passes through: one invocation adds them one after the other, a lane of
/// `tiled` every fourth vector and then three of its neighbours' sums.
fn depth_of_norm(d: usize, variant: &Variant) -> usize {
    match variant.name {
        "tiled" => 4 * d.div_ceil(16) + 3,
        _ => d,
    }
}

fn cosine_similarity<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, n, d) = (problem.shape["m"], problem.shape["n"], problem.shape["d"]);
    let a = problem.inputs.float::<Ix2>("a");
    let b = problem.inputs.float::<Ix2>("b");
    let depth = depth_of_norm(d, problem.variant);
    let exact = |value: f32| S::exact(f64::from(value));
    let inverse = |row: ArrayView1<f32>| {
        let squares = S::dot(row.iter().map(|&x| (x, x)), depth);
        squares.max(exact(FLOOR)).rsqrt()
    };
    let of_b: Vec<S> = b.outer_iter().map(inverse).collect();
    vec![by_rows(rows, m, n, |row, mut s| {
        let of_a = inverse(a.row(row));
        for col in 0..n {
            let pairs = a.row(row).into_iter().copied().zip(b.row(col).into_iter().copied());
            let cosine = S::dot(pairs, d) * of_a * of_b[col];
            s[col] = (exact(TEMPERATURE) * cosine).store(problem.storage());
        }
    })]
}
