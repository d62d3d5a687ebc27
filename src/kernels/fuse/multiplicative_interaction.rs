//! Multiplicative interactions of two modalities (Jayakumar et al., "Multiplicative Interactions
//! and Where to Find Them", ICLR 2020): the matrix form and, tagged `vector`, the diagonal one.

use ndarray::{Array2, Ix1, Ix2};

use super::{modalities, widths};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Preset, Problem, Shape, Spec, Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &MultiplicativeInteraction;

struct MultiplicativeInteraction;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("registers", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("split", &[]) },
];

/// Invocations of `split` that share the outer sum of one output.
const SHARES: usize = 16;

const MUTANTS: &[Mutant] = &[
    Mutant::new("first modality taken as present", "(mask & 1u) != 0u", "true"),
    Mutant::new("second modality taken as present", "(mask & 2u) != 0u", "true"),
    Mutant::new("presence bits swapped", "(mask & 1u)", "(mask >> 1u)"),
    Mutant::new("last entry of m1 dropped", "i < params.d1", "i + 1u < params.d1"),
    Mutant::new("last entry of m2 dropped", "j < params.d2", "j + 1u < params.d2"),
    Mutant::new("axes of W swapped", "i * params.d2 + j", "j * params.d1 + i"),
    Mutant::new("V left out", "(inner[0] + q)", "inner[0]"),
    Mutant::new(
        "V of the vector form left out",
        "gains[1] * (product[1] + q)",
        "gains[1] * product[1]",
    ),
    Mutant::new("gains of the first column for all", "masks, j.y)", "masks, j.x)"),
    Mutant::new("bias left out", "sum[i] + f32(c[col])", "sum[i]"),
    Mutant::new("half of the shares not added", "half = SHARES / 2u", "half = SHARES / 4u"),
    Mutant::new("last output dropped", "col < params.outputs)", "col + 1u < params.outputs)"),
];

