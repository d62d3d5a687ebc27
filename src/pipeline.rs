//! What a pipeline is: kernels that hand their outputs on. It owns no shader.

use crate::kernel::{Dtype, Elem, Preset, Shape};

/// One way through fusion, from features to an answer, under several strategies and precisions.
#[derive(Clone, Copy)]
pub struct Pipeline {
    /// Without the `pipeline_` that stands before it in ids.
    pub name: &'static str,
    /// One plain sentence, shown by `list` and in the documentation table.
    pub summary: &'static str,
    /// Which of the seven difficulties of modality fusion it answers.
    pub difficulties: &'static [u8],
    /// Fusion strategies.
    pub strategies: &'static [&'static str],
    /// `i8` and `i4` stand for its linear layers; the rest is f32 and f16.
    pub dtypes: &'static [Dtype],
    pub shapes: fn(Preset) -> Vec<Shape>,
    /// The stages in order.
    pub stages: fn(&Shape, strategy: &str, dtype: Dtype) -> Vec<Stage>,
}

/// One kernel of a pipeline.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Unique in its pipeline; the same stage of another precision has the same name, and with it
    /// the same weights.
    pub name: String,
    /// Name of the kernel.
    pub kernel: &'static str,
    pub shape: Shape,
    pub dtype: Dtype,
    /// How its floating-point tensors are stored: what a strategy of an i8 or i4 kernel must match.
    pub storage: Elem,
    /// What the pipeline answers, of whose first output the end-to-end error is told; the last
    /// stage where none says so.
    pub is_answer: bool,
    pub wires: Vec<Wire>,
}

/// An input that is an output of an earlier stage; every other input is drawn.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Name of the input tensor.
    pub input: &'static str,
    /// Name of the earlier stage.
    pub stage: String,
    /// Name of its output.
    pub output: &'static str,
}

impl Stage {
    pub fn new(
        name: impl Into<String>,
        kernel: &'static str,
        axes: &[(&'static str, usize)],
        dtype: Dtype,
    ) -> Self {
        let (name, shape) = (name.into(), Shape::new(axes));
        let storage = dtype.storage();
        Stage { name, kernel, shape, dtype, storage, is_answer: false, wires: Vec::new() }
    }

    /// Adds an option to the shape.
    pub fn tag(mut self, tag: &'static str) -> Self {
        self.shape = self.shape.tag(tag);
        self
    }

    /// Stores floating-point tensors of an i8 or i4 kernel otherwise than as f32.
    pub fn stored_as(mut self, storage: Elem) -> Self {
        self.storage = storage;
        self
    }

    /// Makes this the stage of whose error the row speaks.
    pub fn answer(mut self) -> Self {
        self.is_answer = true;
        self
    }

    /// Takes an input from an earlier stage.
    pub fn from(mut self, input: &'static str, stage: &str, output: &'static str) -> Self {
        self.wires.push(Wire { input, stage: stage.to_owned(), output });
        self
    }
}
