//! The list of kernels. Written by `tests/registry.rs`; never edited by hand.

use crate::kernel::Entry;

pub mod attend {
    pub mod bottleneck_attention;
    pub mod cross_attention;
    pub mod gated_cross_attention;
    mod needle;
    mod pairs;
    mod weights;
}

pub mod fuse {
    pub mod gated_fusion;
    mod modalities;
    pub mod weighted_sum;
}

pub mod normalize {
    pub mod layer_norm;
    pub mod rms_norm;
    mod rows;
    pub mod softmax;
}

pub mod probe {
    pub mod copy;
    pub mod fma;
    pub mod launch_overhead;
    mod memory;
    pub mod read;
}

pub mod project {
    pub mod embedding_lookup;
    pub mod linear;
    pub mod linear_batched;
    pub mod mlp_projector;
}

/// Every kernel, by family and name.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
    Entry {
        family: "attend",
        name: "bottleneck_attention",
        kernel: attend::bottleneck_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/bottleneck_attention.wgsl"),
    },
    Entry {
        family: "attend",
        name: "cross_attention",
        kernel: attend::cross_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/cross_attention.wgsl"),
    },
    Entry {
        family: "attend",
        name: "gated_cross_attention",
        kernel: attend::gated_cross_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/gated_cross_attention.wgsl"),
    },
    Entry {
        family: "fuse",
        name: "gated_fusion",
        kernel: fuse::gated_fusion::KERNEL,
        wgsl: include_str!("../../kernels/fuse/gated_fusion.wgsl"),
    },
    Entry {
        family: "fuse",
        name: "weighted_sum",
        kernel: fuse::weighted_sum::KERNEL,
        wgsl: include_str!("../../kernels/fuse/weighted_sum.wgsl"),
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
        family: "probe",
        name: "copy",
        kernel: probe::copy::KERNEL,
        wgsl: include_str!("../../kernels/probe/copy.wgsl"),
    },
    Entry {
        family: "probe",
        name: "fma",
        kernel: probe::fma::KERNEL,
        wgsl: include_str!("../../kernels/probe/fma.wgsl"),
    },
    Entry {
        family: "probe",
        name: "launch_overhead",
        kernel: probe::launch_overhead::KERNEL,
        wgsl: include_str!("../../kernels/probe/launch_overhead.wgsl"),
    },
    Entry {
        family: "probe",
        name: "read",
        kernel: probe::read::KERNEL,
        wgsl: include_str!("../../kernels/probe/read.wgsl"),
    },
    Entry {
        family: "project",
        name: "embedding_lookup",
        kernel: project::embedding_lookup::KERNEL,
        wgsl: include_str!("../../kernels/project/embedding_lookup.wgsl"),
    },
    Entry {
        family: "project",
        name: "linear",
        kernel: project::linear::KERNEL,
        wgsl: include_str!("../../kernels/project/linear.wgsl"),
    },
    Entry {
        family: "project",
        name: "linear_batched",
        kernel: project::linear_batched::KERNEL,
        wgsl: include_str!("../../kernels/project/linear_batched.wgsl"),
    },
    Entry {
        family: "project",
        name: "mlp_projector",
        kernel: project::mlp_projector::KERNEL,
        wgsl: include_str!("../../kernels/project/mlp_projector.wgsl"),
    },
];
