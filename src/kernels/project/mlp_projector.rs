//! The two-layer projector of LLaVA-1.5 (arXiv 2310.03744): linear, GELU, linear.

use ndarray::{Array2, Ix1, Ix2};

use crate::accuracy::functions::gelu_erf;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &MlpProjector;

struct MlpProjector;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("register", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, refuses: refuses_ragged, ..Variant::new("tiled", &[]) },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let few = shape["m"] < MIN_BROADCAST_ROWS;
            let reason = || format!("{} rows, made for {MIN_BROADCAST_ROWS} and more", shape["m"]);
            refuses_ragged(shape).or_else(|| few.then(reason))
        },
        ..Variant::new("broadcast", &[])
    },
];

/// As in `linear`.
const MIN_BROADCAST_ROWS: usize = 4;

fn refuses_ragged(shape: &Shape) -> Option<String> {
    let widths = || format!("k and h are {} and {}", shape["k"], shape["h"]);
    (!has_vectors(shape)).then(|| widths() + ", not positive multiples of 4")
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("erf a little too large", "(1.0 + erf(", "(1.0 + 1.0001 * erf("),
    Mutant::new(
        "activation left out",
        "to_storage(0.5 * v * (1.0 + erf(v * 0.70710678)))",
        "to_storage(v)",
    ),
    Mutant::new("last hidden unit left out", "i < params.h &&", "i + 1u < params.h &&"),
    Mutant::new(
        "last vector of the hidden layer left out",
        "q < params.h / 4u",
        "q + 1u < params.h / 4u",
    ),
    Mutant::new("lower rows are the upper ones", "x_row(r + 4u, q)", "x_row(r, q)"),
    Mutant::new("second bias left out", "dot + f32(c[col])", "dot"),
    Mutant::new("columns of a tile overlap", "lane % 16u * 5u + q", "lane % 16u * 4u + q"),
    Mutant::new("tile beyond the width not cleared", "vec4<f32>(), row,", "row, row,"),
    Mutant::new("a row of another invocation", "Broadcast(row, 5u)", "Broadcast(row, 4u)"),
    Mutant::new("lower rows like the upper", "hidden_row(r + 8u + lane", "hidden_row(r + lane"),
];

const OPERANDS: &[Operand] = &[
    Operand::new("x", "m k"),
    Operand::new("w", "h k"),
    Operand::new("b", "h"),
    Operand::new("u", "n h"),
    Operand::new("c", "n"),
];

impl Kernel for MlpProjector {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project image tokens into a language model by two layers with a GELU between",
            difficulties: &[1, 5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Large],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => [
                (1, 1, 1, 1),
                (17, 32, 68, 33),
                (5, 30, 35, 7),
                (3, 33, 64, 31),
                (65, 20, 132, 65),
                (2, 0, 8, 5),
                (0, 8, 8, 8),
            ]
            .map(|(m, k, h, n)| of(m, k, h, n))
            .into(),
            Preset::Models => vec![
                of(576, 1024, 4096, 4096).from("LLaVA-1.5-7B"),
                of(1, 1024, 4096, 4096).from("LLaVA-1.5-7B, one token"),
            ],
            Preset::Sweep => [1, 16, 64, 256, 1024].map(|m| of(m, 1024, 2048, 2048)).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, k, h, n) = (shape["m"], shape["k"], shape["h"], shape["n"]);
        // Keeps the outputs of a layer of the size of its inputs, as trained weights do.
        let scale = |width: usize| (width.max(1) as f32).sqrt().recip();
        Inputs::new(
            Params::new().size("m", m).size("k", k).size("h", h).size("n", n),
            vec![
                generator.data("x", &[m, k]),
                generator.weight("w", &[h, k], scale(k)),
                generator.weight("b", &[h], 1.0),
                generator.weight("u", &[n, h], scale(h)),
                generator.weight("c", &[n], 1.0),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, h, n) = (shape["m"], shape["h"], shape["n"]);
        let (entries, rows, cols) = match (variant.name, has_vectors(shape)) {
            ("register", true) => (["first", "second"], 8, 4 * variant.constant("WG")),
            ("register", false) => (["first_any", "second_any"], 1, variant.constant("WG")),
            ("broadcast", _) => (["first_broadcast", "second_broadcast"], 16, 64),
            _ => (["first_tiled", "second_tiled"], 64, 64),
        };
        let run = |entry, width: usize| {
            let grid = [width.div_ceil(cols) as u32, m.div_ceil(rows) as u32, 1];
            Dispatch::new(entry, grid)
        };
        Launch {
            outputs: vec![Buffer::new("y", dtype.storage(), m, n)],
            scratch: vec![Buffer::new("hidden", dtype.storage(), m, h)],
            dispatches: vec![run(entries[0], h), run(entries[1], n)],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, k, h, n) = (shape["m"], shape["k"], shape["h"], shape["n"]);
        let flops = m * h * (2 * k + 10) + m * n * (2 * h + 1);
        Work::new(flops, dtype.bytes() * (m * k + h * k + h + n * h + n + m * n))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        mlp_projector(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        mlp_projector(problem, rows)
    }
}

/// `m` image tokens of width `k`, a hidden layer of `h`, and `n` outputs.
fn of(m: usize, k: usize, h: usize, n: usize) -> Shape {
    Shape::new(&[("m", m), ("k", k), ("h", h), ("n", n)])
}

fn has_vectors(shape: &Shape) -> bool {
    ["k", "h"].iter().all(|axis| shape[axis] > 0 && shape[axis].is_multiple_of(4))
}

fn mlp_projector<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (m, k, h, n) = (shape["m"], shape["k"], shape["h"], shape["n"]);
    let [x, w, u] = ["x", "w", "u"].map(|name| problem.inputs.float::<Ix2>(name));
    let [b, c] = ["b", "c"].map(|name| problem.inputs.float::<Ix1>(name));
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, m, n, |row, mut y| {
        let unit = |unit: usize| {
            let products = x.row(row).into_iter().copied().zip(w.row(unit).into_iter().copied());
            gelu_erf(S::dot(products, k) + exact(b[unit])).store(problem.storage())
        };
        let hidden: Vec<S> = (0..h).map(unit).collect();
        for col in 0..n {
            let terms =
                hidden.iter().zip(u.row(col)).map(|(&value, &weight)| value * exact(weight));
            y[col] = (S::sum(terms, h) + exact(c[col])).store(problem.storage());
        }
    })]
}
