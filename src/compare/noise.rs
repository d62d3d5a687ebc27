//! How far a cell is from itself, and the floor that this asks for: luck that lasts for one build
//! of programs and buffers hides from an interval over blocks, so it is learnt from `selftest`.

use super::block::Block;
use super::paired::trimmed_mean;
use super::plan::{BLOCKS_PER_REBUILD, FLOOR_NOISES, LOOKS, PAIRS_PER_BLOCK, RESAMPLES};
use crate::measure::stats;
use crate::rng;

/// Stream of the draws.
const BUILD_STREAM: u32 = 0x0_15e;
/// Share of the absolute log ratios that the noise is not below.
const QUANTILE: f64 = 0.95;
/// Blocks of the first look, the least that a verdict may rest on.
const BLOCKS: usize = LOOKS[0].pairs / PAIRS_PER_BLOCK;
/// No cell is this far from itself: e^5 is a factor of 148.
pub const MOST: f64 = 5.0;

/// The 95th percentile of |log ratio| of a cell measured against itself, as many blocks long as the
/// first look. Whole builds are drawn, all blocks between two rebuilds, so that what they share
/// stays together. `None` with fewer valid blocks than one look has.
pub fn noise(blocks: &[Block], seed: u32) -> Option<f64> {
    let valid = |build: &[Block]| build.iter().filter_map(Block::log_ratio).collect();
    let builds: Vec<Vec<f64>> = blocks.chunks(BLOCKS_PER_REBUILD).map(valid).collect();
    if builds.iter().map(Vec::len).sum::<usize>() < BLOCKS {
        return None;
    }
    let draws = (BLOCKS / BLOCKS_PER_REBUILD) as u32;
    let build = |draw: u32| {
        let word = rng::word(seed, BUILD_STREAM, draw);
        builds[((u64::from(word) * builds.len() as u64) >> 32) as usize].iter().copied()
    };
    let resampled = (0..RESAMPLES).map(|resample| {
        let drawn: Vec<f64> = (0..draws).flat_map(|i| build(draws * resample + i)).collect();
        trimmed_mean(&drawn).abs()
    });
    // Builds without a valid block may be all that was drawn.
    let sizes: Vec<f64> = resampled.filter(|size| size.is_finite()).collect();
    Some(stats::quantile(&sizes, QUANTILE).min(MOST))
}

/// Smallest change of a cell of this noise that is worth a verdict, as a fraction.
pub fn floor(noise: f64) -> f64 {
    (FLOOR_NOISES * noise).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::super::block::Order;
    use super::*;

    /// Fifty blocks with a spread of their own, and one that all blocks of a build share.
    fn blocks(own: f64, shared: f64, stream: u32) -> Vec<Block> {
        let block = |at: u32| {
            let of = |index: u32| f64::from(rng::normal(17, stream, index));
            let log = own * of(at) + shared * of(1_000 + at / BLOCKS_PER_REBUILD as u32);
            let (base, head) = (1e-3, 1e-3 * log.exp());
            Block { order: Order::Abba, seconds: [base, head, head, base], canary_s: None }
        };
        (0..50).map(block).collect()
    }

    fn mean(own: f64, shared: f64) -> f64 {
        let found = (0..40).map(|stream| noise(&blocks(own, shared, stream), 1).expect("enough"));
        found.sum::<f64>() / 40.0
    }

    #[test]
    fn the_noise_is_that_of_the_estimate_at_the_first_look() {
        // A mean of 20 is that far off in one of twenty cases, a trimmed one a little further.
        let expected = 1.96 * 0.01 / 20_f64.sqrt();
        let found = mean(0.01, 0.0);
        assert!((0.8..1.5).contains(&(found / expected)), "{found}, not {expected}");
        assert!((mean(0.02, 0.0) / found - 2.0).abs() < 1e-3);
    }

    #[test]
    fn luck_that_lasts_for_a_build_counts_in_full() {
        // Four builds instead of twenty blocks share it, so that it averages out less.
        let expected = 1.96 * 0.01 / 4_f64.sqrt();
        let found = mean(0.0, 0.01);
        assert!((0.7..1.5).contains(&(found / expected)), "{found}, not {expected}");
        // The twin: the same values in an order that breaks builds up look far quieter.
        let broken: f64 = (0..40)
            .map(|stream| {
                let mut shuffled = blocks(0.0, 0.01, stream);
                let by_place: Vec<Block> = (0..50).map(|at| shuffled[(at * 7) % 50]).collect();
                shuffled.copy_from_slice(&by_place);
                noise(&shuffled, 1).expect("enough")
            })
            .sum();
        assert!(broken / 40.0 < 0.8 * found, "{} of {found}", broken / 40.0);
    }

    #[test]
    fn a_side_that_is_always_slower_is_noise_too() {
        let mut biased = blocks(0.001, 0.0, 1);
        for block in &mut biased {
            (block.seconds[1], block.seconds[2]) = (1.1e-3, 1.1e-3);
        }
        let found = noise(&biased, 1).expect("enough");
        assert!((found - 1.1_f64.ln()).abs() < 1e-6, "{found}");
        assert!((floor(found) - 0.21).abs() < 1e-3);
    }

    #[test]
    fn fewer_blocks_than_a_look_tell_nothing() {
        let mut few = blocks(0.01, 0.0, 1);
        few[19..].iter_mut().for_each(|block| block.seconds[0] = f64::NAN);
        assert_eq!(noise(&few, 1), None);
        few[49].seconds[0] = 1e-3;
        assert!(noise(&few, 1).is_some());
        assert_eq!(noise(&[], 1), None);
        let still: Vec<Block> = blocks(0.0, 0.0, 1);
        assert_eq!((noise(&still, 1), floor(0.0)), (Some(0.0), 0.0));
    }
}
