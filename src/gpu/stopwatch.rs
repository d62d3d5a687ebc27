//! Wall time, and how much of it the host did not just wait for the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Gpu;

/// Nanoseconds spent waiting for a device since it was opened.
#[derive(Clone, Default)]
pub struct Waits(Arc<AtomicU64>);

impl Waits {
    /// Runs what the device does, or what the host does in its place.
    pub fn count<R>(&self, work: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let result = work();
        self.0.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }

    fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Runs from its making on.
pub struct Stopwatch {
    waits: Waits,
    started: Instant,
    before: Duration,
}

impl Gpu {
    pub fn stopwatch(&self) -> Stopwatch {
        let (waits, before) = (self.waits.clone(), self.waits.total());
        Stopwatch { waits, started: Instant::now(), before }
    }
}

impl Stopwatch {
    pub fn wall_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Seconds without those spent waiting for the device.
    pub fn host_s(&self) -> f64 {
        let waited = self.waits.total() - self.before;
        self.started.elapsed().saturating_sub(waited).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_wall_time_and_no_host_time() {
        let waits = Waits::default();
        let started = Instant::now();
        let watch = Stopwatch { waits: waits.clone(), started, before: waits.total() };
        waits.count(|| std::thread::sleep(Duration::from_millis(20)));
        let (wall_s, host_s) = (watch.wall_s(), watch.host_s());
        assert!(wall_s >= 0.02 && host_s <= started.elapsed().as_secs_f64() - 0.02, "{host_s}");
    }
}
