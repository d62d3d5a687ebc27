//! Softmax over rows with a valid length per row.

use ndarray::{Array2, Ix2};

use super::rows;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Softmax;

struct Softmax;

/// Elements that `thread4` weighs at once.
const UNIT: usize = 4;

/// Vectors of a row that each of eight invocations keeps in registers.
const MAX_HELD: usize = 16;

const VARIANTS: &[Variant] = &[
    rows::WITH_SUBGROUPS[0],
    rows::WITH_SUBGROUPS[1],
    rows::WITH_SUBGROUPS[2],
    rows::WITH_SUBGROUPS[3],
    Variant {
        suits: Suits::Cpu,
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let long = || format!("rows of {} elements, eight invocations hold 512", shape["n"]);
            (vectors_held(shape["n"]) > MAX_HELD).then(long)
        },
        ..Variant::new("registers", &[])
    },
];

/// Vectors of a row that each of eight invocations holds.
fn vectors_held(n: usize) -> usize {
    let most = if n.is_multiple_of(UNIT) { n / UNIT } else { (n + 2 * UNIT - 2) / UNIT };
    most.div_ceil(8)
}

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "sums not shrunk when the maximum grows",
        "totals * exp(before - peak) +",
        "totals +",
    ),
    Mutant::new(
        "vectors beyond the cache left out",
        "totals += weights4(i, row4",
        "totals += 0.0 * weights4(i, row4",
    ),
    Mutant::new("element beyond the length weighed", "< vec4<u32>(valid);", "<= vec4<u32>(valid);"),
    Mutant::new("maximum of an invocation alone", "subgroupMax(max(max(l", "(max(max(l"),
    Mutant::new("sum of an invocation alone", "select(subgroupAdd(own)", "select(own"),
    Mutant::new(
        "neighbouring rows not masked",
        "vec4<f32>(LOWEST), v, are_valid(4u",
        "v, v, are_valid(4u",
    ),
    Mutant::new("end of a row not carried on", "carried = subgroupShuffle(last", {
        "carried = 0.0 * subgroupShuffle(last"
    }),
    Mutant::new("vector of another invocation carried on", "- h.base / 4u) % 8u", {
        "- h.base / 4u + 1u) % 8u"
    }),
    Mutant::new(
        "one subgroup's share left out",
        "i < count; i++) { sum +=",
        "i + 1u < count; i++) { sum +=",
    ),
    Mutant::new("last vector of a row left out", "(base + valid + 3u) / 4u", "(base + valid) / 4u"),
    Mutant::new("last element of a vector not written", "if (inside.w)", "if (false)"),
    Mutant::new(
        "last element dropped from the sum",
        "i < valid; i += WG) { total",
        "i + 1u < valid; i += WG) { total",
    ),
    Mutant::new("maximum not subtracted", "peak = max(peak, f32(x[base + i]));", "peak = 0.0;"),
    Mutant::new("length ignored", "min(len[row], params.n)", "params.n"),
    Mutant::new("length of the next row", "len[row]", "len[(row + 1u) % params.rows]"),
    Mutant::new("padding left unwritten", "i = valid; i < n; i++", "i = valid + 1u; i < n; i++"),
    Mutant::new("total a little too large", "/ total", "/ (total + 1e-5)"),
    Mutant::new(
        "last element dropped by a lane",
        "i < valid; i += WG) { total",
        "i + 1u < valid; i += WG) { total",
    ),
    Mutant::new(
        "a level of the sum left out",
        "if (lane < half) { partial[lane] +=",
        "if (lane < half && half > 1u) { partial[lane] +=",
    ),
    Mutant::new(
        "maximum of the first lane",
        "peak = reduce_max(lane, peak);",
        "peak = min(reduce_max(lane, peak), f32(x[base]));",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "r n")];

