//! Readers of tensors from files, for `--input`.

mod npy;
mod safetensors;
mod source;

pub use npy::read as read_npy;
pub use safetensors::read as read_safetensors;
pub use source::{Source, Unreadable};
