//! The measuring protocol against a fake device with a fake clock: exact sequences, no GPU.

mod measure_fake;

use std::convert::Infallible;

use fusebench::measure::{Context, Plan, Stopped, StoppedBy, TimerKind, Timing, canary};
use measure_fake::{CANARY_S, Call, Fake, SUBMIT_S};

fn context() -> Context {
    Context {
        timer_resolution_s: 1e-9,
        submit_cost_s: SUBMIT_S,
        canary_baseline_s: Some(CANARY_S),
        emulated: false,
        seed: 1,
    }
}

/// The usual limit; fewer draws than a run uses, for speed.
fn plan() -> Plan {
    within(3.0)
}

fn within(limit_s: f64) -> Plan {
    Plan { resamples: 200, ..Plan::standard(limit_s) }
}

fn noted(timing: &Timing, text: &str) -> bool {
    timing.notes.iter().any(|note| note.contains(text))
}

#[test]
fn a_steady_cell_follows_the_protocol_step_by_step() {
    let mut fake = Fake::steady(1e-3);
    let timing = fake.run(&plan(), &context()).unwrap();
    use Call::{Canary, Cold, Hot};
    // Grown to 20 ms, then the best and three that are not better.
    let mut expected = vec![Hot(1), Hot(8), Hot(20), Hot(20), Hot(20), Hot(20), Canary];
    expected.extend([Cold; 10]);
    expected.push(Canary);
    expected.extend([Hot(20); 10]);
    expected.push(Canary);
    assert_eq!(fake.calls, expected);

    assert_eq!((timing.timer, timing.stopped_by), (TimerKind::Gpu, StoppedBy::Interval));
    assert_eq!((timing.batch, timing.samples_s.len(), timing.n_invalid), (20, 10, 0));
    assert!(
        (timing.median_s - 1e-3).abs() < 1e-12
            && (timing.low_s, timing.high_s) == (timing.median_s, timing.median_s)
    );
    assert!((timing.cold_median_s.unwrap() - 1.5e-3).abs() < 1e-12);
    assert!((timing.wall_median_s - 1.005e-3).abs() < 1e-12, "submission is spread over 20");
    assert_eq!(timing.canary, [(0, CANARY_S), (10, CANARY_S), (20, CANARY_S)]);
    assert_eq!(timing.time_normalised_s, Some(timing.median_s));
    assert_eq!((timing.notes.len(), timing.confidence), (0, 0.95));
}

#[test]
fn warm_up_goes_on_while_it_gets_faster() {
    // 5 % faster with each of the first ten calls.
    let ramp = |i: usize| 30e-3 * 0.95_f64.powi(i.min(10) as i32);
    let mut fake = Fake { hot_s: Box::new(ramp), ..Fake::steady(1.0) };
    fake.run(&plan(), &context()).unwrap();
    let first_canary = fake.calls.iter().position(|call| *call == Call::Canary);
    assert_eq!(first_canary, Some(10 + 1 + 3));
}

#[test]
fn a_slow_ramp_adds_up_until_it_shows() {
    // 2 % per call: two steps make more than 3 %.
    let ramp = |i: usize| 30e-3 * 0.98_f64.powi(i.min(10) as i32);
    let mut fake = Fake { hot_s: Box::new(ramp), ..Fake::steady(1.0) };
    fake.run(&plan(), &context()).unwrap();
    let first_canary = fake.calls.iter().position(|call| *call == Call::Canary);
    assert_eq!(first_canary, Some(10 + 1 + 3));
}

#[test]
fn warm_up_without_end_is_cut_and_noted() {
    let ramp = |i: usize| 30e-3 * 0.95_f64.powi(i as i32);
    let mut fake = Fake { hot_s: Box::new(ramp), ..Fake::steady(1.0) };
    let timing = fake.run(&Plan::quick(30.0), &context()).unwrap();
    let first_canary = fake.calls.iter().position(|call| *call == Call::Canary);
    assert_eq!(first_canary, Some(10), "the quick column allows ten");
    assert!(noted(&timing, "without a plateau"));
}

