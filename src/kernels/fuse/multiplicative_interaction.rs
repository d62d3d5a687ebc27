//! Multiplicative interactions of two modalities (Jayakumar et al., "Multiplicative Interactions
//! and Where to Find Them", ICLR 2020): the matrix form and, tagged `vector`, the diagonal one.

use ndarray::{Array2, ArrayView2, Ix1, Ix2};

use super::{modalities, widths};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem,
    Shape, Slice, Spec, Suits, Variant, Window, Work, refuses_uncut,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &MultiplicativeInteraction;

struct MultiplicativeInteraction;

/// Blocks of outputs that W is stored in, at most; `slices8` binds one at a time.
const BLOCKS: usize = 8;
/// Blocks are whole tiles of every strategy.
const TILE: usize = 64;

const VARIANTS: &[Variant] = &[
    // For weights larger than one binding.
    Variant {
        refuses: |shape| match is_vector(shape) {
            true => Some("the gains of the vector form are small".to_owned()),
            false => refuses_uncut(sizes(shape).into_iter().product()),
        },
        ..Variant::new("slices8", &[("WG", 8.0)])
    },
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("registers", &[("WG", 8.0)]),
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        suits: Suits::Cpu,
        refuses: |shape| {
            let [_, _, o] = sizes(shape);
            let vector = || "made for the matrix form".to_owned();
            let ragged = || format!("{o} outputs, not a multiple of 4");
            let is_ragged = !o.is_multiple_of(4);
            is_vector(shape).then(vector).or_else(|| is_ragged.then(ragged))
        },
        turns: |shape| {
            let [d1, d2, _] = sizes(shape);
            d2.div_ceil(4) * (1 + d1) + d1
        },
        ..Variant::new("broadcast", &[])
    },
    Variant { suits: Suits::Gpu, ..Variant::new("split", &[]) },
];

/// Invocations of `split` that share the outer sum of one output.
const SHARES: usize = 16;

const MUTANTS: &[Mutant] = &[
    Mutant::new("first modality taken as present", "(masks & vec4<u32>(1u))", "vec4<u32>(1u)"),
    Mutant::new("second modality taken as present", "(masks & vec4<u32>(2u))", "vec4<u32>(2u)"),
    Mutant::new("presence bits swapped", "(masks & vec4<u32>(1u))", "(masks & vec4<u32>(2u))"),
    Mutant::new("block of W as wide as the first", "min(params.block, params.outputs - start)", {
        "params.block"
    }),
    Mutant::new("columns counted from the first block", "columns(p) - p.start", "columns(p)"),
    Mutant::new(
        "slices all of the first outputs",
        "let col = params.first + left",
        "let col = left",
    ),
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
    Mutant::new("entries of another sample", "Broadcast(entry, 6u)", "Broadcast(entry, 2u)"),
    Mutant::new(
        "entry of m2 for the one before",
        "add_entries(entries * d,",
        "add_entries(entries * c,",
    ),
    Mutant::new(
        "entries beyond the last of m2 repeated",
        "hidden | vec4<bool>(j >= params.d2)",
        "hidden",
    ),
    Mutant::new("V of an entry left out", "add_entries(b, vec4<f32>(v4[of_v.y]));", ""),
    Mutant::new("last output dropped", "col < params.outputs)", "col + 1u < params.outputs)"),
];

const OPERANDS: &[Operand] = &[
    Operand::new("m1", "b u"),
    Operand::new("m2", "b v"),
    Operand::new("w", "u v o"),
    Operand::new("v", "v o"),
    Operand::new("u", "u o"),
    Operand::new("c", "o"),
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
            operands: Operands::of(OPERANDS).without(&["vector", "vector_present"]),
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
                // Several blocks, the last one narrower.
                matrix(5, [8, 5], 261),
                matrix(0, [4, 4], 4),
                matrix(3, [5, 4], 0),
                matrix(9, [17, 9], 5).tag("present"),
                matrix(9, [5, 31], 16).tag("present"),
                // Several tiles of samples and of outputs.
                matrix(35, [3, 5], 36).tag("present"),
                vector(1, [1, 1]),
                vector(3, [35, 33]),
                widths::shape(&[("b", 9)], &[257, 5]).tag("vector_present"),
                widths::shape(&[("b", 9)], &[9, 68]).tag("vector_present"),
            ],
            Preset::Models => vec![
                matrix(128, [10, 720], 100).from("MultiBench MIMIC"),
                matrix(128, [24, 96], 96).from("MultiBench AV-MNIST"),
                matrix(128, [512, 512], 1024).from("MultiBench MM-IMDb"),
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
            params.size("outputs", o).size("block", block(o)).size("first", 0),
            vec![
                generator.data("m1", &[b, d1]).with_garbage(|index| absent(0, index / d1)),
                generator.data("m2", &[b, d2]).with_garbage(|index| absent(1, index / d2)),
                generator.weight("w", &[d1 * slices * o], scale(d1 * slices)),
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
            ("broadcast", _) => ("broadcast", 32),
            ("registers" | "slices8", false) => ("matrix", 4 * variant.constant("WG")),
            ("registers", true) => ("vector", 4 * variant.constant("WG")),
            (_, false) => ("matrix_split", 64),
            (_, true) => ("vector_split", 64),
        };
        let rows = if variant.name == "broadcast" { 32 } else { 4 };
        let grid = [o.div_ceil(cols) as u32, b.div_ceil(rows) as u32, 1];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b, o), grid);
        launch.dispatches[0].entry = entry;
        if variant.name == "slices8" && o > block(o) {
            let blocks = (0..o).step_by(block(o));
            launch.dispatches = blocks.map(|first| slice(shape, first, cols)).collect();
        }
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

