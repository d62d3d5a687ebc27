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

/// A shader's text as the device took it, and the pipelines made from it so far.
pub struct Shader {
    module: wgpu::ShaderModule,
    checks: Checks,
    bindings: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
    built: Vec<(&'static str, Constants, wgpu::ComputePipeline)>,
}

impl Gpu {
    /// Takes a text that binds `inputs` tensors read-only and `written` buffers to write.
    pub fn shader(
        &self,
        source: &str,
        inputs: usize,
        written: usize,
        checks: Checks,
    ) -> Result<Shader, GpuError> {
        let module = self.scoped(|| self.module(source, checks)).map_err(as_shader_error)?;
        let bindings = self.bind_group_layout(inputs, written);
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        Ok(Shader { module, checks, bindings, layout, built: Vec::new() })
    }

    /// Compiles `source` for every dispatch of the launch; `inputs` tensors are bound read-only.
    pub fn compile(
        &self,
        source: &str,
        launch: &Launch,
        variant: &Variant,
        inputs: usize,
        checks: Checks,
    ) -> Result<Program, GpuError> {
        let mut shader = self.shader(source, inputs, launch.written(), checks)?;
        self.program(&mut shader, launch, variant)
    }

    /// The dispatches of a launch; those that differ in size or slice alone share a pipeline, with
    /// earlier launches too.
    pub fn program(
        &self,
        shader: &mut Shader,
        launch: &Launch,
        variant: &Variant,
    ) -> Result<Program, GpuError> {
        self.fits(launch)?;
        let mut passes = Vec::new();
        // An empty grid is a run that does nothing (rule E7).
        let work = launch.dispatches.iter().filter(|dispatch| !dispatch.grid.contains(&0));
        for dispatch in work {
            let constants = variant.constants.iter().chain(&dispatch.constants).copied();
            let pipeline = self.pipeline(shader, dispatch.entry, constants.collect())?;
            passes.push(Pass { pipeline, grid: dispatch.grid, slice: dispatch.slice.clone() });
        }
        Ok(Program { passes, layout: shader.bindings.clone() })
    }

    fn pipeline(
        &self,
        shader: &mut Shader,
        entry: &'static str,
        constants: Constants,
    ) -> Result<wgpu::ComputePipeline, GpuError> {
        let known = shader.built.iter().find(|(name, set, _)| *name == entry && *set == constants);
        if let Some((.., pipeline)) = known {
            return Ok(pipeline.clone());
        }
        let create = || {
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: Some(&shader.layout),
                module: &shader.module,
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    zero_initialize_workgroup_memory: shader.checks == Checks::Safe,
                },
                cache: None,
            })
        };
        let pipeline = self.scoped(create).map_err(as_shader_error)?;
        shader.built.push((entry, constants, pipeline.clone()));
        Ok(pipeline)
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