#[test]
fn noise_count_and_time_each_end_sampling() {
    let ended = |noise, dispatch_s, plan: Plan| {
        let timing = Fake::noisy(dispatch_s, noise).run(&plan, &context()).unwrap();
        (timing.stopped_by, timing.samples_s.len(), timing)
    };
    let (by, n, _) = ended(0.02, 1e-3, plan().with_precision(0.015));
    assert!(by == StoppedBy::Interval && (10..=40).contains(&n), "{by:?} {n}");
    let (by, n, _) = ended(0.15, 1e-3, within(60.0));
    assert!(by == StoppedBy::Noise && (70..=150).contains(&n), "{by:?} {n}");
    // Never long enough for the noise to count as settled.
    let patient = Plan { settle_after_s: 1e9, ..within(60.0) };
    let (by, n, _) = ended(0.15, 1e-3, patient);
    assert_eq!((by, n), (StoppedBy::Samples, 200));
    let (by, n, timing) = ended(0.15, 1e-3, plan());
    assert!(by == StoppedBy::Time && n < 100, "{by:?} {n}");
    assert!(noted(&timing, "time limit: interval"), "{:?}", timing.notes);
}

#[test]
fn the_limit_is_kept() {
    let mut fake = Fake::noisy(1e-3, 0.15);
    fake.run(&plan(), &context()).unwrap();
    let took_s = fake.now_s - 100.0;
    assert!((2.0..2.2).contains(&took_s), "70 % of 3 s, and a sample: {took_s}");
}

#[test]
fn an_interrupt_keeps_the_row_only_with_enough_samples() {
    // Six warm-up calls, two canaries and ten cold samples come before the hot ones.
    let of = |hot: usize| Fake { interrupt_after: 6 + 2 + 10 + hot, ..Fake::steady(1e-3) };
    assert_eq!(of(9).run(&plan(), &context()), Err(Stopped::Interrupted));
    let plenty = Plan { min_samples: 9, ..plan() };
    let timing = of(9).run(&plenty, &context()).unwrap();
    assert_eq!((timing.stopped_by, timing.samples_s.len()), (StoppedBy::Interrupt, 9));
    for early in [0, 3, 12] {
        let mut fake = Fake { interrupt_after: early, ..Fake::steady(1e-3) };
        assert_eq!(fake.run(&plan(), &context()), Err(Stopped::Interrupted), "{early}");
    }
}

