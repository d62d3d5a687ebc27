//! What can go wrong on a device, as values.

/// Each message is one line of what, and where possible of what to do; a shader error keeps the
/// lines that point into the WGSL text.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GpuError {
    #[error(
        "no graphics adapter found: install a Vulkan driver (scripts/bench does it on Linux), \
         then look at `fusebench devices`"
    )]
    NoAdapter,
    #[error("unknown device `{selector}`: this machine has {}", known.join(", "))]
    UnknownDevice { selector: String, known: Vec<String> },
    #[error("the driver gave no device: {0}")]
    Request(String),
    #[error("the shader does not compile:\n{0}")]
    Shader(String),
    #[error("the device rejected a command: {}", one_line(.0))]
    Validation(String),
    #[error("out of device memory")]
    OutOfMemory,
    #[error("the device was lost: {0}")]
    Lost(String),
    /// A limit of this adapter; the cell is unsupported, not wrong.
    #[error("{0}")]
    Unsupported(String),
    /// A buffer larger than this adapter binds at once; some kernels have strategies that cut it.
    #[error("{0}")]
    Oversize(String),
}

impl From<wgpu::Error> for GpuError {
    fn from(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory,
            wgpu::Error::Validation { description, .. }
            | wgpu::Error::Internal { description, .. } => GpuError::Validation(description),
        }
    }
}

/// The lines of a nested wgpu message that say something, joined.
fn one_line(description: &str) -> String {
    let lines = description.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take(4).collect::<Vec<_>>().join(" ")
}
