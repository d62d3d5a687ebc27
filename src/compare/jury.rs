//! From blocks to verdicts: the looks at a suite, one after the other.

use super::block::Block;
use super::fdr::benjamini_hochberg;
use super::paired::{PValues, interval, p_values, trimmed_mean};
use super::plan::{FLOOR, LOOKS, Look, PAIRS_PER_BLOCK};
use super::verdict::{Reason, Verdict};
use crate::rng;

/// Stream that gives every trial its own resampling.
const TRIAL_STREAM: u32 = 0x7e_1a;

/// One cell to be judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Smallest change worth a verdict, as a fraction.
    pub floor: f64,
    /// One step of the timer over a sample.
    pub timer_step: f64,
}

impl Default for Trial {
    fn default() -> Self {
        Trial { floor: FLOOR, timer_step: 0.0 }
    }
}

/// Head over base, as far as the blocks tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub ratio: f64,
    /// Interval of the ratio, 95 %.
    pub low: f64,
    pub high: f64,
    pub p: PValues,
    /// Pairs with a time on both sides.
    pub pairs: usize,
    /// The ratio in units of the canary, where the device's clock was watched.
    pub normalised: Option<f64>,
}

/// What a trial came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: Reason,
    /// Absent without a single valid pair.
    pub estimate: Option<Estimate>,
}

/// The trials of a suite, and those that are decided.
pub struct Jury {
    trials: Vec<Trial>,
    decided: Vec<Option<Judgement>>,
    /// Trials that are hypotheses: what needs no measuring is none.
    counted: Vec<bool>,
    seed: u32,
}

impl Jury {
    pub fn new(trials: Vec<Trial>, seed: u32) -> Self {
        let (decided, counted) = (vec![None; trials.len()], vec![true; trials.len()]);
        Jury { trials, decided, counted, seed }
    }

    /// Leaves a trial out of the hypotheses, before any look: nothing of it is measured.
    pub fn exclude(&mut self, trial: usize) {
        self.counted[trial] = false;
    }

    /// The trial needs no more pairs.
    pub fn is_decided(&self, trial: usize) -> bool {
        self.decided[trial].is_some()
    }

    /// The verdict on a trial, once there is one.
    pub fn decision(&self, trial: usize) -> Option<Judgement> {
        self.decided[trial]
    }

    /// Takes a trial out: nothing more can be measured of it.
    pub fn dismiss(&mut self, trial: usize, verdict: Verdict, reason: Reason) {
        let estimate = self.decided[trial].and_then(|judgement| judgement.estimate);
        self.decided[trial] = Some(Judgement { verdict, reason, estimate });
    }

    /// Looks at every undecided trial; decided ones count among the hypotheses with p = 1.
    /// `blocks` belongs to the trials in their order.
    pub fn look(&mut self, look: &Look, blocks: &[Vec<Block>]) {
        let counted: Vec<usize> = (0..self.trials.len()).filter(|&t| self.counted[t]).collect();
        let open = |t: usize| self.counted[t] && !self.is_decided(t);
        let found: Vec<Option<Estimate>> = (0..self.trials.len())
            .map(|t| if open(t) { self.estimate(t, &blocks[t], look.q) } else { None })
            .collect();
        let enough = |e: &&Estimate| e.pairs >= LOOKS[0].pairs;
        let p = |of: fn(&PValues) -> f64| {
            let each = counted.iter().map(|&t| found[t].as_ref().filter(enough));
            let p: Vec<f64> = each.map(|found| found.map_or(1.0, |e| of(&e.p))).collect();
            let mut rejected = vec![false; found.len()];
            let by_rank = benjamini_hochberg(&p, look.q);
            counted.iter().zip(by_rank).for_each(|(&t, found)| rejected[t] = found);
            rejected
        };
        let (slower, faster) = (p(|p| p.slower), p(|p| p.faster));
        for (t, estimate) in found.into_iter().enumerate() {
            let Some(estimate) = estimate.filter(|e| enough(&e)) else { continue };
            let rejected = (slower[t], faster[t]);
            self.decided[t] = self.settled(t, &estimate, rejected, &blocks[t]);
        }
    }

