//! The error-tracking scalar: a value, the largest error any conforming device may make, and the
//! variance of the error a rounding device does make.
//!
//! Constants come from the WGSL specification, sections "Floating Point Accuracy" and "Differences
//! from IEEE-754": there is no rounding mode, so a correctly rounded result may be either
//! neighbour and the unit roundoff is a whole unit in the last place, not half of one; exactly
//! representable results are exact; subnormal results may be flushed to zero.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::reduction::{self, Accumulator};
use super::scalar::Scalar;
use crate::kernel::Elem;

/// Unit roundoff of f32 under either-neighbour rounding, 2^-23.
pub const UNIT_F32: f64 = 1.0 / 8_388_608.0;
/// Unit roundoff of f16 under either-neighbour rounding, 2^-10.
pub const UNIT_F16: f64 = 1.0 / 1024.0;
/// Largest finite f16.
pub const F16_MAX: f64 = 65_504.0;

/// Smallest normal f32, 2^-126.
pub(super) const MIN_NORMAL_F32: f64 = f32::MIN_POSITIVE as f64;
/// Smallest normal f16, 2^-14.
pub(super) const MIN_NORMAL_F16: f64 = 1.0 / 16_384.0;

// Accuracy of the built-in functions, in units in the last place.
const ULP_DIV: f64 = 2.5;
const ULP_RSQRT: f64 = 2.0;
/// `sqrt(x)` is 1/inverseSqrt(x).
const ULP_SQRT: f64 = 4.5;
const ULP_EXP: f64 = 3.0;
/// `exp` loses two more units for every unit of |x|.
const ULP_EXP_PER_X: f64 = 2.0;
const ULP_LN: f64 = 3.0;
/// Absolute error of `log` between 0.5 and 2.
const LN_NEAR_ONE: f64 = 1.0 / 2_097_152.0;

/// A value with the error of the device computation that produces it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tracked {
    pub value: f64,
    /// Bound on |device − value| under every evaluation the specification allows; 0 means the
    /// device must give the value bit for bit.
    pub worst: f64,
    /// Variance of device − value when roundings behave like independent uniform noise.
    pub variance: f64,
}

impl Tracked {
    /// The result of one operation accurate to `ulps` whose operands carry errors already
    /// propagated into `worst` and `variance`.
    fn rounded(value: f64, worst: f64, variance: f64, ulps: f64) -> Self {
        let step = ulps * UNIT_F32 * (value.abs() + worst);
        let flush = if value.abs() < MIN_NORMAL_F32 { MIN_NORMAL_F32 } else { 0.0 };
        let typical = ulps * UNIT_F32 * value.abs() + flush;
        Tracked {
            value,
            worst: worst + step + flush,
            variance: variance + typical * typical / 12.0,
        }
    }

    /// Whether every value is accepted; see [`Scalar::undetermined`].
    pub fn is_undetermined(&self) -> bool {
        self.variance.is_infinite()
    }

    /// The result of a correctly rounded operation: exact when it is representable and nothing
    /// before it was rounded.
    fn correctly_rounded(value: f64, worst: f64, variance: f64) -> Self {
        let normal = value == 0.0 || value.abs() >= MIN_NORMAL_F32;
        if worst == 0.0 && normal && f64::from(value as f32) == value {
            return Tracked::exact(value);
        }
        Tracked::rounded(value, worst, variance, 1.0)
    }

    /// The value as arithmetic may see it: a subnormal operand may be flushed to zero.
    fn operand(self) -> Self {
        if self.value == 0.0 || self.value.abs() >= MIN_NORMAL_F32 {
            return self;
        }
        Tracked {
            worst: self.worst + self.value.abs(),
            variance: self.variance + self.value * self.value,
            ..self
        }
    }

    /// The result of a monotone function accurate to `ulps`, with derivative `slope` at the value.
    fn monotone(self, f: impl Fn(f64) -> f64, domain_min: f64, slope: f64, ulps: f64) -> Self {
        let value = f(self.value);
        let low = self.value - self.worst;
        let spread = if low <= domain_min {
            f64::INFINITY
        } else {
            (f(self.value + self.worst) - value).abs().max((f(low) - value).abs())
        };
        Tracked::rounded(value, spread, slope * slope * self.variance, ulps)
    }
}

impl Add for Tracked {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (this, other) = (self.operand(), other.operand());
        Tracked::correctly_rounded(
            this.value + other.value,
            this.worst + other.worst,
            this.variance + other.variance,
        )
    }
}

impl Sub for Tracked {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Tracked {
    type Output = Self;

    fn neg(self) -> Self {
        Tracked { value: -self.value, ..self }
    }
}

impl Mul for Tracked {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let (this, other) = (self.operand(), other.operand());
        let (a, b) = (this.value, other.value);
        let worst = a.abs() * other.worst + b.abs() * this.worst + this.worst * other.worst;
        let variance =
            a * a * other.variance + b * b * this.variance + this.variance * other.variance;
        Tracked::correctly_rounded(a * b, worst, variance)
    }
}

