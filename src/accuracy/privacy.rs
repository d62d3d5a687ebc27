//! What training with differential privacy spends: Rényi accounting of the Poisson-subsampled
//! Gaussian mechanism (Mironov, Talwar and Zhang, arXiv 1908.10530) at integer orders.
//!
//! A benchmark's arithmetic, not a privacy guarantee: floating-point noise can be attacked
//! (arXiv 2112.05307).

use thiserror::Error;

/// Orders tried; the best one is returned with the result.
const ORDERS: std::ops::RangeInclusive<u32> = 2..=256;

/// An argument outside its domain.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum PrivacyError {
    #[error("the noise multiplier is {0}; it must be positive and finite")]
    NoiseMultiplier(f64),
    #[error("the sampling rate is {0}; it must be above 0 and at most 1")]
    SamplingRate(f64),
    #[error("delta is {0}; it must be between 0 and 1")]
    Delta(f64),
    #[error("the order is {0}; it must be at least 2")]
    Order(u32),
}

/// How Rényi divergence becomes (ε, δ).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// ε = R + ln(1/δ)/(α−1): Mironov, arXiv 1702.07476, proposition 3.
    Classical,
    /// ε = R + ln((α−1)/α) − (ln δ + ln α)/(α−1): Canonne, Kamath and Steinke, arXiv 2004.00010,
    /// proposition 12. Never more than the classical one; what current accountants report.
    Tight,
}

/// The Gaussian mechanism with noise σ·C on a Poisson sample of rate q.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledGaussian {
    noise_multiplier: f64,
    sampling_rate: f64,
}

/// A guarantee (ε, δ) and the order that gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    pub epsilon: f64,
    pub order: u32,
}

impl SampledGaussian {
    /// # Errors
    /// When σ is not positive and finite, or q not in (0, 1].
    pub fn new(noise_multiplier: f64, sampling_rate: f64) -> Result<Self, PrivacyError> {
        if !(noise_multiplier > 0.0 && noise_multiplier.is_finite()) {
            return Err(PrivacyError::NoiseMultiplier(noise_multiplier));
        }
        if !(sampling_rate > 0.0 && sampling_rate <= 1.0) {
            return Err(PrivacyError::SamplingRate(sampling_rate));
        }
        Ok(SampledGaussian { noise_multiplier, sampling_rate })
    }

    /// Rényi divergence of one step at an integer order:
    /// 1/(α−1) · ln Σ_k C(α, k) (1−q)^(α−k) q^k e^((k²−k)/2σ²).
    ///
    /// # Errors
    /// When the order is below 2.
    pub fn divergence(&self, order: u32) -> Result<f64, PrivacyError> {
        if order < 2 {
            return Err(PrivacyError::Order(order));
        }
        let (alpha, q) = (f64::from(order), self.sampling_rate);
        let precision = self.noise_multiplier.powi(2).recip();
        if q == 1.0 {
            return Ok(0.5 * alpha * precision);
        }
        let mut log_binomial = 0.0;
        let terms: Vec<f64> = (0..=order)
            .map(f64::from)
            .map(|k| {
                let odds = (alpha - k) * (-q).ln_1p() + k * q.ln();
                let term = log_binomial + odds + 0.5 * (k * k - k) * precision;
                log_binomial += ((alpha - k) / (k + 1.0)).ln();
                term
            })
            .collect();
        let peak = terms.iter().fold(f64::NEG_INFINITY, |peak, &term| peak.max(term));
        if peak == f64::INFINITY {
            return Ok(f64::INFINITY);
        }
        let total: f64 = terms.iter().map(|term| (term - peak).exp()).sum();
        // The sum is at least 1; rounding may leave it a little below.
        Ok((peak + total.ln()).max(0.0) / (alpha - 1.0))
    }

