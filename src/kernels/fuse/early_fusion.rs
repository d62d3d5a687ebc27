//! Concatenation and linear layer in one kernel (`ConcatWithLinear` of MultiBench), without the
//! concatenation in memory.

use ndarray::{Array2, Ix1, Ix2};

use super::{modalities, widths};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &EarlyFusion;

struct EarlyFusion;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("registers", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("tiled", &[]) },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let few = shape["b"] < MIN_BROADCAST_ROWS;
            few.then(|| format!("{} samples, made for {MIN_BROADCAST_ROWS} and more", shape["b"]))
        },
        ..Variant::new("broadcast", &[])
    },
];

/// Of sixteen that are loaded.
const MIN_BROADCAST_ROWS: usize = 4;

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((mask >> m) & 1u) == 0u", "false"),
    Mutant::new("presence of the first modality for all", "(mask >> m)", "mask"),
    Mutant::new("last modality dropped", "m < params.modalities", "m + 1u < params.modalities"),
    Mutant::new(
        "weights of the first modality for all",
        "* params.total + first[m]",
        "* params.total",
    ),
    Mutant::new("blocks without their batch", "params.batch * first[m]", "first[m]"),
    Mutant::new("tail of a width dropped", "(width_of(m) + 3u) / 4u", "width_of(m) / 4u"),
    Mutant::new("bias left out", "dot + f32(b[col])", "dot"),
    Mutant::new("samples four apart shared", "lower_masks, m, q", "upper_masks, m, q"),
    Mutant::new("a sample of another invocation", "Broadcast(own, 5u)", "Broadcast(own, 4u)"),
    Mutant::new("lower samples present like the upper", "(lower_mask >> m)", "(upper_mask >> m)"),
    Mutant::new("right outputs like the left", "starts4(col + 32u, m)", "starts4(col, m)"),
    Mutant::new("last output dropped", "col < params.n)", "col + 1u < params.n)"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "T"), Operand::new("w", "n u+v+w+x+y+z"), Operand::new("b", "n")];

impl Kernel for EarlyFusion {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project the concatenation of all modalities without storing it",
            difficulties: &[1, 2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Outliers,
            ],
            operands: Operands::of(OPERANDS)
                .deriving(|shape| shape["b"] * widths::widths(shape).iter().sum::<usize>()),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |b, n, w: &[usize]| widths::shape(&[("b", b), ("n", n)], w);
        match preset {
            Preset::Smoke => vec![
                of(1, 1, &[1]),
                of(7, 31, &[257, 35]),
                of(65, 33, &[64, 32]),
                of(0, 5, &[8, 8]),
                of(3, 0, &[8, 8]),
                of(5, 5, &[5]).tag("present"),
                of(9, 65, &[35, 257]).tag("present"),
                of(17, 30, &[30, 74, 35]).tag("present"),
                of(129, 9, &[4, 20, 16, 8, 12, 4]).tag("present"),
                of(129, 3, &[1, 5, 35, 2, 33, 3]).tag("present"),
            ],
            Preset::Models => vec![
                of(128, 23, &[512, 512]).from("MultiBench MM-IMDb"),
                of(1200, 1536, &[35, 74, 300])
                    .from("MultiBench MOSEI, gates of a GRU, 24 × 50 steps"),
                of(24, 180, &[60, 60, 60]).from("MulT MOSEI head"),
                of(1024, 1024, &[1024; 4]).from("ImageBind-huge, batch 1024"),
            ],
            Preset::Sweep => [128, 256, 512, 1024, 2048]
                .into_iter()
                .flat_map(|size| [2, 4, 6].map(|m| of(size, size, &vec![size; m])))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, n, each) = (shape["b"], shape["n"], widths::widths(shape));
        let firsts = widths::firsts(&each);
        let total = each.iter().sum::<usize>();
        let present = widths::presence(shape);
        let absent = |index: usize| {
            // Block m holds the elements from b · firsts[m] on.
            let m = widths::modality_of(&firsts, index / b);
            present[(index - b * firsts[m]) / each[m]] >> m & 1 == 0
        };
        // Keeps the outputs of the size of the inputs, as trained weights do.
        let scale = (total.max(1) as f32).sqrt().recip();
        let params = Params::new().size("batch", b).size("n", n);
        Inputs::new(
            params.size("modalities", each.len()).size("total", total),
            vec![
                generator.data("x", &[b * total]).with_garbage(absent),
                generator.weight("w", &[n, total], scale),
                generator.weight("b", &[n], 1.0),
                Tensor::words("first", &[firsts.len()], widths::table(&firsts)),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, n) = (shape["b"], shape["n"]);
        let vectors = widths::widths(shape).iter().all(|width| width.is_multiple_of(4));
        let (entry, rows, cols) = match (variant.name, vectors) {
            ("registers", true) => ("registers", 8, 4 * variant.constant("WG")),
            ("registers", false) => ("registers_any", 4, 4 * variant.constant("WG")),
            ("broadcast", true) => ("broadcast", 16, 64),
            ("broadcast", false) => ("broadcast_any", 16, 32),
            (_, true) => ("tiled", 64, 64),
            (_, false) => ("tiled_any", 64, 64),
        };
        let grid = [n.div_ceil(cols) as u32, b.div_ceil(rows) as u32, 1];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b, n), grid);
        launch.dispatches[0].entry = entry;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, n) = (shape["b"], shape["n"]);
        let total = widths::widths(shape).iter().sum::<usize>();
        let elements = b * total + n * total + n + b * n;
        Work::new(b * n * (2 * total + 1), dtype.bytes() * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        early_fusion(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        early_fusion(problem, rows)
    }
}

fn early_fusion<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, n, each) = (problem.shape["b"], problem.shape["n"], widths::widths(problem.shape));
    let firsts = widths::firsts(&each);
    let x = problem.inputs.float::<Ix1>("x");
    let w = problem.inputs.float::<Ix2>("w");
    let bias = problem.inputs.float::<Ix1>("b");
    let present = problem.inputs.words("present");
    vec![by_rows(rows, b, n, |row, mut y| {
        let members = modalities::members(present[row]);
        // Column of w and element of x, for what is present.
        let places: Vec<(usize, usize)> = members
            .iter()
            .flat_map(|&m| {
                let (first, start) = (firsts[m], b * firsts[m] + row * each[m]);
                (0..each[m]).map(move |i| (first + i, start + i))
            })
            .collect();
        for col in 0..n {
            // One invocation adds all products, in whatever order its compiler likes.
            let pairs = places.iter().map(|&(column, element)| (x[element], w[[col, column]]));
            let dot = S::dot(pairs, places.len());
            y[col] = (dot + S::exact(f64::from(bias[col]))).store(problem.storage());
        }
    })]
}
