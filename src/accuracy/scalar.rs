//! The number a reference is written over, and its plain f64 instance.

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

    /// WGSL `exp`.
    fn exp(self) -> Self;

    /// Selection: exact.
    fn max(self, other: Self) -> Self;

    fn abs(self) -> Self {
        if self.value() < 0.0 { -self } else { self }
    }

    /// The one reduction. `depth` is the most additions any one term passes through in the variant
    /// under test: loop trips of one invocation plus the levels of the trees that follow.
    fn sum(terms: impl ExactSizeIterator<Item = Self>, depth: usize) -> Self;

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

    fn exp(self) -> Self {
        f64::exp(self)
    }

    fn max(self, other: Self) -> Self {
        f64::max(self, other)
    }

    fn sum(terms: impl ExactSizeIterator<Item = Self>, _depth: usize) -> Self {
        terms.sum()
    }

    fn store(self, elem: Elem) -> Self {
        match elem {
            Elem::F16 => self.clamp(-F16_MAX, F16_MAX),
            Elem::F32 | Elem::U32 => self,
        }
    }

    fn approximating(self, truth: f64, _method: f64) -> Self {
        truth
    }
}
