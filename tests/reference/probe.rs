//! What the probes compute besides taking time.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "copy" => words(problem.inputs).insert_axis(Axis(1)),
        "read" => read(problem),
        "fma" => fma(problem),
        "launch_overhead" => Array2::from_elem((1, 1), 24_301.0),
        "write" => write(problem),
        "dot4" => dot4(problem),
        "cooperative_matrix" => cooperative_matrix(problem),
        "workgroup_memory" => workgroup_memory(problem),
        "subgroup_sum" => return subgroup_sum(problem),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
}

fn column(words: impl Iterator<Item = u32>) -> Array2<f64> {
    Array1::from_iter(words.map(f64::from)).insert_axis(Axis(1))
}

/// Adds the multiplier instead of multiplying by the index.
fn write(problem: &Problem) -> Array2<f64> {
    let sums = std::iter::successors(Some(0_u32), |sum| Some(sum.wrapping_add(2_654_435_761)));
    column(sums.take(problem.shape["n"] / 4).map(|sum| sum ^ 0x5bd1_e995))
}

/// All chains one trip further at a time, byte by byte in 64 bits.
fn dot4(problem: &Problem) -> Array2<f64> {
    let byte = |word: u32, place: u32| i64::from((word >> (8 * place)) as u8 as i8);
    let x: Vec<u32> = problem.inputs.words("x").iter().copied().collect();
    let mut sums = x.clone();
    for _ in 0..problem.shape["t"] {
        for (sum, &factor) in sums.iter_mut().zip(&x) {
            let dot: i64 = (0..4).map(|place| byte(*sum, place) * byte(factor, place)).sum();
            *sum = (i64::from(*sum) + dot).rem_euclid(1 << 32) as u32;
        }
    }
    column(sums.into_iter())
}

/// Whole products, added trip by trip.
fn cooperative_matrix(problem: &Problem) -> Array2<f64> {
    let side = if problem.variant.name == "side8" { 8 } else { 16 };
    let factor = |name, which: usize| {
        let values = float::<Ix2>(problem.inputs, name);
        let values = values.iter().skip(which * side * side).take(side * side).copied();
        Array1::from_iter(values).into_shape_with_order((side, side)).expect("a square")
    };
    let chains: Vec<Array2<f64>> =
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| factor("a", i).dot(&factor("b", j))).into();
    let rows = problem.shape["n"] * 16 * 4 * side;
    let c = float::<Ix2>(problem.inputs, "c").into_iter().take(rows * side);
    let mut y = Array1::from_iter(c).into_shape_with_order((rows, side)).expect("whole rows");
    for _ in 0..problem.shape["t"] {
        for (index, mut matrix) in y.axis_chunks_iter_mut(Axis(0), side).enumerate() {
            matrix += &chains[index % 4];
        }
    }
    y
}

/// The walk of each lane, which all workgroups share.
fn workgroup_memory(problem: &Problem) -> Array2<f64> {
    let (lanes, stride) = (problem.variant.constant("WG"), problem.variant.constant("STRIDE"));
    let x = problem.inputs.words("x");
    let walk = |lane: usize| {
        let (mut at, mut folded) = (lane * stride, 0_u32);
        for _ in 0..problem.shape["t"] {
            folded ^= x[at & 4095];
            at += 65 * stride + if folded >> 11 & 1 == 1 { 2048 } else { 0 };
        }
        folded
    };
    let walks: Vec<u32> = (0..lanes).map(walk).collect();
    column((0..problem.shape["n"]).map(|invocation| walks[invocation % lanes]))
}

/// In closed form: a subgroup of s lanes multiplies its total by s at every trip and adds the
/// total of the shares.
fn subgroup_sum(problem: &Problem) -> Vec<ArrayD<f64>> {
    let (n, t) = (problem.shape["n"], problem.shape["t"]);
    let lanes = problem.variant.constant("WG");
    let x: Vec<u32> = problem.inputs.words("x").iter().copied().collect();
    let groups = column((0..n).map(|i| (i % lanes / 8) as u32));
    let mut y = x.clone();
    for (out, shares) in y.chunks_mut(8).zip(x.chunks(8)) {
        let shared = shares.iter().fold(0_u32, |sum, &share| sum.wrapping_add(share));
        let mut total = shared;
        for trip in 0..t {
            let before = total;
            total = (before.wrapping_mul(shares.len() as u32)).wrapping_add(shared);
            if trip + 1 == t {
                out.iter_mut().zip(shares).for_each(|(out, &x)| *out = before.wrapping_add(x));
            }
        }
    }
    vec![groups.into_dyn(), column(y.into_iter()).into_dyn()]
}

fn words(inputs: &Inputs) -> Array1<f64> {
    inputs.words("x").iter().copied().map(f64::from).collect()
}

/// Scatters every word to the invocation that reads it.
fn read(problem: &Problem) -> Array2<f64> {
    let variant = problem.variant;
    let (lanes, each) = (variant.constant("WG"), variant.constant("EACH"));
    let width = if variant.name == "word" { 1 } else { 4 };
    let words = problem.inputs.words("x");
    let x = words.as_slice().expect("row-major");
    let mut folded = vec![0_u32; x.len().div_ceil(lanes * each * width) * lanes];
    for (index, word) in x.iter().enumerate() {
        let load = index / width;
        folded[load / (lanes * each) * lanes + load % lanes] ^= word;
    }
    Array1::from(folded).mapv(f64::from).insert_axis(Axis(1))
}

fn fma(problem: &Problem) -> Array2<f64> {
    let start = float::<Ix2>(problem.inputs, "x");
    (0..problem.shape["t"]).fold(start, |x, _| x.mapv(|x| x.mul_add(x, -0.5)))
}
