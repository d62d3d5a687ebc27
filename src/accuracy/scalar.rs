//! The number a reference is written over, and its plain f64 instance.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::tracked::F16_MAX;
use crate::kernel::Elem;

/// Arithmetic a reference may use. Over `f64` it gives the value; over
/// [`Tracked`](super::Tracked) also the error a conforming device may make.
pub trait Scalar:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A value held exactly: an input element, or a constant the shader writes the same way.
    fn exact(value: f64) -> Self;

    fn value(self) -> f64;

    /// WGSL `inverseSqrt`.
    fn rsqrt(self) -> Self;

    /// WGSL `sqrt`; shaders do not call it at zero, where WGSL leaves it open.
    fn sqrt(self) -> Self;

    /// WGSL `exp`.
    fn exp(self) -> Self;

    /// WGSL `log`.
    fn ln(self) -> Self;

    /// WGSL `round`: half to even.
    fn round(self) -> Self;

    /// Selection: exact.
    fn max(self, other: Self) -> Self;

    /// Selection: exact.
    fn min(self, other: Self) -> Self {
        -(-self).max(-other)
    }

    /// How the two compare on every conforming device, `None` where devices may differ.
    fn order(self, other: Self) -> Option<Ordering>;

    /// An output that devices may decide differently, such as the place of a maximum between two
    /// values closer than their errors; anything is accepted for it.
    fn undetermined(value: f64) -> Self;

    fn abs(self) -> Self {
        if self.value() < 0.0 { -self } else { self }
    }

    /// The one reduction. `depth` is the most additions any one term passes through in the variant
    /// under test: loop trips of one invocation plus the levels of the trees that follow.
    fn sum(terms: impl ExactSizeIterator<Item = Self>, depth: usize) -> Self;

    /// The sum of products of stored values, rounded product by product or fused.
    fn dot(pairs: impl ExactSizeIterator<Item = (f32, f32)> + Clone, depth: usize) -> Self {
        let exact = |value: f32| Self::exact(f64::from(value));
        Self::sum(pairs.map(|(a, b)| exact(a) * exact(b)), depth)
    }

    /// The same with products and partial sums kept in `elem`, f32 or f16.
    fn dot_in(
        _elem: Elem,
        pairs: impl ExactSizeIterator<Item = (f32, f32)> + Clone,
        depth: usize,
    ) -> Self {
        Self::dot(pairs, depth)
    }

    /// The sum of computed weights times stored values: weights, products and partial sums kept in
    /// `elem`, f32 or f16.
    fn weighted_sum(
        _elem: Elem,
        terms: impl ExactSizeIterator<Item = (Self, f32)>,
        depth: usize,
    ) -> Self {
        Self::sum(terms.map(|(weight, value)| weight * Self::exact(f64::from(value))), depth)
    }

    /// Rounding to a storage type; out-of-range values saturate.
    fn store(self, elem: Elem) -> Self;

    /// Replaces the value of an in-shader approximation by the true function value; `method` is
    /// the largest absolute error of the approximation itself.
    fn approximating(self, truth: f64, method: f64) -> Self;

    /// The empty sum.
    fn zero() -> Self {
        Self::exact(0.0)
    }

    fn one() -> Self {
        Self::exact(1.0)
    }
}

impl Scalar for f64 {
    fn exact(value: f64) -> Self {
        value
    }

    fn value(self) -> f64 {
        self
    }

    fn rsqrt(self) -> Self {
        self.sqrt().recip()
    }

    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    fn exp(self) -> Self {
        f64::exp(self)
    }

    fn ln(self) -> Self {
        f64::ln(self)
    }

    fn round(self) -> Self {
        self.round_ties_even()
    }

    fn max(self, other: Self) -> Self {
        f64::max(self, other)
    }

    fn order(self, other: Self) -> Option<Ordering> {
        self.partial_cmp(&other)
    }

    fn undetermined(value: f64) -> Self {
        value
    }

    fn sum(terms: impl ExactSizeIterator<Item = Self>, _depth: usize) -> Self {
        terms.sum()
    }

    fn store(self, elem: Elem) -> Self {
        match elem {
            Elem::F16 => self.clamp(-F16_MAX, F16_MAX),
            _ => self,
        }
    }

    fn approximating(self, truth: f64, _method: f64) -> Self {
        truth
    }
}
