//! A counter-based generator: element `index` of stream `stream` under `seed`, in any order and on
//! any number of threads. Only 32-bit operations, so that a shader can produce the same bits.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::sync::LazyLock;

/// One pseudo-random word.
///
/// The permutation is the output function of PCG-RXS-M-XS-32 (O'Neill, "PCG", HMC-CS-2014-0905),
/// applied to the index, the stream and the seed in turn.
pub fn word(seed: u32, stream: u32, index: u32) -> u32 {
    Stream::new(seed, stream).word(index)
}

/// Uniform in the open interval (0, 1), 24 bits.
pub fn uniform(seed: u32, stream: u32, index: u32) -> f32 {
    ((word(seed, stream, index) >> 8) as f32 + 0.5) * (1.0 / 16_777_216.0)
}

/// Standard normal, one draw per index.
pub fn normal(seed: u32, stream: u32, index: u32) -> f32 {
    Normals::new(seed, stream).at(index)
}

/// Uniform integer in `-limit..=limit`.
pub fn integer(seed: u32, stream: u32, index: u32, limit: u32) -> i32 {
    Stream::new(seed, stream).integer(index, limit)
}

/// One stream under one seed.
#[derive(Clone, Copy)]
pub struct Stream(u32);

impl Stream {
    pub fn new(seed: u32, stream: u32) -> Self {
        Stream(permute(stream.wrapping_add(permute(seed))))
    }

    pub fn word(self, index: u32) -> u32 {
        permute(index.wrapping_add(self.0))
    }

    pub fn integer(self, index: u32, limit: u32) -> i32 {
        let span = 2 * limit + 1;
        ((u64::from(self.word(index)) * u64::from(span)) >> 32) as i32 - limit as i32
    }
}

fn permute(x: u32) -> u32 {
    let state = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mixed = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (mixed >> 22) ^ mixed
}

/// A stream of standard normals: linear between 2^16 quantiles, so that drawing costs a table
/// look-up and not a logarithm and a cosine. No draw is beyond 4.33.
#[derive(Clone, Copy)]
pub struct Normals {
    stream: Stream,
    quantiles: &'static Quantiles,
}

impl Normals {
    pub fn new(seed: u32, stream: u32) -> Self {
        Normals { stream: Stream::new(seed, stream), quantiles: &QUANTILES }
    }

    pub fn at(self, index: u32) -> f32 {
        let word = self.stream.word(index);
        let cell = (word >> 16) as usize;
        let (low, high) = (self.quantiles[cell], self.quantiles[cell + 1]);
        low + (high - low) * ((word & 0xffff) as f32 * (1.0 / 65_536.0))
    }
}

/// One more than there are steps between them.
type Quantiles = [f32; 65_537];

/// Quantiles of the standard normal at (i + 1/2) / 65537 for i up to 65536, from a portable `erfc`
/// so that every platform has the same bits.
static QUANTILES: LazyLock<Box<Quantiles>> = LazyLock::new(|| {
    const HALF: usize = 32_768;
    let mut table = Box::new([0.0_f32; 2 * HALF + 1]);
    let mut z = 0.0_f64;
    for i in 1..=HALF {
        let beyond = (HALF - i) as f64 + 0.5;
        // Newton's method from the quantile before, on the probability of exceeding z.
        for _ in 0..4 {
            let excess = 0.5 * libm::erfc(z * FRAC_1_SQRT_2) - beyond / 65_537.0;
            let density = libm::exp(-0.5 * z * z) / (2.0 * PI).sqrt();
            z += excess / density;
        }
        table[HALF + i] = z as f32;
        table[HALF - i] = -z as f32;
    }
    table
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_fixed_forever() {
        // Results name their seed, so these bits are part of the file format.
        let words: Vec<u32> = (0..4).map(|i| word(1, 2, i)).collect();
        assert_eq!(words, [2_318_274_782, 2_328_909_250, 813_517_639, 3_404_032_338]);
    }

    #[test]
    fn quantiles_are_those_of_the_normal() {
        // Published values of the quantile function.
        for (p, z) in [(0.975, 1.959_964), (0.995, 2.575_829), (0.841_344_75, 1.0)] {
            let i = (p * 65_537.0 - 0.5) as usize;
            assert!((f64::from(QUANTILES[i]) - z).abs() < 1e-3, "{p}: {}", QUANTILES[i]);
        }
        assert!(QUANTILES.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(QUANTILES.last().is_some_and(|last| (4.3..4.34).contains(last)));
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let n = 200_000_u32;
        let draws: Vec<f64> = (0..n).map(|i| f64::from(normal(7, 3, i))).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let moment = |p| draws.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.1, "fourth moment {}", moment(4));
    }

    #[test]
    fn neighbouring_streams_and_seeds_are_uncorrelated() {
        for (a, b) in [((1, 0), (1, 1)), ((1, 0), (2, 0)), ((1, 1), (2, 0))] {
            let n = 50_000_u32;
            let dot: f64 =
                (0..n).map(|i| f64::from(normal(a.0, a.1, i) * normal(b.0, b.1, i))).sum();
            assert!((dot / f64::from(n)).abs() < 0.02, "{a:?} against {b:?}");
        }
    }

    #[test]
    fn integers_cover_their_range() {
        let mut seen = [0_u32; 7];
        (0..7_000).for_each(|i| seen[(integer(1, 1, i, 3) + 3) as usize] += 1);
        assert!(seen.iter().all(|&n| n > 850), "{seen:?}");
    }
}
