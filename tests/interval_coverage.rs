//! How often the interval of the median holds the true median, on simulated series.

use fusebench::measure::stats::{self, Interval};
use fusebench::rng;

const SERIES: u32 = 400;
/// Fewer draws than a run uses; the ends move by under a tenth of a half-width.
const RESAMPLES: u32 = 250;
const CENTRE_S: f64 = 1e-3;
/// Relative noise.
const NOISE: f64 = 0.02;

/// An autoregressive series round the centre, with `spikes` of its samples 30 % slower.
fn series(stream: u32, n: u32, phi: f64, spikes: f32) -> Vec<f64> {
    let mut state = f64::from(rng::normal(11, stream, n));
    (0..n)
        .map(|i| {
            let fresh = f64::from(rng::normal(11, stream, i));
            state = phi * state + (1.0 - phi * phi).sqrt() * fresh;
            let spike = if rng::uniform(12, stream, i) < spikes { 1.3 } else { 1.0 };
            CENTRE_S * (1.0 + NOISE * state) * spike
        })
        .collect()
}

/// Share of intervals that hold `truth_s`, and their mean relative half-width.
fn coverage(n: u32, phi: f64, spikes: f32, truth_s: f64) -> (f64, f64) {
    let intervals: Vec<Interval> = (0..SERIES)
        .map(|stream| stats::interval(&series(stream, n, phi, spikes), RESAMPLES, stream))
        .collect();
    let held = intervals.iter().filter(|i| i.low <= truth_s && truth_s <= i.high).count();
    let width: f64 = intervals.iter().map(Interval::relative_half_width).sum();
    (held as f64 / f64::from(SERIES), width / f64::from(SERIES))
}

#[test]
fn independent_noise_is_covered() {
    let (share, width) = coverage(20, 0.0, 0.0, CENTRE_S);
    println!("iid n = 20: {share}, half-width {width}");
    assert!(share >= 0.91, "{share}");
    // 2.46 · cv / √n is 1.1 %; an interval that covers by being wide would be useless.
    assert!((0.008..0.016).contains(&width), "{width}");
}

#[test]
fn drifting_noise_is_covered() {
    let (share, width) = coverage(64, 0.5, 0.0, CENTRE_S);
    println!("AR(1) n = 64: {share}, half-width {width}");
    assert!(share >= 0.90, "{share}");
    assert!(width < 0.016, "{width}");
}

#[test]
fn spikes_are_covered() {
    // With 5 % of the mass far above, the median is the 0.5 / 0.95 quantile of the rest.
    let (share, _) = coverage(64, 0.0, 0.05, CENTRE_S * (1.0 + 0.066 * NOISE));
    println!("spikes n = 64: {share}");
    assert!(share >= 0.91, "{share}");
}

#[test]
fn a_median_one_percent_off_is_not_covered() {
    let (share, _) = coverage(64, 0.0, 0.0, 1.01 * CENTRE_S);
    assert!(share < 0.4, "{share}");
}
