//! Sentiment from text, audio and vision: the Multimodal Transformer on CMU-MOSEI (arXiv
//! 1906.00295), its cross-modal attention beside fusing earlier and later.
//!
//! Two axes of its shapes are no sizes. `r` makes audio 2^r times as large as text and vision, and
//! the option `raw` leaves standardising out: the weights on audio are then 2^r times smaller, as
//! training makes them. `p` holds the presence bits of text, audio and vision.

use super::layers::{Size, linear, linear_gelu, plain};
use crate::inputs::ColumnScale;
use crate::kernel::{Dtype, Preset, Shape};
use crate::pipeline::{Pipeline, Source, Stage};

/// Strategies `aligned_…` first bring audio and vision to the steps of the text; `aligned_concat`
/// then joins features side by side, `aligned_early` and `early` join steps one after the other.
pub const PIPELINE: Pipeline = Pipeline {
    name: "mosei_mult",
    summary: "read sentiment from text, audio and vision, fused early, midway or late",
    difficulties: &[1, 2, 3, 4, 6],
    strategies: &[
        "mid",
        "early",
        "late",
        "aligned_mid",
        "aligned_early",
        "aligned_concat",
        "aligned_late",
    ],
    dtypes: &[Dtype::F32, Dtype::F16, Dtype::I8, Dtype::I4],
    shapes,
    stages,
};

/// Features of each modality: GloVe words, COVAREP frames, Facet frames.
const FEATURES: [usize; 3] = [300, 74, 35];
const NAMES: [&str; 3] = ["text", "audio", "vision"];
/// The modality whose scale grows with `r`.
const AUDIO: usize = 1;
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
    let of = |b, t, a, v, l| [("b", b), ("t", t), ("a", a), ("v", v), ("l", l)];
    let plain = |axes: [(&'static str, usize); 5]| Shape::new(&axes);
    let and = |axes: [_; 5], more| Shape::new(&[&axes[..], &[more]].concat());
    match preset {
        Preset::Smoke => {
            let axes = of(2, 5, 13, 9, 1);
            let scaled = and(axes, ("r", 12));
            vec![plain(axes), scaled.clone(), scaled.tag("raw"), and(axes, ("p", 5))]
        }
        Preset::Models => vec![plain(of(24, 50, 500, 375, 5)).from("MulT on CMU-MOSEI")],
        Preset::Sweep => {
            let batches = [1, 2, 4, 8].map(|b| plain(of(b, 50, 500, 375, 1)));
            // A fifth of the steps: small enough for the whole chain in f64.
            let axes = of(8, 10, 100, 75, 1);
            let ratios = (0..=15).map(|r| and(axes, ("r", r)));
            let ratios = ratios.flat_map(|shape| [shape.clone(), shape.tag("raw")]);
            let masks = (0..1 << NAMES.len()).map(|p| and(axes, ("p", p)));
            batches.into_iter().chain(ratios).chain(masks).collect()
        }
    }
}

/// One modality on its way: the stage and output that hold it, its steps, and how many of them
/// from the first on are there, where not all are.
#[derive(Clone)]
struct Stream {
    stage: String,
    output: &'static str,
    steps: usize,
    valid: Option<usize>,
}

/// The axis that hides the other steps.
fn hidden(valid: Option<usize>) -> impl Iterator<Item = (&'static str, usize)> {
    valid.map(|n| ("n", n)).into_iter()
}

struct Plan<'a> {
    shape: &'a Shape,
    dtype: Dtype,
    stages: Vec<Stage>,
}

