//! Tensor fusion (arXiv 1707.07250): every product of entries of different modalities.

use ndarray::{Array2, Ix2};

use super::widths;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &TensorFusion;

struct TensorFusion;

/// f32 cells of the table of `split`: half of the workgroup memory that WebGPU guarantees.
const MAX_TABLE: usize = 2048;

const VARIANTS: &[Variant] = &[
    Variant::new("cell", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| {
            let last = last(shape);
            (last > MAX_TABLE).then(|| format!("{last} cells of one modality, over {MAX_TABLE}"))
        },
        ..Variant::new("split", &[("WG", 64.0), ("ROWS", 16.0)])
    },
    Variant { refuses: refuses_long, ..Variant::new("strip", &[("WG", 8.0)]) },
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            let last = last(shape);
            let ragged = !last.is_multiple_of(16);
            let reason = || format!("{last} cells of the last modality, not a multiple of 16");
            ragged.then(reason).or_else(|| refuses_long(shape))
        },
        ..Variant::new("strip16", &[("WG", 8.0)])
    },
];

/// Cells of the last modality, the 1 among them.
fn last(shape: &Shape) -> usize {
    widths::widths(shape).last().copied().unwrap_or(0) + 1
}

/// Turns of the loop of an invocation of `strip`: llvmpipe leaves loops after 65,535.
const MOST_TURNS: usize = 60_000;