    /// The least ε for `steps` steps and a given δ over the integer orders 2 to 256.
    ///
    /// # Errors
    /// When δ is not in (0, 1).
    pub fn spent(
        &self,
        steps: u64,
        delta: f64,
        conversion: Conversion,
    ) -> Result<Spent, PrivacyError> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(PrivacyError::Delta(delta));
        }
        let mut best = Spent { epsilon: f64::INFINITY, order: *ORDERS.start() };
        if steps == 0 {
            return Ok(Spent { epsilon: 0.0, ..best });
        }
        for order in ORDERS {
            let alpha = f64::from(order);
            let divergence = steps as f64 * self.divergence(order)?;
            let epsilon = match conversion {
                Conversion::Classical => divergence - delta.ln() / (alpha - 1.0),
                Conversion::Tight => {
                    divergence + (-alpha.recip()).ln_1p() - (delta * alpha).ln() / (alpha - 1.0)
                }
            };
            if epsilon.max(0.0) < best.epsilon {
                best = Spent { epsilon: epsilon.max(0.0), order };
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mechanism(sigma: f64, q: f64) -> SampledGaussian {
        SampledGaussian::new(sigma, q).expect("valid arguments")
    }

    #[test]
    fn published_values_are_reproduced() {
        // dp-accounting gives 7.32933 and Opacus 7.32911 at σ 1.5, q 0.04, δ 1e-5 and 2,250 steps,
        // over grids that also hold fractional orders.
        let spent = mechanism(1.5, 0.04).spent(2250, 1e-5, Conversion::Tight).unwrap();
        assert_eq!(spent.order, 4);
        assert!((7.32911..7.32933 + 1e-3).contains(&spent.epsilon), "{spent:?}");
        let classical = mechanism(1.5, 0.04).spent(2250, 1e-5, Conversion::Classical).unwrap();
        assert!((classical.epsilon - 8.079_656_967).abs() < 1e-8, "{classical:?}");
    }

    #[test]
    fn order_four_is_the_closed_form() {
        for (sigma, q) in [(1.5, 0.04), (0.7, 0.3), (4.0, 0.001), (1.0, 0.999)] {
            let (p, s) = (1.0 - q, 1.0 / (sigma * sigma));
            let moment = f64::powi(p, 4)
                + 4.0 * f64::powi(p, 3) * q
                + 6.0 * p * p * q * q * f64::exp(s)
                + 4.0 * p * f64::powi(q, 3) * f64::exp(3.0 * s)
                + f64::powi(q, 4) * f64::exp(6.0 * s);
            let got = mechanism(sigma, q).divergence(4).unwrap();
            assert!((got - moment.ln() / 3.0).abs() < 1e-14, "σ {sigma}, q {q}: {got}");
        }
    }

    #[test]
    fn without_sampling_it_is_the_plain_gaussian() {
        for order in [2, 7, 256] {
            let plain = mechanism(2.0, 1.0).divergence(order).unwrap();
            assert_eq!(plain, f64::from(order) / 8.0);
            let nearly = mechanism(2.0, 1.0 - 1e-12).divergence(order).unwrap();
            assert!((nearly - plain).abs() < 1e-9, "{order}: {nearly}");
        }
    }

    #[test]
    fn arguments_outside_their_domain_are_named() {
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = SampledGaussian::new(sigma, 0.1).unwrap_err();
            assert!(error.to_string().starts_with("the noise multiplier is"), "{error}");
        }
        for q in [0.0, -0.1, 1.0001, f64::NAN] {
            let error = SampledGaussian::new(1.0, q).unwrap_err();
            assert!(error.to_string().starts_with("the sampling rate is"), "{error}");
        }
        for delta in [0.0, 1.0, -1e-5, f64::NAN] {
            let error = mechanism(1.0, 0.1).spent(1, delta, Conversion::Classical).unwrap_err();
            assert!(error.to_string().starts_with("delta is"), "{error}");
        }
        assert_eq!(mechanism(1.0, 0.1).divergence(1), Err(PrivacyError::Order(1)));
    }

    #[test]
    fn extremes_stay_numbers() {
        assert_eq!(mechanism(1e-200, 0.5).divergence(2), Ok(f64::INFINITY));
        let huge = mechanism(1e-200, 0.5).spent(1, 1e-5, Conversion::Tight).unwrap();
        assert_eq!(huge.epsilon, f64::INFINITY);
        let none = mechanism(1.0, 0.5).spent(0, 1e-5, Conversion::Tight).unwrap();
        assert_eq!(none.epsilon, 0.0);
        let tiny = mechanism(1e6, 1e-9).spent(1, 0.5, Conversion::Tight).unwrap();
        assert!((0.0..1e-2).contains(&tiny.epsilon), "{tiny:?}");
    }

    proptest! {
        #[test]
        fn more_noise_fewer_steps_and_smaller_samples_spend_less(
            sigma in 0.3_f64..20.0,
            q in 1e-4_f64..1.0,
            steps in 1_u64..10_000,
            log_delta in -12.0_f64..-1.0,
        ) {
            let delta = 10_f64.powf(log_delta);
            let of = |sigma, q, steps, delta, conversion| {
                mechanism(sigma, q).spent(steps, delta, conversion).unwrap().epsilon
            };
            for conversion in [Conversion::Classical, Conversion::Tight] {
                let base = of(sigma, q, steps, delta, conversion);
                let slack = 1e-9 * (1.0 + base);
                prop_assert!(of(1.1 * sigma, q, steps, delta, conversion) <= base + slack);
                prop_assert!(of(sigma, 0.9 * q, steps, delta, conversion) <= base + slack);
                prop_assert!(of(sigma, q, steps + 1, delta, conversion) >= base - slack);
                let looser = (2.0 * delta).min(0.5);
                prop_assert!(of(sigma, q, steps, looser, conversion) <= base + slack);
            }
            let (classical, tight) = (Conversion::Classical, Conversion::Tight);
            let gap = of(sigma, q, steps, delta, classical) - of(sigma, q, steps, delta, tight);
            prop_assert!(gap >= -1e-9);
        }

        #[test]
        fn divergence_grows_with_the_order(
            sigma in 0.3_f64..20.0, q in 1e-4_f64..1.0, order in 2_u32..255,
        ) {
            let mechanism = mechanism(sigma, q);
            let (low, high) = (mechanism.divergence(order)?, mechanism.divergence(order + 1)?);
            prop_assert!(high >= low * (1.0 - 1e-9) - 1e-13, "{low} {high}");
        }
    }
}
