//! Two clocks for one submission: pass-boundary timestamps and the wall.

use std::cell::Cell;
use std::time::Instant;

use super::Gpu;
use super::error::GpuError;
use super::pipeline::Step;
use crate::measure::Reading;

/// Bytes of two 64-bit timestamps.
const TIMESTAMPS_BYTES: u64 = 16;

/// The query set and buffers that every timed pass of a device reuses.
pub struct Clocks {
    queries: Option<Queries>,
}

struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// Kept in f64: the f32 period is below 1 ns on some devices.
    period_s: f64,
    /// Greatest common divisor of every duration seen, in ticks: the step of the counter.
    step_ticks: Cell<u64>,
}

impl Clocks {
    /// Device timestamps where the device has them, the wall clock alone where it has not.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        if !gpu.report.timestamps {
            return Ok(Clocks { queries: None });
        }
        let buffer = |usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: TIMESTAMPS_BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        let queries = gpu.scoped(|| Queries {
            set: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period_s: f64::from(gpu.queue.get_timestamp_period()) * 1e-9,
            step_ticks: Cell::new(0),
        })?;
        Ok(Clocks { queries: Some(queries) })
    }

    /// The step of the device clock as far as the passes timed so far show it; `None` without one.
    pub fn resolution_s(&self) -> Option<f64> {
        self.queries.as_ref().map(|queries| queries.step_ticks.get() as f64 * queries.period_s)
    }

    /// Times one pass of `batch` runs of all the steps; the queue is idle before and after.
    pub fn time(&self, gpu: &Gpu, steps: &[Step], batch: u32) -> Result<Reading, GpuError> {
        self.time_runs(gpu, &[(steps, batch)])
    }

    /// Times one pass of several such runs, one after the other.
    pub fn time_runs(&self, gpu: &Gpu, runs: &[(&[Step], u32)]) -> Result<Reading, GpuError> {
        let start = Instant::now();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: self.queries.as_ref().map(|queries| {
                wgpu::ComputePassTimestampWrites {
                    query_set: &queries.set,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                }
            }),
        });
        for (steps, batch) in runs {
            for _ in 0..*batch {
                steps.iter().for_each(|step| step.record(&mut pass));
            }
        }
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        gpu.wait()?;
        let wall_s = start.elapsed().as_secs_f64();
        let device_s = self.queries.as_ref().map(|queries| queries.read(gpu)).transpose()?;
        Ok(Reading { device_s, wall_s })
    }
}

impl Queries {
    /// Seconds between the two timestamps. Resolved in a later submission: Metal needs the pass
    /// to have completed.
    fn read(&self, gpu: &Gpu) -> Result<f64, GpuError> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, TIMESTAMPS_BYTES);
        gpu.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&gpu.map(&self.staging)?);
        let duration = ticks[1].saturating_sub(ticks[0]);
        self.step_ticks.set(greatest_common_divisor(self.step_ticks.get(), duration));
        // A counter that wrapped gives a negative time, which the protocol drops as invalid.
        Ok((ticks[1] as f64 - ticks[0] as f64) * self.period_s)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_of_a_clock_is_the_common_divisor_of_its_durations() {
        let step =
            |ticks: &[u64]| ticks.iter().fold(0, |step, &t| greatest_common_divisor(step, t));
        assert_eq!(step(&[]), 0);
        assert_eq!(step(&[96, 0, 160, 1024]), 32);
        assert_eq!(step(&[65_536 * 3, 65_536 * 5]), 65_536);
    }
}
