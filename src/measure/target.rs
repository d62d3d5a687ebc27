//! What the protocol needs of the thing it times.

/// One submission as the two clocks saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Between the timestamps round the pass; `None` without a device timer.
    pub device_s: Option<f64>,
    /// From submitting to having waited; positive.
    pub wall_s: f64,
}

/// A device with a clock that can be watched. Implemented by the device side, and by fakes in
/// tests.
pub trait Clocked {
    type Error;

    /// The same arithmetic every time, about a millisecond of it.
    fn canary(&mut self) -> Result<Reading, Self::Error>;

    /// Leaves the device alone, so that it cools down.
    fn pause(&mut self, seconds: f64);

    /// A clock that never goes back.
    fn now_s(&self) -> f64;

    /// Whether somebody asked for the run to end.
    fn interrupted(&self) -> bool;
}

/// The thing being timed.
pub trait Target: Clocked {
    /// One pass of `batch` dispatches on the same buffers, with the queue drained before it.
    fn hot(&mut self, batch: u32) -> Result<Reading, Self::Error>;

    /// One dispatch on data that no cache holds, with the queue drained before it.
    fn cold(&mut self) -> Result<Reading, Self::Error>;
}

/// What is known of the device before a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context {
    /// Smallest step of the device timer.
    pub timer_resolution_s: f64,
    /// What submitting and waiting for nothing takes.
    pub submit_cost_s: f64,
    /// The canary on the warm, unthrottled device; without it no throttling is seen.
    pub canary_baseline_s: Option<f64>,
    /// A CPU pretends to be a device: no watchdog, and slow dispatches are kept.
    pub emulated: bool,
    /// Of the resampling.
    pub seed: u32,
}
