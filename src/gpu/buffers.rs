//! Upload, poison, guard bands, read-back.

use std::num::NonZeroU64;

use super::Gpu;
use super::device::MAPPABLE;
use super::error::GpuError;
use super::pipeline::{Pass, Program, Step};
use crate::inputs::Inputs;
use crate::kernel::{Buffer, Elem, Launch, Slice, Window};

/// Written into every output before a checked run: NaN in f16 and f32, so that an element that is
/// never written cannot pass.
const POISON: u8 = 0xff;
/// Follows every output; a store past the end changes it.
const GUARD: u8 = 0xa5;
/// Length of the guard band in bytes.
const GUARD_BYTES: usize = 4 * 1024;

/// What one binding may hold.
const BINDING_LIMIT: &str = "maxStorageBufferBindingSize";

/// The buffers of one run and their bind groups; a clone names the same buffers.
#[derive(Clone)]
pub struct BufferSet {
    outputs: Vec<wgpu::Buffer>,
    shapes: Vec<Buffer>,
    /// One for each dispatch.
    pub(super) bindings: Vec<wgpu::BindGroup>,
    /// Device memory taken, without inputs that belong to another set.
    pub bytes: u64,
}

/// One buffer with the name and the elements that windows count in.
struct Part {
    name: &'static str,
    elem: Elem,
    len: usize,
    buffer: wgpu::Buffer,
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
    /// `Oversize` when a binding or buffer is over a limit of the adapter.
    pub fn allocate(
        &self,
        program: &Program,
        inputs: &Inputs,
        launch: &Launch,
        given: &[Given],
    ) -> Result<BufferSet, GpuError> {
        let storage = wgpu::BufferUsages::STORAGE;
        let mut parts = Vec::new();
        for tensor in &inputs.tensors {
            let (name, elem) = (tensor.name, tensor.elem);
            if let Some(given) = given.iter().find(|given| given.tensor == name) {
                let buffer = given.set.outputs[given.output].clone();
                parts.push(Part { name, elem, len: tensor.dims().iter().product(), buffer });
                continue;
            }
            let len = tensor.dims().iter().product();
            self.bindable(program, name, elem, len)?;
            let buffer = self.filled(&tensor.bytes(), storage)?;
            parts.push(Part { name, elem, len, buffer });
        }
        for Buffer { name, elem, rows, cols } in launch.outputs.iter().chain(&launch.scratch) {
            let (name, elem, len) = (*name, *elem, rows * cols);
            self.bindable(program, name, elem, len)?;
            let usage = storage | wgpu::BufferUsages::COPY_SRC;
            let buffer = self.poisoned(elem.bytes_of(len), usage)?;
            parts.push(Part { name, elem, len, buffer });
        }
        let whole = self.filled(inputs.params.bytes(), wgpu::BufferUsages::UNIFORM)?;
        let mut bytes = whole.size() + parts.iter().map(|part| part.buffer.size()).sum::<u64>();
        let mut bindings: Vec<wgpu::BindGroup> = Vec::new();
        for (index, pass) in program.passes.iter().enumerate() {
            // Most launches bind the same everywhere.
            let same = program.passes[..index].iter().position(|known| known.slice == pass.slice);
            if let Some(same) = same {
                bindings.push(bindings[same].clone());
                continue;
            }
            let mut params = whole.clone();
            if !pass.slice.params.is_empty() {
                let words = inputs.params.with(&pass.slice.params);
                params = self.filled(words.bytes(), wgpu::BufferUsages::UNIFORM)?;
                bytes += params.size();
            }
            bindings.push(self.bind(&program.layout, &params, &parts, &pass.slice)?);
        }
        let first = inputs.tensors.len();
        let outputs = parts[first..first + launch.outputs.len()].iter();
        let shared: u64 = given.iter().map(|given| given.set.outputs[given.output].size()).sum();
        Ok(BufferSet {
            bytes: bytes - shared,
            outputs: outputs.map(|part| part.buffer.clone()).collect(),
            shapes: launch.outputs.clone(),
            bindings,
        })
    }

