//! EMAP: the additive part of logits over all pairings of two modalities (arXiv 2010.06572), in f32
//! from logits of either storage type.

use ndarray::{Array1, Array2, ArrayView3, Axis, s};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Emap;

struct Emap;

const VARIANTS: &[Variant] = &[
    Variant::new("thread", &[("WG", 64.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("grand mean added", "- grand)", "+ grand)"),
    Mutant::new("grand mean left out", "- grand)", ")"),
    Mutant::new("last column dropped from the rows", "j < params.n; j", "j + 1u < params.n; j"),
    Mutant::new("last row dropped from the columns", "i < params.n; i++) { sum += f", {
        "i + 1u < params.n; i++) { sum += f"
    }),
    Mutant::new("mean of the rows twice", "+ column_sums[index]", "+ row_sums[index]"),
    Mutant::new("grand mean of the first class", "totals[index % params.c]", "totals[0]"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("f", "n n c")];

impl Kernel for Emap {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project pairwise logits onto what each modality contributes by itself",
            difficulties: &[2, 6],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Large,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |n, c| Shape::new(&[("n", n), ("c", c)]);
        match preset {
            Preset::Smoke => {
                [(1, 1), (2, 3), (8, 1), (33, 5), (64, 23), (130, 2), (31, 70), (0, 4)]
                    .map(|(n, c)| of(n, c))
                    .into()
            }
            Preset::Models => vec![
                of(64, 1),
                of(256, 1).from("ImageBind-huge, 256 image-text pairs"),
                of(512, 23).from("MultiBench MM-IMDb, 23 genres"),
                of(1024, 23).from("MultiBench MM-IMDb, 23 genres"),
            ],
            Preset::Sweep => [64, 128, 256, 512, 1024].into_iter().map(|n| of(n, 16)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, c) = (shape["n"], shape["c"]);
        Inputs::new(
            Params::new().size("n", n).size("c", c).real("inverse", inverse(n)),
            vec![generator.data("f", &[n, n, c])],
        )
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (n, c) = (shape["n"], shape["c"]);
        let of = |name, rows| Buffer::new(name, Elem::F32, rows, c);
        let run = |entry, grid| Dispatch::new(entry, grid);
        let groups = |invocations: usize| {
            [invocations.div_ceil(variant.constant("WG")) as u32, u32::from(n > 0), 1]
        };
        let rows = match variant.name {
            "thread" => run("rows_thread", groups(n * c)),
            _ => run("rows_group", [c as u32, n as u32, 1]),
        };
        let columns = run("columns", groups(n * c));
        Launch {
            outputs: vec![of("y", n)],
            scratch: vec![of("row_sums", n), of("column_sums", n), of("totals", 1)],
            dispatches: vec![columns, rows, run("total", groups(c)), run("project", groups(n * c))],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (n, c) = (shape["n"], shape["c"]);
        Work::new(2 * n * n * c, dtype.bytes() * n * n * c + 4 * n * c)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        emap(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        emap(problem, rows)
    }
}

/// 1/n as the shader receives it.
fn inverse(n: usize) -> f32 {
    (n.max(1) as f32).recip()
}

fn emap<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, c) = (problem.shape["n"], problem.shape["c"]);
    let f: ArrayView3<f32> = problem.inputs.float("f");
    let depth = match problem.variant.name {
        "thread" => n,
        _ => {
            let lanes = problem.variant.constant("WG");
            n.div_ceil(lanes) + lanes.ilog2() as usize
        }
    };
    let sum = |values: ndarray::ArrayView1<f32>, depth| {
        S::sum(values.iter().map(|&value| S::exact(f64::from(value))), depth)
    };
    let (truth, stored) = (1.0 / n.max(1) as f64, f64::from(inverse(n)));
    let inverse = S::exact(stored).approximating(truth, (truth - stored).abs());
    let row_sums = by_rows(&Rows::All, n, c, |i, mut out| {
        (0..c).for_each(|class| out[class] = sum(f.slice(s![i, .., class]), depth));
    });
    let totals: Array1<S> = row_sums.map_axis(Axis(0), |column| S::sum(column.iter().copied(), n));
    vec![by_rows(rows, n, c, |i, mut y| {
        for class in 0..c {
            let column = sum(f.slice(s![.., i, class]), n);
            let grand = totals[class] * inverse;
            y[class] = (row_sums[[i, class]] + column - grand) * inverse;
        }
    })]
}
