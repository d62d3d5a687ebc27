//! Upload, poison, guard bands, read-back.

use std::num::NonZeroU64;

use super::Gpu;
use super::error::GpuError;
use super::pipeline::{Program, Step};
use crate::inputs::Inputs;
use crate::kernel::{Buffer, Launch};

/// Written into every output before a checked run: NaN in f16 and f32, so that an element that is
/// never written cannot pass.
const POISON: u8 = 0xff;
/// Follows every output; a store past the end changes it.
const GUARD: u8 = 0xa5;
/// Length of the guard band in bytes.
const GUARD_BYTES: usize = 4 * 1024;

/// The buffers of one run and their bind group.
pub struct BufferSet {
    outputs: Vec<wgpu::Buffer>,
    shapes: Vec<Buffer>,
    pub(super) bindings: wgpu::BindGroup,
    /// Device memory taken, without inputs that belong to another set.
    pub bytes: u64,
}

/// An input that an earlier step writes.
pub struct Given<'a> {
    /// Name of the input tensor.
    pub tensor: &'a str,
    pub set: &'a BufferSet,
    /// Number of that step's output.
    pub output: usize,
}

/// One output as read back.
pub struct Output {
    /// The elements, without the guard band.
    pub bytes: Vec<u8>,
    /// Whether the band behind them is unchanged.
    pub guard_intact: bool,
}

impl Gpu {
    /// Uploads the inputs and poisons outputs and scratch. An input named in `given` is not
    /// uploaded: it is an output of an earlier step.
    ///
    /// # Errors
    /// `Unsupported` when a binding or buffer is over a limit of the adapter.
    pub fn allocate(
        &self,
        program: &Program,
        inputs: &Inputs,
        launch: &Launch,
        given: &[Given],
    ) -> Result<BufferSet, GpuError> {
        let storage = wgpu::BufferUsages::STORAGE;
        let mut buffers = vec![self.filled(inputs.params.bytes(), wgpu::BufferUsages::UNIFORM)?];
        for tensor in &inputs.tensors {
            if let Some(given) = given.iter().find(|given| given.tensor == tensor.name) {
                buffers.push(given.set.outputs[given.output].clone());
                continue;
            }
            let bytes = tensor.bytes();
            self.bindable(bytes.len())?;
            buffers.push(self.filled(&bytes, storage)?);
        }
        for buffer in launch.outputs.iter().chain(&launch.scratch) {
            self.bindable(buffer.bytes())?;
            let bytes = poisoned(buffer.bytes());
            buffers.push(self.filled(&bytes, storage | wgpu::BufferUsages::COPY_SRC)?);
        }
        // The guard band stays visible to the shader unless the binding limit leaves no room.
        let limit = self.report.limit("maxStorageBufferBindingSize");
        let entries: Vec<_> = buffers
            .iter()
            .enumerate()
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: NonZeroU64::new(buffer.size().min(limit)),
                }),
            })
            .collect();
        let bindings = self.scoped(|| {
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &program.layout,
                entries: &entries,
            })
        })?;
        let first = 1 + inputs.tensors.len();
        let shared: u64 = given.iter().map(|given| given.set.outputs[given.output].size()).sum();
        Ok(BufferSet {
            bytes: buffers.iter().map(wgpu::Buffer::size).sum::<u64>() - shared,
            outputs: buffers[first..first + launch.outputs.len()].to_vec(),
            shapes: launch.outputs.clone(),
            bindings,
        })
    }

    /// A buffer with the given contents, mapped at creation: wgpu then has nothing to zero-fill
    /// lazily inside a timed submission.
    pub(super) fn filled(
        &self,
        bytes: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        let size = bytes.len().next_multiple_of(16).max(16);
        self.within(size as u64, "buffer", "maxBufferSize")?;
        let buffer = self.scoped(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size as u64,
                usage,
                mapped_at_creation: true,
            })
        })?;
        let mut view = buffer
            .get_mapped_range_mut(..)
            .map_err(|error| GpuError::Validation(error.to_string()))?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        drop(view);
        buffer.unmap();
        self.healthy().map(|()| buffer)
    }

    /// Whether a tensor of this size can be bound as one buffer.
    fn bindable(&self, bytes: usize) -> Result<(), GpuError> {
        self.within(bytes as u64, "binding", "maxStorageBufferBindingSize")
    }

    fn within(&self, bytes: u64, what: &str, name: &str) -> Result<(), GpuError> {
        let limit = self.report.limit(name);
        if bytes <= limit {
            return Ok(());
        }
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        Err(GpuError::Unsupported(format!("{what} {:.1} MiB > {:.1} MiB", mib(bytes), mib(limit))))
    }

    /// Runs the steps once, one after the other, and waits.
    pub fn run(&self, steps: &[Step]) -> Result<(), GpuError> {
        self.scoped(|| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            steps.iter().for_each(|step| step.record(&mut pass));
            drop(pass);
            self.queue.submit([encoder.finish()]);
        })?;
        self.wait()
    }

    /// Reads every output of the set back.
    pub fn read(&self, set: &BufferSet) -> Result<Vec<Output>, GpuError> {
        let read = |(buffer, shape): (&wgpu::Buffer, &Buffer)| {
            let bytes = self.download(buffer)?;
            let (data, guard) = bytes.split_at(shape.bytes());
            Ok(Output {
                bytes: data.to_vec(),
                guard_intact: guard[..GUARD_BYTES].iter().all(|&byte| byte == GUARD),
            })
        };
        set.outputs.iter().zip(&set.shapes).map(read).collect()
    }

    /// The contents of a buffer.
    pub(super) fn download(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, GpuError> {
        let staging = self.scoped(|| {
            let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: buffer.size(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
            self.queue.submit([encoder.finish()]);
            staging
        })?;
        self.map(&staging)
    }

    /// Waits for a staging buffer and copies it out; it is unmapped again.
    pub(super) fn map(&self, staging: &wgpu::Buffer) -> Result<Vec<u8>, GpuError> {
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        self.wait()?;
        let view = staging
            .get_mapped_range(..)
            .map_err(|error| GpuError::Lost(format!("a result could not be read: {error}")))?;
        let bytes = view.to_vec();
        drop(view);
        staging.unmap();
        Ok(bytes)
    }
}

fn poisoned(bytes: usize) -> Vec<u8> {
    let mut contents = vec![POISON; bytes];
    contents.resize(bytes + GUARD_BYTES, GUARD);
    contents
}
