//! Softmax weights of attention, in the order of operations of each strategy.

use crate::accuracy::Scalar;

/// What values are multiplied by, and what their sum is divided by where that comes last.
pub struct Weights<S> {
    pub terms: Vec<S>,
    pub divisor: Option<S>,
}

impl<S: Scalar> Weights<S> {
    /// Largest score first, then the total with the declared depth, then every weight by itself.
    pub fn in_passes(scores: &[S], depth: usize) -> Self {
        let Some(peak) = scores.iter().copied().reduce(S::max) else {
            return Weights { terms: Vec::new(), divisor: None };
        };
        let terms: Vec<S> = scores.iter().map(|&score| (score - peak).exp()).collect();
        let total = S::sum(terms.iter().copied(), depth);
        Weights { terms: terms.iter().map(|&term| term / total).collect(), divisor: None }
    }

    /// One pass that multiplies what it has summed so far by e^(old − new) whenever the running
    /// maximum grows: a factor for earlier terms. Divides once at the end.
    pub fn running(scores: &[S]) -> Self {
        let (terms, _) = running(scores);
        let divisor = (!terms.is_empty()).then(|| S::sum(terms.iter().copied(), terms.len()));
        Weights { terms, divisor }
    }

    /// The same over the scores of each split, whose results are then brought to one maximum.
    pub fn merged(scores: &[S], splits: &[usize], depth: usize) -> Self {
        let Some(peak) = scores.iter().copied().reduce(S::max) else {
            return Weights { terms: Vec::new(), divisor: None };
        };
        let mut all = vec![S::zero(); scores.len()];
        let count = splits.iter().max().map_or(0, |&last| last + 1);
        for split in 0..count {
            let members: Vec<usize> = (0..scores.len()).filter(|&j| splits[j] == split).collect();
            let own: Vec<S> = members.iter().map(|&j| scores[j]).collect();
            let (terms, highest) = running(&own);
            let Some(highest) = highest else { continue };
            let factor = (highest - peak).exp();
            for (&j, &term) in members.iter().zip(&terms) {
                all[j] = term * factor;
            }
        }
        let total = S::sum(all.iter().copied(), depth);
        Weights { terms: all, divisor: Some(total) }
    }

    /// The mean of values by these weights.
    pub fn mean(&self, values: impl ExactSizeIterator<Item = f32>, depth: usize) -> S {
        let exact = |value: f32| S::exact(f64::from(value));
        let terms = values.zip(&self.terms).map(|(value, &weight)| weight * exact(value));
        let sum = S::sum(terms, depth);
        self.divisor.map_or(sum, |total| sum / total)
    }
}

/// Terms relative to the largest score, and that score.
fn running<S: Scalar>(scores: &[S]) -> (Vec<S>, Option<S>) {
    let n = scores.len();
    let mut peaks: Vec<S> = scores.to_vec();
    for j in 1..n {
        peaks[j] = peaks[j - 1].max(scores[j]);
    }
    let mut shrink = S::one();
    let mut terms = vec![S::zero(); n];
    for j in (0..n).rev() {
        terms[j] = (scores[j] - peaks[j]).exp() * shrink;
        if j > 0 && scores[j].value() > peaks[j - 1].value() {
            shrink = shrink * (peaks[j - 1] - peaks[j]).exp();
        }
    }
    (terms, peaks.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    const KEYS: usize = 37;

    fn draw(stream: u32) -> Vec<f32> {
        (0..KEYS).map(|i| 3.0 * rng::normal(1, stream, i as u32)).collect()
    }

    /// By every strategy.
    fn means(scores: &[f32], values: &[f32]) -> [f64; 3] {
        let scores: Vec<f64> = scores.iter().copied().map(f64::from).collect();
        let splits: Vec<usize> = (0..KEYS).map(|key| key % 5).collect();
        [
            Weights::in_passes(&scores, KEYS),
            Weights::running(&scores),
            Weights::merged(&scores, &splits, KEYS),
        ]
        .map(|weights| weights.mean(values.iter().copied(), KEYS))
    }

    fn agree(got: [f64; 3], wanted: f64) {
        assert!(got.iter().all(|x| (x - wanted).abs() < 1e-12), "{got:?}, not {wanted}");
    }

    #[test]
    fn every_strategy_gives_the_same_mean_in_any_order_of_keys() {
        let (scores, values) = (draw(1), draw(2));
        let [wanted, ..] = means(&scores, &values);
        agree(means(&scores, &values), wanted);
        let permuted = |x: &[f32]| -> Vec<f32> { (0..KEYS).map(|i| x[i * 8 % KEYS]).collect() };
        agree(means(&permuted(&scores), &permuted(&values)), wanted);
        // And the values matter: the same scores with them moved by one key give another mean.
        let moved: Vec<f32> = (0..KEYS).map(|i| values[(i + 1) % KEYS]).collect();
        assert!((means(&scores, &moved)[0] - wanted).abs() > 1e-3);
    }

    #[test]
    fn the_mean_of_ones_is_one_and_of_nothing_zero() {
        agree(means(&draw(3), &[1.0; KEYS]), 1.0);
        let none: [f64; 0] = [];
        assert_eq!(Weights::in_passes(&none, 1).mean([].into_iter(), 1), 0.0);
        assert_eq!(Weights::running(&none).mean([].into_iter(), 1), 0.0);
        assert_eq!(Weights::merged(&none, &[], 1).mean([].into_iter(), 1), 0.0);
    }
}
