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
    pub mod bottleneck_attention;
    pub mod cross_attention;
    pub mod gated_cross_attention;
    mod needle;
    mod pairs;
    mod tile;
    mod tokens;
    mod weights;
}

pub mod compress {
    mod codes;
    pub mod cross_attention_int8;
    pub mod dequantize_int4;
    pub mod dequantize_int8;
    pub mod linear_sparse_2_4;
    pub mod linear_w4a16;
    pub mod linear_w8a8;
    mod products;
    pub mod prune_2_4;
    pub mod prune_magnitude;
    pub mod quantize_int4;
    pub mod quantize_int8;
    mod sparsity;
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
    pub mod concat;
    pub mod early_fusion;
    pub mod film;
    pub mod gated_fusion;
    pub mod late_fusion;
    pub mod low_rank_fusion;
    mod modalities;
    pub mod modality_attention;
    pub mod multiplicative_interaction;
    pub mod nonlocal_gate;
    pub mod tensor_fusion;
    pub mod weighted_sum;
    mod widths;
}

pub mod normalize {
    pub mod add_layer_norm;
    pub mod batch_norm;
    mod columns;
    pub mod group_norm;
    pub mod l2_normalize;
    pub mod layer_norm;
    pub mod min_max_scale;
    mod moments;
    pub mod rms_norm;
    mod rows;
    pub mod softmax;
    pub mod standardize;
}

pub mod probe {
    pub mod cooperative_matrix;
    pub mod copy;
    pub mod dot4;
    pub mod fma;
    pub mod launch_overhead;
    mod memory;
    pub mod read;
    pub mod subgroup_sum;
    pub mod workgroup_memory;
    pub mod write;
}

pub mod project {
    pub mod embedding_lookup;
    pub mod linear;
    pub mod linear_batched;
    pub mod mlp_projector;
}

pub mod protect {
    mod clip;
    pub mod clip_per_sample;
    pub mod dp_sum;
    pub mod gaussian_noise;
    mod noise;
}

pub mod relate {
    pub mod contrastive_loss;
    pub mod cosine_similarity;
    mod features;
    mod lse;
    pub mod sigmoid_contrastive_loss;
    pub mod top_k;
}

