//! The device side of the measuring protocol: hot passes, cold passes, the canary.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::environment::last_level_cache_bytes;
use crate::gpu::{Clocks, Gpu, GpuError, Step, Sweep};
use crate::measure::{Clocked, Reading, Target};

/// On a GPU, cells with at least this footprint get cold data from rotated buffer sets; rotating
/// smaller ones would leave many sets inside the cache, so the cache is swept instead.
const ROTATE_FROM_BYTES: u64 = 8 << 20;
/// Four times the largest GPU cache seen in the evidence (GB200, 129 MB).
pub const POOL_BYTES_GPU: u64 = 512 << 20;
/// On a CPU driver the pool is twice the last-level cache, within this.
const POOL_BYTES_CPU_MAX: u64 = 256 << 20;

const WORDS_OF_LINE: usize = 8;
/// What a core takes of the pool at a time, 256 KiB.
const WORDS_AT_ONCE: usize = 1 << 15;

/// Host memory larger than the caches; a CPU driver would take a tenth of a second to rewrite it.
pub struct HostSweep(Vec<AtomicU64>);

impl HostSweep {
    pub fn new() -> Self {
        let cache = last_level_cache_bytes().unwrap_or(32 << 20);
        let words = (2 * cache).min(POOL_BYTES_CPU_MAX) as usize / size_of::<AtomicU64>();
        HostSweep((0..words as u64).map(AtomicU64::new).collect())
    }

    /// Rewrites one word of every cache line, on all cores: each has caches of its own.
    fn run(&self) {
        self.0.par_chunks(WORDS_AT_ONCE).for_each(|words| {
            for word in words.iter().step_by(WORDS_OF_LINE) {
                word.store(word.load(Ordering::Relaxed) ^ 1, Ordering::Relaxed);
            }
        });
    }
}

/// Steps that run one after the other: one for a kernel, several for a pipeline.
pub struct Prepared(pub Vec<Step>);

impl Prepared {
    /// Device memory of all its buffers.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|step| step.set.bytes).sum()
    }

    pub fn dispatches(&self) -> u32 {
        self.0.iter().map(|step| step.program.dispatches()).sum()
    }
}

/// Where cold data comes from.
pub enum Cold<'a> {
    /// Copies used in turn, the longest unused first; together larger than the caches.
    Rotate(Vec<Prepared>),
    /// One set, and a sweep of the caches before each sample.
    Sweep(&'a Sweep),
    /// The same for a CPU driver, whose caches are the host's.
    HostSweep(&'a HostSweep),
    /// Neither could be allocated.
    Unavailable,
}

impl Cold<'_> {
    /// Copies to rotate for a cell of this footprint, `None` when sweeping is cheaper.
    pub fn copies(footprint: u64) -> Option<u64> {
        (footprint >= ROTATE_FROM_BYTES).then(|| POOL_BYTES_GPU.div_ceil(footprint).max(2))
    }
}

/// A fixed amount of arithmetic that tells whether the clock changed.
pub struct Canary {
    pub prepared: Prepared,
    /// Dispatches that take about a millisecond.
    pub batch: u32,
}

/// The device under its canary.
#[derive(Clone, Copy)]
pub struct CanaryTimer<'a> {
    pub gpu: &'a Gpu,
    pub clocks: &'a Clocks,
    pub canary: &'a Canary,
    pub interrupt: &'a AtomicBool,
    pub started: Instant,
}

impl Clocked for CanaryTimer<'_> {
    type Error = GpuError;

    fn canary(&mut self) -> Result<Reading, GpuError> {
        let Canary { prepared, batch } = self.canary;
        self.clocks.time(self.gpu, &prepared.0, *batch)
    }

    fn pause(&mut self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    fn now_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}

/// One cell under the clock.
pub struct CellTimer<'a> {
    pub watch: CanaryTimer<'a>,
    pub prepared: &'a Prepared,
    pub cold: Cold<'a>,
    /// Called before every submission, so that a supervisor can tell work from a hang.
    pub alive: &'a mut dyn FnMut(),
    pub next_cold: usize,
}

impl CellTimer<'_> {
    fn time(&self, prepared: &Prepared, batch: u32) -> Result<Reading, GpuError> {
        let CanaryTimer { gpu, clocks, .. } = self.watch;
        clocks.time(gpu, &prepared.0, batch)
    }
}

impl Clocked for CellTimer<'_> {
    type Error = GpuError;

    fn canary(&mut self) -> Result<Reading, GpuError> {
        self.watch.canary()
    }

    fn pause(&mut self, seconds: f64) {
        self.watch.pause(seconds);
    }

    fn now_s(&self) -> f64 {
        self.watch.now_s()
    }

    fn interrupted(&self) -> bool {
        self.watch.interrupted()
    }
}

impl Target for CellTimer<'_> {
    fn hot(&mut self, batch: u32) -> Result<Reading, GpuError> {
        (self.alive)();
        self.time(self.prepared, batch)
    }

    fn cold(&mut self) -> Result<Reading, GpuError> {
        (self.alive)();
        let prepared = match &self.cold {
            Cold::Rotate(copies) => {
                self.next_cold = (self.next_cold + 1) % copies.len();
                &copies[self.next_cold]
            }
            Cold::Sweep(sweep) => {
                sweep.run(self.watch.gpu)?;
                self.prepared
            }
            Cold::HostSweep(sweep) => {
                self.watch.gpu.waits.count(|| sweep.run());
                self.prepared
            }
            Cold::Unavailable => self.prepared,
        };
        self.time(prepared, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cells_are_swept_and_large_ones_rotated() {
        assert_eq!(Cold::copies(64 << 10), None);
        assert_eq!(Cold::copies(8 << 20), Some(64));
        assert_eq!(Cold::copies(500 << 20), Some(2));
        assert_eq!(Cold::copies(2 << 30), Some(2));
    }
}
