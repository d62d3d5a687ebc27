//! What a pipeline is: kernels that hand their outputs on. It owns no shader.

use crate::inputs::ColumnScale;
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

/// Where an input comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Name of an earlier stage and of its output.
    Stage(String, &'static str),
    /// Features as they are, so much times standard normal.
    Features { of: &'static str, scale: f32 },
}

impl<S: Into<String>> From<(S, &'static str)> for Source {
    fn from((stage, output): (S, &'static str)) -> Self {
        Source::Stage(stage.into(), output)
    }
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
    /// The input that holds features, if one does.
    pub features: Option<Features>,
    /// Columns of the weights that are not as large as the others.
    pub columns: Option<ColumnScale>,
}

/// What a pipeline starts from: the same values at every precision and under every strategy.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Name of the input tensor.
    pub input: &'static str,
    /// Whose features, which names the values.
    pub of: &'static str,
    /// How large they are.
    pub scale: f32,
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
        Stage {
            name,
            kernel,
            shape,
            dtype,
            storage,
            is_answer: false,
            wires: Vec::new(),
            features: None,
            columns: None,
        }
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

    /// Takes an input from an earlier stage, or from the features.
    pub fn fed(self, input: &'static str, source: &Source) -> Self {
        match source {
            Source::Stage(stage, output) => self.from(input, stage, output),
            &Source::Features { of, scale } => {
                Stage { features: Some(Features { input, of, scale }), ..self }
            }
        }
    }

    /// Takes an input from an earlier stage.
    pub fn from(mut self, input: &'static str, stage: &str, output: &'static str) -> Self {
        self.wires.push(Wire { input, stage: stage.to_owned(), output });
        self
    }
}