/// Every kernel, by family and name.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
    Entry {
        family: "align",
        name: "center_crop_pad",
        kernel: align::center_crop_pad::KERNEL,
        wgsl: include_str!("../../kernels/align/center_crop_pad.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "conv1d",
        kernel: align::conv1d::KERNEL,
        wgsl: include_str!("../../kernels/align/conv1d.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "cross_correlation_lag",
        kernel: align::cross_correlation_lag::KERNEL,
        wgsl: include_str!("../../kernels/align/cross_correlation_lag.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "dtw",
        kernel: align::dtw::KERNEL,
        wgsl: include_str!("../../kernels/align/dtw.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "median_filter",
        kernel: align::median_filter::KERNEL,
        wgsl: include_str!("../../kernels/align/median_filter.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "patchify",
        kernel: align::patchify::KERNEL,
        wgsl: include_str!("../../kernels/align/patchify.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "resample_linear",
        kernel: align::resample_linear::KERNEL,
        wgsl: include_str!("../../kernels/align/resample_linear.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "resize_bilinear",
        kernel: align::resize_bilinear::KERNEL,
        wgsl: include_str!("../../kernels/align/resize_bilinear.wgsl"),
        others: &[],
    },
    Entry {
        family: "align",
        name: "sliding_window_pool",
        kernel: align::sliding_window_pool::KERNEL,
        wgsl: include_str!("../../kernels/align/sliding_window_pool.wgsl"),
        others: &[],
    },
    Entry {
        family: "attend",
        name: "bottleneck_attention",
        kernel: attend::bottleneck_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/bottleneck_attention.wgsl"),
        others: &[],
    },
    Entry {
        family: "attend",
        name: "cross_attention",
        kernel: attend::cross_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/cross_attention.wgsl"),
        others: &[
            ("matrix", include_str!("../../kernels/attend/cross_attention_matrix.wgsl")),
            ("subgroup", include_str!("../../kernels/attend/cross_attention_subgroup.wgsl")),
            ("block", include_str!("../../kernels/attend/cross_attention_block.wgsl")),
        ],
    },
    Entry {
        family: "attend",
        name: "gated_cross_attention",
        kernel: attend::gated_cross_attention::KERNEL,
        wgsl: include_str!("../../kernels/attend/gated_cross_attention.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "cross_attention_int8",
        kernel: compress::cross_attention_int8::KERNEL,
        wgsl: include_str!("../../kernels/compress/cross_attention_int8.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "dequantize_int4",
        kernel: compress::dequantize_int4::KERNEL,
        wgsl: include_str!("../../kernels/compress/dequantize_int4.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "dequantize_int8",
        kernel: compress::dequantize_int8::KERNEL,
        wgsl: include_str!("../../kernels/compress/dequantize_int8.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "linear_sparse_2_4",
        kernel: compress::linear_sparse_2_4::KERNEL,
        wgsl: include_str!("../../kernels/compress/linear_sparse_2_4.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "linear_w4a16",
        kernel: compress::linear_w4a16::KERNEL,
        wgsl: include_str!("../../kernels/compress/linear_w4a16.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "linear_w8a8",
        kernel: compress::linear_w8a8::KERNEL,
        wgsl: include_str!("../../kernels/compress/linear_w8a8.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "prune_2_4",
        kernel: compress::prune_2_4::KERNEL,
        wgsl: include_str!("../../kernels/compress/prune_2_4.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "prune_magnitude",
        kernel: compress::prune_magnitude::KERNEL,
        wgsl: include_str!("../../kernels/compress/prune_magnitude.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "quantize_int4",
        kernel: compress::quantize_int4::KERNEL,
        wgsl: include_str!("../../kernels/compress/quantize_int4.wgsl"),
        others: &[],
    },
    Entry {
        family: "compress",
        name: "quantize_int8",
        kernel: compress::quantize_int8::KERNEL,
        wgsl: include_str!("../../kernels/compress/quantize_int8.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "attention_map",
        kernel: explain::attention_map::KERNEL,
        wgsl: include_str!("../../kernels/explain/attention_map.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "attention_rollout",
        kernel: explain::attention_rollout::KERNEL,
        wgsl: include_str!("../../kernels/explain/attention_rollout.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "emap",
        kernel: explain::emap::KERNEL,
        wgsl: include_str!("../../kernels/explain/emap.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "kernel_shap",
        kernel: explain::kernel_shap::KERNEL,
        wgsl: include_str!("../../kernels/explain/kernel_shap.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "lime_surrogate",
        kernel: explain::lime_surrogate::KERNEL,
        wgsl: include_str!("../../kernels/explain/lime_surrogate.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "occlusion",
        kernel: explain::occlusion::KERNEL,
        wgsl: include_str!("../../kernels/explain/occlusion.wgsl"),
        others: &[],
    },
    Entry {
        family: "explain",
        name: "shapley_modalities",
        kernel: explain::shapley_modalities::KERNEL,
        wgsl: include_str!("../../kernels/explain/shapley_modalities.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "concat",
        kernel: fuse::concat::KERNEL,
        wgsl: include_str!("../../kernels/fuse/concat.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "early_fusion",
        kernel: fuse::early_fusion::KERNEL,
        wgsl: include_str!("../../kernels/fuse/early_fusion.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "film",
        kernel: fuse::film::KERNEL,
        wgsl: include_str!("../../kernels/fuse/film.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "gated_fusion",
        kernel: fuse::gated_fusion::KERNEL,
        wgsl: include_str!("../../kernels/fuse/gated_fusion.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "late_fusion",
        kernel: fuse::late_fusion::KERNEL,
        wgsl: include_str!("../../kernels/fuse/late_fusion.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "low_rank_fusion",
        kernel: fuse::low_rank_fusion::KERNEL,
        wgsl: include_str!("../../kernels/fuse/low_rank_fusion.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "modality_attention",
        kernel: fuse::modality_attention::KERNEL,
        wgsl: include_str!("../../kernels/fuse/modality_attention.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "multiplicative_interaction",
        kernel: fuse::multiplicative_interaction::KERNEL,
        wgsl: include_str!("../../kernels/fuse/multiplicative_interaction.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "nonlocal_gate",
        kernel: fuse::nonlocal_gate::KERNEL,
        wgsl: include_str!("../../kernels/fuse/nonlocal_gate.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "tensor_fusion",
        kernel: fuse::tensor_fusion::KERNEL,
        wgsl: include_str!("../../kernels/fuse/tensor_fusion.wgsl"),
        others: &[],
    },
    Entry {
        family: "fuse",
        name: "weighted_sum",
        kernel: fuse::weighted_sum::KERNEL,
        wgsl: include_str!("../../kernels/fuse/weighted_sum.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "add_layer_norm",
        kernel: normalize::add_layer_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/add_layer_norm.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "batch_norm",
        kernel: normalize::batch_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/batch_norm.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "group_norm",
        kernel: normalize::group_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/group_norm.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "l2_normalize",
        kernel: normalize::l2_normalize::KERNEL,
        wgsl: include_str!("../../kernels/normalize/l2_normalize.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "layer_norm",
        kernel: normalize::layer_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/layer_norm.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "min_max_scale",
        kernel: normalize::min_max_scale::KERNEL,
        wgsl: include_str!("../../kernels/normalize/min_max_scale.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "rms_norm",
        kernel: normalize::rms_norm::KERNEL,
        wgsl: include_str!("../../kernels/normalize/rms_norm.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "softmax",
        kernel: normalize::softmax::KERNEL,
        wgsl: include_str!("../../kernels/normalize/softmax.wgsl"),
        others: &[],
    },
    Entry {
        family: "normalize",
        name: "standardize",
        kernel: normalize::standardize::KERNEL,
        wgsl: include_str!("../../kernels/normalize/standardize.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "cooperative_matrix",
        kernel: probe::cooperative_matrix::KERNEL,
        wgsl: include_str!("../../kernels/probe/cooperative_matrix.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "copy",
        kernel: probe::copy::KERNEL,
        wgsl: include_str!("../../kernels/probe/copy.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "dot4",
        kernel: probe::dot4::KERNEL,
        wgsl: include_str!("../../kernels/probe/dot4.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "fma",
        kernel: probe::fma::KERNEL,
        wgsl: include_str!("../../kernels/probe/fma.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "launch_overhead",
        kernel: probe::launch_overhead::KERNEL,
        wgsl: include_str!("../../kernels/probe/launch_overhead.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "read",
        kernel: probe::read::KERNEL,
        wgsl: include_str!("../../kernels/probe/read.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "subgroup_sum",
        kernel: probe::subgroup_sum::KERNEL,
        wgsl: include_str!("../../kernels/probe/subgroup_sum.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "workgroup_memory",
        kernel: probe::workgroup_memory::KERNEL,
        wgsl: include_str!("../../kernels/probe/workgroup_memory.wgsl"),
        others: &[],
    },
    Entry {
        family: "probe",
        name: "write",
        kernel: probe::write::KERNEL,
        wgsl: include_str!("../../kernels/probe/write.wgsl"),
        others: &[],
    },
    Entry {
        family: "project",
        name: "embedding_lookup",
        kernel: project::embedding_lookup::KERNEL,
        wgsl: include_str!("../../kernels/project/embedding_lookup.wgsl"),
        others: &[],
    },
    Entry {
        family: "project",
        name: "linear",
        kernel: project::linear::KERNEL,
        wgsl: include_str!("../../kernels/project/linear.wgsl"),
        others: &[
            ("matrix", include_str!("../../kernels/project/linear_matrix.wgsl")),
            ("block", include_str!("../../kernels/project/linear_block.wgsl")),
        ],
    },
    Entry {
        family: "project",
        name: "linear_batched",
        kernel: project::linear_batched::KERNEL,
        wgsl: include_str!("../../kernels/project/linear_batched.wgsl"),
        others: &[],
    },
    Entry {
        family: "project",
        name: "mlp_projector",
        kernel: project::mlp_projector::KERNEL,
        wgsl: include_str!("../../kernels/project/mlp_projector.wgsl"),
        others: &[],
    },
    Entry {
        family: "protect",
        name: "clip_per_sample",
        kernel: protect::clip_per_sample::KERNEL,
        wgsl: include_str!("../../kernels/protect/clip_per_sample.wgsl"),
        others: &[],
    },
    Entry {
        family: "protect",
        name: "dp_sum",
        kernel: protect::dp_sum::KERNEL,
        wgsl: include_str!("../../kernels/protect/dp_sum.wgsl"),
        others: &[],
    },
    Entry {
        family: "protect",
        name: "gaussian_noise",
        kernel: protect::gaussian_noise::KERNEL,
        wgsl: include_str!("../../kernels/protect/gaussian_noise.wgsl"),
        others: &[],
    },
    Entry {
        family: "relate",
        name: "contrastive_loss",
        kernel: relate::contrastive_loss::KERNEL,
        wgsl: include_str!("../../kernels/relate/contrastive_loss.wgsl"),
        others: &[],
    },
    Entry {
        family: "relate",
        name: "cosine_similarity",
        kernel: relate::cosine_similarity::KERNEL,
        wgsl: include_str!("../../kernels/relate/cosine_similarity.wgsl"),
        others: &[],
    },
    Entry {
        family: "relate",
        name: "sigmoid_contrastive_loss",
        kernel: relate::sigmoid_contrastive_loss::KERNEL,
        wgsl: include_str!("../../kernels/relate/sigmoid_contrastive_loss.wgsl"),
        others: &[],
    },
    Entry {
        family: "relate",
        name: "top_k",
        kernel: relate::top_k::KERNEL,
        wgsl: include_str!("../../kernels/relate/top_k.wgsl"),
        others: &[],
    },
];
