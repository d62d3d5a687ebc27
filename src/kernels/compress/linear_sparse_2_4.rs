//! Linear layer on weights of which two of every four are zero (arXiv 2104.08378).

use ndarray::{Array2, Ix1, Ix2};

use super::codes::originals;
use super::products::{self, large, of, weight_scale};
use super::sparsity::{groups, positions, prune};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LinearSparse24;

struct LinearSparse24;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("register", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("tiled", &[]) },
    // Rows loaded and weights spread once a subgroup.
    Variant { needs: &[Need::Subgroup, Need::SubgroupOf8], ..Variant::new("broadcast", &[]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("positions of the first group", "(4u * (group % 8u))", "(0u * group)"),
    Mutant::new("positions taken for 0 and 1", "vec4<u32>(code & 3u)", "vec4<u32>(0u)"),
    Mutant::new("second weight dropped", "vec4<f32>(pair.y)", "vec4<f32>(0.0)"),
    Mutant::new("last group dropped", "i < (params.k + 3u) / 4u", "i + 1u < (params.k + 3u) / 4u"),
    Mutant::new("bias left out", "dot + f32(b[col])", "dot"),
    Mutant::new("a row of another invocation", "Broadcast(row, 5u)", "Broadcast(row, 4u)"),
    Mutant::new("second group like the first", "pairs[2].zw", "pairs[2].xy"),
    Mutant::new(
        "positions not moved on",
        "left_codes >>= vec4<u32>(8u)",
        "left_codes >>= vec4<u32>(4u)",
    ),
    Mutant::new("last two groups dropped", "word + 4u, end); i++", "word + 4u, end - 1u); i++"),
    Mutant::new("row starts rounded to vectors", "switch at % 4u", "switch 0u * at"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "m k"), Operand::new("w", "n k"), Operand::new("b", "n")];

impl Kernel for LinearSparse24 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project rows by weights pruned to two of every four",
            difficulties: &[4],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        if preset != Preset::Smoke {
            return large(preset);
        }
        let sizes = [(1, 1, 1), (1, 30, 35), (17, 31, 33), (33, 40, 130), (34, 66, 64)];
        let more = [(17, 70, 40), (8, 8, 0), (0, 8, 8), (5, 7, 1408)];
        sizes.into_iter().chain(more).map(of).collect()
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let drawn = originals(vec![generator.weight("w", &[n, k], weight_scale(k))]);
        let (values, places) = prune(drawn.float::<Ix2>("w"));
        Inputs {
            params: Params::new().size("m", m).size("n", n).size("k", k),
            tensors: vec![
                generator.data("x", &[m, k]),
                Tensor::floats("v", generator.storage, &[n, 2 * groups(k)], values),
                Tensor::codes("p", Elem::U2, &[n, positions(k)], places),
                generator.weight("b", &[n], 1.0),
            ],
            originals: drawn.tensors,
        }
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let mut launch = products::launch(shape, dtype, variant);
        let dispatch = &mut launch.dispatches[0];
        if dispatch.entry == "broadcast" {
            if shape["k"].is_multiple_of(8) {
                dispatch.grid[0] = shape["n"].div_ceil(64) as u32;
            } else {
                dispatch.entry = "broadcast_any";
            }
        }
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
        let kept = 2 * groups(k);
        let floats = m * k + n * kept + m * n + n;
        Work::new(m * n * (2 * kept + 1), dtype.bytes() * floats + n * positions(k) / 4)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        linear(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        linear(problem, rows)
    }
}

fn linear<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, n, k) = (problem.shape["m"], problem.shape["n"], problem.shape["k"]);
    let kept = 2 * groups(k);
    let inputs = problem.inputs;
    let (x, v) = (inputs.float::<Ix2>("x"), inputs.float::<Ix2>("v"));
    let p = inputs.codes::<Ix2>("p");
    let b = inputs.float::<Ix1>("b");
    vec![by_rows(rows, m, n, |row, mut y| {
        // The last group may reach beyond the row, where its weights are zero.
        let mut values = x.row(row).to_vec();
        values.resize(4 * groups(k), 0.0);
        for col in 0..n {
            let (weights, places) = (v.row(col), p.row(col));
            let weights = weights.as_slice().expect("row-major");
            let places = places.as_slice().expect("row-major");
            let pairs = (0..kept).map(|i| (values[4 * (i / 2) + places[i] as usize], weights[i]));
            let sum = S::dot(pairs, kept) + S::exact(f64::from(b[col]));
            y[col] = sum.store(problem.storage());
        }
    })]
}