impl Kernel for MultiplicativeInteraction {
    fn spec(&self) -> Spec {
        Spec {
            summary: "let one modality generate the weights or gains applied to another",
            difficulties: &[2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Large,
            ],
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let matrix = |b, w: [usize; 2], o| widths::shape(&[("b", b), ("o", o)], &w);
        let vector = |b, w: [usize; 2]| widths::shape(&[("b", b)], &w).tag("vector");
        match preset {
            Preset::Smoke => vec![
                matrix(1, [1, 1], 1),
                matrix(6, [17, 9], 5),
                matrix(5, [8, 35], 68),
                matrix(0, [4, 4], 4),
                matrix(3, [5, 4], 0),
                matrix(9, [17, 9], 5).tag("present"),
                matrix(9, [5, 31], 16).tag("present"),
                vector(1, [1, 1]),
                vector(3, [35, 33]),
                widths::shape(&[("b", 9)], &[257, 5]).tag("vector_present"),
                widths::shape(&[("b", 9)], &[9, 68]).tag("vector_present"),
            ],
            Preset::Models => vec![
                matrix(128, [10, 720], 100).from("MultiBench MIMIC"),
                matrix(128, [24, 96], 96).from("MultiBench AV-MNIST"),
                matrix(128, [512, 512], 128).from("MultiBench MM-IMDb, one of 8 slices"),
                vector(128, [96, 24]).from("MultiBench AV-MNIST, gating"),
                vector(1024, [1024, 1024]).from("ImageBind-huge, batch 1024"),
            ],
            Preset::Sweep => [32, 64, 128, 256]
                .into_iter()
                .flat_map(|d| [matrix(128, [d, d], d), vector(128, [d, d])])
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, [d1, d2, o]) = (shape["b"], sizes(shape));
        let present = modalities::masks(shape, 2);
        let absent = |m: u32, sample: usize| present[sample] >> m & 1 == 0;
        let (slices, rows) = if is_vector(shape) { (1, 1) } else { (d2, d2) };
        // Keeps the outputs of the size of the inputs, as trained weights do.
        let scale = |terms: usize| (terms.max(1) as f32).sqrt().recip();
        let params = Params::new().size("batch", b).size("d1", d1).size("d2", d2);
        Inputs::new(
            params.size("outputs", o),
            vec![
                generator.data("m1", &[b, d1]).with_garbage(|index| absent(0, index / d1)),
                generator.data("m2", &[b, d2]).with_garbage(|index| absent(1, index / d2)),
                generator.weight("w", &[d1, slices * o], scale(d1 * slices)),
                generator.weight("v", &[rows, o], scale(rows)),
                generator.weight("u", &[d1, o], scale(d1)),
                generator.weight("c", &[o], 1.0),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, [_, _, o]) = (shape["b"], sizes(shape));
        let (entry, cols) = match (variant.name, is_vector(shape)) {
            ("registers", false) => ("matrix", 4 * variant.constant("WG")),
            ("registers", true) => ("vector", 4 * variant.constant("WG")),
            (_, false) => ("matrix_split", 64),
            (_, true) => ("vector_split", 64),
        };
        let grid = [o.div_ceil(cols) as u32, b.div_ceil(4) as u32, 1];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b, o), grid);
        launch.dispatches[0].entry = entry;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, [d1, d2, o]) = (shape["b"], sizes(shape));
        let each = b * (d1 + d2 + o);
        let (flops, weights) = if is_vector(shape) {
            (b * (4 * d1 * o + 4 * o), 2 * d1 * o + 2 * o)
        } else {
            (b * o * (2 * d1 * d2 + 3 * d2 + 2 * d1 + 2), o * (d1 * d2 + d2 + d1 + 1))
        };
        Work::new(flops, dtype.bytes() * (each + weights) + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        interaction(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        interaction(problem, rows)
    }
}

fn is_vector(shape: &Shape) -> bool {
    shape.option().is_some_and(|tag| tag.starts_with("vector"))
}

/// Widths of both modalities and of the output.
fn sizes(shape: &Shape) -> [usize; 3] {
    let each = widths::widths(shape);
    [each[0], each[1], if is_vector(shape) { each[1] } else { shape["o"] }]
}

/// Most additions a term of a sum of `terms` passes through.
fn depth(terms: usize, variant: &Variant) -> usize {
    if variant.name == "registers" {
        return terms;
    }
    terms.div_ceil(SHARES) + SHARES.ilog2() as usize
}

fn interaction<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, [d1, d2, o]) = (problem.shape["b"], sizes(problem.shape));
    let float = |name| problem.inputs.float::<Ix2>(name);
    let [m1, m2, w, v, u] = ["m1", "m2", "w", "v", "u"].map(float);
    let c = problem.inputs.float::<Ix1>("c");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    let depth = |terms| depth(terms, problem.variant);
    vec![by_rows(rows, b, o, |row, mut y| {
        let entry = |m: u32, value: f32| if present[row] >> m & 1 == 1 { value } else { 0.0 };
        let left: Vec<f32> = m1.row(row).iter().map(|&value| entry(0, value)).collect();
        let right: Vec<f32> = m2.row(row).iter().map(|&value| entry(1, value)).collect();
        // m1 with one column of weights.
        let column = |weights: &ndarray::ArrayView2<f32>, col: usize, depth| {
            S::dot((0..d1).map(|i| (left[i], weights[[i, col]])), depth)
        };
        for col in 0..o {
            let sum = if is_vector(problem.shape) {
                let gain = column(&w, col, depth(d1)) + exact(v[[0, col]]);
                exact(right[col]) * gain + column(&u, col, depth(d1))
            } else {
                let inner = |j: usize| column(&w, j * o + col, d1) + exact(v[[j, col]]);
                let outer = (0..d2).map(|j| exact(right[j]) * inner(j));
                let linear = (0..d1).map(|i| exact(left[i]) * exact(u[[i, col]]));
                let terms: Vec<S> = outer.chain(linear).collect();
                // Each share adds its two sums before the tree.
                S::sum(terms.into_iter(), depth(d1.max(d2)) + 1)
            };
            y[col] = (sum + exact(c[col])).store(problem.storage());
        }
    })]
}
