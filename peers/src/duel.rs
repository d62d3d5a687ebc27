//! Rounds in which everyone takes one sample, in a new random order each, and what they show.

use fusebench::measure::stats;
use fusebench::rng;

use crate::contender::{Contender, Result, warm_up};

/// Resamples of the bootstrap interval, and its stream of random orders.
const RESAMPLES: u32 = 2_000;
const ORDER_STREAM: u32 = 0x0d0e;
/// A case of long runs ends earlier, but not before so many rounds.
const LEAST_ROUNDS: u32 = 7;
const ENOUGH_S: f64 = 60.0;

/// How a comparison is run.
#[derive(Clone, Copy)]
pub struct Rules {
    pub rounds: u32,
    /// Least length of one sample.
    pub span_s: f64,
    pub seed: u32,
}

/// Seconds of one run, a sample for each round; or why there is none.
pub type Series = std::result::Result<Vec<f64>, String>;

/// One series for each contender, in the order given. Who fails is left out from then on.
pub fn compete(contenders: &mut [Box<dyn Contender + '_>], rules: Rules) -> Vec<Series> {
    let mut batches: Vec<Result<u32>> =
        contenders.iter_mut().map(|one| warm_up(one.as_mut(), rules.span_s)).collect();
    let mut samples = vec![Vec::new(); contenders.len()];
    let mut total_s = 0.0;
    for round in 0..rules.rounds {
        if total_s > ENOUGH_S && round >= LEAST_ROUNDS {
            break;
        }
        for one in order(contenders.len(), rules.seed, round) {
            let Ok(batch) = batches[one] else { continue };
            match contenders[one].time(batch) {
                Ok(seconds) => {
                    total_s += seconds;
                    samples[one].push(seconds / f64::from(batch));
                }
                Err(error) => batches[one] = Err(error),
            }
        }
    }
    let series = batches.into_iter().zip(samples);
    series.map(|(batch, samples)| batch.map(|_| samples).map_err(|e| e.to_string())).collect()
}

/// The contenders in a random order, another one each round.
fn order(count: usize, seed: u32, round: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let at = |index: usize| rng::word(seed, ORDER_STREAM, round * count as u32 + index as u32);
    order.sort_by_key(|&index| at(index));
    order
}

/// How many times as long one takes as the other, with a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The median of the ratios of each round, so that what slows a whole round down changes nothing.
pub fn ratio(peer_s: &[f64], ours_s: &[f64], seed: u32) -> Ratio {
    let logs: Vec<f64> = peer_s.iter().zip(ours_s).map(|(peer, ours)| (peer / ours).ln()).collect();
    let found = stats::interval(&logs, RESAMPLES, seed);
    Ratio { value: found.median.exp(), low: found.low.exp(), high: found.high.exp() }
}

/// Geometric mean; `None` of nothing.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::tests::Fake;

    struct Broken;

    impl Contender for Broken {
        fn time(&mut self, _runs: u32) -> Result<f64> {
            Err("no such operator".into())
        }

        fn answer(&mut self) -> Result<Vec<Vec<f32>>> {
            Err("no such operator".into())
        }
    }

    const RULES: Rules = Rules { rounds: 9, span_s: 0.050, seed: 1 };

    #[test]
    fn ratios_are_what_the_clock_says_and_who_fails_spoils_nothing() {
        let fake = |run_s| Box::new(Fake { run_s, runs: 0 }) as Box<dyn Contender>;
        let found = compete(&mut [fake(1e-3), Box::new(Broken), fake(4e-3)], RULES);
        assert_eq!(found[1], Err("no such operator".to_owned()));
        let [ours, peer] = [&found[0], &found[2]].map(|series| series.clone().expect("it ran"));
        assert_eq!((ours.len(), peer.len()), (9, 9));
        let ratio = ratio(&peer, &ours, 1);
        assert!((ratio.value - 4.0).abs() < 1e-9 && ratio.high - ratio.low < 1e-9, "{ratio:?}");
    }

    #[test]
    fn a_slow_round_moves_no_ratio_and_a_slow_peer_does() {
        let ours = [1.0, 3.0, 1.0, 1.0, 9.0];
        let peer = ours.map(|seconds| 2.0 * seconds);
        assert_eq!(ratio(&peer, &ours, 1).value, 2.0);
        let slower = peer.map(|seconds| 1.5 * seconds);
        assert!((ratio(&slower, &ours, 1).value - 3.0).abs() < 1e-12);
    }

    #[test]
    fn orders_change_and_leave_no_one_out() {
        let orders: Vec<Vec<usize>> = (0..32).map(|round| order(4, 1, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
        for one in 0..4 {
            let first = orders.iter().filter(|order| order[0] == one).count();
            assert!((2..=16).contains(&first), "{one} is first in {first} of 32");
        }
    }

    #[test]
    fn long_runs_end_after_the_least_rounds() {
        let slow = Box::new(Fake { run_s: 20.0, runs: 0 }) as Box<dyn Contender>;
        let found = compete(&mut [slow], Rules { rounds: 40, ..RULES });
        assert_eq!(found[0].as_ref().map(Vec::len), Ok(LEAST_ROUNDS as usize));
    }

    #[test]
    fn a_geometric_mean_weighs_factors() {
        assert_eq!(geometric_mean(&[]), None);
        assert!((geometric_mean(&[2.0, 8.0]).expect("two values") - 4.0).abs() < 1e-12);
    }
}