#[test]
fn canaries_come_every_ten_samples_or_quarter_second() {
    let gaps = |mut fake: Fake, context: &Context| -> Vec<usize> {
        let timing = fake.run(&within(9.0), context).unwrap();
        let n_cold = timing.cold_samples_s.len();
        let hot = timing.canary.iter().map(|canary| canary.0).filter(|&at| at >= n_cold);
        let hot: Vec<usize> = hot.collect();
        hot.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let fast = gaps(Fake::noisy(1e-3, 0.15), &context());
    assert!(fast.len() > 5 && fast.iter().all(|&gap| gap == 10), "{fast:?}");
    // 100 ms per sample: a quarter of a second is three of them.
    let emulated = Context { emulated: true, ..context() };
    let slow = gaps(Fake::noisy(0.1, 0.05), &emulated);
    assert!(slow.len() > 3 && slow[..slow.len() - 1].iter().all(|&gap| gap == 3), "{slow:?}");
}

#[test]
fn dear_canaries_come_less_often() {
    let of = |canary_s| {
        let context = Context { canary_baseline_s: Some(canary_s), ..context() };
        let mut fake = Fake::noisy(1e-3, 0.15).canaries(move |_| canary_s);
        let timing = fake.run(&within(20.0), &context).unwrap();
        (timing.canary.len(), fake.now_s - 100.0)
    };
    let (cheap, _) = of(CANARY_S);
    let (dear, took_s) = of(0.1);
    // One at each end of the phases, and one in twenty times its cost.
    assert!(dear <= 3 + (took_s / 2.0) as usize && cheap > 2 * dear, "{dear} and {cheap}");
}

#[test]
fn throttled_samples_are_discarded_with_growing_pauses() {
    // The third canary, after ten hot samples, and the two reruns find a clock at half speed.
    let slow = |i: usize| if (2..5).contains(&i) { 2.0 * CANARY_S } else { CANARY_S };
    let mut fake = Fake::steady(1e-3).canaries(slow);
    let timing = fake.run(&plan(), &context()).unwrap();
    assert_eq!(fake.pauses(), [0.05, 0.05 * 1.5, 0.05 * 1.5 * 1.5]);
    assert_eq!((timing.samples_s.len(), timing.stopped_by), (10, StoppedBy::Interval));
    assert_eq!(fake.hots(), 6 + 10 + 10, "the first ten were lost");
    assert!(noted(&timing, "discarded 10 samples") && !noted(&timing, "throttled 0."));
    assert_eq!(timing.time_normalised_s, Some(timing.median_s), "the bad clock timed nothing kept");
    let positions: Vec<usize> = timing.canary.iter().map(|canary| canary.0).collect();
    assert_eq!(positions, [0, 10, 10, 10, 10, 10, 20]);
}

#[test]
fn a_canary_just_above_the_threshold_discards_nothing() {
    let at = |clock: f64| {
        let mut fake =
            Fake::steady(1e-3).canaries(move |i| CANARY_S / if i == 2 { clock } else { 1.0 });
        fake.run(&plan(), &context()).unwrap();
        fake.pauses().len()
    };
    assert_eq!((at(0.76), at(0.74)), (0, 1));
}

#[test]
fn discarding_gives_up_at_half_the_limit_and_keeps_the_samples() {
    let mut fake = Fake::steady(1e-3).canaries(|_| CANARY_S / 0.57);
    let timing = fake.run(&plan(), &context()).unwrap();
    let paused_s: f64 = fake.pauses().iter().sum();
    assert!((0.8..1.5).contains(&paused_s), "{paused_s}");
    assert!(fake.pauses().iter().all(|&s| s <= 0.5));
    assert_eq!((timing.samples_s.len(), timing.stopped_by), (10, StoppedBy::Interval));
    assert!(noted(&timing, "throttled 0.57"), "{:?}", timing.notes);
    assert!((timing.time_normalised_s.unwrap() / timing.median_s - 0.57).abs() < 1e-9);
    assert!(fake.now_s - 100.0 < 3.0);
}

#[test]
fn without_a_baseline_nothing_is_called_throttled() {
    let unknown = Context { canary_baseline_s: None, ..context() };
    let mut fake = Fake::steady(1e-3).canaries(|i| if i == 1 { 2.0 * CANARY_S } else { CANARY_S });
    let timing = fake.run(&plan(), &unknown).unwrap();
    assert_eq!((fake.pauses().len(), timing.time_normalised_s), (0, None));
    assert!(noted(&timing, "clock unstable"));
}

#[test]
fn without_timestamps_batches_are_timed_by_the_wall() {
    let mut fake = Fake::steady(1e-3).timer(|_, _| None);
    let timing = fake.run(&plan(), &context()).unwrap();
    assert_eq!((timing.timer, timing.n_invalid), (TimerKind::Wall, 0));
    assert_eq!(timing.median_s, timing.wall_median_s);
    assert!(noted(&timing, "no timestamps"));
    // Submission is 6 % of a cold run: no cold time, and no time lost on trying.
    assert_eq!((timing.cold_median_s, fake.count(|call| *call == Call::Cold)), (None, 1));
    assert!(noted(&timing, "cold: omitted"));
    let mut long = Fake::steady(5e-3).timer(|_, _| None);
    let timing = long.run(&plan(), &context()).unwrap();
    assert!((timing.cold_median_s.unwrap() - 7.6e-3).abs() < 1e-9);
}

#[test]
fn impossible_readings_are_dropped_and_counted() {
    // One hot reading, after six of warm-up, wrapped.
    let mut fake = Fake::steady(1e-3).timer(|i, s| Some(if i == 9 { -1.0 } else { s }));
    let timing = fake.run(&plan(), &context()).unwrap();
    assert_eq!((timing.timer, timing.n_invalid), (TimerKind::Gpu, 1));
    assert_eq!((timing.samples_s.len(), timing.outliers), (10, [0, 0]));
    let positions: Vec<usize> = timing.canary.iter().map(|canary| canary.0).collect();
    assert_eq!(positions.last(), Some(&20), "positions count samples, not readings");
}

#[test]
fn too_many_impossible_readings_hand_over_to_the_wall() {
    let mut fake = Fake::steady(1e-3).timer(|i, s| Some(if i % 5 == 0 { 0.0 } else { s }));
    let timing = fake.run(&plan(), &context()).unwrap();
    assert_eq!((timing.timer, timing.n_invalid), (TimerKind::Wall, 2));
    assert_eq!(timing.samples_s.len(), 10, "the wall clock saw them all");
    assert!(noted(&timing, "2 of 10 device readings impossible"), "{:?}", timing.notes);
}

#[test]
fn a_timer_that_contradicts_the_wall_is_suspect() {
    let at = |factor: f64| {
        let mut fake = Fake::steady(1e-3).timer(move |_, s| Some(factor * s));
        fake.run(&plan(), &context()).unwrap()
    };
    assert_eq!(at(0.97).timer, TimerKind::Gpu);
    let timing = at(0.5);
    assert_eq!(timing.timer, TimerKind::Wall);
    assert!((timing.median_s - 1e-3).abs() < 0.01e-3);
    assert!(noted(&timing, "timer_suspect") && noted(&timing, "device 5.000e-4 s"));
}

#[test]
fn a_quantised_timer_gets_longer_batches_and_says_so() {
    const STEP_S: f64 = 65_536e-9;
    let coarse = Context { timer_resolution_s: STEP_S, ..context() };
    let quantise = |_, s: f64| Some((s / STEP_S).floor() * STEP_S);
    let mut fake = Fake::steady(100e-6).timer(quantise);
    let timing = fake.run(&Plan::quick(0.9), &coarse).unwrap();
    assert_eq!(timing.timer, TimerKind::Gpu);
    assert!((64..=68).contains(&timing.batch), "{} × 100 µs are 6.6 ms", timing.batch);
    assert!((timing.median_s - 100e-6).abs() < 1e-6, "within a step of a hundred");
    assert!(noted(&timing, "timer quantised to 65.5 µs"));
    assert!(timing.cold_median_s.is_none() && noted(&timing, "cold: < resolution (6.6 ms)"));
    // The same cell on a fine timer.
    let timing = Fake::steady(100e-6).run(&Plan::quick(0.9), &context()).unwrap();
    assert_eq!((timing.batch, timing.notes.len()), (50, 0));
}

#[test]
fn a_slow_cpu_adapter_still_gives_a_row() {
    let slow = Context { emulated: true, ..context() };
    let mut fake = Fake::noisy(0.5, 0.02);
    let timing = fake.run(&Plan::standard(1.5), &slow).unwrap();
    assert_eq!((timing.samples_s.len(), timing.cold_samples_s.len(), timing.batch), (3, 1, 1));
    assert!(timing.low_n() && noted(&timing, "low_n: 3 samples"), "{:?}", timing.notes);
    assert_eq!((timing.stopped_by, timing.confidence), (StoppedBy::Time, 0.75));
    let sorted = {
        let mut s = timing.samples_s.clone();
        s.sort_by(f64::total_cmp);
        s
    };
    assert_eq!((timing.low_s, timing.median_s, timing.high_s), (sorted[0], sorted[1], sorted[2]));
    assert!(fake.now_s - 100.0 < 3.0 * 1.5);
}

#[test]
fn a_dispatch_that_cannot_fit_is_refused_after_the_first() {
    let slow = Context { emulated: true, ..context() };
    let plan = Plan::standard(1.5);
    let too_long = |dispatch_s, context: &Context| {
        let mut fake = Fake::steady(dispatch_s);
        let result = fake.run(&plan, context);
        matches!(result, Err(Stopped::TooLong { .. })).then_some(fake.calls.len())
    };
    assert_eq!(too_long(1.4, &slow), None);
    assert_eq!(too_long(1.6, &slow), Some(1));
    // Four batches of one, since more would make one long submission.
    assert_eq!(too_long(1.1, &context()), None);
    assert_eq!(too_long(1.2, &context()), Some(1));
    let error = Stopped::<Infallible>::TooLong { dispatch_s: 1.6 };
    assert_eq!(error.to_string(), "dispatch estimate 1.600 s does not fit the time limit");
}

#[test]
fn a_dispatch_long_enough_for_a_watchdog_is_submitted_alone_and_noted() {
    let mut fake = Fake::steady(0.5);
    let timing = fake.run(&Plan::standard(3.0), &context()).unwrap();
    assert!(fake.calls.iter().all(|call| !matches!(call, Call::Hot(batch) if *batch > 1)));
    assert!(timing.notes.iter().any(|note| note.contains("watchdog")), "{:?}", timing.notes);
    let short = Fake::steady(0.01).run(&Plan::standard(3.0), &context()).unwrap();
    assert!(!short.notes.iter().any(|note| note.contains("watchdog")));
}

#[test]
fn drift_and_two_modes_are_noted() {
    let drift = |i: usize| 1e-3 * (1.0 + 0.02 * i as f64);
    let drifting = Fake { hot_s: Box::new(drift), ..Fake::steady(1e-3) };
    let two = |i: usize| 1e-3 * if (i / 3).is_multiple_of(2) { 1.0 } else { 1.2 };
    let bimodal = Fake { hot_s: Box::new(two), ..Fake::steady(1e-3) };
    for (mut fake, note) in [(drifting, "clock drifting"), (bimodal, "bimodal")] {
        let timing = fake.run(&plan(), &context()).unwrap();
        assert!(noted(&timing, note), "{note}: {:?}", timing.notes);
    }
}

#[test]
fn trusted_repetition_is_hot_only() {
    let mut fake = Fake::steady(1e-3);
    let timing = fake.run(&plan().trusted().unwrap(), &context()).unwrap();
    assert_eq!((timing.cold_median_s, timing.cold_samples_s.len()), (None, 0));
    assert_eq!(fake.count(|call| *call == Call::Cold), 0);
    assert_eq!(timing.samples_s.len(), 10);
}

#[test]
fn the_baseline_is_taken_after_warming_up() {
    // The clock goes up within the first 200 canaries.
    let ramp = |i: usize| CANARY_S * if i < 200 { 2.0 } else { 1.0 };
    let mut fake = Fake::steady(1e-3).canaries(ramp);
    let baseline_s = canary::warm_up_device(&mut fake, 0.5, SUBMIT_S).unwrap();
    assert_eq!(baseline_s, CANARY_S);
    let mut cold = Fake::steady(1e-3).canaries(ramp);
    assert_eq!(canary::warm_up_device(&mut cold, 0.1, SUBMIT_S).unwrap(), 2.0 * CANARY_S);
}

#[test]
fn recovery_between_cells_is_waited_for_but_not_for_ever() {
    let mut fake = Fake::steady(1e-3).canaries(|i| CANARY_S * if i < 5 { 1.2 } else { 1.02 });
    assert_eq!(canary::recover(&mut fake, CANARY_S, SUBMIT_S), Ok(true));
    assert_eq!(fake.calls.len(), 6);
    let mut slow = Fake::steady(1e-3).canaries(|_| 1.2 * CANARY_S);
    assert_eq!(canary::recover(&mut slow, CANARY_S, SUBMIT_S), Ok(false));
    assert!((0.25..0.26).contains(&(slow.now_s - 100.0)));
}
