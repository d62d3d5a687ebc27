//! The device: the only module that names wgpu.

mod buffers;
mod device;
mod error;
mod pipeline;
mod stopwatch;
mod sweep;
mod timer;

pub use buffers::{BufferSet, Given, Output};
pub use device::{AdapterReport, Gpu, Selector, enumerate};
pub use error::GpuError;
pub use pipeline::{Checks, Program, Shader, Step};
pub use stopwatch::{Stopwatch, Waits};
pub use sweep::Sweep;
pub use timer::Clocks;
