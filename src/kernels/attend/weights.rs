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
