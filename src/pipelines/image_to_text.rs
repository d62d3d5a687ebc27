//! Images for a language model: the projector of LLaVA (arXiv 2304.08485), which hands every image
//! token on, beside the Q-Former of BLIP-2 (arXiv 2301.12597), whose few queries read the image.

use super::layers::{Size, linear, linear_gelu, plain};
use crate::kernel::{Dtype, Preset, Shape};
use crate::pipeline::{Pipeline, Stage};

/// `early` joins all image tokens and the text, `mid` reads the image through queries.
pub const PIPELINE: Pipeline = Pipeline {
    name: "image_to_text",
    summary: "bring image tokens into a language model's space, all of them or through queries",
    difficulties: &[1, 2, 3, 4, 5, 6],
    strategies: &["mid", "early"],
    dtypes: &[Dtype::F32, Dtype::F16, Dtype::I8, Dtype::I4],
    shapes,
    stages,
};

/// Sides of the grid of positions before and after stretching (p, g), widths of an image token and
/// of the language model (i, d), queries, their heads and the width of one (q, h, e), text tokens.
fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |[p, g, i, d]: [usize; 4], [q, h, e, t]: [usize; 4]| {
        let image = [("p", p), ("g", g), ("i", i), ("d", d)];
        Shape::new(&[image, [("q", q), ("h", h), ("e", e), ("t", t)]].concat())
    };
    let queries = [32, 12, 64, 64];
    match preset {
        Preset::Smoke => vec![of([3, 4, 32, 48], [5, 2, 8, 3])],
        Preset::Models => {
            vec![of([16, 24, 1024, 4096], queries).from("LLaVA-1.5-7B and BLIP-2")]
        }
        Preset::Sweep => [4, 8, 16, 24].map(|g| of([16, g, 1024, 1024], queries)).into(),
    }
}

fn stages(shape: &Shape, strategy: &str, dtype: Dtype) -> Vec<Stage> {
    let (p, g, i) = (shape["p"], shape["g"], shape["i"]);
    let rest = plain(dtype);
    let mut stages = Vec::new();
    let axes = [("h", p), ("w", p), ("c", i), ("y", g), ("x", g)];
    stages.push(Stage::new("stretch positions", "resize_bilinear", &axes, rest));
    let axes = [("r", g * g), ("d", i)];
    let placed = Stage::new("add positions", "add_layer_norm", &axes, rest);
    stages.push(placed.from("res", "stretch positions", "y"));
    match strategy {
        "early" => early(&mut stages, shape, dtype),
        _ => mid(&mut stages, shape, dtype),
    }
    stages
}

/// Two layers for every token, then the tokens of image and text in one sequence.
fn early(stages: &mut Vec<Stage>, shape: &Shape, dtype: Dtype) {
    let (tokens, i, d, t) = (shape["g"] * shape["g"], shape["i"], shape["d"], shape["t"]);
    let size = Size { m: tokens, n: d, k: i };
    linear_gelu(stages, "project: hidden layer", ("add positions", "y"), &size, dtype);
    let size = Size { m: tokens, n: d, k: d };
    linear(stages, "project", ("project: hidden layer", "y"), &size, dtype);
    let axes = [("b", 1), ("u", tokens * d), ("v", t * d)];
    let joined = Stage::new("join image and text", "concat", &axes, plain(dtype));
    stages.push(joined.from("x0", "project", "y"));
}

/// Queries attend to keys and values of all tokens; a feed-forward block; the model's width.
fn mid(stages: &mut Vec<Stage>, shape: &Shape, dtype: Dtype) {
    let (tokens, i, d) = (shape["g"] * shape["g"], shape["i"], shape["d"]);
    let (q, h, e) = (shape["q"], shape["h"], shape["e"]);
    let (width, rest) = (h * e, plain(dtype));
    let size = Size { m: tokens, n: width, k: i };
    linear(stages, "keys", ("add positions", "y"), &size, dtype);
    linear(stages, "values", ("add positions", "y"), &size, dtype);
    let rows = [("r", q), ("d", width)];
    stages.push(Stage::new("normalise queries", "layer_norm", &rows, rest));
    let size = Size { m: q, n: width, k: width };
    linear(stages, "queries", ("normalise queries", "y"), &size, dtype);
    let pairs = [("b", 1), ("h", h), ("q", q), ("k", tokens), ("d", e)];
    let map = Stage::new("map of the image", "attention_map", &pairs, rest);
    stages.push(map.from("q", "queries", "y").from("k", "keys", "y"));
    let read = Stage::new("read the image", "cross_attention", &pairs, rest);
    let read = read.from("q", "queries", "y").from("k", "keys", "y");
    stages.push(read.from("v", "values", "y"));
    let added = Stage::new("add", "add_layer_norm", &rows, rest).from("x", "read the image", "o");
    stages.push(added.from("res", "normalise queries", "y"));
    let size = Size { m: q, n: 4 * width, k: width };
    linear_gelu(stages, "feed forward: hidden layer", ("add", "y"), &size, dtype);
    let size = Size { m: q, n: width, k: 4 * width };
    linear(stages, "feed forward", ("feed forward: hidden layer", "y"), &size, dtype);
    let added = Stage::new("add again", "add_layer_norm", &rows, rest);
    stages.push(added.from("x", "feed forward", "y").from("res", "add", "y"));
    let size = Size { m: q, n: d, k: width };
    linear(stages, "project", ("add again", "y"), &size, dtype);
}
