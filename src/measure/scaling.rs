//! How time grows with work: a fixed cost and a cost per unit, and the exponent beyond the size
//! from which the fixed cost no longer counts.

/// Fewest sizes that say anything.
const LEAST_POINTS: usize = 3;
/// A span of work below this factor fixes no exponent.
const LEAST_SPAN: f64 = 4.0;

/// The cost of one kernel over its sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// Seconds that the smallest sizes pay whatever they do; 0 where there is no such cost.
    pub fixed_s: f64,
    /// Work whose own cost equals the fixed one: below it the time hardly grows. `None` when even
    /// the smallest size is beyond it.
    pub knee: Option<f64>,
    /// d log time / d log work beyond the knee: 1 when twice the work takes twice the time. `None`
    /// when too few sizes lie beyond.
    pub exponent: Option<f64>,
    pub points: usize,
}

/// Fits `time = fixed + slope · work` in relative error, then the exponent over the sizes beyond
/// the knee. Points are (work in any unit, seconds), both positive, in any order.
pub fn scaling(points: &[(f64, f64)]) -> Option<Scaling> {
    let valid = |&&(work, seconds): &&(f64, f64)| {
        work > 0.0 && seconds > 0.0 && work.is_finite() && seconds.is_finite()
    };
    let points: Vec<(f64, f64)> = points.iter().filter(valid).copied().collect();
    if points.len() < LEAST_POINTS || span(&points) < LEAST_SPAN {
        return None;
    }
    let (fixed_s, slope) = line(&points);
    let smallest = points.iter().map(|(work, _)| *work).fold(f64::INFINITY, f64::min);
    let knee = (slope > 0.0).then(|| fixed_s / slope).filter(|&knee| knee > smallest);
    let beyond: Vec<(f64, f64)> =
        points.iter().copied().filter(|&(work, _)| work >= knee.unwrap_or(0.0)).collect();
    let enough = beyond.len() >= LEAST_POINTS && span(&beyond) >= LEAST_SPAN;
    let exponent = enough.then(|| exponent(&beyond));
    Some(Scaling { fixed_s, knee, exponent, points: points.len() })
}

fn span(points: &[(f64, f64)]) -> f64 {
    let works = || points.iter().map(|(work, _)| *work);
    works().fold(0.0, f64::max) / works().fold(f64::INFINITY, f64::min)
}

/// Fixed cost and slope that minimise Σ ((a + b·w)/t − 1)², the fixed cost not below zero.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let sum = |term: fn(f64, f64) -> f64| -> f64 { points.iter().map(|&(w, t)| term(w, t)).sum() };
    let (one, work) = (sum(|_, t| 1.0 / (t * t)), sum(|w, t| w / (t * t)));
    let (square, time) = (sum(|w, t| w * w / (t * t)), sum(|_, t| 1.0 / t));
    let product = sum(|w, t| w / t);
    let determinant = one * square - work * work;
    let fixed = (time * square - product * work) / determinant;
    let slope = (one * product - work * time) / determinant;
    if fixed > 0.0 && slope.is_finite() { (fixed, slope) } else { (0.0, product / square) }
}

/// Least squares in the logarithms.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(w, t)| (w.ln(), t.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let covariance: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    covariance / logs.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(time: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..10).map(|i| 4_f64.powi(i)).map(|work| (work, time(work))).collect()
    }

    #[test]
    fn a_fixed_cost_gives_its_knee_and_the_rest_is_linear() {
        let found = scaling(&over(|work| 64.0 + work)).expect("enough points");
        assert!((found.fixed_s - 64.0).abs() < 1e-6, "{found:?}");
        assert!((found.knee.expect("a knee") - 64.0).abs() < 1e-6, "{found:?}");
        // Just beyond the knee the fixed cost still bends the line.
        assert!((found.exponent.expect("beyond") - 1.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn powers_are_found_without_a_knee() {
        for power in [1.0, 1.5] {
            let found = scaling(&over(|work| work.powf(power))).expect("enough points");
            assert_eq!(found.knee, None, "{found:?}");
            assert!((found.exponent.expect("all") - power).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn one_time_off_by_half_moves_the_exponent() {
        let mut points = over(|work| work);
        points[9].1 *= 1.5;
        let found = scaling(&points).expect("enough points").exponent.expect("all");
        assert!(found > 1.01, "{found}");
    }

    #[test]
    fn too_few_sizes_or_too_small_a_span_say_nothing() {
        assert_eq!(scaling(&over(|work| work)[..2]), None);
        assert_eq!(scaling(&[(1.0, 1.0), (1.5, 1.5), (2.0, 2.0)]), None);
        assert_eq!(scaling(&[(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (2.0, 2.0)]), None);
        let flat = scaling(&over(|_| 1.0)).expect("enough points");
        assert!(flat.exponent.expect("all").abs() < 1e-9 && flat.fixed_s > 0.9, "{flat:?}");
    }
}
