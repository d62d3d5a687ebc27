//! Finding adapters, choosing one, opening it.

use std::sync::{Arc, Mutex};

use super::error::GpuError;
use super::stopwatch::Waits;
use crate::kernel::Elem;
use crate::shader::{Matrix, SUBGROUP_OF_8};

/// What an adapter offers, without opening it.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    pub name: String,
    pub backend: String,
    pub driver: String,
    pub driver_info: String,
    pub device_type: String,
    pub vendor_id: u32,
    pub device_id: u32,
    pub features: Vec<String>,
    pub limits: Vec<(&'static str, u64)>,
    pub subgroup_size: [u32; 2],
    /// A driver that computes on the CPU.
    pub emulated: bool,
    pub timestamps: bool,
    /// Turns after which the driver leaves every loop of an invocation, without a word.
    pub loop_turns: Option<usize>,
}

impl AdapterReport {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let optional = OPTIONAL.iter().filter(|(f, _)| adapter.features().contains(*f));
        let mut features: Vec<String> = optional.map(|(_, name)| (*name).to_owned()).collect();
        let sizes = [info.subgroup_min_size, info.subgroup_max_size];
        if adapter.features().contains(wgpu::Features::SUBGROUP) && sizes == [8, 8] {
            features.push(SUBGROUP_OF_8.to_owned());
        }
        features.extend(matrices(adapter).iter().map(Matrix::to_string));
        AdapterReport {
            name: info.name.clone(),
            backend: info.backend.to_str().to_owned(),
            driver: info.driver,
            driver_info: info.driver_info,
            device_type: device_type(info.device_type).to_owned(),
            vendor_id: info.vendor,
            device_id: info.device,
            features,
            limits: vec![
                (
                    "maxComputeWorkgroupStorageSize",
                    limits.max_compute_workgroup_storage_size.into(),
                ),
                (
                    "maxComputeInvocationsPerWorkgroup",
                    limits.max_compute_invocations_per_workgroup.into(),
                ),
                (
                    "maxComputeWorkgroupsPerDimension",
                    limits.max_compute_workgroups_per_dimension.into(),
                ),
                ("maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size),
                ("maxBufferSize", limits.max_buffer_size),
                (
                    "maxStorageBuffersPerShaderStage",
                    limits.max_storage_buffers_per_shader_stage.into(),
                ),
            ],
            subgroup_size: sizes,
            emulated: info.device_type == wgpu::DeviceType::Cpu || is_software(&adapter.get_info()),
            timestamps: adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY),
            loop_turns: info.name.starts_with("llvmpipe").then_some(LLVMPIPE_TURNS),
        }
    }

    /// What selectors are matched against: `vulkan:llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.backend, self.name)
    }

    pub fn limit(&self, name: &str) -> u64 {
        self.limits.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// Why an invocation whose loops turn so often would not come to their end.
    pub fn leaves_loops(&self, turns: usize) -> Option<String> {
        let most = self.loop_turns.filter(|&most| turns > most)?;
        Some(format!("loops of {turns} turns, this driver leaves them after {most}"))
    }

    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }
}

/// Mesa's `LP_MAX_TGSI_LOOP_ITERATIONS`, for all loops of an invocation together.
const LLVMPIPE_TURNS: usize = 65_535;

/// Lets the host write and read a buffer of the device where it is.
pub(super) const MAPPABLE: wgpu::Features = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;

/// Optional features the suite uses, under the names shown to users.
const OPTIONAL: [(wgpu::Features, &str); 3] = [
    (wgpu::Features::SHADER_F16, "shader-f16"),
    (wgpu::Features::SUBGROUP, "subgroup"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
];

/// The cooperative matrices that the adapter multiplies and the suite has kernels for: squares of
/// 8 or 16, sums in f32.
fn matrices(adapter: &wgpu::Adapter) -> Vec<Matrix> {
    if !adapter.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return Vec::new();
    }
    let elem = |scalar| match scalar {
        wgpu::CooperativeScalarType::F32 => Some(Elem::F32),
        wgpu::CooperativeScalarType::F16 => Some(Elem::F16),
        wgpu::CooperativeScalarType::I32 | wgpu::CooperativeScalarType::U32 => None,
    };
    let mut found = Vec::new();
    for offer in adapter.cooperative_matrix_properties() {
        let side = offer.m_size;
        let square = offer.n_size == side && offer.k_size == side && [8, 16].contains(&side);
        let (Some(factor), Some(sum)) = (elem(offer.ab_type), elem(offer.cr_type)) else {
            continue;
        };
        let matrix = Matrix { side, factor, sum };
        if square && sum == Elem::F32 && !found.contains(&matrix) {
            found.push(matrix);
        }
    }
    found
}

fn device_type(kind: wgpu::DeviceType) -> &'static str {
    match kind {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "cpu",
        wgpu::DeviceType::Other => "other",
    }
}

/// OpenGL does not report a device type, so software drivers are known by name.
fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = info.name.to_lowercase();
    ["llvmpipe", "softpipe", "swiftshader", "basic render"].iter().any(|known| name.contains(known))
}

/// How a user names a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A GPU if there is one, otherwise a CPU driver; Vulkan, Metal or DX12 before OpenGL.
    Best,
    /// Position in the list of `devices`.
    Index(usize),
    /// A case-insensitive part of `backend:name`.
    Part(String),
}

impl Selector {
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Selector::Part(text.to_lowercase()), Selector::Index)
    }
}

/// Every adapter, hardware before software inside a backend, OpenGL last.
pub fn enumerate() -> Vec<AdapterReport> {
    adapters(wgpu::Backends::all()).iter().map(AdapterReport::of).collect()
}

