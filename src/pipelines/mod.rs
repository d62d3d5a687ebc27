//! The pipelines of published fusion models, as chains of kernels.

use crate::pipeline::Pipeline;

/// Every pipeline.
pub const ALL: &[&Pipeline] = &[];
