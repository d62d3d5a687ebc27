//! What takes part in a comparison, and how it gets warm.

use std::error::Error;

/// Messages of libraries, passed on as they are.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Someone who does the operation of one case, on inputs it was given before.
pub trait Contender {
    /// Does it so many times, one after the other; seconds until the last result is there.
    fn time(&mut self, runs: u32) -> Result<f64>;

    /// The values of the outputs, in the order and layout of fusebench's kernel.
    fn answer(&mut self) -> Result<Vec<Vec<f32>>>;
}

/// How long everyone runs before it counts. Tuning and compiling come on top: they are part of the
/// first run.
const WARM_UP_S: f64 = 1.0;
const LEAST_RUNS: usize = 6;
/// More runs in one sample would only wait.
const MAX_BATCH: u32 = 10_000;

/// Runs until warm and says how many runs make a sample of at least `span_s`.
pub fn warm_up(contender: &mut dyn Contender, span_s: f64) -> Result<u32> {
    contender.time(1)?;
    let (mut total_s, mut runs, mut batch) = (0.0, 0, 1);
    while total_s < WARM_UP_S.min(20.0 * span_s) || runs < LEAST_RUNS {
        let seconds = contender.time(batch)?.max(1e-9);
        total_s += seconds;
        runs += 1;
        batch = batch_of(seconds / f64::from(batch), span_s);
    }
    Ok(batch)
}

fn batch_of(run_s: f64, span_s: f64) -> u32 {
    ((span_s / run_s).ceil() as u32).clamp(1, MAX_BATCH)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Takes the seconds it is told, the first run ten times as long.
    pub struct Fake {
        pub run_s: f64,
        pub runs: u32,
    }

    impl Contender for Fake {
        fn time(&mut self, runs: u32) -> Result<f64> {
            let first = if self.runs == 0 { 9.0 * self.run_s } else { 0.0 };
            self.runs += runs;
            Ok(first + f64::from(runs) * self.run_s)
        }

        fn answer(&mut self) -> Result<Vec<Vec<f32>>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn samples_become_as_long_as_asked_and_the_first_run_does_not_count() {
        let mut fake = Fake { run_s: 1e-3, runs: 0 };
        assert_eq!(warm_up(&mut fake, 0.050).expect("it runs"), 50);
        assert!(f64::from(fake.runs) * fake.run_s >= WARM_UP_S);
        let mut slow = Fake { run_s: 2.0, runs: 0 };
        assert_eq!(warm_up(&mut slow, 0.050).expect("it runs"), 1);
        assert_eq!(slow.runs, 1 + LEAST_RUNS as u32);
        assert_eq!(batch_of(1e-9, 0.050), MAX_BATCH);
    }
}
