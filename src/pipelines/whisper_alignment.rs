//! Word times from attention: what openai/whisper `timing.py` does with the weights of the
//! alignment heads of its decoder.

use crate::kernel::{Dtype, Preset, Shape};
use crate::pipeline::{Pipeline, Stage};

pub const PIPELINE: Pipeline = Pipeline {
    name: "whisper_alignment",
    summary: "warp text tokens onto audio frames along the attention of the alignment heads",
    difficulties: &[1, 3, 6],
    strategies: &["dtw"],
    dtypes: &[Dtype::F32, Dtype::F16],
    shapes,
    stages,
};

/// Frames the median is taken over.
const WIDTH: usize = 7;

/// Heads, tokens and frames.
fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |h, t, f| Shape::new(&[("h", h), ("t", t), ("f", f)]);
    match preset {
        Preset::Smoke => vec![of(3, 11, 33)],
        Preset::Models => vec![of(10, 448, 1500).from("Whisper-large-v3, ten alignment heads")],
        Preset::Sweep => [32, 64, 128, 256, 448].map(|t| of(10, t, 1500)).into(),
    }
}

fn stages(shape: &Shape, _strategy: &str, dtype: Dtype) -> Vec<Stage> {
    let (h, t, f) = (shape["h"], shape["t"], shape["f"]);
    let stage = |name, kernel, axes: &[_]| Stage::new(name, kernel, axes, dtype);
    vec![
        stage("weights", "softmax", &[("r", h * t), ("n", f)]),
        stage("standardise over tokens", "standardize", &[("b", h), ("r", t), ("f", f)])
            .from("x", "weights", "y"),
        stage("median over frames", "median_filter", &[("r", h * t), ("t", f), ("w", WIDTH)]).from(
            "x",
            "standardise over tokens",
            "y",
        ),
        stage("mean over heads", "weighted_sum", &[("m", h), ("b", t), ("d", f)])
            .from("x", "median over frames", "y")
            .answer(),
        // The path of most attention, hence its negative as a cost.
        stage("warp", "dtw", &[("b", 1), ("n", t), ("m", f)]).tag("negated").from(
            "x",
            "mean over heads",
            "y",
        ),
    ]
}
