//! What one case showed, and what all of them say about the targets.

use crate::duel::{Ratio, geometric_mean};

/// On a CPU driver, every operation against burn, and the geometric mean of them.
pub const LEAST_EMULATED: f64 = 1.5;
pub const MEAN_EMULATED: f64 = 4.0;
/// On a GPU: never slower.
pub const LEAST: f64 = 1.0;

/// One operation at one shape.
pub struct Outcome {
    pub kernel: &'static str,
    pub shape: String,
    /// Our fastest strategy.
    pub strategy: &'static str,
    pub ours: Figures,
    /// Ours without wgpu's run-time checks, and burn's time over that: burn compiles without them.
    pub unchecked: Figures,
    pub alike: Option<Ratio>,
    /// In the order of [`PEERS`].
    pub peers: [Entry; 3],
}

/// Everyone but us.
pub const PEERS: [&str; 3] = ["burn", "ndarray", "ONNX Runtime"];
/// The one that the targets are about.
pub const BURN: usize = 0;

/// What a peer showed.
pub enum Entry {
    Ran(Figures, Ratio),
    /// It has no such operation.
    Lacks,
    /// Why it gave no time.
    Failed(String),
}

/// Someone's time and whether the answer was right.
#[derive(Clone)]
pub struct Figures {
    /// Median of one run.
    pub seconds: f64,
    /// Shortest time that the probes allow, over the median; `None` where no probe says.
    pub of_peak: Option<f64>,
    pub fault: Option<String>,
}

impl Outcome {
    /// How many times as long a peer takes, where both answers are right.
    pub fn ratio(&self, peer: usize) -> Option<Ratio> {
        match &self.peers[peer] {
            Entry::Ran(theirs, ratio) if self.ours.fault.is_none() && theirs.fault.is_none() => {
                Some(*ratio)
            }
            _ => None,
        }
    }

    /// How many times as long burn takes with the same checks, where both answers are right.
    pub fn alike(&self) -> Option<Ratio> {
        self.ratio(BURN).and(self.alike).filter(|_| self.unchecked.fault.is_none())
    }

    fn name(&self) -> String {
        format!("{} {}", self.kernel, self.shape)
    }
}

/// Geometric mean of the ratios to a peer, and over how many operations.
pub fn mean(outcomes: &[Outcome], peer: usize) -> (Option<f64>, usize) {
    mean_of(outcomes, |outcome| outcome.ratio(peer))
}

/// The same with burn's checks.
pub fn mean_alike(outcomes: &[Outcome]) -> (Option<f64>, usize) {
    mean_of(outcomes, Outcome::alike)
}

fn mean_of(
    outcomes: &[Outcome],
    ratio: impl Fn(&Outcome) -> Option<Ratio>,
) -> (Option<f64>, usize) {
    let ratios: Vec<f64> =
        outcomes.iter().filter_map(|outcome| Some(ratio(outcome)?.value)).collect();
    (geometric_mean(&ratios), ratios.len())
}

/// What the targets would say if both were compiled without wgpu's run-time checks, as burn is.
pub fn like_for_like(outcomes: &[Outcome], emulated: bool) -> String {
    let least = least(emulated);
    let values: Vec<f64> = outcomes.iter().filter_map(|o| Some(o.alike()?.value)).collect();
    let fast = values.iter().filter(|value| **value >= least).count();
    let mean = geometric_mean(&values).map_or("no ratio".to_owned(), |mean| format!("{mean:.2}"));
    format!(
        "ours without wgpu's run-time checks too, as burn is compiled: {fast} of {} operations at \
         least {least} times as fast, {mean} in geometric mean",
        values.len()
    )
}

fn least(emulated: bool) -> f64 {
    if emulated { LEAST_EMULATED } else { LEAST }
}

/// One sentence about a target, and whether it is met.
pub struct Finding {
    pub met: bool,
    pub text: String,
}

/// The targets against burn, each met or missed and by what.
pub fn targets(outcomes: &[Outcome], emulated: bool) -> Vec<Finding> {
    let least = least(emulated);
    let ratio = |outcome: &Outcome| outcome.ratio(BURN).map(|ratio| ratio.value);
    let mut below: Vec<(f64, String)> = outcomes
        .iter()
        .filter_map(|outcome| Some((ratio(outcome)?, outcome.name())))
        .filter(|(value, _)| *value < least)
        .collect();
    below.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mean, count) = mean(outcomes, BURN);
    let names: Vec<String> = below.iter().map(|(v, name)| format!("{name} ({v:.2})")).collect();
    let said = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    let text = format!(
        "at least {least} times as fast as burn: {} of {count} operations{said}",
        count - below.len()
    );
    let mut findings = vec![Finding { met: below.is_empty() && count > 0, text }];
    if emulated {
        let reached = mean.map_or("no ratio".to_owned(), |mean| format!("{mean:.2}"));
        let text = format!("{MEAN_EMULATED} times as fast in geometric mean: {reached}");
        findings.push(Finding { met: mean.is_some_and(|mean| mean >= MEAN_EMULATED), text });
    }
    findings
}