/// Outputs in one block of W.
fn block(o: usize) -> usize {
    o.div_ceil(BLOCKS).next_multiple_of(TILE).max(TILE)
}

/// The dispatch for the block of W that starts at output `first`.
fn slice(shape: &Shape, first: usize, cols: usize) -> Dispatch {
    let [d1, d2, o] = sizes(shape);
    let width = block(o).min(o - first);
    let elements = first * d1 * d2..(first + width) * d1 * d2;
    let tiles = width.div_ceil(cols) as u32;
    let slice =
        Slice { windows: vec![Window { buffer: "w", elements }], params: vec![("first", first)] };
    Dispatch { slice, ..Dispatch::new("matrix", [tiles, shape["b"].div_ceil(4) as u32, 1]) }
}

/// Widths of both modalities and of the output.
fn sizes(shape: &Shape) -> [usize; 3] {
    let each = widths::widths(shape);
    [each[0], each[1], if is_vector(shape) { each[1] } else { shape["o"] }]
}

/// Most additions a term of a sum of `terms` passes through.
fn depth(terms: usize, variant: &Variant) -> usize {
    if variant.name == "split" {
        return terms.div_ceil(SHARES) + SHARES.ilog2() as usize;
    }
    terms
}

fn interaction<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, [d1, d2, o]) = (problem.shape["b"], sizes(problem.shape));
    let float = |name| problem.inputs.float::<Ix2>(name);
    let [m1, m2, v, u] = ["m1", "m2", "v", "u"].map(float);
    let [w, c] = ["w", "c"].map(|name| problem.inputs.float::<Ix1>(name));
    // Row i, or i and j, of a block of W.
    let rows_of_w = if is_vector(problem.shape) { d1 } else { d1 * d2 };
    let w_at = |row: usize, col: usize| {
        let start = col / block(o) * block(o);
        w[start * rows_of_w + row * block(o).min(o - start) + col - start]
    };
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    let depth = |terms| depth(terms, problem.variant);
    let entries = |x: &ArrayView2<f32>, m: u32, row: usize| -> Vec<f32> {
        let is_present = present[row] >> m & 1 == 1;
        x.row(row).iter().map(|&value| if is_present { value } else { 0.0 }).collect()
    };
    let samples: Vec<_> =
        rows.of(b).into_iter().map(|row| (entries(&m1, 0, row), entries(&m2, 1, row))).collect();
    // By columns, each of which is gathered once for all samples: W may be a gigabyte.
    let columns = by_rows(&Rows::All, o, samples.len(), |col, mut y| {
        let mut w = vec![0.0; rows_of_w];
        let inner = rows_of_w / d1.max(1);
        (0..rows_of_w).for_each(|row| w[row % inner * d1 + row / inner] = w_at(row, col));
        for ((left, right), y) in samples.iter().zip(&mut y) {
            let of_w = |j: usize| left.iter().copied().zip(w[j * d1..][..d1].iter().copied());
            let of_u = (0..d1).map(|i| (left[i], u[[i, col]]));
            let sum = if is_vector(problem.shape) {
                let gain = S::dot(of_w(0), depth(d1)) + exact(v[[0, col]]);
                exact(right[col]) * gain + S::dot(of_u, depth(d1))
            } else if problem.variant.name == "broadcast" {
                let of_m2 = |j: usize| {
                    let both =
                        move |(left, w): (f32, f32)| exact(left) * exact(right[j]) * exact(w);
                    of_w(j).map(both).chain([exact(right[j]) * exact(v[[j, col]])])
                };
                let linear = of_u.map(|(left, u)| exact(left) * exact(u));
                let terms: Vec<S> = (0..d2).flat_map(of_m2).chain(linear).collect();
                // Four entries of m2 and all of m1, then by fours of m2, U last.
                S::sum(terms.into_iter(), 4 * (d1 + 1) + d2.div_ceil(4) + 1)
            } else {
                let inner = |j: usize| S::dot(of_w(j), d1) + exact(v[[j, col]]);
                let outer = (0..d2).map(|j| exact(right[j]) * inner(j));
                let linear = of_u.map(|(left, u)| exact(left) * exact(u));
                let terms: Vec<S> = outer.chain(linear).collect();
                // Each share adds its two sums before the tree.
                S::sum(terms.into_iter(), depth(d1.max(d2)) + 1)
            };
            *y = (sum + exact(c[col])).store(problem.storage());
        }
    });
    vec![columns.t().as_standard_layout().into_owned()]
}
