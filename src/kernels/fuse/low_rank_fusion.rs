//! Low-rank multimodal fusion (arXiv 1806.00064): tensor fusion and the layer behind it as a sum
//! of products of projections, one for each rank.

use std::ops::Range;

use ndarray::{Array2, Ix1, Ix2};

use super::widths;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Slice, Spec, Suits, Variant, Window, Work, cut, refuses_uncut,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LowRankFusion;

struct LowRankFusion;

/// Most slices of the ranks that `slices8` adds one after the other.
const SLICES: usize = 8;

const VARIANTS: &[Variant] = &[
    Variant {
        refuses: |shape| refuses_uncut(shape["r"] * of_rank(shape)),
        ..Variant::new("slices8", &[("WG", 8.0)])
    },
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("registers", &[("WG", 8.0)]),
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        suits: Suits::Cpu,
        refuses: |shape| {
            let o = shape["o"];
            (!o.is_multiple_of(4)).then(|| format!("{o} outputs, not a multiple of 4"))
        },
        ..Variant::new("broadcast", &[])
    },
    Variant { suits: Suits::Gpu, ..Variant::new("split_ranks", &[]) },
];

/// Samples and outputs of a subgroup in `broadcast`.
const TILE: usize = 32;

/// Invocations of `split_ranks` that share the ranks of one output.
const SHARES: usize = 16;

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "if (!is_present) { return 0.0; }", ""),
    Mutant::new("presence of the first modality for all", "masks >> vec4<u32>(m)", "masks"),
    Mutant::new("ones left out", "mat4x4<f32>(one, one, one, one)", "mat4x4<f32>()"),
    Mutant::new("last rank dropped", "r < params.end", "r + 1u < params.end"),
    Mutant::new("sums of the slices before dropped", "sum = sums[at];", ""),
    Mutant::new("factors counted from the first rank", "(r - params.begin)", "r"),
    Mutant::new("weights counted from the first of a slice", "f32(w[r])", {
        "f32(w[r - params.begin])"
    }),
    Mutant::new("last entry of a modality dropped", "i < width", "i + 1u < width"),
    Mutant::new("factors of modalities overlap", "+ first[m] + m)", "+ first[m])"),
    Mutant::new("weights of ranks left out", "vec4<f32>(f32(w[r]))", "vec4<f32>(1.0)"),
    Mutant::new("product in place of a sum", "product[1] *= dots[1]", "product[1] += dots[1]"),
    Mutant::new("bias left out", "v[i] + f32(bias[col])", "v[i]"),
    Mutant::new("fourth sample from the third", "x_of(row + 3u", "x_of(row + 2u"),
    Mutant::new("half of the shares not added", "var half = 8u", "var half = 4u"),
    Mutant::new("entries of another sample", "Broadcast(entry, 5u)", "Broadcast(entry, 4u)"),
    Mutant::new("samples of the first eight for the third", "add_eight(&dots_2, entries.z, v)", {
        "add_eight(&dots_2, entries.x, v)"
    }),
    Mutant::new(
        "third of four entries left out",
        "select(x[2], vec4<f32>(), hidden)",
        "vec4<f32>()",
    ),
    Mutant::new("absent modality read", "select(entries, vec4<f32>(), hidden)", "entries"),
    Mutant::new("last output dropped", "col < params.outputs)", "col + 1u < params.outputs)"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "b u+v+w+x+y+z"), Operand::new("w", "r"), Operand::new("bias", "o")];

