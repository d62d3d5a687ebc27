//! The best matches of each row, as retrieval and top-k accuracy need them.

use ndarray::{Array2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &TopK;

struct TopK;

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant { refuses, ..Variant::new("insert", &[("WG", 8.0)]) },
    Variant { refuses: refuses_many, ..Variant::new("registers", &[("WG", 8.0)]) },
    Variant { refuses, suits: Suits::Gpu, ..Variant::new("tournament", &[("WG", 64.0)]) },
];

/// There is no k-th largest of fewer elements.
fn refuses(shape: &Shape) -> Option<String> {
    let (n, k) = (shape["n"], shape["k"]);
    (k > n).then(|| format!("k is {k}, a row has {n} elements"))
}

/// Elements that `registers` keeps.
const MOST_KEPT: usize = 8;

fn refuses_many(shape: &Shape) -> Option<String> {
    let k = shape["k"];
    let many = (k > MOST_KEPT).then(|| format!("k is {k}, registers hold {MOST_KEPT}"));
    refuses(shape).or(many)
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("last of equal elements first", "f32(above) >= v", "f32(above) > v"),
    Mutant::new(
        "equal elements enter a full list",
        "full && v <= smallest",
        "full && v < smallest",
    ),
    Mutant::new("last element dropped", "i < params.n; i++", "i + 1u < params.n; i++"),
    Mutant::new("values not moved along", "values[list + place] = above;", ""),
    Mutant::new(
        "indices not moved along",
        "indices[list + place] = indices[list + place - 1u];",
        "",
    ),
    Mutant::new(
        "smallest element never updated",
        "if (i + 1u >= params.k) { smallest",
        "if (i + 1u == params.k) { smallest",
    ),
    Mutant::new("candidates not moved along", "vec4<bool>(low.w, high.xyz)", "vec4<bool>()"),
    Mutant::new("places not moved along", "after_low, shift_low", "after_low, vec4<bool>()"),
    Mutant::new("second four of eight left out", "offer4(v[1],", "offer4(v[0],"),
    Mutant::new("ties by the higher index", "a.index < b.index", "a.index > b.index"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    Mutant::new(
        "winner's lane not searched again",
        "mine = best_after(row, lane, winner);",
        "mine = Found(LOWEST, params.n);",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "r n")];

fn refuses_few(shape: &Shape) -> Option<String> {
    let (n, k) = (shape["n"], shape["k"]);
    (k > n).then(|| format!("the {k} largest of {n} values"))
}

impl Kernel for TopK {
    fn spec(&self) -> Spec {
        Spec {
            summary: "find the k largest elements of each row and where they are",
            difficulties: &[5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Ties,
                Distribution::Constant,
                Distribution::Large,
            ],
            operands: Operands::of(OPERANDS).refusing(refuses_few),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1),
                of(2, 5, 5),
                of(31, 31, 1),
                of(33, 65, 5),
                of(3, 257, 257),
                of(9, 1025, 7),
                of(17, 264, 8),
                of(5, 72, 3),
                of(0, 8, 2),
                // More rows than one grid dimension holds.
                of(65_537, 3, 2),
            ],
            Preset::Models => vec![
                of(1024, 1024, 5).from("ImageBind-huge, retrieval over a batch of 1024"),
                of(4096, 4096, 5).from("CLIP ViT-L/14-336, retrieval over a batch of 4096"),
                of(4096, 1000, 5).from("CLIP ViT-L/14-336, top-5 of ImageNet classes"),
            ],
            Preset::Sweep => [1, 5, 20]
                .into_iter()
                .flat_map(|k| (8..=12).map(move |log2| of(1 << log2, 1 << log2, k)))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (r, n, k) = (shape["r"], shape["n"], shape["k"]);
        Inputs::new(
            Params::new().size("rows", r).size("n", n).size("k", k),
            vec![generator.data("x", &[r, n])],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (r, k) = (shape["r"], shape["k"]);
        let (entry, workgroups) = match variant.name {
            "tournament" => ("tournament", r),
            "registers" if shape["n"].is_multiple_of(8) => {
                ("registers8", r.div_ceil(variant.constant("WG")))
            }
            entry => (entry, r.div_ceil(variant.constant("WG"))),
        };
        let grid = spill(workgroups);
        Launch {
            outputs: vec![
                Buffer::new("values", dtype.storage(), r, k),
                Buffer::new("indices", Elem::U32, r, k),
            ],
            scratch: Vec::new(),
            dispatches: vec![Dispatch::new(entry, grid)],
        }
    }

    /// Comparisons only: what counts is the elements read.
    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (r, n, k) = (shape["r"], shape["n"], shape["k"]);
        Work::new(0, dtype.bytes() * r * n + (dtype.bytes() + 4) * r * k)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        top_k(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        top_k(problem, rows)
    }
}

/// Rows, elements of a row, elements wanted.
fn of(r: usize, n: usize, k: usize) -> Shape {
    Shape::new(&[("r", r), ("n", n), ("k", k)])
}

/// Selection only: exact.
fn top_k<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, k) = (problem.shape["r"], problem.shape["k"]);
    let x = problem.inputs.float::<Ix2>("x");
    let best = |row: usize| {
        let values = x.row(row);
        let mut order: Vec<usize> = (0..values.len()).collect();
        // A stable sort keeps equal elements, zeros of either sign among them, in their order.
        // What is not a number, which only a user brings, comes last.
        let by_nan = |a: usize, b: usize| values[a].is_nan().cmp(&values[b].is_nan());
        order.sort_by(|&a, &b| values[b].partial_cmp(&values[a]).unwrap_or(by_nan(a, b)));
        order.truncate(k);
        order
    };
    let values = by_rows(rows, r, k, |row, mut out| {
        for (place, &i) in best(row).iter().enumerate() {
            out[place] = S::exact(f64::from(x[[row, i]]));
        }
    });
    let indices = by_rows(rows, r, k, |row, mut out| {
        for (place, &i) in best(row).iter().enumerate() {
            out[place] = S::exact(i as f64);
        }
    });
    vec![values, indices]
}
