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
    // Eight invocations fill one vector unit of a CPU adapter, and wait for each other for nothing.
    Variant::new("local", &[("WG", 8.0), ("EACH", 512.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("shared", &[("WG", 256.0), ("EACH", 8.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("one survivor too few", "state[1] = params.keep;", "state[1] = params.keep - 1u;"),
    Mutant::new("of equal ones the last stays", "last.n - 1u - index", "index"),
    Mutant::new("signs not ignored", "u32 = 0x7fffffffu", "u32 = 0xffffffffu"),
    Mutant::new("all of the last magnitude stay", ">= vec4<u32>(last.key)", ">= vec4<u32>()"),
    Mutant::new("last vector not counted", "quad < end; quad += WG", "quad + 1u < end; quad += WG"),
    Mutant::new("higher digits not compared", "agrees & among &", "among &"),
    Mutant::new("a level of the scan left out", "reach < WG;", "reach < WG / 2u;"),
    Mutant::new("third of four not counted", "if (counts.z)", "if (false)"),
    Mutant::new("elements above counted twice", "var above = sum - own", "var above = sum"),
    Mutant::new(
        "bits of the vector before",
        "bits_of(stays) << (4u * i)",
        "bits_of(stays) << (3u * i)",
    ),
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
        let digits = digits(n * k, dtype);
        let bins = digits.iter().map(Digit::bins).sum();
        Launch {
            outputs: vec![
                Buffer::new("y", dtype.storage(), n, k),
                Buffer::new("mask", Elem::U32, 1, (n * k).div_ceil(32)),
            ],
            scratch: vec![
                Buffer::new("state", Elem::U32, 1, 4),
                Buffer::new("histogram", Elem::U32, 1, bins),
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

/// Some bits of a magnitude, as an f32 has it, or of the key of an index.
struct Digit {
    /// The lowest of them, and how many they are.
    shift: usize,
    bits: usize,
    by_index: bool,
}

impl Digit {
    fn bins(&self) -> usize {
        1 << self.bits
    }
}

/// Most bits of a digit: a workgroup keeps all its bins, 8 KiB.
const MOST_BITS: usize = 11;
/// Fewest bits of a digit: each of 256 invocations looks at one bin or more.
const LEAST_BITS: usize = 8;

/// Those of the magnitude, most significant first, then as many as the number of elements needs.
/// The ten lowest bits of the magnitude of an f16 are zero in f32, which has thirteen more.
fn digits(n: usize, dtype: Dtype) -> Vec<Digit> {
    let magnitude = [(20, 11), (10, 10), (0, 10)].into_iter();
    let magnitude = magnitude.filter(|&(shift, _)| shift > 0 || dtype.storage() != Elem::F16);
    let bits = (usize::BITS - n.saturating_sub(1).leading_zeros()) as usize;
    let passes = bits.div_ceil(MOST_BITS);
    let each = bits.div_ceil(passes.max(1)).max(LEAST_BITS);
    let index = (0..passes).rev().map(|digit| (digit * each, each));
    let of = |by_index| move |(shift, bits)| Digit { shift, bits, by_index };
    magnitude.map(of(false)).chain(index.map(of(true))).collect()
}

fn dispatches(shape: &Shape, variant: &Variant, digits: &[Digit]) -> Vec<Dispatch> {
    let n = shape["n"] * shape["k"];
    let (lanes, each) = (variant.constant("WG"), variant.constant("EACH"));
    let run = |entry, workgroups: usize, constants: &[(&'static str, f64)]| Dispatch {
        constants: constants.to_vec(),
        ..Dispatch::new(entry, spill(workgroups))
    };
    let quads = n.div_ceil(4);
    let mut all = Vec::new();
    if kept(shape) > 0 && kept(shape) < n {
        let bins: usize = digits.iter().map(Digit::bins).sum();
        all.push(run("reset", bins.div_ceil(lanes), &[("ALL", bins as f64)]));
        let mut first = 0;
        for (pass, digit) in digits.iter().enumerate() {
            let next_by_index = digits.get(pass + 1).is_none_or(|next| next.by_index);
            let flag = |flag: bool| f64::from(u8::from(flag));
            let constants = [
                ("FIRST", first as f64),
                ("SHIFT", digit.shift as f64),
                ("BITS", digit.bits as f64),
                ("LAST", flag(next_by_index && !digit.by_index)),
                ("BY_INDEX", flag(digit.by_index)),
            ];
            all.push(run("count", quads.div_ceil(lanes * each), &constants));
            all.push(run("choose", 1, &constants));
            first += digit.bins();
        }
    }
    let (write, work) = match (variant.name, n.is_multiple_of(4)) {
        ("shared", _) => ("write_shared", quads),
        (_, true) => ("write_vectors", n.div_ceil(32)),
        (_, false) => ("write", n.div_ceil(32)),
    };
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
