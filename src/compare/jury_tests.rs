use super::super::block::Order;
use super::super::plan::PAIRS_PER_BLOCK;
use super::super::schedule;
use super::*;

/// Blocks whose head takes `ratio` times the base, with noise of `sd`.
fn blocks(ratio: f64, sd: f64, pairs: usize, seed: u32) -> Vec<Block> {
    let block = |b: usize| {
        let order = schedule::order(seed as usize, b, seed);
        let heads = order.heads();
        let seconds = std::array::from_fn(|i| {
            let noise = sd * f64::from(rng::normal(seed, 0x401, (4 * b + i) as u32));
            1e-2 * noise.exp() * if heads[i] { ratio } else { 1.0 }
        });
        Block { order, seconds, canary_s: None }
    };
    (0..pairs / PAIRS_PER_BLOCK).map(block).collect()
}

fn one(blocks: Vec<Block>) -> Judgement {
    judge(vec![Trial::default()], &[blocks], 1)[0]
}

#[track_caller]
fn verdict(found: &Judgement, verdict: Verdict, reason: Reason) {
    assert_eq!((found.verdict, found.reason), (verdict, reason), "{found:?}");
}

#[test]
fn clear_differences_get_their_verdict_at_the_first_look() {
    let slower = one(blocks(1.08, 0.01, 40, 1));
    verdict(&slower, Verdict::Slower, Reason::Evidence);
    let estimate = slower.estimate.unwrap();
    assert!((estimate.ratio - 1.08).abs() < 0.01 && estimate.pairs == 40, "{estimate:?}");
    assert!(estimate.low < estimate.ratio && estimate.ratio < estimate.high);
    verdict(&one(blocks(0.92, 0.01, 40, 1)), Verdict::Faster, Reason::Evidence);
    verdict(&one(blocks(1.0, 0.002, 40, 1)), Verdict::Same, Reason::Equivalent);
}

#[test]
fn mirrored_input_swaps_faster_and_slower() {
    let suite: Vec<Vec<Block>> =
        (0..12).map(|i| blocks(0.9 + 0.02 * f64::from(i), 0.01, 100, i)).collect();
    let mirrored: Vec<Vec<Block>> =
        suite.iter().map(|blocks| blocks.iter().map(Block::mirrored).collect()).collect();
    let trials = vec![Trial::default(); suite.len()];
    let (one, other) = (judge(trials.clone(), &suite, 1), judge(trials, &mirrored, 1));
    for (one, other) in one.iter().zip(&other) {
        let swapped = match other.verdict {
            Verdict::Slower => Verdict::Faster,
            Verdict::Faster => Verdict::Slower,
            same => same,
        };
        assert_eq!((one.verdict, one.reason), (swapped, other.reason));
    }
    assert!(one.iter().any(|judgement| judgement.verdict == Verdict::Slower));
    assert!(one.iter().any(|judgement| judgement.verdict == Verdict::Faster));
}

#[test]
fn what_noise_hides_is_unclear_and_not_the_same() {
    verdict(&one(blocks(1.01, 0.05, 100, 3)), Verdict::Unclear, Reason::Straddles);
}

#[test]
fn a_real_difference_below_the_floor_earns_no_verdict() {
    let found = one(blocks(1.008, 0.001, 100, 4));
    assert!(found.estimate.unwrap().p.slower < 1e-4);
    verdict(&found, Verdict::Same, Reason::Equivalent);
    let wide = Trial { floor: 0.15, ..Trial::default() };
    let found = judge(vec![wide], &[blocks(1.1, 0.01, 100, 4)], 1)[0];
    verdict(&found, Verdict::Same, Reason::Equivalent);
}

#[test]
fn without_forty_valid_pairs_there_is_no_verdict() {
    let mut few = blocks(1.5, 0.01, 100, 5);
    few.iter_mut().skip(19).for_each(|block| block.seconds[2] = f64::NAN);
    let found = one(few.clone());
    verdict(&found, Verdict::Unclear, Reason::TooFew);
    assert_eq!(found.estimate.unwrap().pairs, 38);
    few.iter_mut().for_each(|block| block.seconds = [0.0; 4]);
    let found = one(few);
    verdict(&found, Verdict::Unclear, Reason::TooFew);
    assert_eq!(found.estimate, None);
    verdict(&one(Vec::new()), Verdict::Unclear, Reason::TooFew);
}