    /// Binds what a dispatch sees of each buffer.
    fn bind(
        &self,
        layout: &wgpu::BindGroupLayout,
        params: &wgpu::Buffer,
        parts: &[Part],
        slice: &Slice,
    ) -> Result<wgpu::BindGroup, GpuError> {
        let limit = self.report.limit(BINDING_LIMIT);
        let whole = |buffer| wgpu::BufferBinding { buffer, offset: 0, size: None };
        let seen = |part: &Part| {
            let window = slice.windows.iter().find(|window| window.buffer == part.name);
            let Some(Window { elements, .. }) = window else { return (0, part.buffer.size()) };
            let start = part.elem.bytes_of(elements.start) as u64;
            // The last window goes on to the end of the buffer.
            let last = elements.end == part.len;
            let end =
                if last { part.buffer.size() } else { part.elem.bytes_of(elements.end) as u64 };
            (start, end - start)
        };
        let bound = parts.iter().map(|part| {
            let (offset, size) = seen(part);
            // The guard band stays visible to the shader unless the limit leaves no room.
            let size = NonZeroU64::new(size.min(limit));
            wgpu::BufferBinding { buffer: &part.buffer, offset, size }
        });
        let entries: Vec<_> = std::iter::once(whole(params))
            .chain(bound)
            .enumerate()
            .map(|(binding, part)| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: wgpu::BindingResource::Buffer(part),
            })
            .collect();
        self.scoped(|| {
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
            self.device.create_bind_group(&descriptor)
        })
    }

    /// A buffer with the given contents, mapped at creation: wgpu then has nothing to zero-fill
    /// lazily inside a timed submission.
    pub(super) fn filled(
        &self,
        bytes: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.written(bytes.len(), usage, |mut contents| contents.copy_from_slice(bytes))
    }

    /// One that nothing was written to yet, with the guard band.
    fn poisoned(&self, bytes: usize, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        self.written(bytes + GUARD_BYTES, usage, |contents| {
            let (mut own, mut guard) = contents.split_at(bytes);
            own.fill(POISON);
            guard.fill(GUARD);
        })
    }

    /// One of `len` bytes that `write` writes.
    fn written(
        &self,
        len: usize,
        mut usage: wgpu::BufferUsages,
        write: impl FnOnce(wgpu::WriteOnly<[u8]>),
    ) -> Result<wgpu::Buffer, GpuError> {
        if self.report.emulated && self.device.features().contains(MAPPABLE) {
            // Written and read where it is: the device's memory is the host's.
            usage |= wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::MAP_READ;
        }
        let size = len.next_multiple_of(16).max(16);
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
        write(view.slice(..len));
        drop(view);
        buffer.unmap();
        self.healthy().map(|()| buffer)
    }

    /// Whether every dispatch can bind what it sees of a buffer of `len` elements.
    fn bindable(
        &self,
        program: &Program,
        name: &str,
        elem: Elem,
        len: usize,
    ) -> Result<(), GpuError> {
        let seen = |pass: &Pass| {
            let window = pass.slice.windows.iter().find(|window| window.buffer == name);
            window.map_or(len, |window| window.elements.len())
        };
        let most = program.passes.iter().map(seen).max().unwrap_or(0);
        self.within(elem.bytes_of(most) as u64, "binding", BINDING_LIMIT)
    }

    fn within(&self, bytes: u64, what: &str, name: &str) -> Result<(), GpuError> {
        let limit = self.report.limit(name);
        if bytes <= limit {
            return Ok(());
        }
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let reason = format!("{what} {:.1} MiB > {:.1} MiB", mib(bytes), mib(limit));
        Err(if name == BINDING_LIMIT {
            GpuError::Oversize(reason)
        } else {
            GpuError::Unsupported(reason)
        })
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
            let mut bytes = self.download(buffer)?;
            let guard = &bytes[shape.bytes()..][..GUARD_BYTES];
            let guard_intact = guard.iter().all(|&byte| byte == GUARD);
            bytes.truncate(shape.bytes());
            Ok(Output { bytes, guard_intact })
        };
        set.outputs.iter().zip(&set.shapes).map(read).collect()
    }

    /// The contents of a buffer.
    pub(super) fn download(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, GpuError> {
        if buffer.usage().contains(wgpu::BufferUsages::MAP_READ) {
            return self.map(buffer);
        }
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

    /// Waits for a buffer that can be mapped and copies it out; it is unmapped again.
    pub(super) fn map(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, GpuError> {
        buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        self.wait()?;
        let view = buffer
            .get_mapped_range(..)
            .map_err(|error| GpuError::Lost(format!("a result could not be read: {error}")))?;
        let bytes = view.to_vec();
        drop(view);
        buffer.unmap();
        Ok(bytes)
    }
}
