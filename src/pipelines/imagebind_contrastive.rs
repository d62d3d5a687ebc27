//! Four modalities in one space: the heads, the losses and the retrieval of ImageBind (arXiv
//! 2305.05665).

use super::layers::{Size, linear, plain};
use crate::kernel::{Dtype, Preset, Shape};
use crate::pipeline::{Pipeline, Stage};

/// The pairwise loss of CLIP, or the sigmoid loss of SigLIP (arXiv 2303.15343).
pub const PIPELINE: Pipeline = Pipeline {
    name: "imagebind_contrastive",
    summary: "embed images, text, audio and depth in one space, compare all pairs, and retrieve",
    difficulties: &[1, 4, 5, 6],
    strategies: &["infonce", "sigmoid"],
    dtypes: &[Dtype::F32, Dtype::F16, Dtype::I8, Dtype::I4],
    shapes,
    stages,
};

/// Widths of the towers of ImageBind-huge, whose space is 1,024 wide.
const TOWERS: [(&str, usize); 4] =
    [("image", 1280), ("text", 1024), ("audio", 768), ("depth", 384)];
const SPACE: usize = 1024;
/// Retrieved neighbours.
const NEIGHBOURS: usize = 5;

/// Batch and width of the space; the towers shrink with it.
fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |b, d| Shape::new(&[("b", b), ("d", d)]);
    match preset {
        Preset::Smoke => vec![of(9, 32)],
        Preset::Models => vec![of(1024, SPACE).from("ImageBind-huge, batch 1024")],
        Preset::Sweep => (6..=11).map(|log2| of(1 << log2, SPACE)).collect(),
    }
}

fn stages(shape: &Shape, strategy: &str, dtype: Dtype) -> Vec<Stage> {
    let (b, d) = (shape["b"], shape["d"]);
    let rest = plain(dtype);
    let mut stages = Vec::new();
    for (name, width) in TOWERS {
        let width = width * d / SPACE;
        let (normal, projected) = (format!("normalise {name}"), format!("project {name}"));
        stages.push(Stage::new(normal.clone(), "layer_norm", &[("r", b), ("d", width)], rest));
        linear(&mut stages, &projected, (&normal, "y"), &Size { m: b, n: d, k: width }, dtype);
        let axes = [("r", b), ("d", d)];
        let unit = Stage::new(format!("unit {name}"), "l2_normalize", &axes, rest);
        stages.push(unit.from("x", &projected, "y"));
    }
    let loss = if strategy == "sigmoid" { "sigmoid_contrastive_loss" } else { "contrastive_loss" };
    for (name, _) in &TOWERS[1..] {
        let stage = Stage::new(format!("image against {name}"), loss, &[("b", b), ("d", d)], rest);
        let stage = stage.tag("unit").from("a", "unit image", "y");
        stages.push(stage.from("b", &format!("unit {name}"), "y"));
    }
    let axes = [("m", b), ("n", b), ("d", d)];
    let similar = Stage::new("image to text", "cosine_similarity", &axes, rest).answer();
    stages.push(similar.from("a", "unit image", "y").from("b", "unit text", "y"));
    let axes = [("r", b), ("n", b), ("k", NEIGHBOURS.min(b))];
    stages.push(Stage::new("retrieve", "top_k", &axes, rest).from("x", "image to text", "s"));
    let additive = Stage::new("additive part", "emap", &[("n", b), ("c", 1)], rest);
    stages.push(additive.from("f", "image to text", "s"));
    stages
}
