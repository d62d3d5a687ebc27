//! Softmax weights of attention, in the order of operations of each strategy.

use std::cmp::Ordering;

use crate::accuracy::Scalar;
use crate::kernel::Elem;

/// What values are multiplied by, in groups that are summed by themselves, and what their sum is
/// divided by.
pub struct Weights<S> {
    groups: Vec<Group<S>>,
    divisor: Option<S>,
}

struct Group<S> {
    /// Positions among the scores, and the weight of each.
    terms: Vec<(usize, S)>,
    /// What brings the group's sum to the largest score of all; `None` where it is the only one.
    factor: Option<S>,
}

impl<S: Scalar> Weights<S> {
    /// Largest score first, then every weight, then their total with the declared depth.
    pub fn in_passes(scores: &[S], depth: usize) -> Self {
        let Some(peak) = scores.iter().copied().reduce(S::max) else { return Self::none() };
        let terms: Vec<S> = scores.iter().map(|&score| weight(score - peak)).collect();
        let divisor = S::sum(terms.iter().copied(), depth);
        Self::whole(terms, divisor)
    }

    /// One pass that multiplies what it has summed so far by e^(old − new) whenever the running
    /// maximum grows: a factor for earlier terms.
    pub fn running(scores: &[S]) -> Self {
        let (terms, Some(_)) = running(scores) else { return Self::none() };
        let divisor = S::sum(terms.iter().copied(), terms.len());
        Self::whole(terms, divisor)
    }

    /// The same over the scores of each split, whose results are then brought to one maximum.
    /// `depth` is that of the total.
    pub fn merged(scores: &[S], splits: &[usize], depth: usize) -> Self {
        let Some(peak) = scores.iter().copied().reduce(S::max) else { return Self::none() };
        let mut groups: Vec<Group<S>> = Vec::new();
        let count = splits.iter().max().map_or(0, |&last| last + 1);
        for split in 0..count {
            let members: Vec<usize> = (0..scores.len()).filter(|&j| splits[j] == split).collect();
            let own: Vec<S> = members.iter().map(|&j| scores[j]).collect();
            let (terms, Some(highest)) = running(&own) else { continue };
            let terms = members.into_iter().zip(terms).collect();
            groups.push(Group { terms, factor: Some((highest - peak).exp()) });
        }
        let scaled = |group: &Group<S>| -> Vec<S> {
            let factor = group.factor.unwrap_or(S::one());
            group.terms.iter().map(|&(_, term)| term * factor).collect()
        };
        let all: Vec<S> = groups.iter().flat_map(scaled).collect();
        Weights { groups, divisor: Some(S::sum(all.into_iter(), depth)) }
    }

    /// The mean of values by these weights; products and sums of a group, `depth` deep, are kept in
    /// `elem`, all else in f32.
    pub fn mean(&self, values: &[f32], elem: Elem, depth: usize) -> S {
        let sum_of = |group: &Group<S>| {
            let terms = group.terms.iter().map(|&(j, term)| (term, values[j]));
            let sum = S::weighted_sum(elem, terms, depth);
            group.factor.map_or(sum, |factor| sum * factor)
        };
        let sum = match &self.groups[..] {
            [only] => sum_of(only),
            groups => S::sum(groups.iter().map(sum_of), groups.len()),
        };
        self.divisor.map_or(sum, |total| sum / total)
    }

    /// The same for weights that are rounded after they were added up.
    pub fn stored(mut self, elem: Elem) -> Self {
        let terms = self.groups.iter_mut().flat_map(|group| &mut group.terms);
        terms.for_each(|(_, term)| *term = term.store(elem));
        self
    }

    fn none() -> Self {
        Weights { groups: Vec::new(), divisor: None }
    }

    fn whole(terms: Vec<S>, divisor: S) -> Self {
        let terms = terms.into_iter().enumerate().collect();
        Weights { groups: vec![Group { terms, factor: None }], divisor: Some(divisor) }
    }
}

/// The weight of a score so far below the largest one; shaders give that one itself exactly 1.
fn weight<S: Scalar>(below: S) -> S {
    if below.order(S::zero()) == Some(Ordering::Equal) { S::one() } else { below.exp() }
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
        terms[j] = weight(scores[j] - peaks[j]) * shrink;
        if j > 0 && scores[j].value() > peaks[j - 1].value() {
            shrink = shrink * (peaks[j - 1] - peaks[j]).exp();
        }
    }
    (terms, peaks.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::Tracked;
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
        .map(|weights| weights.mean(values, Elem::F32, KEYS))
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
        assert_eq!(Weights::in_passes(&none, 1).mean(&[], Elem::F32, 1), 0.0);
        assert_eq!(Weights::running(&none).mean(&[], Elem::F32, 1), 0.0);
        assert_eq!(Weights::merged(&none, &[], 1).mean(&[], Elem::F32, 1), 0.0);
    }

    #[test]
    fn tied_keys_sum_exactly_also_in_f16_and_others_with_the_error_of_f16() {
        let bound = |scores: Vec<Tracked>, elem| {
            let values: Vec<f32> = (0..KEYS).map(|i| (i % 3) as f32 - 1.0).collect();
            let splits: Vec<usize> = (0..KEYS).map(|key| key % 5).collect();
            [
                Weights::in_passes(&scores, KEYS),
                Weights::running(&scores),
                Weights::merged(&scores, &splits, KEYS),
            ]
            .map(|weights| weights.mean(&values, elem, 3 * KEYS).worst)
        };
        let tied = vec![Tracked::exact(0.0); KEYS];
        assert!(bound(tied, Elem::F16).iter().all(|&worst| worst < 1e-6));
        let drawn: Vec<Tracked> =
            draw(1).into_iter().map(|score| Tracked::exact(f64::from(score))).collect();
        let (f16, f32) = (bound(drawn.clone(), Elem::F16), bound(drawn, Elem::F32));
        assert!(f16.iter().zip(f32).all(|(f16, f32)| *f16 > 1e3 * f32), "{f16:?} {f32:?}");
    }
}
