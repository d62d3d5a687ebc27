//! Symmetric positive definite systems solved on a device by Cholesky's method in f32: the exact
//! answer, and how far from it any device may end.
//!
//! Tracking every operation would multiply the errors of one step by those of the next and promise
//! nothing. Instead the computed solution solves a nearby system exactly (Higham, "Accuracy and
//! Stability of Numerical Algorithms", lemma 8.4 and theorems 10.3, 10.4): (A + E)x' = b + f with
//! |E| ≤ δA + γ(3m+5)/(1 − γ(m+5))·√(aᵢᵢ aⱼⱼ) and f what is known about b. The factor's diagonal
//! is kept as its inverse, an `inverseSqrt` accurate to two units, hence the 5. Then
//! |x' − x| ≤ |A⁻¹|(|E||x'| + |f|), solved for x'.

use crate::accuracy::{Scalar, Tracked, UNIT_F32};

/// A scalar whose error can be looked at and set.
pub trait Bounded: Scalar {
    /// `value` with a worst-case error and a variance that were derived elsewhere.
    fn with_error(value: f64, worst: f64, variance: f64) -> Self;
    fn worst(self) -> f64;
    fn variance(self) -> f64;
}

impl Bounded for f64 {
    fn with_error(value: f64, _worst: f64, _variance: f64) -> Self {
        value
    }

    fn worst(self) -> f64 {
        0.0
    }

    fn variance(self) -> f64 {
        0.0
    }
}

impl Bounded for Tracked {
    fn with_error(value: f64, worst: f64, variance: f64) -> Self {
        Tracked { value, worst, variance }
    }

    fn worst(self) -> f64 {
        self.worst
    }

    fn variance(self) -> f64 {
        self.variance
    }
}

/// A factorised matrix.
pub struct Solver<S> {
    m: usize,
    matrix: Vec<S>,
    /// Lower factor of the exact matrix, empty where a pivot is too small.
    factor: Vec<f64>,
    inverse: Vec<f64>,
    /// Bound on |E|, element by element.
    backward: Vec<f64>,
    /// Whether every device agrees on the rank.
    is_certain: bool,
}

/// n·u/(1 − n·u).
fn gamma(n: usize) -> f64 {
    let h = n as f64 * UNIT_F32;
    if h < 1.0 { h / (1.0 - h) } else { f64::INFINITY }
}

impl<S: Bounded> Solver<S> {
    /// `matrix` is `m × m`, row-major. A pivot of at most `rank` times its diagonal element makes
    /// the system singular; 0 where that cannot happen.
    pub fn new(matrix: Vec<S>, m: usize, rank: f64) -> Self {
        let growth = gamma(3 * m + 5) / (1.0 - gamma(m + 5));
        let size = |i: usize| matrix[i * m + i].value() + matrix[i * m + i].worst();
        let of =
            |i: usize, j: usize| matrix[i * m + j].worst() + growth * (size(i) * size(j)).sqrt();
        let backward: Vec<f64> = (0..m * m).map(|at| of(at / m, at % m)).collect();
        let mut solver = Solver {
            m,
            matrix,
            factor: vec![0.0; m * m],
            inverse: Vec::new(),
            backward,
            is_certain: true,
        };
        let is_regular = (0..m).all(|j| {
            let pivot = solver.factor_row(j);
            let limit = rank * solver.matrix[j * m + j].value();
            solver.is_certain &= rank == 0.0 || solver.is_pivot_certain(j, pivot, rank);
            solver.factor[j * m + j] = pivot.max(0.0).sqrt();
            pivot > limit
        });
        if is_regular {
            solver.inverse = solver.inverse_of(m);
        } else {
            solver.factor.clear();
        }
        solver
    }

    /// Whether the matrix has full rank, by its exact pivots.
    pub fn is_regular(&self) -> bool {
        self.m == 0 || !self.factor.is_empty()
    }

    /// The same as a device would store it.
    pub fn flag(&self) -> S {
        let value = f64::from(u8::from(self.is_regular()));
        if self.is_certain { S::exact(value) } else { S::undetermined(value) }
    }

    /// The solution for one right-hand side, zeros for a singular matrix.
    pub fn solve(&self, b: &[S]) -> Vec<S> {
        let m = self.m;
        if !self.is_regular() || !self.is_certain {
            let zero = if self.is_certain { S::zero() } else { S::undetermined(0.0) };
            return vec![zero; m];
        }
        let x = self.substitute(m, &b.iter().map(|b| b.value()).collect::<Vec<_>>());
        let known: Vec<f64> = b.iter().map(|b| b.worst()).collect();
        let Some(bound) = forward(&self.inverse, &self.backward, m, m, &x, &known) else {
            return x.into_iter().map(S::undetermined).collect();
        };
        let variance = self.variance(&x, b);
        (0..m).map(|i| S::with_error(x[i], bound[i], variance[i])).collect()
    }

