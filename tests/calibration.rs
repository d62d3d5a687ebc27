//! The statistics of `ab` on simulated noise: how often equal things look different, how often a
//! difference is found, and that nobody gains by running first.

use fusebench::compare::control::alarms;
use fusebench::compare::{Block, Trial, Verdict, estimate, judge, schedule};
use fusebench::rng;
use rayon::prelude::*;

/// Noise of one machine, simulated: neighbouring samples alike, a few disturbed ones.
#[derive(Clone, Copy)]
struct Noise {
    /// Standard deviation of the logarithm, and what a sample keeps of the one before.
    sd: f64,
    phi: f64,
    /// Share of samples that something else slows down, by a quarter on average.
    spikes: f64,
    /// Extra cost of whoever runs first in a pair, as a fraction.
    slot: f64,
}

/// A machine where nothing else runs, as CPU drivers show it; and one that others share.
const QUIET: Noise = Noise { sd: 0.02, phi: 0.6, spikes: 0.02, slot: 0.0 };
const LOADED: Noise = Noise { sd: 0.05, phi: 0.6, spikes: 0.10, slot: 0.0 };

/// A hundred pairs of a cell whose head takes `ratio` times the base.
fn blocks(noise: &Noise, ratio: f64, cell: u32, seed: u32) -> Vec<Block> {
    let stream = 100 + cell;
    let mut drift = 0.0;
    let mut n = 0;
    let mut draw = |kind: u32| {
        n += 1;
        (rng::normal(seed, stream, 3 * n + kind), rng::uniform(seed, stream, 3 * n + kind + 1))
    };
    let block = |b: usize| {
        let order = schedule::order(cell as usize, b, seed);
        let heads = order.heads();
        let seconds = std::array::from_fn(|i| {
            let (normal, uniform) = draw(0);
            let fresh = (1.0 - noise.phi * noise.phi).sqrt() * noise.sd * f64::from(normal);
            drift = noise.phi * drift + fresh;
            let u = f64::from(uniform);
            let spike = if u < noise.spikes { 0.5 * u / noise.spikes } else { 0.0 };
            let slot = if i % 2 == 0 { noise.slot } else { 0.0 };
            let head = if heads[i] { ratio } else { 1.0 };
            5e-3 * drift.exp() * (1.0 + spike) * (1.0 + slot) * head
        });
        Block { order, seconds, canary_s: None }
    };
    (0..50).map(block).collect()
}

/// How many of a suite's cells get this verdict.
fn count(noise: &Noise, ratio: f64, cells: u32, seed: u32, verdict: Verdict) -> usize {
    let suite: Vec<Vec<Block>> = (0..cells).map(|c| blocks(noise, ratio, c, seed)).collect();
    let found = judge(vec![Trial::default(); suite.len()], &suite, seed);
    found.iter().filter(|judgement| judgement.verdict == verdict).count()
}

/// The share of cells of suites of ten that get this verdict, and of suites with any.
fn shares(noise: &Noise, ratio: f64, suites: u32, verdict: Verdict) -> (f64, f64) {
    let each = (0..suites).into_par_iter().map(|seed| count(noise, ratio, 10, seed, verdict));
    let counts: Vec<usize> = each.collect();
    let suites = f64::from(suites);
    let any = counts.iter().filter(|&&n| n > 0).count() as f64;
    (counts.iter().sum::<usize>() as f64 / (10.0 * suites), any / suites)
}

#[test]
fn a_fair_coin_gives_the_test_its_nominal_size() {
    for noise in [QUIET, LOADED, Noise { slot: 0.1, ..QUIET }] {
        let alarm = |seed: u32| {
            let blocks = &blocks(&noise, 1.0, 0, seed)[..20];
            estimate(blocks, 1, 0.05, seed).is_some_and(|found| alarms(&found.p))
        };
        let n = 600;
        let alarmed = (0..n).into_par_iter().filter(|&seed| alarm(seed)).count();
        let size = alarmed as f64 / f64::from(n);
        assert!((0.03..=0.07).contains(&size), "{size} with slot {}", noise.slot);
    }
}

#[test]
fn suites_of_equal_things_rarely_show_a_slower_one() {
    for noise in [QUIET, LOADED, Noise { slot: 0.1, ..QUIET }] {
        let (cells, suites) = shares(&noise, 1.0, 60, Verdict::Slower);
        assert!(cells <= 0.005 && suites <= 0.04, "{cells} of cells, {suites} of suites");
    }
}

#[test]
fn slow_downs_are_found_as_often_as_promised() {
    let share = |noise: &Noise, ratio| shares(noise, ratio, 20, Verdict::Slower).0;
    let quiet = [share(&QUIET, 1.05), share(&QUIET, 1.10)];
    assert!(quiet[0] >= 0.6 && quiet[1] >= 0.9, "quiet: {quiet:?}");
    let loaded = share(&LOADED, 1.10);
    assert!(loaded >= 0.5, "loaded: {loaded}");
}

#[test]
fn running_first_neither_helps_nor_hurts() {
    let slot = Noise { slot: 0.1, ..QUIET };
    let share = |noise: &Noise, ratio, verdict| shares(noise, ratio, 12, verdict).0;
    let found = share(&slot, 1.05, Verdict::Slower);
    assert!(found >= 0.6, "{found}");
    let found = share(&slot, 1.0 / 1.05, Verdict::Faster);
    assert!(found >= 0.6, "{found}");
    // The other way round must not appear at all.
    assert_eq!(share(&slot, 1.05, Verdict::Faster), 0.0);
}

#[test]
fn a_simulation_with_a_known_answer_would_expose_a_broken_test() {
    // The same data with the roles fixed instead of drawn: whoever runs first looks slower.
    let slot = Noise { slot: 0.1, ..QUIET };
    let broken: Vec<Block> = blocks(&slot, 1.0, 0, 1)
        .into_iter()
        .map(|block| Block { seconds: fixed_roles(&block), ..block })
        .collect();
    let found = judge(vec![Trial::default()], &[broken], 1)[0];
    assert_eq!(found.verdict, Verdict::Slower);
}

/// Samples as if the head had run first in both pairs.
fn fixed_roles(block: &Block) -> [f64; 4] {
    let [a, b, c, d] = block.seconds;
    let (first, second) = ([a, c], [b, d]);
    let heads = block.order.heads();
    let mut next = [0, 0];
    std::array::from_fn(|i| {
        let side = usize::from(heads[i]);
        next[side] += 1;
        if heads[i] { first[next[side] - 1] } else { second[next[side] - 1] }
    })
}