impl Div for Tracked {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let (a, b) = (self.value, other.value);
        let quotient = a / b;
        let room = b.abs() - other.worst;
        let worst = if room > 0.0 {
            (self.worst + quotient.abs() * other.worst) / room
        } else {
            f64::INFINITY
        };
        let variance = (self.variance + quotient * quotient * other.variance) / (b * b);
        Tracked::rounded(quotient, worst, variance, ULP_DIV)
    }
}

impl Scalar for Tracked {
    fn exact(value: f64) -> Self {
        Tracked { value, worst: 0.0, variance: 0.0 }
    }

    fn value(self) -> f64 {
        self.value
    }

    fn rsqrt(self) -> Self {
        let slope = -0.5 / (self.value * self.value.sqrt());
        self.monotone(|x| x.sqrt().recip(), 0.0, slope, ULP_RSQRT)
    }

    fn sqrt(self) -> Self {
        self.monotone(f64::sqrt, 0.0, 0.5 / self.value.sqrt(), ULP_SQRT)
    }

    fn exp(self) -> Self {
        let ulps = ULP_EXP + ULP_EXP_PER_X * (self.value.abs() + self.worst);
        self.monotone(f64::exp, f64::NEG_INFINITY, self.value.exp(), ulps)
    }

    fn ln(self) -> Self {
        let far = self.monotone(f64::ln, 0.0, self.value.recip(), ULP_LN);
        let near = self.value + self.worst >= 0.5 && self.value - self.worst <= 2.0;
        let extra = if near { LN_NEAR_ONE } else { 0.0 };
        Tracked { worst: far.worst + extra, variance: far.variance + extra * extra / 12.0, ..far }
    }

    fn round(self) -> Self {
        let value = self.value.round_ties_even();
        let off = |x: f64| (x.round_ties_even() - value).abs();
        let worst = off(self.value - self.worst).max(off(self.value + self.worst));
        // Which integer a device ends at is no noise: such an element has no variance.
        Tracked { value, worst, variance: 0.0 }
    }

    fn order(self, other: Self) -> Option<Ordering> {
        let apart = (self.value - other.value).abs() > self.worst + other.worst;
        let exact = self.worst == 0.0 && other.worst == 0.0;
        if apart || exact { self.value.partial_cmp(&other.value) } else { None }
    }

    fn undetermined(value: f64) -> Self {
        Tracked { value, worst: f64::INFINITY, variance: f64::INFINITY }
    }

    fn max(self, other: Self) -> Self {
        let chosen = if other.value > self.value { other } else { self };
        Tracked { worst: self.worst.max(other.worst), ..chosen }
    }

    fn sum(terms: impl ExactSizeIterator<Item = Self>, depth: usize) -> Self {
        Accumulator::new(terms.len(), depth, Elem::F32).run(terms, depth)
    }

    fn dot(pairs: impl ExactSizeIterator<Item = (f32, f32)> + Clone, depth: usize) -> Self {
        reduction::sequential_dot(pairs.clone(), depth).unwrap_or_else(|| {
            let exact = |value: f32| Tracked::exact(f64::from(value));
            Tracked::sum(pairs.map(|(a, b)| exact(a) * exact(b)), depth)
        })
    }

    fn dot_in(
        elem: Elem,
        pairs: impl ExactSizeIterator<Item = (f32, f32)> + Clone,
        depth: usize,
    ) -> Self {
        if elem != Elem::F16 {
            return Self::dot(pairs, depth);
        }
        let exact = |value: f32| Tracked::exact(f64::from(value));
        // Products of two f16 are exact in f32, so this is the rounding to f16 alone.
        let products = pairs.map(|(a, b)| (exact(a) * exact(b)).store(elem));
        Accumulator::new(products.len(), depth, elem).run(products, depth)
    }

    fn weighted_sum(
        elem: Elem,
        terms: impl ExactSizeIterator<Item = (Self, f32)>,
        depth: usize,
    ) -> Self {
        let products = terms.map(|(weight, value)| {
            (weight.store(elem) * Tracked::exact(f64::from(value))).store(elem)
        });
        Accumulator::new(products.len(), depth, elem).run(products, depth)
    }

    fn store(self, elem: Elem) -> Self {
        if elem != Elem::F16 {
            return self;
        }
        let value = self.value.clamp(-F16_MAX, F16_MAX);
        if self.worst == 0.0 && half::f16::from_f64(value).to_f64() == value {
            return Tracked::exact(value);
        }
        // Below the normal range the spacing is fixed and the result may be flushed to zero.
        let flush = if value.abs() < MIN_NORMAL_F16 { MIN_NORMAL_F16 } else { 0.0 };
        let typical = UNIT_F16 * value.abs() + flush;
        Tracked {
            value,
            worst: self.worst + UNIT_F16 * (value.abs() + self.worst) + flush,
            variance: self.variance + typical * typical / 12.0,
        }
    }