    /// First order: each element of A and b, and each of about 3m roundings that the elements of A
    /// meet on their way, has an error of its own. Twice, because A is symmetric.
    fn variance(&self, x: &[f64], b: &[S]) -> Vec<f64> {
        let m = self.m;
        let unit = (3 * m + 5) as f64 * UNIT_F32 * UNIT_F32 / 12.0;
        let size = |i: usize| self.matrix[i * m + i].value();
        let of_row = |j: usize| {
            let element = |k: usize| {
                let own = self.matrix[j * m + k].variance();
                2.0 * (own + unit * size(j) * size(k)) * x[k] * x[k]
            };
            b[j].variance() + (0..m).map(element).sum::<f64>()
        };
        let rows: Vec<f64> = (0..m).map(of_row).collect();
        (0..m).map(|i| (0..m).map(|j| self.inverse[i * m + j].powi(2) * rows[j]).sum()).collect()
    }

    /// Row `j` of the factor but for its diagonal; returns the pivot.
    fn factor_row(&mut self, j: usize) -> f64 {
        let m = self.m;
        let mut pivot = self.matrix[j * m + j].value();
        for i in 0..j {
            let known: f64 = (0..i).map(|k| self.factor[j * m + k] * self.factor[i * m + k]).sum();
            let element = (self.matrix[j * m + i].value() - known) / self.factor[i * m + i];
            self.factor[j * m + i] = element;
            pivot -= element * element;
        }
        pivot
    }

    /// Solves the leading `n` equations.
    fn substitute(&self, n: usize, b: &[f64]) -> Vec<f64> {
        let (m, l) = (self.m, &self.factor);
        let mut x = b[..n].to_vec();
        for i in 0..n {
            let known: f64 = (0..i).map(|k| l[i * m + k] * x[k]).sum();
            x[i] = (x[i] - known) / l[i * m + i];
        }
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|k| l[k * m + i] * x[k]).sum();
            x[i] = (x[i] - known) / l[i * m + i];
        }
        x
    }

    /// Inverse of the leading block, `n × n`.
    fn inverse_of(&self, n: usize) -> Vec<f64> {
        let unit = |j: usize| (0..n).map(|i| f64::from(u8::from(i == j))).collect::<Vec<_>>();
        // Symmetric, so columns are rows.
        (0..n).flat_map(|j| self.substitute(n, &unit(j))).collect()
    }

    /// Whether every device compares pivot `j` with its limit alike. A pivot is the least xᵀAx with
    /// x_j = 1 over the leading block, so errors E in A move it by at most |x|ᵀ|E||x|.
    fn is_pivot_certain(&self, j: usize, pivot: f64, rank: f64) -> bool {
        let m = self.m;
        let diagonal = self.matrix[j * m + j];
        let column: Vec<f64> = (0..j).map(|i| self.matrix[i * m + j].value()).collect();
        let x = self.substitute(j, &column);
        let known: Vec<f64> = (0..j).map(|i| self.backward[i * m + j]).collect();
        let spread = forward(&self.inverse_of(j), &self.backward, j, m, &x, &known);
        let moved = |x: &[f64]| {
            let x = |i: usize| if i == j { 1.0 } else { x[i].abs() };
            let terms = (0..=j).flat_map(|a| (0..=j).map(move |b| (a, b)));
            terms.map(|(a, b)| x(a) * self.backward[a * m + b] * x(b)).sum::<f64>()
        };
        // What the comparison itself rounds.
        let slack = 1.0 + gamma(8);
        let high = (pivot + moved(&x)).max(0.0) * slack;
        if high <= rank * (diagonal.value() - diagonal.worst()) {
            return true;
        }
        spread.is_some_and(|spread| {
            let wide: Vec<f64> = x.iter().zip(&spread).map(|(x, e)| x.abs() + e).collect();
            (pivot - moved(&wide)) > slack * rank * (diagonal.value() + diagonal.worst())
        })
    }
}