fn adapters(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    // OpenGL repeats what the primary backends list and is slow to start.
    let backends = wgpu::Backends::from_env().unwrap_or(backends);
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let mut found = pollster::block_on(instance.enumerate_adapters(backends));
    found.sort_by_key(|adapter| {
        let info = adapter.get_info();
        (info.backend == wgpu::Backend::Gl, rank(&info))
    });
    found
}

/// The order in which adapters are preferred.
fn rank(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        _ if is_software(info) => 4,
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn choose(selector: &Selector) -> Result<wgpu::Adapter, GpuError> {
    let everything = wgpu::Backends::all();
    let found = match selector {
        Selector::Best => {
            let primary = adapters(everything - wgpu::Backends::GL);
            if primary.is_empty() { adapters(wgpu::Backends::GL) } else { primary }
        }
        Selector::Index(_) => adapters(everything),
        // A primary adapter that matches is the first match of the whole list too.
        Selector::Part(part) => {
            let primary = adapters(everything - wgpu::Backends::GL);
            if primary.iter().any(|adapter| matches(adapter, part)) {
                primary
            } else {
                adapters(everything)
            }
        }
    };
    if found.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let labels = |found: &[wgpu::Adapter]| {
        let labels = found.iter().map(|adapter| AdapterReport::of(adapter).label());
        labels.enumerate().map(|(i, label)| format!("{i} ({label})")).collect()
    };
    let position = match selector {
        Selector::Best => Some(0),
        Selector::Index(index) => Some(*index).filter(|&index| index < found.len()),
        Selector::Part(part) => found.iter().position(|adapter| matches(adapter, part)),
    };
    let unknown = |found: &[wgpu::Adapter]| GpuError::UnknownDevice {
        selector: match selector {
            Selector::Best => "best".to_owned(),
            Selector::Index(index) => index.to_string(),
            Selector::Part(part) => part.clone(),
        },
        known: labels(found),
    };
    let position = position.ok_or_else(|| unknown(&found))?;
    Ok(found.into_iter().nth(position).expect("the position came from this list"))
}

fn matches(adapter: &wgpu::Adapter, part: &str) -> bool {
    AdapterReport::of(adapter).label().to_lowercase().contains(part)
}

/// An open device.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub report: AdapterReport,
    pub waits: Waits,
    lost: Arc<Mutex<Option<String>>>,
    uncaptured: Arc<Mutex<Option<GpuError>>>,
}

impl Gpu {
    /// Opens the chosen adapter with every optional feature the suite knows and the adapter's own
    /// limits.
    pub fn open(selector: &Selector) -> Result<Self, GpuError> {
        let adapter = choose(selector)?;
        let mut wanted =
            OPTIONAL.iter().fold(wgpu::Features::empty(), |all, (feature, _)| all | *feature);
        let report = AdapterReport::of(&adapter);
        if report.emulated {
            wanted |= MAPPABLE;
        }
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if !matrices(&adapter).is_empty() {
            wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: only shaders that say so use cooperative matrices, and those are verified.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("fusebench"),
            required_features: wanted & adapter.features(),
            required_limits: adapter.limits(),
            experimental_features,
            ..Default::default()
        });
        let (device, queue) =
            pollster::block_on(request).map_err(|error| GpuError::Request(error.to_string()))?;
        let gpu = Gpu {
            device,
            queue,
            report,
            waits: Waits::default(),
            lost: Arc::default(),
            uncaptured: Arc::default(),
        };
        gpu.watch();
        Ok(gpu)
    }

    /// Keeps asynchronous failures until somebody asks; wgpu's own handler would panic.
    fn watch(&self) {
        let lost = Arc::clone(&self.lost);
        self.device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                *lost.lock().expect("not poisoned") = Some(message);
            }
        });
        let uncaptured = Arc::clone(&self.uncaptured);
        self.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            uncaptured.lock().expect("not poisoned").get_or_insert(error.into());
        }));
    }

    /// Fails with what went wrong since the last call, if anything did.
    pub(super) fn healthy(&self) -> Result<(), GpuError> {
        self.present()?;
        self.uncaptured.lock().expect("not poisoned").take().map_or(Ok(()), Err)
    }

    /// Fails when the driver has lost the device.
    fn present(&self) -> Result<(), GpuError> {
        let lost = self.lost.lock().expect("not poisoned").clone();
        lost.map_or(Ok(()), |message| Err(GpuError::Lost(message)))
    }

    /// Waits until the queue is idle.
    pub(super) fn wait(&self) -> Result<(), GpuError> {
        self.waits
            .count(|| self.device.poll(wgpu::PollType::wait_indefinitely()))
            .map_err(|error| GpuError::Lost(error.to_string()))?;
        self.healthy()
    }

    /// Runs `create` and turns the errors it raises into values.
    pub(super) fn scoped<R>(&self, create: impl FnOnce() -> R) -> Result<R, GpuError> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let result = create();
        let errors = [internal, validation, memory].map(|scope| pollster::block_on(scope.pop()));
        // On a lost device everything else fails too, and says less.
        self.present()?;
        match errors.into_iter().flatten().next() {
            Some(error) => Err(error.into()),
            None => self.healthy().map(|()| result),
        }
    }

    /// Gives the device up as if the driver had lost it: whatever is asked of it next fails with
    /// [`GpuError::Lost`].
    pub fn abandon(&self) {
        *self.lost.lock().expect("not poisoned") = Some("it was given up".to_owned());
        self.device.destroy();
    }
}
