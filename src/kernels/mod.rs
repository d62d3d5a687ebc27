//! The list of kernels. Written by `tests/registry.rs`; never edited by hand.

use crate::kernel::Entry;

pub mod align {
    pub mod center_crop_pad;
    pub mod conv1d;
    pub mod cross_correlation_lag;
    pub mod dtw;
    pub mod median_filter;
    pub mod patchify;
    pub mod resample_linear;
    pub mod resize_bilinear;
    pub mod sliding_window_pool;
    mod steps;
    mod words;
}

pub mod attend {
    pub mod cross_attention;
    mod pairs;
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

/// Every kernel, by family and name.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
    Entry {
        family: "align",
        name: "center_crop_pad",
        kernel: align::center_crop_pad::KERNEL,
        wgsl: include_str!("../../kernels/align/center_crop_pad.wgsl"),
    },
    Entry {
        family: "align",
        name: "conv1d",
        kernel: align::conv1d::KERNEL,
        wgsl: include_str!("../../kernels/align/conv1d.wgsl"),
    },
    Entry {
        family: "align",
        name: "cross_correlation_lag",
        kernel: align::cross_correlation_lag::KERNEL,
        wgsl: include_str!("../../kernels/align/cross_correlation_lag.wgsl"),
    },
    Entry {
        family: "align",
        name: "dtw",
        kernel: align::dtw::KERNEL,
        wgsl: include_str!("../../kernels/align/dtw.wgsl"),
    },
    Entry {
        family: "align",
        name: "median_filter",
        kernel: align::median_filter::KERNEL,
        wgsl: include_str!("../../kernels/align/median_filter.wgsl"),
    },
    Entry {
        family: "align",
        name: "patchify",
        kernel: align::patchify::KERNEL,
        wgsl: include_str!("../../kernels/align/patchify.wgsl"),
    },
    Entry {
        family: "align",
        name: "resample_linear",
        kernel: align::resample_linear::KERNEL,
        wgsl: include_str!("../../kernels/align/resample_linear.wgsl"),
    },
    Entry {
        family: "align",
        name: "resize_bilinear",
        kernel: align::resize_bilinear::KERNEL,
        wgsl: include_str!("../../kernels/align/resize_bilinear.wgsl"),
    },
    Entry {
        family: "align",
        name: "sliding_window_pool",
        kernel: align::sliding_window_pool::KERNEL,
        wgsl: include_str!("../../kernels/align/sliding_window_pool.wgsl"),
    },
    Entry {
        family: "attend",
        name: "cross_attention",
        kernel: attend::cross_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/cross_attention.wgsl"),
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
];
