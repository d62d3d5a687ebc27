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

/// Elements whose moments row-wise normalisations take at once.
pub const UNIT: usize = 8;

/// Mean and variance from the moments of each eight elements, merged one after the other.
pub fn merged_moments<S: Scalar>(x: &[S]) -> (S, S) {
    let (mut count, mut mean, mut squares) = (0.0, S::zero(), S::zero());
    let eight = S::exact(UNIT as f64);
    for unit in x.chunks(UNIT) {
        let own_mean = S::sum(unit.iter().copied(), UNIT) / eight;
        let own = S::sum(unit.iter().map(|&x| (x - own_mean) * (x - own_mean)), UNIT);
        let share = eight / S::exact(count + UNIT as f64);
        let delta = own_mean - mean;
        let apart = delta * delta * (S::exact(count) * share);
        mean = mean + delta * share;
        squares = (squares + own) + apart;
        count += UNIT as f64;
    }
    (mean, squares / S::exact(count))
}
