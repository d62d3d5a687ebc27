//! Sentiment from text, audio and vision: the Multimodal Transformer on CMU-MOSEI (arXiv
//! 1906.00295), its cross-modal attention beside fusing earlier and later.

use super::layers::{Size, linear, linear_gelu, plain};
use crate::kernel::{Dtype, Preset, Shape};
use crate::pipeline::{Pipeline, Stage};

/// Strategies `aligned_…` first bring audio and vision to the steps of the text.
pub const PIPELINE: Pipeline = Pipeline {
    name: "mosei_mult",
    summary: "read sentiment from text, audio and vision, fused early, midway or late",
    difficulties: &[1, 2, 3, 4, 6],
    strategies: &["mid", "early", "late", "aligned_mid", "aligned_early", "aligned_late"],
    dtypes: &[Dtype::F32, Dtype::F16, Dtype::I8, Dtype::I4],
    shapes,
    stages,
};

/// Features of each modality: GloVe words, COVAREP frames, Facet frames.
const FEATURES: [usize; 3] = [300, 74, 35];
const NAMES: [&str; 3] = ["text", "audio", "vision"];
/// Width, heads and width of a head of MulT.
const D: usize = 30;
const H: usize = 5;
const DH: usize = 6;
/// Classes of the seven-point sentiment scale.
const CLASSES: usize = 7;
/// An attention map of more weights than this is not drawn.
const MAP_LIMIT: usize = 200 * 200;

/// Batch, steps of text, audio and vision, levels of attention.
fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |b, t, a, v, l| Shape::new(&[("b", b), ("t", t), ("a", a), ("v", v), ("l", l)]);
    match preset {
        Preset::Smoke => vec![of(2, 5, 13, 9, 1)],
        Preset::Models => vec![of(24, 50, 500, 375, 5).from("MulT on CMU-MOSEI")],
        Preset::Sweep => [1, 2, 4, 8].map(|b| of(b, 50, 500, 375, 1)).into(),
    }
}

/// One modality on its way: the stage and output that hold it, and its steps.
#[derive(Clone)]
struct Stream {
    stage: String,
    output: &'static str,
    steps: usize,
}

struct Plan<'a> {
    shape: &'a Shape,
    dtype: Dtype,
    stages: Vec<Stage>,
}

fn stages(shape: &Shape, strategy: &str, dtype: Dtype) -> Vec<Stage> {
    let mut plan = Plan { shape, dtype, stages: Vec::new() };
    let aligned = strategy.starts_with("aligned_");
    let streams = [0, 1, 2].map(|modality| plan.enter(modality, aligned));
    match strategy.trim_start_matches("aligned_") {
        "early" => plan.early(&streams),
        "mid" => plan.mid(&streams),
        _ => plan.late(&streams),
    }
    plan.stages
}

