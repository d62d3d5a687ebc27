//! Unstructured pruning by magnitude (arXiv 1506.02626): exactly round((1 − p)·N) weights stay.

use ndarray::{Array2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &PruneMagnitude;

struct PruneMagnitude;

const VARIANTS: &[Variant] = &[
    // No barrier; every invocation counts in the one histogram.
    Variant::new("atomic", &[("WG", 8.0), ("EACH", 64.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("shared", &[("WG", 256.0), ("EACH", 8.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("one survivor too few", "state[1] = params.keep;", "state[1] = params.keep - 1u;"),
    Mutant::new("of equal ones the last stays", "last.n - 1u - index", "index"),
    Mutant::new("signs not ignored", "u32 = 0x7fffffffu", "u32 = 0xffffffffu"),
    Mutant::new("all of the last magnitude stay", ">= vec4<u32>(last.key)", ">= vec4<u32>()"),
    Mutant::new("last vector not counted", "quad < end; quad += WG", "quad + 1u < end; quad += WG"),
    Mutant::new("higher digits not compared", "agrees && among", "among"),
    Mutant::new("a level of the scan left out", "reach < 256u", "reach < 128u"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "n k")];

impl Kernel for PruneMagnitude {
    fn spec(&self) -> Spec {
        Spec {
            summary: "keep a given share of a tensor's weights, the largest ones, and their mask",
            difficulties: &[4],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Constant,
                Distribution::Outliers,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |n, k, tag| Shape::new(&[("n", n), ("k", k)]).tag(tag);
        match preset {
            Preset::Smoke => vec![
                of(3, 5, "p50"),
                of(1, 1, "p50"),
                of(7, 31, "p90"),
                of(33, 66, "p10"),
                of(4, 64, "p0"),
                of(5, 33, "p100"),
                of(0, 8, "p50"),
                // Three digits of the index.
                of(257, 257, "p90"),
            ],
            Preset::Models => vec![
                of(768, 1024, "p50").from("CLIP ViT-L/14-336 image projection"),
                of(1536, 1408, "p50").from("BLIP-2 Q-Former keys and values"),
                of(4096, 1024, "p90").from("LLaVA-1.5-7B projector"),
                of(4096, 4096, "p50").from("LLaVA-1.5-7B projector"),
            ],
            Preset::Sweep => [256, 512, 1024, 2048, 4096].map(|n| of(n, n, "p50")).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, k) = (shape["n"], shape["k"]);
        let params = Params::new().size("n", n * k).size("keep", kept(shape));
        Inputs::new(params, vec![generator.data("x", &[n, k])])
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (n, k) = (shape["n"], shape["k"]);
        let digits = digits(n * k);
        let passes = digits.len();
        Launch {
            outputs: vec![
                Buffer::new("y", dtype.storage(), n, k),
                Buffer::new("mask", Elem::U32, 1, (n * k).div_ceil(32)),
            ],
            scratch: vec![
                Buffer::new("state", Elem::U32, 1, 4),
                Buffer::new("histogram", Elem::U32, passes, 256),
            ],
            dispatches: dispatches(shape, variant, &digits),
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let n = shape["n"] * shape["k"];
        Work::new(0, 2 * dtype.bytes() * n + n.div_ceil(32) * 4)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        prune(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        prune(problem, rows)
    }
}

/// round((1 − p)·N), a half upwards; the tag is p in percent.
fn kept(shape: &Shape) -> usize {
    let n = shape["n"] * shape["k"];
    let pruned = match shape.option() {
        Some("p0") => 0,
        Some("p10") => 10,
        Some("p90") => 90,
        Some("p100") => 100,
        _ => 50,
    };
    (n * (100 - pruned) + 50) / 100
}

/// The lowest bits of the eight-bit digits, most significant first, and whether they are of the
/// index: four digits of the magnitude, then as many as the number of elements needs.
fn digits(n: usize) -> Vec<(usize, bool)> {
    let bits = usize::BITS - n.saturating_sub(1).leading_zeros();
    let of_index = (bits as usize).div_ceil(8);
    let magnitude = [24, 16, 8, 0].into_iter().map(|shift| (shift, false));
    magnitude.chain((0..of_index).rev().map(|digit| (8 * digit, true))).collect()
}

fn dispatches(shape: &Shape, variant: &Variant, digits: &[(usize, bool)]) -> Vec<Dispatch> {
    let n = shape["n"] * shape["k"];
    let (lanes, each) = (variant.constant("WG"), variant.constant("EACH"));
    let (count, choose, write) = match variant.name {
        "atomic" => ("count", "choose", "write"),
        _ => ("count_shared", "choose_shared", "write_shared"),
    };
    let run = |entry, workgroups: usize, constants: &[(&'static str, f64)]| Dispatch {
        constants: constants.to_vec(),
        ..Dispatch::new(entry, spill(workgroups))
    };
    let quads = n.div_ceil(4);
    let mut all = Vec::new();
    if kept(shape) > 0 && kept(shape) < n {
        let passes = [("PASSES", digits.len() as f64)];
        all.push(run("reset", (256 * digits.len()).div_ceil(lanes), &passes));
        for (pass, &(shift, by_index)) in digits.iter().enumerate() {
            let constants = [
                ("PASS", pass as f64),
                ("SHIFT", shift as f64),
                ("BY_INDEX", f64::from(u8::from(by_index))),
            ];
            all.push(run(count, quads.div_ceil(lanes * each), &constants));
            all.push(run(choose, 1, &constants));
        }
    }
    let work = if variant.name == "atomic" { n.div_ceil(32) } else { quads };
    all.push(run(write, work.div_ceil(lanes), &[]));
    all
}

fn prune<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, k) = (problem.shape["n"], problem.shape["k"]);
    let x = problem.inputs.float::<Ix2>("x");
    // Larger magnitudes first, then lower indices.
    let order =
        |(index, value): (usize, &f32)| u64::from(!value.abs().to_bits()) << 32 | index as u64;
    let mut keys: Vec<u64> = x.iter().enumerate().map(order).collect();
    let keep = kept(problem.shape);
    let last = (keep > 0).then(|| *keys.select_nth_unstable(keep - 1).1);
    let stays = |index: usize, value: &f32| last.is_some_and(|last| order((index, value)) <= last);
    let y = by_rows(rows, n, k, |row, mut y| {
        for (col, value) in x.row(row).iter().enumerate() {
            let kept = if stays(row * k + col, value) { *value } else { 0.0 };
            y[col] = S::exact(f64::from(kept));
        }
    });
    let flat = x.as_slice().expect("row-major");
    let mask = by_rows(rows, 1, (n * k).div_ceil(32), |_, mut mask| {
        for (word, values) in flat.chunks(32).enumerate() {
            let bit = |(i, value): (usize, &f32)| u32::from(stays(32 * word + i, value)) << i;
            let bits = values.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit);
            mask[word] = S::exact(f64::from(bits));
        }
    });
    vec![y, mask]
}
