//! The error-tracking scalar: a value, the largest error any conforming device may make, and the
//! variance of the error a rounding device does make.
//!
//! Constants come from the WGSL specification, sections "Floating Point Accuracy" and "Differences
//! from IEEE-754": there is no rounding mode, so a correctly rounded result may be either
//! neighbour and the unit roundoff is a whole unit in the last place, not half of one; exactly
//! representable results are exact; subnormal results may be flushed to zero.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::scalar::Scalar;
use crate::kernel::Elem;

/// Unit roundoff of f32 under either-neighbour rounding, 2^-23.
pub const UNIT_F32: f64 = 1.0 / 8_388_608.0;
/// Unit roundoff of f16 under either-neighbour rounding, 2^-10.
pub const UNIT_F16: f64 = 1.0 / 1024.0;
/// Largest finite f16.
pub const F16_MAX: f64 = 65_504.0;

/// Smallest normal f32, 2^-126.
const MIN_NORMAL_F32: f64 = f32::MIN_POSITIVE as f64;
/// Smallest normal f16, 2^-14.
const MIN_NORMAL_F16: f64 = 1.0 / 16_384.0;

// Accuracy of the built-in functions, in units in the last place.
const ULP_DIV: f64 = 2.5;
const ULP_RSQRT: f64 = 2.0;
const ULP_EXP: f64 = 3.0;
/// `exp` loses two more units for every unit of |x|.
const ULP_EXP_PER_X: f64 = 2.0;

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

    /// The result of a correctly rounded operation: exact when it is representable and nothing
    /// before it was rounded.
    fn correctly_rounded(value: f64, worst: f64, variance: f64) -> Self {
        if worst == 0.0 && f64::from(value as f32) == value {
            return Tracked::exact(value);
        }
        Tracked::rounded(value, worst, variance, 1.0)
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
        Tracked::correctly_rounded(
            self.value + other.value,
            self.worst + other.worst,
            self.variance + other.variance,
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
        let (a, b) = (self.value, other.value);
        let worst = a.abs() * other.worst + b.abs() * self.worst + self.worst * other.worst;
        let variance =
            a * a * other.variance + b * b * self.variance + self.variance * other.variance;
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

    fn exp(self) -> Self {
        let ulps = ULP_EXP + ULP_EXP_PER_X * (self.value.abs() + self.worst);
        self.monotone(f64::exp, f64::NEG_INFINITY, self.value.exp(), ulps)
    }

    fn max(self, other: Self) -> Self {
        let chosen = if other.value > self.value { other } else { self };
        Tracked { worst: self.worst.max(other.worst), ..chosen }
    }

    fn sum(terms: impl ExactSizeIterator<Item = Self>, depth: usize) -> Self {
        Accumulator::new(terms.len(), depth).run(terms, depth)
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

/// A running partial sum: its value, and the square it would have if the terms came in random
/// order. The larger of the two squares sizes the rounding error, so that an order whose partial
/// sums happen to cancel does not promise more than the device's own order can keep.
#[derive(Clone, Copy, Default)]
struct Partial {
    sum: f64,
    squares: f64,
}

impl Partial {
    fn joined(self, other: Partial) -> Partial {
        Partial { sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    /// Variance of the rounding of this partial sum.
    fn rounding(self) -> f64 {
        let size = (self.sum * self.sum).max(self.squares);
        UNIT_F32 * UNIT_F32 * size / 12.0
    }
}

/// Levels of the merge tree: enough for 2^40 blocks.
const LEVELS: usize = 40;

/// Sums blocks of consecutive terms one after the other and merges the blocks pairwise: the
/// reduction whose depth is at most the declared one.
struct Accumulator {
    block_len: usize,
    levels: [Option<Partial>; LEVELS],
    block: Partial,
    in_block: usize,
    worst: f64,
    magnitude: f64,
    variance: f64,
    exactness: Exactness,
}

impl Accumulator {
    fn new(terms: usize, depth: usize) -> Self {
        Accumulator {
            block_len: block_len(terms, depth),
            levels: [None; LEVELS],
            block: Partial::default(),
            in_block: 0,
            worst: 0.0,
            magnitude: 0.0,
            variance: 0.0,
            exactness: Exactness::default(),
        }
    }

    fn run(mut self, terms: impl Iterator<Item = Tracked>, depth: usize) -> Tracked {
        terms.for_each(|term| self.push(term));
        self.close_block();
        let total = self.merge_all();
        if self.worst == 0.0 && self.exactness.holds(self.magnitude) {
            return Tracked::exact(total.sum);
        }
        let h = depth as f64 * UNIT_F32;
        let growth = if h < 1.0 { h / (1.0 - h) } else { f64::INFINITY };
        let flush = if self.magnitude < MIN_NORMAL_F32 { MIN_NORMAL_F32 } else { 0.0 };
        Tracked {
            value: total.sum,
            worst: self.worst + growth * (self.magnitude + self.worst) + flush,
            variance: self.variance,
        }
    }

    fn push(&mut self, term: Tracked) {
        self.worst += term.worst;
        self.magnitude += term.value.abs();
        self.variance += term.variance;
        if self.worst == 0.0 {
            self.exactness.see(term.value);
        }
        let first = self.in_block == 0;
        self.block =
            self.block.joined(Partial { sum: term.value, squares: term.value * term.value });
        if !first {
            self.variance += self.block.rounding();
        }
        self.in_block += 1;
        if self.in_block == self.block_len {
            self.close_block();
        }
    }

    /// Carries the finished block up the tree like a binary counter.
    fn close_block(&mut self) {
        if self.in_block == 0 {
            return;
        }
        let mut carry = std::mem::take(&mut self.block);
        self.in_block = 0;
        for level in &mut self.levels {
            match level.take() {
                None => {
                    *level = Some(carry);
                    return;
                }
                Some(earlier) => {
                    carry = earlier.joined(carry);
                    self.variance += carry.rounding();
                }
            }
        }
    }

    fn merge_all(&mut self) -> Partial {
        let levels = self.levels;
        let mut parts = levels.into_iter().flatten();
        let Some(first) = parts.next() else { return Partial::default() };
        parts.fold(first, |sum, part| {
            let joined = sum.joined(part);
            self.variance += joined.rounding();
            joined
        })
    }
}

/// The longest block whose sequential sum followed by a pairwise merge stays within the depth;
/// a pairwise sum where nothing does.
fn block_len(terms: usize, depth: usize) -> usize {
    let fits = |len: usize| {
        let levels = terms.div_ceil(len).max(1).next_power_of_two().trailing_zeros() as usize;
        len - 1 + levels <= depth
    };
    if fits(terms.max(1)) {
        return terms.max(1);
    }
    let mut len = terms.next_power_of_two();
    while len > 1 && !fits(len) {
        len /= 2;
    }
    len
}

/// Whether a sum of exactly known terms is exact in every order: all terms are multiples of one
/// power of two and the sum of magnitudes stays within 2^24 of it.
#[derive(Default)]
struct Exactness {
    /// Exponent of the lowest set bit over all terms; `None` before the first non-zero one.
    lowest_bit: Option<i32>,
}

impl Exactness {
    fn see(&mut self, value: f64) {
        if value == 0.0 {
            return;
        }
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32 - 1075;
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let bit = exponent + mantissa.trailing_zeros() as i32;
        self.lowest_bit = Some(self.lowest_bit.map_or(bit, |known| known.min(bit)));
    }

    fn holds(&self, magnitude: f64) -> bool {
        self.lowest_bit.is_none_or(|bit| {
            bit >= -126 && magnitude <= f64::from(1 << 24) * f64::from(bit).exp2()
        })
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
    fn a_store_to_f16_costs_one_unit_and_saturates() {
        let stored = Tracked::exact(1.0 + 1.0 / 4096.0).store(Elem::F16);
        assert!(stored.worst >= 1.0 / 4096.0 && stored.worst < 1.1 / 1024.0);
        assert_eq!(Tracked::exact(1e6).store(Elem::F16), Tracked::exact(F16_MAX));
        assert_eq!(Tracked::exact(1.5).store(Elem::F16).worst, 0.0);
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

    #[test]
    fn blocks_keep_the_declared_depth() {
        for (terms, depth) in [(1408, 28), (1408, 1408), (30, 30), (4096, 70), (1, 1), (5, 3)] {
            let len = block_len(terms, depth);
            let blocks = terms.div_ceil(len);
            let levels = blocks.next_power_of_two().trailing_zeros() as usize;
            assert!(
                len - 1 + levels <= depth.max(levels),
                "{terms} terms in {depth}: blocks of {len}"
            );
        }
    }
}
