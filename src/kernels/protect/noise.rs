//! Gaussian noise from a counter: Philox4x32-10 (Salmon et al., SC 2011), Box and Muller.

use crate::accuracy::Scalar;
use crate::inputs::Inputs;

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Four random words for a counter under a key.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let wide = |i: usize| u64::from(MULTIPLIERS[i]) * u64::from(counter[2 * i]);
        let (a, b) = (wide(0), wide(1));
        let high = |x: u64| (x >> 32) as u32;
        counter =
            [high(b) ^ counter[1] ^ key[0], b as u32, high(a) ^ counter[3] ^ key[1], a as u32];
        key = [0, 1].map(|i| key[i].wrapping_add(WEYL[i]));
    }
    counter
}

/// A word of Params: the only place where the inputs keep key and counter.
///
/// # Panics
/// When there is no such word: a bug in the kernel's file.
pub fn param(inputs: &Inputs, name: &str) -> u32 {
    let at = inputs.params.names().iter().position(|known| *known == name);
    let at = 4 * at.unwrap_or_else(|| panic!("no parameter {name}"));
    let bytes = &inputs.params.bytes()[at..at + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Odd multiples of 2^-24 in (0, 1): never 0 or 1.
fn odd(word: u32) -> u32 {
    2 * (word >> 9) + 1
}

/// 1/2^24.
const STEP: f64 = 1.0 / 16_777_216.0;
/// Below this distance from 1 the shader sums the series of log(1 − t), because WGSL's `log` is off
/// by up to 2^-21 there.
const NEAR: f64 = 0.0625;

/// Keeps the exact value of an expression in the shader's constants apart from the function it
/// stands for: the difference is the error of the method at this point.
fn instead<S: Scalar>(approximation: S, truth: f64) -> S {
    approximation.approximating(truth, (approximation.value() - truth).abs())
}

/// c₀ + x(c₁ + x(c₂ + …)) with constants as f32.
fn polynomial<S: Scalar>(x: S, coefficients: &[f64]) -> S {
    let constant = |c: f64| S::exact(f64::from(c as f32));
    let (last, rest) = coefficients.split_last().expect("a coefficient");
    rest.iter().rev().fold(constant(*last), |sum, &c| constant(c) + x * sum)
}

/// √(−2 ln u).
fn radius<S: Scalar>(word: u32) -> S {
    let u = f64::from(odd(word)) * STEP;
    let near = 1.0 - u;
    let minus_log = if near < NEAR {
        let series: Vec<f64> = (1..=7).map(|k| 1.0 / f64::from(k)).collect();
        let t = S::exact(near);
        instead(t * polynomial(t, &series), -u.ln())
    } else {
        -S::exact(u).ln()
    };
    (S::exact(2.0) * minus_log).sqrt()
}

/// Cosine and sine of a fraction of a turn, reduced in integers to an eighth on either side of a
/// quarter.
fn turn<S: Scalar>(word: u32) -> [S; 2] {
    let n = odd(word);
    let quarter = (n + (1 << 21)) >> 22;
    let rest = f64::from(n) - f64::from(quarter << 22);
    let step = std::f64::consts::TAU * STEP;
    let angle = rest * step;
    let x = S::exact(rest) * S::exact(f64::from(step as f32));
    let squared = x * x;
    let sine =
        x * polynomial(squared, &[1.0, -1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362_880.0]);
    let cosine = [1.0, -0.5, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40_320.0, -1.0 / 3_628_800.0];
    let sine = instead(sine, angle.sin());
    let cosine = instead(polynomial(squared, &cosine), angle.cos());
    match quarter & 3 {
        0 => [cosine, sine],
        1 => [-sine, cosine],
        2 => [-cosine, -sine],
        _ => [sine, -cosine],
    }
}

/// The standard normal `lane` of the four that a counter gives: each pair of words makes two.
pub fn normal<S: Scalar>(words: [u32; 4], lane: usize) -> S {
    let first = lane / 2 * 2;
    radius::<S>(words[first]) * turn::<S>(words[first + 1])[lane % 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::Tracked;

    #[test]
    fn words_are_the_known_answers_of_random123() {
        let zeros = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
        assert_eq!(philox([0; 4], [0; 2]), zeros);
        let ones = [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd];
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), ones);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let pi = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), pi);
    }

    #[test]
    fn draws_are_bounded_and_known_to_a_few_millionths() {
        let mut worst = 0.0_f64;
        for word in [0, 1 << 9, 0x1234_5678, 0xefff_ffff, 0xf000_0000, u32::MAX] {
            for angle in (0..1 << 12).map(|i| i << 20) {
                for lane in 0..2 {
                    let z: Tracked = normal([word, angle, 0, 0], lane);
                    assert!(z.value.abs() <= 5.77, "{word:x} {angle:x}: {}", z.value);
                    worst = worst.max(z.worst);
                }
            }
        }
        assert!(worst < 1e-5, "{worst:e}");
    }

    #[test]
    fn draws_follow_the_normal_distribution() {
        let n = 100_000_usize;
        let draw = |i: usize| normal::<f64>(philox([i as u32 / 4, 0, 0, 0], [7, 9]), i % 4);
        let mut draws: Vec<f64> = (0..n).map(draw).collect();
        draws.sort_by(f64::total_cmp);
        let share = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        let distance = draws
            .iter()
            .enumerate()
            .fold(0.0_f64, |far, (i, &x)| far.max((share(x) - (i as f64 + 0.5) / n as f64).abs()));
        // Kolmogorov and Smirnov at a false-alarm rate of 1e-3; the seed is fixed.
        assert!(distance < 1.95 / (n as f64).sqrt(), "{distance}");
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }
}