    fn approximating(self, truth: f64, method: f64) -> Self {
        Tracked {
            value: truth,
            worst: self.worst + method,
            variance: self.variance + (2.0 * method).powi(2) / 12.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(values: &[f64]) -> impl ExactSizeIterator<Item = Tracked> {
        values.iter().map(|&v| Tracked::exact(v))
    }

    #[test]
    fn sums_of_small_integers_are_exact_in_any_order() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from((i * 37) % 31 - 15)).collect();
        let sum = Tracked::sum(exact(&values), 1000);
        assert_eq!((sum.worst, sum.value), (0.0, values.iter().sum::<f64>()));
    }

    #[test]
    fn a_sum_that_can_pass_two_to_the_24_is_not_exact() {
        let sum = Tracked::sum(exact(&[16_777_216.0, 1.0, -16_777_216.0]), 3);
        assert!(sum.worst >= 1.0, "f32 may lose the 1: {sum:?}");
    }

    #[test]
    fn representable_results_of_exact_operands_are_exact_and_others_are_not() {
        let (three, third) = (Tracked::exact(3.0), Tracked::exact(f64::from(1.0_f32 / 3.0)));
        assert_eq!((three * three).worst, 0.0);
        assert_eq!((three + three).worst, 0.0);
        assert!((third * third).worst > 0.0);
        assert!((three / three).worst > 0.0, "division is only accurate to 2.5 ulp");
    }

    #[test]
    fn subnormal_operands_and_results_may_be_flushed() {
        let tiny = Tracked::exact(f64::from(1e-39_f32));
        assert!((tiny + tiny).worst >= (tiny + tiny).value, "a sum");
        // The product would be normal, but its factor may have become zero.
        let product = tiny * Tracked::exact(f64::from(1e30_f32));
        assert!(product.worst >= product.value, "{product:?}");
        assert_eq!((tiny * Tracked::zero()).value, 0.0);
        assert_eq!(Tracked::exact(1.0) + Tracked::exact(1.0), Tracked::exact(2.0));
    }

    #[test]
    fn a_store_to_f16_costs_one_unit_and_saturates() {
        let stored = Tracked::exact(1.0 + 1.0 / 4096.0).store(Elem::F16);
        assert!(stored.worst >= 1.0 / 4096.0 && stored.worst < 1.1 / 1024.0);
        assert_eq!(Tracked::exact(1e6).store(Elem::F16), Tracked::exact(F16_MAX));
        assert_eq!(Tracked::exact(1.5).store(Elem::F16).worst, 0.0);
    }

    #[test]
    fn rounding_near_a_half_leaves_both_integers_open() {
        let near = |worst| Tracked { value: 2.5 + 1e-6, worst, variance: worst * worst }.round();
        assert_eq!((near(1e-7).value, near(1e-7).worst), (3.0, 0.0));
        assert_eq!((near(1e-5).value, near(1e-5).worst), (3.0, 1.0));
        assert_eq!(Tracked::exact(2.5).round(), Tracked::exact(2.0), "half to even");
    }

    #[test]
    fn values_closer_than_their_errors_have_no_order() {
        let (low, high) = (Tracked::exact(1.0), Tracked::exact(1.5));
        let rough = Tracked { value: 1.4, worst: 0.2, variance: 0.01 };
        assert_eq!(low.order(high), Some(Ordering::Less));
        assert_eq!(low.order(low), Some(Ordering::Equal));
        assert_eq!((low.order(rough), high.order(rough)), (Some(Ordering::Less), None));
    }

    #[test]
    fn logarithms_near_one_have_an_absolute_error() {
        let of = |x: f64| Tracked::exact(x).ln();
        assert!(of(1.0).worst >= LN_NEAR_ONE && of(0.5).worst >= LN_NEAR_ONE);
        assert!(of(20.0).worst < 1.2e-6 && of(20.0).worst > 1e-6);
        assert!(Tracked { value: 1e-3, worst: 2e-3, variance: 0.0 }.ln().worst.is_infinite());
    }

    #[test]
    fn shallower_reductions_promise_smaller_errors() {
        let values: Vec<f64> = (0..4096).map(|i| f64::from((i * 7919) % 1000) * 1e-3).collect();
        let of = |depth| Tracked::sum(exact(&values), depth);
        let (tree, lanes, chain) = (of(12), of(64 + 6), of(4096));
        assert!(tree.worst < lanes.worst && lanes.worst < chain.worst);
        assert!(tree.variance < lanes.variance && lanes.variance < chain.variance);
    }

    #[test]
    fn an_error_as_large_as_the_divisor_has_no_bound() {
        let rough = Tracked { value: 1.0, worst: 1.0, variance: 0.1 };
        assert!((Tracked::exact(1.0) / rough).worst.is_infinite());
        assert!(rough.rsqrt().worst.is_infinite());
    }
}
