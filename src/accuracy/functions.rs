//! Functions that shaders compute from `exp`, written once for references, in the shaders' order
//! of operations. `tanh()` and `sin()` of WGSL are too loosely specified to gate against.

use super::scalar::Scalar;

/// 1/(1 + e^-x). The shader clamps x at -80, because e^-x passes the largest f32 at -88.7.
pub fn sigmoid<S: Scalar>(x: S) -> S {
    let low = x.value() < -80.0;
    let clamped = if low { S::exact(-80.0) } else { x };
    let device = S::one() / (S::one() + (-clamped).exp());
    device.approximating((1.0 + (-x.value()).exp()).recip(), if low { 2e-35 } else { 0.0 })
}

/// 1 − 2/(e^(2|x|) + 1) with the sign of x. The shader clamps |x| at 15, where the result is 1 to
/// the last bit of f32.
pub fn tanh<S: Scalar>(x: S) -> S {
    let two = S::exact(2.0);
    let clamped = if x.value().abs() > 15.0 { S::exact(15.0) } else { x.abs() };
    let magnitude = S::one() - two / ((two * clamped).exp() + S::one());
    let signed = if x.value() < 0.0 { -magnitude } else { magnitude };
    signed.approximating(x.value().tanh(), if x.value().abs() > 15.0 { 2e-13 } else { 0.0 })
}

/// Coefficients of Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
const ERF_P: f32 = 0.327_591_1;
#[expect(clippy::excessive_precision, reason = "as printed in the book; the compiler rounds")]
const ERF_A: [f32; 5] =
    [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
/// Its largest absolute error, 1.5e-7 in the book, plus the rounding of the coefficients to f32.
const ERF_METHOD_ERROR: f64 = 2.0e-7;

/// The error function by the rational approximation the shaders use.
pub fn erf<S: Scalar>(x: S) -> S {
    let a = ERF_A.map(|c| S::exact(f64::from(c)));
    let magnitude = x.abs();
    let t = S::one() / (S::one() + S::exact(f64::from(ERF_P)) * magnitude);
    let poly = ((((a[4] * t + a[3]) * t + a[2]) * t + a[1]) * t + a[0]) * t;
    let tail = S::one() - poly * (-(magnitude * magnitude)).exp();
    let signed = if x.value() < 0.0 { -tail } else { tail };
    signed.approximating(libm::erf(x.value()), ERF_METHOD_ERROR)
}

/// x·Φ(x), the GELU of Hendrycks and Gimpel (arXiv 1606.08415), by the error function.
pub fn gelu_erf<S: Scalar>(x: S) -> S {
    let half = S::exact(0.5);
    let scaled = x * S::exact(f64::from(std::f32::consts::FRAC_1_SQRT_2));
    half * x * (S::one() + erf(scaled))
}

/// The tanh form of GELU from the same paper.
pub fn gelu_tanh<S: Scalar>(x: S) -> S {
    let inner = S::exact(f64::from(0.797_884_6_f32))
        * (x + S::exact(f64::from(0.044_715_f32)) * (x * x * x));
    S::exact(0.5) * x * (S::one() + tanh(inner))
}

/// x·σ(1.702x), the form in OpenAI's CLIP weights.
pub fn gelu_quick<S: Scalar>(x: S) -> S {
    x * sigmoid(S::exact(f64::from(1.702_f32)) * x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::Tracked;

    /// The shader's own arithmetic in f32, to be compared with the tracked bound.
    fn erf_f32(x: f32) -> f32 {
        let t = 1.0 / (1.0 + ERF_P * x.abs());
        let a = ERF_A;
        let poly = ((((a[4] * t + a[3]) * t + a[2]) * t + a[1]) * t + a[0]) * t;
        (1.0 - poly * (-(x * x)).exp()).copysign(x)
    }

    #[test]
    fn f32_evaluations_stay_within_the_tracked_bound() {
        for step in -8_000..=8_000 {
            let x = step as f32 * 1e-3;
            let bound = erf(Tracked::exact(f64::from(x)));
            let error = (f64::from(erf_f32(x)) - bound.value).abs();
            assert!(error <= bound.worst, "erf({x}): {error:e} over {:e}", bound.worst);
            let bound = tanh(Tracked::exact(f64::from(x)));
            let e = (2.0 * x.abs()).exp();
            let device = (1.0 - 2.0 / (e + 1.0)).copysign(x);
            let error = (f64::from(device) - bound.value).abs();
            assert!(error <= bound.worst, "tanh({x}): {error:e} over {:e}", bound.worst);
        }
    }

    #[test]
    fn the_f64_instance_gives_the_true_functions() {
        for x in [-900.0_f64, -20.0, -3.0, -0.5, 0.0, 1e-3, 0.7, 4.0, 30.0] {
            assert!((tanh(x) - x.tanh()).abs() < 1e-15, "tanh({x})");
            assert!((gelu_erf(x) - 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))).abs() < 1e-6);
            assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 1e-15);
        }
    }
}
