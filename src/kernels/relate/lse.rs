//! log Σ e^x by the ways in which the losses take it.

use crate::accuracy::Scalar;

/// In which parts a log-sum-exp is taken.
#[derive(Clone, Copy)]
pub enum Parts {
    /// One maximum, then one sum.
    Whole,
    /// One for each run of `length`, whose maximum grows from block to block and whose sum is
    /// rescaled whenever it does, then one of those.
    Runs { length: usize, block: usize },
    /// One for each tile of `width`, whose `lanes` add what lies `lanes` apart, then one of those.
    Tiles { width: usize, lanes: usize },
}

/// log Σ e^x over the elements that are there, of which there is at least one.
pub fn log_sum_exp<S: Scalar>(x: &[Option<S>], parts: Parts) -> S {
    match parts {
        Parts::Whole => {
            let known: Vec<S> = x.iter().copied().flatten().collect();
            share(&known).expect("one element").log()
        }
        Parts::Runs { length, block } => {
            let of_run = |run: &[Option<S>]| run.chunks(block).fold(None, absorb).map(Share::log);
            let runs: Vec<S> = x.chunks(length).filter_map(of_run).collect();
            share(&runs).expect("one element").log()
        }
        Parts::Tiles { width, lanes } => {
            let tiles: Vec<S> = x.chunks(width).filter_map(|tile| of_tile(tile, lanes)).collect();
            share(&tiles).expect("one element").log()
        }
    }
}

/// A maximum and the sum of exponentials about it.
#[derive(Clone, Copy)]
struct Share<S> {
    peak: S,
    total: S,
}

impl<S: Scalar> Share<S> {
    fn log(self) -> S {
        self.peak + self.total.ln()
    }
}

fn share<S: Scalar>(x: &[S]) -> Option<Share<S>> {
    let peak = x.iter().copied().reduce(S::max)?;
    Some(Share { peak, total: S::sum(x.iter().map(|&x| (x - peak).exp()), x.len()) })
}

fn absorb<S: Scalar>(before: Option<Share<S>>, block: &[Option<S>]) -> Option<Share<S>> {
    let known: Vec<S> = block.iter().copied().flatten().collect();
    let Some(top) = known.iter().copied().reduce(S::max) else { return before };
    let Some(before) = before else { return share(&known) };
    let peak = before.peak.max(top);
    let grown = peak.value() > before.peak.value();
    let kept = if grown { before.total * (before.peak - peak).exp() } else { before.total };
    let total = known.iter().fold(kept, |total, &x| total + (x - peak).exp());
    Some(Share { peak, total })
}

/// The log-sum-exp of one tile, if anything of it is there.
fn of_tile<S: Scalar>(tile: &[Option<S>], lanes: usize) -> Option<S> {
    let lane = |lane: usize| {
        let own: Vec<S> = tile.iter().skip(lane).step_by(lanes).copied().flatten().collect();
        share(&own)
    };
    let shares: Vec<Share<S>> = (0..lanes).filter_map(lane).collect();
    let peak = shares.iter().map(|share| share.peak).reduce(S::max)?;
    let terms = shares.iter().map(|share| share.total * (share.peak - peak).exp());
    Some(Share { peak, total: S::sum(terms, shares.len()) }.log())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_agree_and_skip_what_is_absent() {
        let x: Vec<Option<f64>> =
            (0..150).map(|i| (i % 7 != 0).then(|| f64::from(i * 37 % 101) - 40.0)).collect();
        let exact = x.iter().flatten().map(|x| x.exp()).sum::<f64>().ln();
        for parts in [
            Parts::Whole,
            Parts::Runs { length: 64, block: 4 },
            Parts::Tiles { width: 64, lanes: 16 },
        ] {
            let got = log_sum_exp(&x, parts);
            assert!((got - exact).abs() < 1e-12, "{got} instead of {exact}");
        }
    }

    #[test]
    fn large_elements_do_not_overflow() {
        let x = [Some(1e5), Some(1e5), None];
        for parts in
            [Parts::Whole, Parts::Runs { length: 2, block: 1 }, Parts::Tiles { width: 2, lanes: 2 }]
        {
            assert_eq!(log_sum_exp::<f64>(&x, parts), 1e5 + 2_f64.ln());
        }
    }
}