/// Largest |x' − x| of (A + E)x' = b + f with |E| ≤ `backward`, of which rows are `stride` long,
/// and |f| ≤ `known`, for the leading `n` equations; `None` where E may make A singular.
fn forward(
    inverse: &[f64],
    backward: &[f64],
    n: usize,
    stride: usize,
    x: &[f64],
    known: &[f64],
) -> Option<Vec<f64>> {
    let spread = |f: &[f64]| -> Vec<f64> {
        (0..n).map(|i| (0..n).map(|j| inverse[i * n + j].abs() * f[j]).sum()).collect()
    };
    let moved = |x: &[f64]| -> Vec<f64> {
        (0..n).map(|i| (0..n).map(|j| backward[i * stride + j] * x[j].abs()).sum()).collect()
    };
    let residual: Vec<f64> = moved(x).iter().zip(known).map(|(e, f)| e + f).collect();
    let first = spread(&residual);
    let again = spread(&moved(&vec![1.0; n]));
    let largest = |v: &[f64]| v.iter().fold(0.0_f64, |largest, &x| largest.max(x));
    let contraction = largest(&again);
    let total = largest(&first) / (1.0 - contraction);
    (contraction < 1.0).then(|| first.iter().zip(&again).map(|(e, k)| e + k * total).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    /// The shader's arithmetic, each result rounded to one of the two neighbouring f32.
    fn device(a: &[f64], b: &[f64], m: usize, mut round: impl FnMut(f64) -> f64) -> Vec<f64> {
        let (mut l, mut inverse, mut x) = (a.to_vec(), vec![0.0; m], b.to_vec());
        for j in 0..m {
            for i in j..m {
                let mut rest = l[i * m + j];
                for k in 0..j {
                    let product = round(l[i * m + k] * l[j * m + k]);
                    rest = round(rest - product);
                }
                if i == j {
                    let near = round(rest.sqrt().recip());
                    inverse[j] = round(near * (1.0 + 0.5 * UNIT_F32));
                } else {
                    l[i * m + j] = round(rest * inverse[j]);
                }
            }
        }
        for i in 0..m {
            for k in 0..i {
                let product = round(l[i * m + k] * x[k]);
                x[i] = round(x[i] - product);
            }
            x[i] = round(x[i] * inverse[i]);
        }
        for i in (0..m).rev() {
            for k in i + 1..m {
                let product = round(l[k * m + i] * x[k]);
                x[i] = round(x[i] - product);
            }
            x[i] = round(x[i] * inverse[i]);
        }
        x
    }

    fn neighbours(x: f64) -> (f64, f64) {
        let near = x as f32;
        match f64::from(near) {
            value if value == x => (value, value),
            value if value < x => (value, f64::from(near.next_up())),
            value => (f64::from(near.next_down()), value),
        }
    }

    /// A Gram matrix of `n` random rows of zeros and ones, and a right-hand side.
    fn system(m: usize, n: usize, stream: u32) -> (Vec<f64>, Vec<f64>) {
        let bit = |k: usize, i: usize| rng::word(5, stream, (k * m + i) as u32) >> 31;
        let of = |at: usize| (0..n).map(|k| bit(k, at / m) & bit(k, at % m)).sum::<u32>();
        let a = (0..m * m).map(|at| f64::from(of(at))).collect();
        let b = (0..m).map(|i| f64::from(10.0 * rng::normal(6, stream, i as u32))).collect();
        (a, b)
    }

    #[test]
    fn no_rounding_exceeds_the_bound_and_the_likely_error_is_not_far_off() {
        for (m, n) in [(1, 4), (2, 8), (5, 20), (12, 40), (49, 300)] {
            let (mut observed, mut predicted) = (0.0, 0.0);
            for stream in 0..12 {
                let (a, b) = system(m, n, stream);
                let exact = |v: &Vec<f64>| v.iter().map(|&v| Tracked::exact(v)).collect::<Vec<_>>();
                let solver = Solver::new(exact(&a), m, 0.0);
                let x = solver.solve(&exact(&b));
                let mut draws = 0;
                for rule in 0..4 {
                    let got = device(&a, &b, m, |v| {
                        let (below, above) = neighbours(v);
                        draws += 1;
                        match rule {
                            0 if v - below < above - v => below,
                            0 | 1 => above,
                            2 => below,
                            _ if rng::word(8, stream, draws) & 1 == 0 => below,
                            _ => above,
                        }
                    });
                    for (got, x) in got.iter().zip(&x) {
                        let error = (got - x.value).abs();
                        assert!(error <= x.worst, "{m}: {error:e} over {:e}", x.worst);
                        if rule == 3 {
                            observed += error * error;
                            predicted += x.variance;
                        }
                    }
                }
            }
            let ratio = (observed / predicted).sqrt();
            assert!((0.01..2.0).contains(&ratio), "{m}: RMS {ratio} of the predicted");
        }
    }

    #[test]
    fn a_wrong_solution_is_outside_the_bound() {
        let (a, b) = system(5, 40, 3);
        let exact = |v: &[f64]| v.iter().map(|&v| Tracked::exact(v)).collect::<Vec<_>>();
        let x = Solver::new(exact(&a), 5, 0.0).solve(&exact(&b));
        let mut wrong = a.clone();
        wrong[6] += 1.0;
        let other = Solver::new(wrong, 5, 0.0).solve(&b);
        assert!(x.iter().zip(&other).any(|(x, y)| (x.value - y).abs() > x.worst));
    }

    #[test]
    fn rank_is_certain_far_from_the_limit_and_open_near_it() {
        let of = |last: f64| {
            let a = [2.0, 1.0, 1.0, last].map(Tracked::exact).to_vec();
            let solver = Solver::new(a, 2, 1.0 / 1024.0);
            (solver.is_regular(), solver.is_certain)
        };
        assert_eq!(of(2.0), (true, true));
        assert_eq!(of(0.5), (false, true));
        assert!(!of(0.5 * 1024.0 / 1023.0).1, "a pivot of just its limit");
        let zero = Solver::new(vec![Tracked::exact(0.0)], 1, 1.0 / 1024.0);
        assert_eq!((zero.is_regular(), zero.is_certain), (false, true));
        assert_eq!(zero.solve(&[Tracked::exact(1.0)]), [Tracked::exact(0.0)]);
    }
}
