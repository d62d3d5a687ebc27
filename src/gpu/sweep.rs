//! Emptying the device's caches between cold samples.

use super::Gpu;
use super::error::GpuError;

/// A pool of memory larger than the caches and a program that rewrites all of it.
pub struct Sweep {
    pipeline: wgpu::ComputePipeline,
    /// One bind group and its number of words each.
    buffers: Vec<(wgpu::BindGroup, u32)>,
}

/// Read and rewritten, so that every line enters the caches whatever the store policy.
const WGSL: &str = "
@group(0) @binding(0) var<storage, read_write> pool: array<vec4<u32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {
    let stride = n.x * 64u;
    for (var i = id.x; i < arrayLength(&pool); i += stride) { pool[i] = pool[i] + vec4(1u); }
}";

/// Most bytes of one pool buffer: the portable binding limit.
const BUFFER_BYTES: u64 = 128 << 20;
/// Enough workgroups to fill any device without touching the grid limit.
const WORKGROUPS: u32 = 4096;

impl Sweep {
    /// Allocates `bytes` of pool.
    ///
    /// # Errors
    /// `OutOfMemory` when the device has no room for it.
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self, GpuError> {
        let pipeline = gpu.scoped(|| {
            let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some("sweep"),
                source: wgpu::ShaderSource::Wgsl(WGSL.into()),
            });
            gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("sweep"),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            })
        })?;
        let layout = pipeline.get_bind_group_layout(0);
        let mut buffers = Vec::new();
        let mut left = bytes;
        while left > 0 {
            let size = left.min(BUFFER_BYTES).next_multiple_of(16);
            left = left.saturating_sub(size);
            let bindings = gpu.scoped(|| {
                let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("sweep pool"),
                    size,
                    usage: wgpu::BufferUsages::STORAGE,
                    mapped_at_creation: false,
                });
                gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &layout,
                    entries: &[wgpu::BindGroupEntry {
                        binding: 0,
                        resource: buffer.as_entire_binding(),
                    }],
                })
            })?;
            buffers.push((bindings, WORKGROUPS.min((size / 16 / 64).max(1) as u32)));
        }
        let sweep = Sweep { pipeline, buffers };
        // The first use pays for wgpu's lazy zero-fill and the first touch of every page.
        sweep.run(gpu)?;
        Ok(sweep)
    }

    /// Rewrites the pool and waits.
    pub fn run(&self, gpu: &Gpu) -> Result<(), GpuError> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        for (bindings, workgroups) in &self.buffers {
            pass.set_bind_group(0, bindings, &[]);
            pass.dispatch_workgroups(*workgroups, 1, 1);
        }
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        gpu.wait()
    }
}