    /// Every trial's outcome once there are no more looks: what is still open is UNCLEAR.
    pub fn close(&self, blocks: &[Vec<Block>], interrupted: bool) -> Vec<Judgement> {
        let last = LOOKS[LOOKS.len() - 1];
        let open = |t: usize| {
            let estimate = self.estimate(t, &blocks[t], last.q);
            let enough = estimate.is_some_and(|e| e.pairs >= LOOKS[0].pairs);
            let reason = match (interrupted, enough) {
                (true, _) => Reason::Interrupted,
                (false, false) => Reason::TooFew,
                (false, true) if self.trials[t].timer_step > self.trials[t].floor => {
                    Reason::TimerQuantised
                }
                (false, true) => Reason::Straddles,
            };
            Judgement { verdict: Verdict::Unclear, reason, estimate }
        };
        (0..self.trials.len()).map(|t| self.decided[t].unwrap_or_else(|| open(t))).collect()
    }

    /// The verdict on what is shown, if anything is.
    fn settled(
        &self,
        t: usize,
        estimate: &Estimate,
        rejected: (bool, bool),
        blocks: &[Block],
    ) -> Option<Judgement> {
        let Trial { floor, timer_step } = self.trials[t];
        if timer_step > floor {
            return None;
        }
        let shown = size(estimate.low, estimate.high, floor)?;
        let shown = match (shown, rejected) {
            (Verdict::Slower, (true, _)) | (Verdict::Faster, (_, true)) | (Verdict::Same, _) => {
                shown
            }
            _ => return None,
        };
        let reason = if shown == Verdict::Same { Reason::Equivalent } else { Reason::Evidence };
        let estimate = Some(*estimate);
        if self.contradicted(t, shown, blocks) {
            return Some(Judgement { verdict: Verdict::Unclear, reason: Reason::Clock, estimate });
        }
        Some(Judgement { verdict: shown, reason, estimate })
    }

    /// Whether the ratio in units of the canary says something else. Noise of the canary may leave
    /// equivalence open, but not show a difference.
    fn contradicted(&self, t: usize, shown: Verdict, blocks: &[Block]) -> bool {
        let values: Vec<f64> = blocks.iter().filter_map(Block::normalised).collect();
        if values.is_empty() {
            return false;
        }
        let (low, high) = interval(&values, self.seed_of(t));
        match size(low.exp(), high.exp(), self.trials[t].floor) {
            None => shown != Verdict::Same,
            Some(other) => other != shown,
        }
    }

    fn estimate(&self, t: usize, blocks: &[Block], q: f64) -> Option<Estimate> {
        let hypotheses = self.counted.iter().filter(|&&counted| counted).count();
        estimate(blocks, hypotheses, q, self.seed_of(t))
    }

    fn seed_of(&self, t: usize) -> u32 {
        rng::word(self.seed, TRIAL_STREAM, t as u32)
    }
}

/// The estimate from the valid blocks; `None` without any.
pub fn estimate(blocks: &[Block], hypotheses: usize, q: f64, seed: u32) -> Option<Estimate> {
    let values: Vec<f64> = blocks.iter().filter_map(Block::log_ratio).collect();
    if values.is_empty() {
        return None;
    }
    let (low, high) = interval(&values, seed);
    let in_canaries: Vec<f64> = blocks.iter().filter_map(Block::normalised).collect();
    Some(Estimate {
        ratio: trimmed_mean(&values).exp(),
        low: low.exp(),
        high: high.exp(),
        p: p_values(&values, hypotheses, q, seed),
        pairs: PAIRS_PER_BLOCK * values.len(),
        normalised: (!in_canaries.is_empty()).then(|| trimmed_mean(&in_canaries).exp()),
    })
}

/// What an interval of the ratio shows by its size: beyond the floor, or all within it.
fn size(low: f64, high: f64, floor: f64) -> Option<Verdict> {
    // In logarithms the floor is the same both ways, so that exchanged sides swap the verdicts.
    let floor = 1.0 + floor;
    if low > floor {
        Some(Verdict::Slower)
    } else if high < 1.0 / floor {
        Some(Verdict::Faster)
    } else if low >= 1.0 / floor && high <= floor {
        Some(Verdict::Same)
    } else {
        None
    }
}

/// The looks that `pairs` pairs allow, one after the other.
pub fn judge(trials: Vec<Trial>, blocks: &[Vec<Block>], seed: u32) -> Vec<Judgement> {
    let mut jury = Jury::new(trials, seed);
    for look in &LOOKS {
        let so_far: Vec<Vec<Block>> = blocks
            .iter()
            .map(|blocks| blocks[..blocks.len().min(look.pairs / PAIRS_PER_BLOCK)].to_vec())
            .collect();
        jury.look(look, &so_far);
    }
    jury.close(blocks, false)
}

#[cfg(test)]
#[path = "jury_tests.rs"]
mod tests;
