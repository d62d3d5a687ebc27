//! The list of kernels. Written by `tests/registry.rs`; never edited by hand.

use crate::kernel::Entry;

pub mod attend {
    pub mod cross_attention;
    mod pairs;
}

pub mod normalize {
    pub mod layer_norm;
    pub mod rms_norm;
    mod rows;
    pub mod softmax;
}

pub mod project {
    pub mod linear;
}

/// Every kernel, by family and name.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
    Entry {
        family: "attend",
        name: "cross_attention",
        kernel: attend::cross_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/cross_attention.wgsl"),
    },
    Entry {
        family: "normalize",
        name: "layer_norm",
        kernel: normalize::layer_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/layer_norm.wgsl"),
    },
    Entry {
        family: "normalize",
        name: "rms_norm",
        kernel: normalize::rms_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/rms_norm.wgsl"),
    },
    Entry {
        family: "normalize",
        name: "softmax",
        kernel: normalize::softmax::KERNEL,
        wgsl: include_str!("../../kernels/normalize/softmax.wgsl"),
    },
    Entry {
        family: "project",
        name: "linear",
        kernel: project::linear::KERNEL,
        wgsl: include_str!("../../kernels/project/linear.wgsl"),
    },
];
