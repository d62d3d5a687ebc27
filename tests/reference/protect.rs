//! Differential privacy on whole arrays, with trigonometric functions and a generator of its own.

use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use fusebench::kernels::ALL;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    match name {
        "clip_per_sample" => vec![clipped(name, problem).into_dyn()],
        "dp_sum" => {
            let sum = clipped(name, problem).sum_axis(Axis(0));
            let n = sum.len();
            let draws = draws(problem.inputs, 0, 0, n).1;
            let expected = f64::from(0.75 * problem.shape["b"] as f32);
            vec![((sum + draws * 1.5) / expected).into_dyn()]
        }
        "gaussian_noise" => {
            let (first, shard) = (word(problem.inputs, "first"), word(problem.inputs, "shard"));
            let (words, z) = draws(problem.inputs, first, shard, problem.shape["p"]);
            vec![(z * 1.5).into_dyn(), words.into_dyn()]
        }
        _ => panic!("write an oracle for {name}"),
    }
}

fn word(inputs: &Inputs, name: &str) -> u32 {
    let at = inputs.params.names().iter().position(|known| *known == name).expect("a parameter");
    let bytes = &inputs.params.bytes()[4 * at..];
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"))
}

/// Zeroes padding, then shortens every longer row to the limit the launch states.
fn clipped(name: &str, problem: &Problem) -> Array2<f64> {
    let entry = ALL.iter().find(|entry| entry.name == name).expect("a kernel");
    let launch = entry.kernel.launch(problem.shape, problem.dtype, problem.variant);
    let mut constants = launch.dispatches.iter().flat_map(|dispatch| &dispatch.constants);
    let limit = constants.find(|(name, _)| *name == "LIMIT").expect("a limit").1;
    let mut g = float::<Ix2>(problem.inputs, "g");
    for (mut row, &valid) in g.rows_mut().into_iter().zip(problem.inputs.words("valid")) {
        if valid == 0 {
            row.fill(0.0);
        }
        let norm = row.dot(&row).sqrt();
        if norm > limit {
            row *= limit / norm;
        }
    }
    g
}

/// Random words and the normals they give.
fn draws(inputs: &Inputs, first: u32, shard: u32, n: usize) -> (Array1<f64>, Array1<f64>) {
    let key = [word(inputs, "key0"), word(inputs, "key1")];
    let (mut words, mut z) = (Vec::new(), Vec::new());
    for block in 0..n.div_ceil(4) as u32 {
        let start =
            [first.wrapping_add(block), word(inputs, "tensor"), word(inputs, "step"), shard];
        let bits = philox(start, key);
        words.extend(bits.map(f64::from));
        let uniform = bits.map(|word| f64::from(2 * (word >> 9) + 1) / 16_777_216.0);
        for pair in uniform.chunks(2) {
            let radius = (2.0 * pair[0].recip().ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * pair[1]).sin_cos();
            z.extend([radius * cosine, radius * sine]);
        }
    }
    words.truncate(n);
    z.truncate(n);
    (words.into(), z.into())
}

/// Philox4x32-10 in 128-bit arithmetic: each round's products in one number.
fn philox(start: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    (0..10_u32).fold(start, |[a, b, c, d], round| {
        let low = u128::from(a) * 0xd251_1f53;
        let both = (u128::from(c) * 0xcd9e_8d57) << 64 | low;
        let part = |shift: u32| (both >> shift) as u32;
        let bump = |key: u32, weyl: u32| key.wrapping_add(round.wrapping_mul(weyl));
        [
            part(96) ^ b ^ bump(key[0], 0x9e37_79b9),
            part(64),
            part(32) ^ d ^ bump(key[1], 0xbb67_ae85),
            part(0),
        ]
    })
}