impl Kernel for LowRankFusion {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add over ranks the products of every modality's projection",
            difficulties: &[2, 4],
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
        let of = |b, r, o, w: &[usize]| widths::shape(&[("b", b), ("r", r), ("o", o)], w);
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1, &[1]),
                of(3, 4, 10, &[10, 72]),
                of(6, 17, 68, &[5, 8]),
                of(0, 2, 4, &[4, 4]),
                of(2, 3, 0, &[4, 4]),
                of(5, 3, 4, &[5]).tag("present"),
                of(9, 4, 10, &[10, 72]).tag("present"),
                of(17, 20, 16, &[5, 1, 31]).tag("present"),
                // Several slices, the last one shorter.
                of(5, 17, 64, &[5, 9]),
                of(9, 9, 68, &[3, 26, 32]).tag("present"),
                // Several tiles of samples and of outputs.
                of(33, 3, 36, &[8, 4]).tag("present"),
                of(129, 2, 5, &[1, 2, 1, 3, 1, 2]).tag("present"),
            ],
            Preset::Models => vec![
                of(128, 32, 128, &[32, 32, 128]).from("MultiBench MOSI"),
                of(128, 40, 100, &[10, 720]).from("MultiBench MIMIC"),
                of(128, 40, 120, &[48, 192]).from("MultiBench AV-MNIST"),
                of(128, 40, 200, &[256, 256, 256, 256, 32]).from("MultiBench Vision & Touch"),
                of(128, 128, 512, &[512, 512]).from("MultiBench MM-IMDb"),
            ],
            Preset::Sweep => [4, 16, 64]
                .into_iter()
                .flat_map(|r| (2..=6).map(move |m| (r, m)))
                .map(|(r, m)| of(128, r, 128, &vec![128; m]))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, r, o, each) = (shape["b"], shape["r"], shape["o"], widths::widths(shape));
        let firsts = widths::firsts(&each);
        let (m, total) = (each.len(), each.iter().sum::<usize>());
        let present = widths::presence(shape);
        let absent = |index: usize| {
            present[index / total] >> widths::modality_of(&firsts, index % total) & 1 == 0
        };
        // Keeps the outputs of the size of the inputs, as trained weights do.
        let scale = ((total + m) as f32 / m as f32).sqrt().recip();
        let params = Params::new().size("batch", b).size("modalities", m).size("total", total);
        Inputs::new(
            params.size("rank", r).size("outputs", o).size("begin", 0).size("end", r),
            vec![
                generator.data("x", &[b, total]).with_garbage(absent),
                Tensor::words("first", &[m + 1], widths::table(&firsts)),
                generator.weight("f", &[r * of_rank(shape)], scale),
                generator.weight("w", &[r], (r as f32).sqrt().recip()),
                generator.weight("bias", &[o], 1.0),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, o) = (shape["b"], shape["o"]);
        let is_by_fours = widths::widths(shape).iter().all(|width| width.is_multiple_of(4));
        let (entry, cols) = match variant.name {
            "broadcast" if is_by_fours => ("broadcast", TILE),
            "broadcast" => ("broadcast_any", TILE),
            "slices8" => ("add_slice", 4 * variant.constant("WG")),
            "registers" => ("registers", 4 * variant.constant("WG")),
            name => (name, 64),
        };
        let rows = if variant.name == "broadcast" { TILE } else { 4 };
        let grid = [o.div_ceil(cols) as u32, b.div_ceil(rows) as u32, 1];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b, o), grid);
        launch.dispatches[0].entry = entry;
        if variant.name == "slices8" {
            let (rows, cols) = (b.next_multiple_of(4), o.next_multiple_of(cols));
            launch.scratch = vec![Buffer::new("sums", Elem::F32, rows, cols)];
            let slices = cut(shape["r"], SLICES, &[of_rank(shape) * dtype.bytes()]).into_iter();
            let over =
                |ranks| Dispatch { slice: slice(shape, &ranks), ..Dispatch::new(entry, grid) };
            launch.dispatches = slices.map(over).collect();
        }
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, r, o, each) = (shape["b"], shape["r"], shape["o"], widths::widths(shape));
        let (m, total) = (each.len(), each.iter().sum::<usize>());
        let flops = b * r * o * (2 * (total + m) + (m - 1) + 2);
        let elements = r * of_rank(shape) + r + o + b * (total + o);
        Work::new(flops, dtype.bytes() * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        low_rank_fusion(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        low_rank_fusion(problem, rows)
    }
}

/// Elements of the factors of one rank.
fn of_rank(shape: &Shape) -> usize {
    let each = widths::widths(shape);
    (each.iter().sum::<usize>() + each.len()) * shape["o"]
}

/// What a dispatch over some ranks sees.
fn slice(shape: &Shape, ranks: &Range<usize>) -> Slice {
    if *ranks == (0..shape["r"]) {
        return Slice::default();
    }
    let elements = ranks.start * of_rank(shape)..ranks.end * of_rank(shape);
    Slice {
        windows: vec![Window { buffer: "f", elements }],
        params: vec![("begin", ranks.start), ("end", ranks.end)],
    }
}

/// Most additions the term of one rank passes through.
fn depth(ranks: usize, variant: &Variant) -> usize {
    if variant.name == "split_ranks" {
        return ranks.div_ceil(SHARES) + SHARES.ilog2() as usize;
    }
    ranks
}

fn low_rank_fusion<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, ranks, o) = (problem.shape["b"], problem.shape["r"], problem.shape["o"]);
    let each = widths::widths(problem.shape);
    let firsts = widths::firsts(&each);
    let x = problem.inputs.float::<Ix2>("x");
    let f = problem.inputs.float::<Ix1>("f");
    let w = problem.inputs.float::<Ix1>("w");
    let bias = problem.inputs.float::<Ix1>("bias");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b, o, |row, mut y| {
        let entries = |m: usize| {
            let is_present = present[row] >> m & 1 == 1;
            let of = |i: usize| if is_present { x[[row, firsts[m] + i]] } else { 0.0 };
            std::iter::once(1.0).chain((0..each[m]).map(of)).collect::<Vec<f32>>()
        };
        let entries: Vec<Vec<f32>> = (0..each.len()).map(entries).collect();
        for col in 0..o {
            let term = |r: usize| {
                entries.iter().enumerate().fold(exact(w[r]), |product, (m, entries)| {
                    let n = entries.len();
                    let start = (r * (firsts[each.len()] + each.len()) + firsts[m] + m) * o + col;
                    let pairs = entries.iter().enumerate().map(|(i, &x)| (x, f[start + i * o]));
                    product * S::dot(pairs, n)
                })
            };
            let sum = S::sum((0..ranks).map(term), depth(ranks, problem.variant));
            y[col] = (sum + exact(bias[col])).store(problem.storage());
        }
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_shares_of_the_ranks_meet_in_a_tree() {
        let of = |name| VARIANTS.iter().find(|variant| variant.name == name).expect("a variant");
        assert_eq!(depth(17, of("registers")), 17);
        assert_eq!(depth(17, of("slices8")), 17);
        assert_eq!(depth(17, of("split_ranks")), 2 + 4);
    }
}
