//! The list of kernels. Written by `tests/registry.rs`; never edited by hand.

use crate::kernel::Kernel;

pub mod normalize {
    pub mod layer_norm;
    mod rows;
}

/// One kernel with the names and the WGSL text that its path gives it.
#[derive(Clone, Copy)]
pub struct Entry {
    pub family: &'static str,
    pub name: &'static str,
    pub kernel: &'static dyn Kernel,
    pub wgsl: &'static str,
}

/// Every kernel, by family and name.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
    Entry {
        family: "normalize",
        name: "layer_norm",
        kernel: normalize::layer_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/layer_norm.wgsl"),
    },
];