impl Kernel for Softmax {
    fn spec(&self) -> Spec {
        Spec {
            summary: "turn each row's valid part into probabilities, zero beyond its length",
            difficulties: &[1, 2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(r, n)| Shape::new(&[("r", r), ("n", n)]);
        match preset {
            Preset::Smoke => {
                let full = [
                    (1, 1),
                    (3, 5),
                    (5, 33),
                    (2, 1025),
                    (2, 1500),
                    (0, 8),
                    (65_537, 5),
                    (9, 500),
                    (8, 257),
                    (4, 2),
                ];
                let tails = [(4, 1), (7, 31), (9, 65), (6, 257), (6, 508), (3, 1023)];
                let tails = tails.map(|size| of(size).tag("tail"));
                full.map(of).into_iter().chain(tails).collect()
            }
            Preset::Models => vec![
                of((384, 257)).from("BLIP-2 Q-Former"),
                // Ten alignment heads of 448 tokens over 1,500 audio frames.
                of((4_480, 1_500)).from("Whisper-large-v3 alignment heads"),
                of((6_000, 500)).from("MulT MOSEI text from audio"),
            ],
            Preset::Sweep => rows::sweep().into_iter().map(of).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (r, n) = (shape["r"], shape["n"]);
        let len = lengths(shape);
        let x = generator.data("x", &[r, n]);
        let x = x.with_garbage(|index| index % n >= len[index / n] as usize);
        Inputs::new(
            Params::new().size("rows", r).size("n", n),
            vec![x, Tensor::words("len", &[r], len)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (r, n) = (shape["r"], shape["n"]);
        if variant.name != "registers" {
            return rows::launch_wide(r, n, UNIT, dtype, variant);
        }
        // Rows that are whole vectors together.
        let each = if n.is_multiple_of(UNIT) { 1 } else { UNIT };
        let (entry, each) =
            if r.is_multiple_of(each) { ("registers4", each) } else { ("registers", 1) };
        let output = Buffer::new("y", dtype.storage(), r, n);
        let mut launch = Launch::single(output, spill(r / each));
        launch.dispatches[0].entry = entry;
        let launch = launch.with_constant("VECTORS", vectors_held(n) as f64);
        launch.with_constant("ROWS", each as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (r, n) = (shape["r"], shape["n"]);
        let valid = lengths(shape).iter().map(|&len| len as usize).sum::<usize>();
        Work::new(4 * valid, dtype.bytes() * (valid + r * n) + 4 * r)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        softmax(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        softmax(problem, rows)
    }
}

/// Whole rows, or with the tag `tail` every kind of row in turn: empty, one element, half, all but
/// one, whole.
fn lengths(shape: &Shape) -> Vec<u32> {
    let n = shape["n"];
    let kinds = match shape.option() {
        Some("tail") => [0, n.min(1), n / 2, n - 1, n],
        _ => [n; 5],
    };
    (0..shape["r"]).map(|row| kinds[row % kinds.len()] as u32).collect()
}

fn softmax<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, n) = (problem.shape["r"], problem.shape["n"]);
    let x = problem.inputs.float::<Ix2>("x");
    let len = problem.inputs.words("len");
    let depth = match problem.variant.name {
        // Vectors of an invocation and their elements, then eight invocations in any order.
        "registers" => vectors_held(n) + UNIT + 8,
        _ => rows::depth(n, problem.variant),
    };
    vec![by_rows(rows, r, n, |row, mut y| {
        let valid = len[row] as usize;
        let values: Vec<S> =
            x.row(row).iter().take(valid).map(|&x| S::exact(f64::from(x))).collect();
        let Some(peak) = values.iter().copied().reduce(S::max) else { return };
        let weights: Vec<S> = values.iter().map(|&x| (x - peak).exp()).collect();
        let total = match problem.variant.name {
            "thread" => running_total(&values, row * n % UNIT),
            _ => S::sum(weights.iter().copied(), depth),
        };
        for i in 0..valid {
            y[i] = (weights[i] / total).store(problem.storage());
        }
    })]
}

/// Sum of weights relative to a maximum that grows from one four elements to the next: four sums,
/// one for each place. The first element is at place `offset` of its four.
fn running_total<S: Scalar>(values: &[S], offset: usize) -> S {
    let mut totals = [S::zero(); UNIT];
    let mut peak: Option<S> = None;
    let (head, rest) = values.split_at((UNIT - offset).min(values.len()));
    let units = [(offset, head)].into_iter().chain(rest.chunks(UNIT).map(|unit| (0, unit)));
    for (place, unit) in units {
        let own = unit.iter().copied().reduce(S::max).expect("no part is empty");
        let now = peak.map_or(own, |before| before.max(own));
        if let Some(before) = peak {
            let shrink = (before - now).exp();
            totals = totals.map(|total| total * shrink);
        }
        for (total, &value) in totals[place..].iter_mut().zip(unit) {
            *total = *total + (value - now).exp();
        }
        peak = Some(now);
    }
    (totals[0] + totals[1]) + (totals[2] + totals[3])
}
