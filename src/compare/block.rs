//! Two pairs of samples, the unit that randomisation and resampling work on.

/// Who runs when: the second pair mirrors the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Base, head, head, base.
    Abba,
    /// Head, base, base, head.
    Baab,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Order::Abba => "ABBA",
            Order::Baab => "BAAB",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Order::Abba, Order::Baab].into_iter().find(|order| order.name() == name)
    }

    /// Whether each of the four samples is the head's.
    pub fn heads(self) -> [bool; 4] {
        match self {
            Order::Abba => [false, true, true, false],
            Order::Baab => [true, false, false, true],
        }
    }
}

/// Four samples in the order they were taken, in seconds; NaN where the clock gave none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub order: Order,
    pub seconds: [f64; 4],
    /// The canary after each sample, where the device's clock is watched.
    pub canary_s: Option<[f64; 4]>,
}

impl Block {
    /// Mean log ratio of head over base; `None` when a sample is no time.
    pub fn log_ratio(&self) -> Option<f64> {
        log_ratio(self.order, self.seconds)
    }

    /// The same in units of the canary, so that the device's clock cancels.
    pub fn normalised(&self) -> Option<f64> {
        let canary_s = self.canary_s?;
        let in_canaries = std::array::from_fn(|i| self.seconds[i] / canary_s[i]);
        log_ratio(self.order, in_canaries)
    }

    /// The samples of one side.
    pub fn side(&self, head: bool) -> [f64; 2] {
        let heads = self.order.heads();
        let mut own = (0..4).filter(|&i| heads[i] == head).map(|i| self.seconds[i]);
        let mut next = || own.next().expect("two samples of each side");
        [next(), next()]
    }

    /// Head and base exchanged.
    pub fn mirrored(&self) -> Block {
        let order = if self.order == Order::Abba { Order::Baab } else { Order::Abba };
        Block { order, ..*self }
    }
}

fn log_ratio(order: Order, seconds: [f64; 4]) -> Option<f64> {
    if !seconds.iter().all(|s| s.is_finite() && *s > 0.0) {
        return None;
    }
    let signed = order.heads().into_iter().zip(seconds);
    let sum: f64 = signed.map(|(head, s)| if head { s.ln() } else { -s.ln() }).sum();
    Some(0.5 * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(order: Order, seconds: [f64; 4]) -> Block {
        Block { order, seconds, canary_s: None }
    }

    #[test]
    fn a_block_is_the_mean_of_its_two_log_ratios() {
        // Pairs 1 → 2 and 4 ← 1: log 2 and log ¼.
        let found = block(Order::Abba, [1.0, 2.0, 1.0, 4.0]).log_ratio().unwrap();
        assert!((found - 0.5 * (2.0_f64.ln() - 4.0_f64.ln())).abs() < 1e-15);
        assert_eq!(block(Order::Abba, [1.0, 2.0, 1.0, 4.0]).side(true), [2.0, 1.0]);
    }

    #[test]
    fn a_cost_of_running_first_cancels() {
        for order in [Order::Abba, Order::Baab] {
            let head = order.heads();
            let mut seconds = std::array::from_fn(|i| if head[i] { 1.05 } else { 1.0 });
            seconds[0] *= 1.1;
            seconds[2] *= 1.1;
            let found = block(order, seconds).log_ratio().unwrap();
            assert!((found - 1.05_f64.ln()).abs() < 1e-12, "{order:?}: {found}");
        }
    }

    #[test]
    fn what_is_no_time_makes_no_ratio() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for at in 0..4 {
                let mut seconds = [1.0; 4];
                seconds[at] = bad;
                assert_eq!(block(Order::Baab, seconds).log_ratio(), None, "{bad} at {at}");
            }
        }
    }

    #[test]
    fn a_slower_clock_cancels_in_canaries() {
        let slow = Block {
            order: Order::Abba,
            seconds: [1.0, 2.0, 2.0, 1.0],
            canary_s: Some([1e-3, 2e-3, 2e-3, 1e-3]),
        };
        assert!(slow.log_ratio().unwrap() > 0.6);
        assert!(slow.normalised().unwrap().abs() < 1e-12);
        assert_eq!(block(Order::Abba, [1.0; 4]).normalised(), None);
    }
}