/// Every wrong answer and every failure, in a sentence each.
pub fn faults(outcomes: &[Outcome]) -> Vec<String> {
    let mut all = Vec::new();
    for outcome in outcomes {
        let name = outcome.name();
        all.extend(outcome.ours.fault.iter().map(|why| format!("{name}: ours is wrong: {why}")));
        let unchecked = outcome.unchecked.fault.iter();
        all.extend(unchecked.map(|why| format!("{name}: ours without checks is wrong: {why}")));
        for (peer, entry) in PEERS.iter().zip(&outcome.peers) {
            match entry {
                Entry::Ran(Figures { fault: Some(why), .. }, _) => {
                    all.push(format!("{name}: {peer} is not verified: {why}"));
                }
                Entry::Failed(why) => all.push(format!("{name}: {peer} gave no time: {why}")),
                Entry::Ran(..) | Entry::Lacks => {}
            }
        }
    }
    all
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn figures(seconds: f64, fault: Option<&str>) -> Figures {
        Figures { seconds, of_peak: Some(0.25), fault: fault.map(str::to_owned) }
    }

    /// Against burn so many times as fast, against ndarray twice, and not against the third.
    pub fn outcome(shape: &str, value: f64, fault: Option<&str>) -> Outcome {
        let ratio = |value: f64| Ratio { value, low: 0.9 * value, high: 1.1 * value };
        let burn = Entry::Ran(figures(value * 1e-3, fault), ratio(value));
        let ndarray = Entry::Ran(figures(2e-3, None), ratio(2.0));
        Outcome {
            kernel: "softmax",
            shape: shape.to_owned(),
            strategy: "thread",
            ours: figures(1e-3, None),
            unchecked: figures(0.8e-3, None),
            alike: Some(ratio(1.25 * value)),
            peers: [burn, ndarray, Entry::Lacks],
        }
    }

    #[test]
    fn targets_are_met_or_missed_by_name() {
        let fast = [outcome("r2n3", 8.0, None), outcome("r4n5", 2.0, None)];
        assert!(targets(&fast, true).iter().all(|finding| finding.met));
        let slow = [outcome("r2n3", 8.0, None), outcome("r4n5", 1.25, None)];
        let found = targets(&slow, true);
        assert_eq!([found[0].met, found[1].met], [false, false]);
        assert!(found[0].text.ends_with("1 of 2 operations: softmax r4n5 (1.25)"));
        assert!(found[1].text.ends_with("3.16"));
        assert!(targets(&slow, false)[0].met, "on a GPU not being slower is enough");
        assert!(!targets(&[], true)[0].met, "nothing measured meets nothing");
    }

    #[test]
    fn like_for_like_counts_what_is_fast_enough_without_checks() {
        let all = [outcome("r2n3", 8.0, None), outcome("r4n5", 1.0, None)];
        let said = like_for_like(&all, true);
        assert!(said.contains("1 of 2 operations at least 1.5 times"), "{said}");
        assert!(said.ends_with("3.54 in geometric mean"), "{said}");
        assert!(like_for_like(&all, false).contains("2 of 2 operations"));
    }

    #[test]
    fn a_wrong_answer_has_no_ratio_and_is_told() {
        let wrong = [outcome("r2n3", 8.0, Some("G1: 2 times the bound"))];
        assert_eq!(wrong[0].ratio(BURN), None);
        assert_eq!(mean(&wrong, BURN), (None, 0));
        assert_eq!(mean(&wrong, 1), (Some(2.0), 1));
        assert_eq!(faults(&wrong), ["softmax r2n3: burn is not verified: G1: 2 times the bound"]);
        assert_eq!(wrong[0].alike(), None);
        let mut unchecked = outcome("r2n3", 8.0, None);
        assert_eq!(unchecked.alike().map(|ratio| ratio.value), Some(10.0));
        unchecked.unchecked.fault = Some("G1".to_owned());
        assert_eq!(unchecked.alike(), None);
        assert_eq!(faults(&[unchecked]), ["softmax r2n3: ours without checks is wrong: G1"]);
        let mut failed = outcome("r2n3", 8.0, None);
        failed.peers[2] = Entry::Failed("no operator".to_owned());
        assert_eq!(faults(&[failed]), ["softmax r2n3: ONNX Runtime gave no time: no operator"]);
    }
}
