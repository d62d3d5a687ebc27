//! A counter-based generator: element `index` of stream `stream` under `seed`, in any order and on
//! any number of threads. Only 32-bit operations, so that a shader can produce the same bits.

/// One pseudo-random word.
///
/// The permutation is the output function of PCG-RXS-M-XS-32 (O'Neill, "PCG", HMC-CS-2014-0905),
/// applied to the index, the stream and the seed in turn.
pub fn word(seed: u32, stream: u32, index: u32) -> u32 {
    permute(index.wrapping_add(permute(stream.wrapping_add(permute(seed)))))
}

fn permute(x: u32) -> u32 {
    let state = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mixed = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (mixed >> 22) ^ mixed
}

/// Uniform in the open interval (0, 1), 24 bits.
pub fn uniform(seed: u32, stream: u32, index: u32) -> f32 {
    ((word(seed, stream, index) >> 8) as f32 + 0.5) * (1.0 / 16_777_216.0)
}

/// Standard normal by Box and Muller, one draw per index.
pub fn normal(seed: u32, stream: u32, index: u32) -> f32 {
    let radius = (-2.0 * uniform(seed, stream, index).ln()).sqrt();
    let angle = std::f32::consts::TAU * uniform(seed, stream ^ 0x5bd1_e995, index);
    radius * angle.cos()
}

/// Uniform integer in `-limit..=limit`.
pub fn integer(seed: u32, stream: u32, index: u32, limit: u32) -> i32 {
    let span = 2 * limit + 1;
    ((u64::from(word(seed, stream, index)) * u64::from(span)) >> 32) as i32 - limit as i32
}

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
