//! The list of kernels. Written by `tests/registry.rs`; never edited by hand.

use crate::kernel::Entry;

pub mod attend {
    pub mod cross_attention;
    mod pairs;
}

pub mod explain {
    pub mod attention_map;
    pub mod attention_rollout;
    mod coalitions;
    pub mod emap;
    pub mod kernel_shap;
    pub mod lime_surrogate;
    pub mod occlusion;
    pub mod shapley_modalities;
    mod solve;
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
    pub mod linear;
}

pub mod protect {
    mod clip;
    pub mod clip_per_sample;
    pub mod dp_sum;
    pub mod gaussian_noise;
    mod noise;
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
        family: "explain",
        name: "attention_map",
        kernel: explain::attention_map::KERNEL,
        wgsl: include_str!("../../kernels/explain/attention_map.wgsl"),
    },
    Entry {
        family: "explain",
        name: "attention_rollout",
        kernel: explain::attention_rollout::KERNEL,
        wgsl: include_str!("../../kernels/explain/attention_rollout.wgsl"),
    },
    Entry {
        family: "explain",
        name: "emap",
        kernel: explain::emap::KERNEL,
        wgsl: include_str!("../../kernels/explain/emap.wgsl"),
    },
    Entry {
        family: "explain",
        name: "kernel_shap",
        kernel: explain::kernel_shap::KERNEL,
        wgsl: include_str!("../../kernels/explain/kernel_shap.wgsl"),
    },
    Entry {
        family: "explain",
        name: "lime_surrogate",
        kernel: explain::lime_surrogate::KERNEL,
        wgsl: include_str!("../../kernels/explain/lime_surrogate.wgsl"),
    },
    Entry {
        family: "explain",
        name: "occlusion",
        kernel: explain::occlusion::KERNEL,
        wgsl: include_str!("../../kernels/explain/occlusion.wgsl"),
    },
    Entry {
        family: "explain",
        name: "shapley_modalities",
        kernel: explain::shapley_modalities::KERNEL,
        wgsl: include_str!("../../kernels/explain/shapley_modalities.wgsl"),
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
        name: "linear",
        kernel: project::linear::KERNEL,
        wgsl: include_str!("../../kernels/project/linear.wgsl"),
    },
    Entry {
        family: "protect",
        name: "clip_per_sample",
        kernel: protect::clip_per_sample::KERNEL,
        wgsl: include_str!("../../kernels/protect/clip_per_sample.wgsl"),
    },
    Entry {
        family: "protect",
        name: "dp_sum",
        kernel: protect::dp_sum::KERNEL,
        wgsl: include_str!("../../kernels/protect/dp_sum.wgsl"),
    },
    Entry {
        family: "protect",
        name: "gaussian_noise",
        kernel: protect::gaussian_noise::KERNEL,
        wgsl: include_str!("../../kernels/protect/gaussian_noise.wgsl"),
    },
];
