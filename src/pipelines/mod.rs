//! The pipelines of published fusion models, as chains of kernels.

mod image_to_text;
mod imagebind_contrastive;
mod layers;
mod mosei_mult;
mod whisper_alignment;

use crate::pipeline::Pipeline;

/// Every pipeline.
pub const ALL: &[&Pipeline] = &[
    &image_to_text::PIPELINE,
    &imagebind_contrastive::PIPELINE,
    &mosei_mult::PIPELINE,
    &whisper_alignment::PIPELINE,
];