impl Plan<'_> {
    fn b(&self) -> usize {
        self.shape["b"]
    }

    fn push(&mut self, stage: Stage) {
        self.stages.push(stage);
    }

    fn stage(&self, name: &str, kernel: &'static str, axes: &[(&'static str, usize)]) -> Stage {
        Stage::new(name, kernel, axes, plain(self.dtype))
    }

    /// Standardised over the corpus, aligned to the text if wanted, projected and normalised.
    fn enter(&mut self, modality: usize, aligned: bool) -> Stream {
        let (b, text) = (self.b(), self.shape["t"]);
        let (name, f) = (NAMES[modality], FEATURES[modality]);
        let mut steps = self.shape[["t", "a", "v"][modality]];
        let mut last = format!("standardise {name}");
        let rows = [("b", 1), ("r", b * steps), ("f", f)];
        self.push(self.stage(&last, "standardize", &rows));
        if aligned && modality > 0 {
            let name = format!("align {name}");
            let axes = [("b", b), ("t", steps), ("f", f), ("u", text)];
            let stage = self.stage(&name, "sliding_window_pool", &axes);
            self.push(stage.from("x", &last, "y"));
            (last, steps) = (name, text);
        }
        let projected = format!("project {name}");
        let size = Size { m: b * steps, n: D, k: f };
        linear(&mut self.stages, &projected, (&last, "y"), &size, self.dtype);
        let normal = format!("normalise {name}");
        let axes = [("r", b * steps), ("d", D)];
        self.push(self.stage(&normal, "layer_norm", &axes).from("x", &projected, "y"));
        Stream { stage: normal, output: "y", steps }
    }

    /// Levels of attention from `target` to `source`, each added to the target and normalised.
    fn attend(&mut self, name: &str, target: &Stream, source: &Stream) -> Stream {
        let itself = target.stage == source.stage;
        let mut state = target.clone();
        for level in 1..=self.shape["l"] {
            let source = if itself { state.clone() } else { source.clone() };
            let attended = format!("{name}, level {level}");
            let axes =
                [("b", self.b()), ("h", H), ("q", target.steps), ("k", source.steps), ("d", DH)];
            let stage = self.stage(&attended, "cross_attention", &axes);
            let stage = stage.from("q", &state.stage, state.output);
            let stage = stage.from("k", &source.stage, source.output);
            self.push(stage.from("v", &source.stage, source.output));
            let added = format!("{name}, level {level}: add");
            let axes = [("r", self.b() * target.steps), ("d", D)];
            let stage = self.stage(&added, "add_layer_norm", &axes);
            let stage = stage.from("x", &attended, "o").from("res", &state.stage, state.output);
            self.push(stage);
            state = Stream { stage: added, output: "y", steps: target.steps };
        }
        state
    }

    /// The mean over the steps.
    fn pool(&mut self, name: &str, stream: &Stream) -> String {
        let pooled = format!("pool {name}");
        let axes = [("b", self.b()), ("t", stream.steps), ("f", D), ("u", 1)];
        let stage = self.stage(&pooled, "sliding_window_pool", &axes);
        self.push(stage.from("x", &stream.stage, stream.output));
        pooled
    }

    /// The outputs `y` of some stages side by side, each as wide as said, in `rows` rows.
    fn join(&mut self, parts: &[(String, usize)], rows: usize) {
        const WIDTHS: [&str; 6] = ["u", "v", "w", "x", "y", "z"];
        const INPUTS: [&str; 6] = ["x0", "x1", "x2", "x3", "x4", "x5"];
        let mut axes = vec![("b", rows)];
        axes.extend(parts.iter().enumerate().map(|(m, (_, width))| (WIDTHS[m], *width)));
        let mut stage = self.stage("join", "concat", &axes);
        for (m, (part, _)) in parts.iter().enumerate() {
            stage = stage.from(INPUTS[m], part, "y");
        }
        self.push(stage);
    }

    /// A hidden layer as wide as the input, then one number for each class.
    fn head(&mut self, name: &str, from: &str, width: usize) -> String {
        let b = self.b();
        let (hidden, out) = (format!("{name}: hidden layer"), format!("{name}: classes"));
        let size = Size { m: b, n: width, k: width };
        linear_gelu(&mut self.stages, &hidden, (from, "y"), &size, self.dtype);
        let size = Size { m: b, n: CLASSES, k: width };
        linear(&mut self.stages, &out, (&hidden, "y"), &size, self.dtype);
        out
    }

    /// What the first level of the target attends to: the map that a heat map shows.
    fn explain(&mut self, name: &str, target: &Stream, source: &Stream) {
        if target.steps * source.steps > MAP_LIMIT {
            return;
        }
        let axes = [("b", self.b()), ("h", H), ("q", target.steps), ("k", source.steps), ("d", DH)];
        let stage = self.stage(name, "attention_map", &axes);
        let stage = stage.from("q", &target.stage, target.output);
        self.push(stage.from("k", &source.stage, source.output));
    }

    /// Each modality attends to both others; the six results are pooled and judged together.
    fn mid(&mut self, streams: &[Stream; 3]) {
        let mut pooled = Vec::new();
        for target in 0..3 {
            for source in (0..3).filter(|source| *source != target) {
                let name = format!("{} from {}", NAMES[target], NAMES[source]);
                let state = self.attend(&name, &streams[target], &streams[source]);
                pooled.push((self.pool(&name, &state), D));
            }
        }
        self.explain("map text from audio", &streams[0], &streams[1]);
        self.join(&pooled, self.b());
        self.head("judge", "join", 6 * D);
    }

    /// All steps of all modalities in one sequence that attends to itself.
    fn early(&mut self, streams: &[Stream; 3]) {
        let parts = streams.each_ref().map(|stream| (stream.stage.clone(), stream.steps * D));
        self.join(&parts, self.b());
        let steps = streams.iter().map(|stream| stream.steps).sum();
        let joined = Stream { stage: "join".to_owned(), output: "y", steps };
        let state = self.attend("attend", &joined, &joined);
        self.explain("map all from all", &joined, &joined);
        let pooled = self.pool("all", &state);
        self.head("judge", &pooled, D);
    }

    /// Each modality attends to itself and judges alone; the judgements are averaged, and the mean
    /// judgement is shared out among the modalities by exact Shapley values.
    fn late(&mut self, streams: &[Stream; 3]) {
        let b = self.b();
        let mut logits = Vec::new();
        for (stream, name) in streams.iter().zip(NAMES) {
            let state = self.attend(name, stream, stream);
            let pooled = self.pool(name, &state);
            logits.push((self.head(&format!("judge {name}"), &pooled, D), b * CLASSES));
        }
        self.join(&logits, 1);
        let axes = [("m", 3), ("b", b), ("c", CLASSES)];
        let fused = self.stage("fuse late", "late_fusion", &axes).from("x", "join", "y");
        self.push(fused.answer());
        self.share_out();
    }

    /// The mean judgements, copied for each of the eight coalitions and fused without the absent.
    fn share_out(&mut self) {
        let axes = [("b", 3), ("t", self.b()), ("f", CLASSES), ("u", 1)];
        let mean = self.stage("mean judgement", "sliding_window_pool", &axes);
        self.push(mean.from("x", "join", "y"));
        let axes = [("b", 3), ("t", 1), ("u", 8), ("f", CLASSES)];
        let copies = self.stage("eight coalitions", "resample_linear", &axes);
        self.push(copies.from("x", "mean judgement", "y"));
        let axes = [("m", 3), ("b", 8), ("c", CLASSES)];
        let coalitions = self.stage("judge coalitions", "late_fusion", &axes).tag("present");
        self.push(coalitions.from("x", "eight coalitions", "y"));
        // The kernel takes f32 values only.
        if plain(self.dtype) == Dtype::F32 {
            let axes = [("m", 3), ("c", CLASSES)];
            let shares = Stage::new("share out", "shapley_modalities", &axes, Dtype::F32);
            self.push(shares.from("v", "judge coalitions", "y"));
        }
    }
}
