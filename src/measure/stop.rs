//! When a phase has enough samples.

use super::plan::Plan;
use super::stats;
use super::timing::StoppedBy;

/// The rule, asked after each sample. `samples_s` are per dispatch; `batch` dispatches make one.
/// The costly conditions are looked at on the cadence of the plan and before giving up.
pub(super) fn verdict(
    samples_s: &[f64],
    batch: u32,
    out_of_time: bool,
    plan: &Plan,
    seed: u32,
) -> Option<StoppedBy> {
    let n = samples_s.len();
    let full = n >= plan.max_samples;
    if n > 0 && (n.is_multiple_of(plan.check_every) || full || out_of_time) {
        if n >= plan.min_samples && half_width(samples_s, plan, seed) <= plan.precision {
            return Some(StoppedBy::Interval);
        }
        let measured_s = samples_s.iter().sum::<f64>() * f64::from(batch);
        if measured_s >= plan.settle_after_s && stats::settled(samples_s, plan.settle_ring) {
            return Some(StoppedBy::Noise);
        }
    }
    match (full, out_of_time) {
        (true, _) => Some(StoppedBy::Samples),
        (_, true) => Some(StoppedBy::Time),
        _ => None,
    }
}

/// What kept the rule from firing before the time was up.
pub(super) fn unmet(samples_s: &[f64], plan: &Plan, seed: u32) -> String {
    if samples_s.len() < plan.min_samples {
        return format!("{} samples < {}", samples_s.len(), plan.min_samples);
    }
    let percent = |fraction: f64| 100.0 * fraction;
    let half_width = percent(half_width(samples_s, plan, seed));
    format!("interval {half_width:.1} % > {} %", percent(plan.precision))
}

fn half_width(samples_s: &[f64], plan: &Plan, seed: u32) -> f64 {
    stats::interval(samples_s, plan.resamples, seed).relative_half_width()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn noisy(n: u32, noise: f64) -> Vec<f64> {
        (0..n).map(|i| 1e-3 * (1.0 + noise * f64::from(rng::normal(4, 1, i)))).collect()
    }

    fn rule(samples_s: &[f64], batch: u32, out_of_time: bool) -> Option<StoppedBy> {
        verdict(samples_s, batch, out_of_time, &Plan::standard(3.0), 1)
    }

    #[test]
    fn a_narrow_interval_ends_it_on_the_cadence_only() {
        assert_eq!(rule(&noisy(9, 1e-3), 20, false), None);
        assert_eq!(rule(&noisy(10, 1e-3), 20, false), Some(StoppedBy::Interval));
        assert_eq!(rule(&noisy(11, 1e-3), 20, false), None);
        assert_eq!(rule(&noisy(10, 0.1), 20, false), None, "wider noise, same count");
    }

    #[test]
    fn settled_noise_ends_it_after_half_a_second() {
        let samples = noisy(150, 0.2);
        assert_eq!(rule(&samples, 20, false), Some(StoppedBy::Noise));
        assert_eq!(rule(&samples, 1, false), None, "only 0.15 s were measured");
    }

    #[test]
    fn count_and_time_end_it_whatever_the_noise() {
        assert_eq!(rule(&noisy(200, 0.2), 1, false), Some(StoppedBy::Samples));
        assert_eq!(rule(&noisy(7, 0.2), 20, true), Some(StoppedBy::Time));
        // A target met just as time runs out was met.
        assert_eq!(rule(&noisy(13, 1e-3), 20, true), Some(StoppedBy::Interval));
    }

    #[test]
    fn the_unmet_condition_is_named() {
        let plan = Plan::standard(3.0);
        assert_eq!(unmet(&noisy(7, 0.2), &plan, 1), "7 samples < 10");
        let text = unmet(&noisy(20, 0.2), &plan, 1);
        assert!(text.starts_with("interval ") && text.ends_with(" % > 1 %"), "{text}");
    }
}
