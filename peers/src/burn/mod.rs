//! burn over wgpu, with its default features: autotuning and fusion.

mod operations;

use std::time::Instant;

use burn_tensor::wgpu::wgpu;
use burn_tensor::{Device, DeviceKind, Tensor, TensorData};
use fusebench::gpu::AdapterReport;
use ndarray::{ArrayView, Dimension};

use crate::contender::{Contender, Result};

pub use operations::contender;

/// Adapters of one kind that are looked through for the one of the same name.
const MOST_ADAPTERS: usize = 8;
/// Results kept until the device is waited for. Fusion leaves out what nobody holds, and one
/// result more at a time would only cost memory.
const KEPT: u32 = 16;

/// burn's device on the adapter that fusebench has opened.
pub struct Burn {
    device: Device,
}

impl Burn {
    /// Fails with what there was instead when burn cannot reach that adapter.
    pub fn open(report: &AdapterReport) -> Result<Self> {
        let mut seen = Vec::new();
        for index in 0..MOST_ADAPTERS {
            let Some(kind) = kind(&report.device_type, index) else { break };
            let options = Device::wgpu_options().device_kind(kind);
            let (device, setup) = match options.init_with_setup() {
                Ok(found) => found,
                Err(error) if index == 0 => return Err(error.into()),
                Err(_) => break,
            };
            let found = setup.adapter.get_info();
            if same(&found, report) {
                return Ok(Burn { device });
            }
            seen.push(format!("{}:{}", found.backend.to_str(), found.name));
        }
        let wanted = report.label();
        Err(format!("burn has no adapter {wanted}, only {}", seen.join(", ")).into())
    }

    /// A tensor of any layout, uploaded row-major.
    fn tensor<const D: usize>(&self, array: ArrayView<f32, impl Dimension>) -> Tensor<D> {
        let shape = array.shape().to_vec();
        let values: Vec<f32> = array.iter().copied().collect();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// An operation that may be timed: `run` does it, `values` reads its results.
    fn operation<T: 'static>(
        &self,
        run: impl Fn() -> T + 'static,
        values: impl Fn(T) -> Vec<Vec<f32>> + 'static,
    ) -> Option<Box<dyn Contender>> {
        Some(Box::new(Operation { device: self.device.clone(), run, values }))
    }
}

fn same(found: &wgpu::AdapterInfo, report: &AdapterReport) -> bool {
    let ids = (found.vendor, found.device) == (report.vendor_id, report.device_id);
    ids && found.name == report.name && found.backend.to_str() == report.backend
}

/// burn counts the adapters of each kind.
fn kind(device_type: &str, index: usize) -> Option<DeviceKind> {
    match device_type {
        "discrete" => Some(DeviceKind::DiscreteGpu(index)),
        "integrated" => Some(DeviceKind::IntegratedGpu(index)),
        "virtual" => Some(DeviceKind::VirtualGpu(index)),
        "cpu" => (index == 0).then_some(DeviceKind::Cpu),
        _ => None,
    }
}

/// The values of a result in row-major order.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("burn's default is f32")
}

struct Operation<R, V> {
    device: Device,
    run: R,
    values: V,
}

impl<T, R: Fn() -> T, V: Fn(T) -> Vec<Vec<f32>>> Contender for Operation<R, V> {
    fn time(&mut self, runs: u32) -> Result<f64> {
        let started = Instant::now();
        let mut left = runs;
        while left > 0 {
            let now = left.min(KEPT);
            let mut kept = Vec::with_capacity(now as usize);
            for _ in 0..now {
                kept.push((self.run)());
                // Without it two runs would be fused into one.
                self.device.flush()?;
            }
            self.device.sync()?;
            left -= now;
        }
        Ok(started.elapsed().as_secs_f64())
    }

    fn answer(&mut self) -> Result<Vec<Vec<f32>>> {
        let result = (self.run)();
        self.device.sync()?;
        Ok((self.values)(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_and_there_is_one_cpu_driver() {
        assert_eq!(kind("discrete", 1), Some(DeviceKind::DiscreteGpu(1)));
        assert_eq!(kind("cpu", 0), Some(DeviceKind::Cpu));
        assert_eq!(kind("cpu", 1), None);
        assert_eq!(kind("other", 0), None);
    }
}