#[test]
fn a_coarse_timer_earns_no_verdict() {
    let coarse = Trial { timer_step: 0.02, ..Trial::default() };
    let found = judge(vec![coarse], &[blocks(1.5, 0.01, 100, 6)], 1)[0];
    verdict(&found, Verdict::Unclear, Reason::TimerQuantised);
}

/// The head is slower only as much as the clock is while it runs.
#[test]
fn a_difference_that_the_clock_explains_is_unclear() {
    let mut throttled = blocks(1.2, 0.005, 100, 7);
    for block in &mut throttled {
        let heads = block.order.heads();
        block.canary_s = Some(heads.map(|head| if head { 1.2e-3 } else { 1e-3 }));
    }
    let found = one(throttled.clone());
    verdict(&found, Verdict::Unclear, Reason::Clock);
    assert!((found.estimate.unwrap().normalised.unwrap() - 1.0).abs() < 0.01);
    throttled.iter_mut().for_each(|block| block.canary_s = Some([1e-3; 4]));
    verdict(&one(throttled), Verdict::Slower, Reason::Evidence);
}

#[test]
fn a_difference_that_the_clock_hides_is_unclear_too() {
    let mut hidden = blocks(1.0, 0.001, 100, 8);
    for block in &mut hidden {
        block.canary_s = Some(block.order.heads().map(|head| if head { 0.8e-3 } else { 1e-3 }));
    }
    verdict(&one(hidden), Verdict::Unclear, Reason::Clock);
}

#[test]
fn an_interrupt_keeps_what_was_decided_before() {
    let suite = [blocks(1.2, 0.01, 40, 9), blocks(1.01, 0.05, 40, 11), Vec::new()];
    let mut jury = Jury::new(vec![Trial::default(); 3], 1);
    jury.look(&LOOKS[0], &suite);
    let found = jury.close(&suite, true);
    verdict(&found[0], Verdict::Slower, Reason::Evidence);
    verdict(&found[1], Verdict::Unclear, Reason::Interrupted);
    verdict(&found[2], Verdict::Unclear, Reason::Interrupted);
    assert!(found[1].estimate.is_some() && found[2].estimate.is_none());
}

#[test]
fn equal_sides_are_never_slower_whatever_the_seed() {
    for seed in 0..50 {
        let exact = one(blocks(1.0, 0.0, 40, seed));
        verdict(&exact, Verdict::Same, Reason::Equivalent);
    }
}

#[test]
fn a_dismissed_trial_keeps_its_place_among_the_hypotheses() {
    let suite = [blocks(1.2, 0.01, 40, 9), blocks(1.2, 0.01, 40, 10)];
    let mut jury = Jury::new(vec![Trial::default(); 2], 1);
    jury.dismiss(0, Verdict::Wrong, Reason::Failed);
    jury.look(&LOOKS[0], &suite);
    let found = jury.close(&suite, false);
    verdict(&found[0], Verdict::Wrong, Reason::Failed);
    verdict(&found[1], Verdict::Slower, Reason::Evidence);
}

#[test]
fn what_is_not_measured_is_no_hypothesis() {
    // Enough among one at the first look, and not among twenty.
    let weak = (0..200).map(|seed| blocks(1.05, 0.05, 40, seed)).find(|blocks| {
        let found = estimate(blocks, 1, 0.01, 1).unwrap();
        (0.001..0.005).contains(&found.p.slower) && found.low > 1.0 + FLOOR + 0.002
    });
    let mut suite = vec![Vec::new(); 20];
    suite[0] = weak.expect("some seed is weak evidence");
    let mut jury = Jury::new(vec![Trial::default(); 20], 1);
    jury.look(&LOOKS[0], &suite);
    assert!(!jury.is_decided(0));
    (1..20).for_each(|trial| jury.exclude(trial));
    jury.look(&LOOKS[0], &suite);
    verdict(&jury.decision(0).unwrap(), Verdict::Slower, Reason::Evidence);
}

#[test]
fn orders_have_names() {
    for order in [Order::Abba, Order::Baab] {
        assert_eq!(Order::from_name(order.name()), Some(order));
    }
    assert_eq!(Order::from_name("AABB"), None);
}
