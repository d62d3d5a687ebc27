//! WGSL text to pipelines.

use super::Gpu;
use super::buffers::BufferSet;
use super::error::GpuError;
use crate::kernel::{Launch, Slice, Variant};

/// Whether wgpu's run-time checks (bounds, loop bounding, division) are compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checks {
    /// wgpu's defaults.
    Safe,
    /// No checks, workgroup memory not zeroed.
    Trusted,
}

impl Checks {
    pub fn name(self) -> &'static str {
        match self {
            Checks::Safe => "safe",
            Checks::Trusted => "trusted",
        }
    }
}

/// The compiled dispatches of one launch.
#[derive(Clone)]
pub struct Program {
    pub(super) passes: Vec<Pass>,
    pub(super) layout: wgpu::BindGroupLayout,
}

#[derive(Clone)]
pub(super) struct Pass {
    pub pipeline: wgpu::ComputePipeline,
    pub grid: [u32; 3],
    pub slice: Slice,
}

impl Program {
    pub fn dispatches(&self) -> u32 {
        self.passes.len() as u32
    }

    /// Records every dispatch of one run, each with its bindings.
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, bindings: &[wgpu::BindGroup]) {
        for (Pass { pipeline, grid, .. }, bindings) in self.passes.iter().zip(bindings) {
            pass.set_bind_group(0, bindings, &[]);
            pass.set_pipeline(pipeline);
            pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        }
    }
}

/// A program with one set of buffers, ready to be dispatched.
pub struct Step {
    pub program: Program,
    pub set: BufferSet,
}

impl Step {
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.program.record(pass, &self.set.bindings);
    }
}

/// Values of the overrides of one entry point.
type Constants = Vec<(&'static str, f64)>;

impl Gpu {
    /// Compiles `source` for every dispatch of the launch; `inputs` tensors are bound read-only.
    pub fn compile(
        &self,
        source: &str,
        launch: &Launch,
        variant: &Variant,
        inputs: usize,
        checks: Checks,
    ) -> Result<Program, GpuError> {
        self.fits(launch)?;
        let module = self.scoped(|| self.module(source, checks)).map_err(as_shader_error)?;
        let layout = self.bind_group_layout(inputs, launch.outputs.len() + launch.scratch.len());
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let mut passes = Vec::new();
        // Slices of one buffer share a pipeline.
        let mut built: Vec<(&str, Constants, wgpu::ComputePipeline)> = Vec::new();
        // An empty grid is a run that does nothing (rule E7).
        let work = launch.dispatches.iter().filter(|dispatch| !dispatch.grid.contains(&0));
        for dispatch in work {
            let constants = variant.constants.iter().chain(&dispatch.constants).copied();
            let constants: Constants = constants.collect();
            let (grid, slice) = (dispatch.grid, dispatch.slice.clone());
            let known =
                built.iter().find(|(entry, set, _)| *entry == dispatch.entry && *set == constants);
            if let Some((.., pipeline)) = known {
                passes.push(Pass { pipeline: pipeline.clone(), grid, slice });
                continue;
            }
            let create = || {
                self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(dispatch.entry),
                    layout: Some(&pipeline_layout),
                    module: &module,
                    entry_point: Some(dispatch.entry),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &constants,
                        zero_initialize_workgroup_memory: checks == Checks::Safe,
                    },
                    cache: None,
                })
            };
            let pipeline = self.scoped(create).map_err(as_shader_error)?;
            built.push((dispatch.entry, constants, pipeline.clone()));
            passes.push(Pass { pipeline, grid, slice });
        }
        Ok(Program { passes, layout })
    }

    fn module(&self, source: &str, checks: Checks) -> wgpu::ShaderModule {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        match checks {
            Checks::Safe => self.device.create_shader_module(descriptor),
            // SAFETY: every kernel is verified against guard bands in this mode too, and the
            // driver's own robustness stays on.
            Checks::Trusted => unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            },
        }
    }

    /// Binding 0 is the uniform Params, then `inputs` read-only and `written` writable buffers.
    fn bind_group_layout(&self, inputs: usize, written: usize) -> wgpu::BindGroupLayout {
        let entry = |binding: usize| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match binding {
                    0 => wgpu::BufferBindingType::Uniform,
                    n => wgpu::BufferBindingType::Storage { read_only: n <= inputs },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = (0..=inputs + written).map(entry).collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &entries,
        })
    }

    fn fits(&self, launch: &Launch) -> Result<(), GpuError> {
        let limit = self.report.limit("maxComputeWorkgroupsPerDimension");
        for dispatch in &launch.dispatches {
            if let Some(size) = dispatch.grid.iter().find(|&&size| u64::from(size) > limit) {
                let reason = format!("{size} workgroups in one dimension > {limit}");
                return Err(GpuError::Unsupported(reason));
            }
        }
        Ok(())
    }
}

/// What failed while a shader was compiled is the shader's fault unless memory or the device went.
fn as_shader_error(error: GpuError) -> GpuError {
    match error {
        GpuError::Validation(message) => GpuError::Shader(pointed(&message)),
        other => other,
    }
}

/// The part of a nested message that points into the shader, or all of it.
fn pointed(message: &str) -> String {
    let start = message.find("parsing error: ").map_or(0, |at| at + "parsing error: ".len());
    message[start..].trim().to_owned()
}
