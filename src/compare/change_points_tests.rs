use super::*;

/// `n` runs round one level with a relative spread of 2 %, neighbours correlated by `phi`.
fn noise(n: usize, phi: f64, stream: u32) -> Vec<f64> {
    let innovation = 0.02 * (1.0 - phi * phi).sqrt();
    let mut state = 0.02 * f64::from(rng::normal(11, stream, 0));
    let mut values = Vec::with_capacity(n);
    for index in 0..n {
        values.push(1e-3 * state.exp());
        state = phi * state + innovation * f64::from(rng::normal(11, stream, index as u32 + 1));
    }
    values
}

/// Multiplies everything from `at` on.
fn stepped(mut values: Vec<f64>, at: usize, factor: f64) -> Vec<f64> {
    values[at..].iter_mut().for_each(|value| *value *= factor);
    values
}

fn changes(values: &[f64]) -> Vec<ChangePoint> {
    change_points(&[values], 1).remove(0)
}

/// Share of 200 series in which anything was found.
fn alarm_rate(make: impl Fn(u32) -> Vec<f64>) -> f64 {
    let found = (0..200).filter(|&stream| !changes(&make(stream)).is_empty()).count();
    found as f64 / 200.0
}

#[test]
fn noise_alone_changes_no_more_than_the_design_allows() {
    // The design's simulation: none of independent runs, up to 0.3 % of correlated ones.
    assert!(alarm_rate(|stream| noise(60, 0.0, stream)) == 0.0);
    assert!(alarm_rate(|stream| noise(60, 0.6, stream)) <= 0.01);
}

#[test]
fn the_p_of_noise_is_calibrated_without_the_floor() {
    for (phi, limit) in [(0.0, 0.02), (0.6, 0.11)] {
        let low = (0..200).filter(|&stream| {
            let logs: Vec<f64> = noise(60, phi, stream).iter().map(|value| value.ln()).collect();
            let centred = centred(&logs);
            let (_, strength) = strongest_split(&centred);
            permuted_p(&centred, strength, block_length(&residuals(&centred)), SCREEN, stream)
                <= ALPHA
        });
        let share = low.count() as f64 / 200.0;
        assert!(share <= limit, "{share} at an autocorrelation of {phi}");
    }
}

#[test]
fn a_step_of_eight_percent_is_found_soon_and_where_it_is() {
    for (after, phi, power) in [(3, 0.0, 0.9), (5, 0.0, 0.98), (8, 0.6, 0.6)] {
        let step = |stream| stepped(noise(60 + after, phi, stream), 60, 1.08);
        let rate = alarm_rate(step);
        assert!(rate >= power, "{rate} of {after} runs after, autocorrelation {phi}");
    }
    let found = changes(&stepped(noise(60, 0.0, 3), 40, 1.08));
    assert_eq!(found.len(), 1);
    assert!(found[0].at.abs_diff(40) <= 1, "{found:?}");
    assert!((found[0].relative() - 0.08).abs() < 0.015, "{found:?}");
    assert_eq!(found[0].runs_before + found[0].runs_after, 60);
}

#[test]
fn several_steps_are_found_in_order_and_a_mirrored_series_mirrors_the_changes() {
    let values = stepped(stepped(noise(90, 0.0, 5), 30, 1.2), 60, 0.75);
    let found = changes(&values);
    let at: Vec<usize> = found.iter().map(|point| point.at).collect();
    assert_eq!(at, [30, 60]);
    assert!(found[0].relative() > 0.15 && found[1].relative() < -0.2, "{found:?}");
    let inverse: Vec<f64> = values.iter().map(|value| 1e-6 / value).collect();
    let mirrored = changes(&inverse);
    assert_eq!(mirrored.iter().map(|point| point.at).collect::<Vec<_>>(), at);
    assert!((1.0 + mirrored[0].relative()) * (1.0 + found[0].relative()) - 1.0 < 1e-9);
}

#[test]
fn short_constant_and_slightly_moved_series_have_no_changes() {
    assert_eq!(changes(&[]), []);
    assert_eq!(changes(&[1.0]), []);
    let step: Vec<f64> = (0..15).map(|i| if i < 8 { 1.0 } else { 2.0 }).collect();
    assert_eq!(changes(&step), [], "15 points are too few");
    assert_eq!(changes(&[1.0; 31]), []);
    // Clear, and below the floor.
    assert_eq!(changes(&stepped(vec![1.0; 64], 32, 1.04)), []);
    // The twin: one point more, and one percent more.
    let step: Vec<f64> = (0..16).map(|i| if i < 8 { 1.0 } else { 2.0 }).collect();
    assert_eq!(changes(&step).len(), 1);
    assert_eq!(changes(&stepped(vec![1.0; 64], 32, 1.06)).len(), 1);
}

#[test]
fn one_outlier_is_no_change() {
    let mut values = noise(64, 0.0, 9);
    values[63] *= 1.5;
    values[20] *= 3.0;
    assert_eq!(changes(&values), []);
}

#[test]
fn many_series_of_noise_hide_a_weak_change_but_not_a_strong_one() {
    let found = |ps: &[f64]| {
        let point =
            ChangePoint { at: 5, before: 1.0, after: 2.0, runs_before: 5, runs_after: 5, p: 0.0 };
        let one = |p: &f64| Found { tested: true, p: *p, points: vec![point] };
        keep_discoveries(ps.iter().map(one).collect())
    };
    let kept = |ps: &[f64]| found(ps).iter().map(Vec::len).sum::<usize>();
    // Worked by hand: the limits of five series are .01, .02, .03, .04, .05.
    assert_eq!(kept(&[0.01, 0.9, 0.9, 0.9, 0.9]), 1);
    assert_eq!(kept(&[0.011, 0.9, 0.9, 0.9, 0.9]), 0);
    assert_eq!(kept(&[0.011, 0.012, 0.9, 0.029, 0.9]), 3);
    assert_eq!(kept(&[]), 0);
    // A series too short to be looked at is no member of the family.
    let untested = Found { tested: false, p: 1.0, points: Vec::new() };
    let lone = Found { p: 0.05, ..Found::of(&[1.0; 16], 1) };
    assert_eq!(keep_discoveries(vec![untested, lone]).len(), 2);
}
