//! What a measurement says: the times of one cell, how far to trust them, and why it ended.

use super::plan::MIN_FOR_INTERVAL;

/// Which clock the headline comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerKind {
    /// Timestamps on the device.
    Gpu,
    /// The host's clock round whole batches, submission included.
    Wall,
}

impl TimerKind {
    pub fn name(self) -> &'static str {
        match self {
            TimerKind::Gpu => "gpu",
            TimerKind::Wall => "wall",
        }
    }
}

/// Which rule ended hot sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoppedBy {
    /// The interval is as narrow as was asked for.
    Interval,
    /// More samples would only confirm the noise.
    Noise,
    /// The most samples were taken.
    Samples,
    /// The limit of the cell was reached; a note names the unmet condition.
    Time,
    /// Somebody ended the run after enough samples.
    Interrupt,
}

impl StoppedBy {
    pub const ALL: [StoppedBy; 5] = [
        StoppedBy::Interval,
        StoppedBy::Noise,
        StoppedBy::Samples,
        StoppedBy::Time,
        StoppedBy::Interrupt,
    ];

    pub fn name(self) -> &'static str {
        match self {
            StoppedBy::Interval => "interval",
            StoppedBy::Noise => "noise",
            StoppedBy::Samples => "samples",
            StoppedBy::Time => "time",
            StoppedBy::Interrupt => "interrupt",
        }
    }
}

/// Why there is no time.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Stopped<E> {
    #[error("{0}")]
    Failed(E),
    #[error("interrupted before the fewest samples")]
    Interrupted,
    #[error("dispatch estimate {:.3} s does not fit the time limit", dispatch_s)]
    TooLong { dispatch_s: f64 },
}

impl<E> From<E> for Stopped<E> {
    fn from(error: E) -> Self {
        Stopped::Failed(error)
    }
}

/// The times of one cell, in seconds per dispatch unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Hot: each the mean of one batch, in the order taken.
    pub samples_s: Vec<f64>,
    /// Cold: each one dispatch. Empty when the only clock was too coarse for one.
    pub cold_samples_s: Vec<f64>,
    pub median_s: f64,
    /// Interval of the median at `confidence`.
    pub low_s: f64,
    pub high_s: f64,
    /// 0.95, or what the range of fewer than five samples covers.
    pub confidence: f64,
    /// The least disturbed sample, never to be compared.
    pub min_s: f64,
    pub cold_median_s: Option<f64>,
    /// By the wall clock, whatever the headline.
    pub wall_median_s: f64,
    /// Dispatches per hot sample.
    pub batch: u32,
    /// Hot readings the device timer cannot have meant.
    pub n_invalid: usize,
    /// Hot samples beyond 1.5 and beyond 3 interquartile ranges; none was removed.
    pub outliers: [usize; 2],
    /// Of neighbouring samples, within [0, 0.95]: what the interval was stretched by.
    pub rank_autocorrelation: f64,
    /// Canaries as (samples before it, seconds), counting cold samples and then hot ones.
    pub canary: Vec<(usize, f64)>,
    /// The median at the baseline clock; means something for compute-bound cells only.
    pub time_normalised_s: Option<f64>,
    pub timer: TimerKind,
    pub stopped_by: StoppedBy,
    pub notes: Vec<String>,
}

impl Timing {
    /// Whether there were too few samples for an interval.
    pub fn low_n(&self) -> bool {
        self.samples_s.len() < MIN_FOR_INTERVAL
    }
}