fn stages(shape: &Shape, strategy: &str, dtype: Dtype) -> Vec<Stage> {
    let mut plan = Plan { shape, dtype, stages: Vec::new() };
    let aligned = strategy.starts_with("aligned_");
    if strategy == "aligned_concat" {
        plan.concat();
        return plan.stages;
    }
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

    /// How much larger than the other modalities this one is.
    fn scale(&self, modality: usize) -> f32 {
        let octaves = self.shape.get("r").filter(|_| modality == AUDIO).unwrap_or(0);
        (octaves as f32).exp2()
    }

    /// Whether the weights meet features of unlike scale.
    fn is_raw(&self) -> bool {
        self.shape.option() == Some("raw")
    }

    /// Presence bits, where the shape has any.
    fn present(&self) -> Option<usize> {
        self.shape.get("p")
    }

    fn is_absent(&self, modality: usize) -> bool {
        self.present().is_some_and(|bits| bits >> modality & 1 == 0)
    }

    /// Features, standardised over the corpus unless raw and aligned to the text if wanted, and
    /// their steps.
    fn features(&mut self, modality: usize, aligned: bool) -> (Source, usize) {
        let (b, text) = (self.b(), self.shape["t"]);
        let (name, f) = (NAMES[modality], FEATURES[modality]);
        let steps = self.shape[["t", "a", "v"][modality]];
        let mut source = Source::Features { of: name, scale: self.scale(modality) };
        if !self.is_raw() {
            let standard = format!("standardise {name}");
            let rows = [("b", 1), ("r", b * steps), ("f", f)];
            self.push(self.stage(&standard, "standardize", &rows).fed("x", &source));
            source = Source::Stage(standard, "y");
        }
        if !aligned || modality == 0 {
            return (source, steps);
        }
        let name = format!("align {name}");
        let axes = [("b", b), ("t", steps), ("f", f), ("u", text)];
        self.push(self.stage(&name, "sliding_window_pool", &axes).fed("x", &source));
        (Source::Stage(name, "y"), text)
    }

    /// Features projected to the width of the model and normalised. Weights on columns
    /// `first..end` make up for the scale of raw audio.
    fn project(
        &mut self,
        name: &str,
        source: Source,
        rows: usize,
        features: usize,
        (first, end): (usize, usize),
    ) -> String {
        let projected = format!("project {name}");
        linear(
            &mut self.stages,
            &projected,
            source,
            &Size { m: rows, n: D, k: features },
            self.dtype,
        );
        if self.is_raw() {
            let factor = self.scale(AUDIO).recip();
            let layer = self.stages.last_mut().expect("just pushed");
            layer.columns = Some(ColumnScale { first, end, factor });
        }
        let normal = format!("normalise {name}");
        let stage = self.stage(&normal, "layer_norm", &[("r", rows), ("d", D)]);
        self.push(stage.from("x", &projected, "y"));
        normal
    }

    /// One modality by itself, ready for attention.
    fn enter(&mut self, modality: usize, aligned: bool) -> Stream {
        let (source, steps) = self.features(modality, aligned);
        let (rows, f) = (self.b() * steps, FEATURES[modality]);
        let audio = if modality == AUDIO { (0, f) } else { (0, 0) };
        let stage = self.project(NAMES[modality], source, rows, f, audio);
        let valid = self.is_absent(modality).then_some(0);
        Stream { stage, output: "y", steps, valid }
    }

    /// Levels of attention from `target` to `source`, each added to the target and normalised.
    fn attend(&mut self, name: &str, target: &Stream, source: &Stream) -> Stream {
        let itself = target.stage == source.stage;
        let mut state = target.clone();
        for level in 1..=self.shape["l"] {
            let source = if itself { state.clone() } else { source.clone() };
            let attended = format!("{name}, level {level}");
            let axes = self.pairs(target, &source);
            let stage = self.stage(&attended, "cross_attention", &axes);
            let stage = stage.from("q", &state.stage, state.output);
            let stage = stage.from("k", &source.stage, source.output);
            self.push(stage.from("v", &source.stage, source.output));
            let added = format!("{name}, level {level}: add");
            let axes = [("r", self.b() * target.steps), ("d", D)];
            let stage = self.stage(&added, "add_layer_norm", &axes);
            let stage = stage.from("x", &attended, "o").from("res", &state.stage, state.output);
            self.push(stage);
            state = Stream { stage: added, ..target.clone() };
        }
        state
    }

    /// Queries of the target and keys of the source, those of an absent one hidden.
    fn pairs(&self, target: &Stream, source: &Stream) -> Vec<(&'static str, usize)> {
        let (q, k) = (target.steps, source.steps);
        let axes = [("b", self.b()), ("h", H), ("q", q), ("k", k), ("d", DH)];
        axes.into_iter().chain(hidden(source.valid)).collect()
    }

    /// The mean over the steps that are there.
    fn pool(&mut self, name: &str, stream: &Stream) -> String {
        let pooled = format!("pool {name}");
        let axes = [("b", self.b()), ("t", stream.steps), ("f", D), ("u", 1)];
        let axes: Vec<_> = axes.into_iter().chain(hidden(stream.valid)).collect();
        let stage = self.stage(&pooled, "sliding_window_pool", &axes);
        self.push(stage.from("x", &stream.stage, stream.output));
        pooled
    }

    /// Some tensors side by side, each as wide as said, in `rows` rows; zeros for those whose bit
    /// of `present` is not set.
    fn join(&mut self, parts: &[(Source, usize)], rows: usize, present: Option<usize>) {
        const WIDTHS: [&str; 6] = ["u", "v", "w", "x", "y", "z"];
        const INPUTS: [&str; 6] = ["x0", "x1", "x2", "x3", "x4", "x5"];
        let mut axes = vec![("b", rows)];
        axes.extend(parts.iter().enumerate().map(|(m, (_, width))| (WIDTHS[m], *width)));
        axes.extend(present.map(|bits| ("p", bits)));
        let mut stage = self.stage("join", "concat", &axes);
        for (m, (part, _)) in parts.iter().enumerate() {
            stage = stage.fed(INPUTS[m], part);
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
        let stage = self.stage(name, "attention_map", &self.pairs(target, source));
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
                pooled.push((Source::Stage(self.pool(&name, &state), "y"), D));
            }
        }
        self.explain("map text from audio", &streams[0], &streams[1]);
        self.join(&pooled, self.b(), None);
        self.head("judge", "join", 6 * D);
    }

    /// All steps of all modalities in one sequence that attends to itself. Absent modalities come
    /// last, where one length hides them.
    fn early(&mut self, streams: &[Stream; 3]) {
        let (present, absent): (Vec<usize>, Vec<usize>) =
            (0..3).partition(|&modality| !self.is_absent(modality));
        let bits = self.present().map(|_| (1 << present.len()) - 1);
        let ordered = present.iter().chain(&absent).map(|&modality| &streams[modality]);
        let part = |stream: &Stream| {
            (Source::Stage(stream.stage.clone(), stream.output), stream.steps * D)
        };
        let parts: Vec<(Source, usize)> = ordered.map(part).collect();
        self.join(&parts, self.b(), bits);
        let steps = streams.iter().map(|stream| stream.steps).sum();
        let there = present.iter().map(|&modality| streams[modality].steps).sum();
        let valid = bits.map(|_| there);
        self.attend_to_itself(Stream { stage: "join".to_owned(), output: "y", steps, valid });
    }

    /// The features of all modalities side by side at each step of the text, projected together.
    fn concat(&mut self) {
        let rows = self.b() * self.shape["t"];
        let parts = [0, 1, 2].map(|modality| (self.features(modality, true).0, FEATURES[modality]));
        self.join(&parts, rows, self.present());
        let audio = (FEATURES[0], FEATURES[0] + FEATURES[AUDIO]);
        let joined = Source::Stage("join".to_owned(), "y");
        let stage = self.project("all", joined, rows, FEATURES.iter().sum(), audio);
        self.attend_to_itself(Stream { stage, output: "y", steps: self.shape["t"], valid: None });
    }

    fn attend_to_itself(&mut self, joined: Stream) {
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
            let judged = self.head(&format!("judge {name}"), &pooled, D);
            logits.push((Source::Stage(judged, "y"), b * CLASSES));
        }
        self.join(&logits, 1, None);
        let axes = self.masked(&[("m", 3), ("b", b), ("c", CLASSES)]);
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
        let axes = self.masked(&[("m", 3), ("c", CLASSES)]);
        let shares = self.stage("share out", "shapley_modalities", &axes);
        self.push(shares.from("v", "judge coalitions", "y"));
    }

    /// The axes with the presence bits, where there are any.
    fn masked(&self, axes: &[(&'static str, usize)]) -> Vec<(&'static str, usize)> {
        axes.iter().copied().chain(self.present().map(|bits| ("p", bits))).collect()
    }
}
