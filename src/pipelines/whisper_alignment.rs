//! Word times from attention: the alignment heads of Whisper's decoder look at the audio, and what
//! openai/whisper `timing.py` does with their weights follows.

use super::layers::{Size, linear, plain};
use crate::kernel::{Dtype, Preset, Shape};
use crate::pipeline::{Pipeline, Source, Stage};

pub const PIPELINE: Pipeline = Pipeline {
    name: "whisper_alignment",
    summary: "warp text tokens onto audio frames along the attention of the alignment heads",
    difficulties: &[1, 3, 6],
    strategies: &["dtw"],
    dtypes: &[Dtype::F32, Dtype::F16, Dtype::I8, Dtype::I4],
    shapes,
    stages,
};

/// Frames the median is taken over.
const WIDTH: usize = 7;

/// Heads, tokens and frames, width of the states and of a head.
fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |h, t, f, i, d| Shape::new(&[("h", h), ("t", t), ("f", f), ("i", i), ("d", d)]);
    match preset {
        // More heads than there are modalities: their mean is a weighted sum.
        Preset::Smoke => vec![of(3, 11, 33, 36, 8), of(7, 5, 36, 36, 8)],
        Preset::Models => {
            vec![of(10, 448, 1500, 1280, 64).from("Whisper-large-v3, ten alignment heads")]
        }
        Preset::Sweep => [32, 64, 128, 256, 448].map(|t| of(10, t, 1500, 1280, 64)).into(),
    }
}

fn stages(shape: &Shape, _strategy: &str, dtype: Dtype) -> Vec<Stage> {
    let (h, t, f) = (shape["h"], shape["t"], shape["f"]);
    let (i, d) = (shape["i"], shape["d"]);
    let stage = |name, kernel, axes: &[_]| Stage::new(name, kernel, axes, plain(dtype));
    let mut stages = Vec::new();
    for (name, of, m) in [("queries", "tokens", t), ("keys", "frames", f)] {
        let states = Source::Features { of, scale: 1.0 };
        linear(&mut stages, name, states, &Size { m, n: h * d, k: i }, dtype);
    }
    let pairs = [("b", 1), ("h", h), ("q", t), ("k", f), ("d", d)];
    let weights = stage("weights", "attention_map", &pairs);
    stages.push(weights.from("q", "queries", "y").from("k", "keys", "y"));
    let axes = [("b", h), ("r", t), ("f", f)];
    let standard = stage("standardise over tokens", "standardize", &axes);
    stages.push(standard.from("x", "weights", "weights"));
    let axes = [("r", h * t), ("t", f), ("w", WIDTH)];
    let median = stage("median over frames", "median_filter", &axes);
    stages.push(median.from("x", "standardise over tokens", "y"));
    let mean = stage("mean over heads", "weighted_sum", &[("m", h), ("b", t), ("d", f)]);
    stages.push(mean.from("x", "median over frames", "y").answer());
    // The path of most attention, hence its negative as a cost.
    let warp = stage("warp", "dtw", &[("b", 1), ("n", t), ("m", f)]).tag("negated");
    stages.push(warp.from("x", "mean over heads", "y"));
    stages
}