fn refuses_long(shape: &Shape) -> Option<String> {
    let each = widths::widths(shape);
    let turns = 2 * cells(&each[..each.len() - 1]);
    (turns > MOST_TURNS).then(|| format!("{turns} turns of a loop, some drivers end it before"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((mask >> (m - 1u)) & 1u) == 0u", "false"),
    Mutant::new("presence of the next modality", "mask >> (m - 1u)", "mask >> m"),
    Mutant::new("ones at the end", "if (entry > 0u)", "if (entry + 1u < width)"),
    Mutant::new("entries one late", "start + entry - 1u", "start + entry"),
    Mutant::new("ones left out of the width", "first[m] - start + 1u", "max(first[m] - start, 1u)"),
    Mutant::new("absent modality taken as ones", "return 0.0;", "continue;"),
    Mutant::new("first modality dropped", "m > begin; m--", "m > begin + 1u; m--"),
    Mutant::new("last cell dropped", "index >= params", "index + 1u >= params"),
    Mutant::new("last row of tables dropped", "i < min(start", "i + 1u < min(start"),
    Mutant::new("third of four vectors like the second", "strip_of(index + 2u)", {
        "strip_of(index + 1u)"
    }),
    Mutant::new("strip without the ones", "select(entry, 1.0, i == 0u)", "entry"),
    Mutant::new("strip of an absent modality", "((mask >> m) & 1u) == 1u && i > 0u", "i > 0u"),
    Mutant::new("strip without a factor", "let left = factor * entry", "let left = entry"),
    Mutant::new("factor of the table left out", "factor * table[j]", "table[j]"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "b u+v+w+x+y+z")];

impl Kernel for TensorFusion {
    fn spec(&self) -> Spec {
        Spec {
            summary: "multiply out [1; x] of all modalities: every interaction explicitly",
            difficulties: &[2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Small,
                Distribution::Large,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |b, w: &[usize]| widths::shape(&[("b", b)], w);
        match preset {
            Preset::Smoke => vec![
                of(1, &[1, 1]),
                of(3, &[257]),
                of(2, &[35, 257]),
                of(2, &[4, 19, 79]),
                of(0, &[4, 4]),
                of(5, &[5]).tag("present"),
                of(9, &[5, 35]).tag("present"),
                of(17, &[5, 1, 31]).tag("present"),
                of(17, &[16, 3, 8]).tag("present"),
                of(129, &[1, 2, 1, 3, 1, 2]).tag("present"),
            ],
            Preset::Models => vec![
                of(128, &[4, 19, 79]).from("MultiBench, three modalities"),
                of(128, &[8, 8, 64, 16]).from("MultiBench Vision & Touch"),
            ],
            Preset::Sweep => [14, 16, 18, 20, 22, 24]
                .into_iter()
                // 64 samples; the exponents of two spread over the modalities.
                .flat_map(|log2| (2..=4).map(move |m| (log2 - 6, m)))
                .map(|(bits, m)| {
                    let width = |i: usize| (1 << ((bits + i) / m)) - 1;
                    of(64, &(0..m).map(width).collect::<Vec<_>>())
                })
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, each) = (shape["b"], widths::widths(shape));
        let firsts = widths::firsts(&each);
        let total = each.iter().sum::<usize>();
        let present = widths::presence(shape);
        let absent = |index: usize| {
            present[index / total] >> widths::modality_of(&firsts, index % total) & 1 == 0
        };
        let params = Params::new().size("batch", b).size("modalities", each.len());
        Inputs::new(
            params.size("total", total).size("cells", cells(&each)),
            vec![
                generator.data("x", &[b, total]).with_garbage(absent),
                Tensor::words("first", &[firsts.len()], widths::table(&firsts)),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, each) = (shape["b"], widths::widths(shape));
        let cells = cells(&each);
        let output = Buffer::new("y", dtype.storage(), b, cells);
        if variant.name == "cell" {
            let workgroups = (b * cells).div_ceil(variant.constant("WG"));
            let mut launch = Launch::single(output, spill(workgroups));
            launch.dispatches[0].entry = "cell";
            return launch;
        }
        if let "strip" | "strip16" = variant.name {
            let last = last(shape);
            let (entry, columns) = match variant.name {
                "strip16" => ("strip16", 16),
                _ if last.is_multiple_of(4) => ("strip4", 4),
                _ => ("strip", 4),
            };
            let workgroups = (b * last.div_ceil(columns)).div_ceil(variant.constant("WG"));
            let mut launch = Launch::single(output, spill(workgroups));
            launch.dispatches[0].entry = entry;
            return launch;
        }
        let (from, right) = split(&each);
        let bands = (cells / right).div_ceil(variant.constant("ROWS"));
        let mut launch = Launch::single(output, spill(b * bands));
        launch.dispatches[0].entry = "split";
        launch.with_constant("SPLIT", from as f64).with_constant("RIGHT", right as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, each) = (shape["b"], widths::widths(shape));
        // One multiplication a cell of the product of the first two, three, … modalities.
        let products: usize = (2..=each.len()).map(|m| cells(&each[..m])).sum();
        let elements = cells(&each) + each.iter().sum::<usize>();
        Work::new(b * products, dtype.bytes() * b * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        tensor_fusion(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        tensor_fusion(problem, rows)
    }
}

/// Cells of the outer product.
fn cells(each: &[usize]) -> usize {
    each.iter().map(|width| width + 1).product()
}

/// The first of the last modalities whose product fits the table, and the cells of that product.
fn split(each: &[usize]) -> (usize, usize) {
    let fitting = (0..each.len()).find(|&m| cells(&each[m..]) <= MAX_TABLE);
    let from = fitting.unwrap_or(each.len() - 1);
    (from, cells(&each[from..]))
}

fn tensor_fusion<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, each) = (problem.shape["b"], widths::widths(problem.shape));
    let firsts = widths::firsts(&each);
    let x = problem.inputs.float::<Ix2>("x");
    let present = problem.inputs.words("present");
    vec![by_rows(rows, b, cells(&each), |row, mut y| {
        let mut product = vec![S::one()];
        for m in 0..each.len() {
            let is_present = present[row] >> m & 1 == 1;
            let entry =
                |i: usize| if is_present { f64::from(x[[row, firsts[m] + i]]) } else { 0.0 };
            let factors: Vec<S> =
                std::iter::once(S::one()).chain((0..each[m]).map(|i| S::exact(entry(i)))).collect();
            let extend = |&p: &S| factors.iter().map(move |&f| p * f).collect::<Vec<_>>();
            product = product.iter().flat_map(extend).collect();
        }
        for (y, product) in y.iter_mut().zip(product) {
            *y = product.store(problem.storage());
        }
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_last_modalities_fits_and_divides_the_cells() {
        assert_eq!(split(&[4, 19, 79]), (1, 1600));
        assert_eq!(split(&[8, 8, 64, 16]), (2, 1105));
        assert_eq!(split(&[5000]), (0, 5001));
    }
}
