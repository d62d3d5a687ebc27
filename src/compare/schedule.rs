//! Who is measured when: fresh random orders and fair coins, all from one seed.

use super::block::Order;
use super::plan::MIN_CONTROLS;
use crate::rng;

/// Streams of the order of cells, of the coins and of the choice of controls.
const ORDER_STREAM: u32 = 0x0a_de;
const COIN_STREAM: u32 = 0xc0_14;
const CONTROL_STREAM: u32 = 0xc0_27;

/// Positions below `n` in an order of their own for each round.
pub fn shuffled(n: usize, round: usize, seed: u32) -> Vec<usize> {
    shuffle(n, ORDER_STREAM, rng::word(seed, ORDER_STREAM, round as u32))
}

fn shuffle(n: usize, stream: u32, seed: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    // Fisher and Yates.
    for i in (1..n).rev() {
        let word = rng::word(seed, stream, i as u32);
        order.swap(i, ((u64::from(word) * (i as u64 + 1)) >> 32) as usize);
    }
    order
}

/// A fair coin for a block of a trial.
pub fn order(trial: usize, block: usize, seed: u32) -> Order {
    let word = rng::word(rng::word(seed, COIN_STREAM, trial as u32), COIN_STREAM, block as u32);
    if word >> 31 == 0 { Order::Abba } else { Order::Baab }
}

/// How many controls a comparison of `tested` cells gets: the share of them, and at least twenty
/// as far as there are cells that can be one.
pub fn control_count(tested: usize, able: usize, share: f64) -> usize {
    able.min(MIN_CONTROLS.max((share * tested as f64).ceil() as usize))
}

/// Which cells get a control: chosen at random, one of each family after the other.
pub fn controls(families: &[&str], count: usize, seed: u32) -> Vec<usize> {
    let mut seen = std::collections::BTreeMap::new();
    let mut ranked: Vec<(usize, usize, usize)> = Vec::new();
    for (at, cell) in shuffle(families.len(), CONTROL_STREAM, seed).into_iter().enumerate() {
        let nth = seen.entry(families[cell]).or_insert(0_usize);
        ranked.push((*nth, at, cell));
        *nth += 1;
    }
    ranked.sort_unstable();
    let mut chosen: Vec<usize> = ranked.into_iter().take(count).map(|(.., cell)| cell).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_visits_every_cell_in_another_order() {
        let (first, second) = (shuffled(30, 0, 1), shuffled(30, 1, 1));
        for order in [&first, &second] {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..30));
        }
        assert_ne!(first, second);
        assert_eq!(first, shuffled(30, 0, 1));
        assert_ne!(first, shuffled(30, 0, 2));
        assert_eq!((shuffled(0, 0, 1), shuffled(1, 0, 1)), (vec![], vec![0]));
    }

    #[test]
    fn every_position_is_equally_likely() {
        let mut first = [0_u32; 4];
        (0..4_000).for_each(|round| first[shuffled(4, round, 7)[0]] += 1);
        assert!(first.iter().all(|&n| (890..1_110).contains(&n)), "{first:?}");
    }

    #[test]
    fn coins_are_fair_and_differ_between_trials() {
        let heads = |trial| (0..400).filter(|&b| order(trial, b, 1) == Order::Abba).count();
        assert!((160..240).contains(&heads(0)) && (160..240).contains(&heads(1)));
        assert!((0..40).any(|block| order(0, block, 1) != order(1, block, 1)));
    }

    #[test]
    fn a_fifth_is_controlled_and_twenty_at_least() {
        let all = |n| control_count(n, n, 0.2);
        assert_eq!([0, 7, 20, 50, 100, 101, 400].map(all), [0, 7, 20, 20, 20, 21, 80]);
        assert_eq!(control_count(1, 300, 0.2), 20);
        assert_eq!(control_count(50, 50, 1.0), 50);
    }

    #[test]
    fn controls_are_spread_over_the_families() {
        let families: Vec<&str> =
            (0..90).map(|i| if i < 80 { "a" } else { ["b", "c"][i % 2] }).collect();
        let chosen = controls(&families, 12, 1);
        let of = |family| chosen.iter().filter(|&&cell| families[cell] == family).count();
        assert_eq!((of("a"), of("b"), of("c")), (4, 4, 4));
        assert_eq!(controls(&families, 90, 1).len(), 90);
    }
}
