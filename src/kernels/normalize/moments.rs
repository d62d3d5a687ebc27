//! Moments of parts that are merged pairwise (Chan, Golub and LeVeque 1979, 1983).

use crate::accuracy::Scalar;

/// Mean and sum of squared deviations from it.
#[derive(Clone, Copy)]
pub struct Moment<S> {
    pub count: usize,
    pub mean: S,
    pub squares: S,
}

impl<S: Scalar> Moment<S> {
    /// Of values that are summed in any order, at least one.
    pub fn of(values: &[S]) -> Self {
        let count = values.len();
        let mean = S::sum(values.iter().copied(), count) / S::exact(count as f64);
        let centred = values.iter().map(|&x| x - mean);
        Moment { count, mean, squares: S::sum(centred.map(|c| c * c), count) }
    }

    pub fn merged(self, part: Self) -> Self {
        let of = |count: usize| S::exact(count as f64);
        let delta = part.mean - self.mean;
        let share = of(part.count) / (of(self.count) + of(part.count));
        Moment {
            count: self.count + part.count,
            mean: self.mean + delta * share,
            squares: self.squares + part.squares + delta * delta * (of(self.count) * share),
        }
    }

    pub fn variance(self) -> S {
        self.squares / S::exact(self.count as f64)
    }
}
