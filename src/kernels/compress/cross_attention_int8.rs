//! Cross-attention over int8 keys and values with a scale for each of their rows, as a quantised
//! cache of the other modality holds them (KIVI, arXiv 2402.02750, compresses further).

use ndarray::{Array2, ArrayView2, Ix2};

use super::codes::{Span, entry, half, noise_ratio, originals, power, quantise, sqnr_db};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    self, Buffer, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Uncompressed, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &CrossAttentionInt8;

struct CrossAttentionInt8;

/// Width of the accumulators.
const MAX_D: usize = 128;

fn refuses(shape: &Shape) -> Option<String> {
    let d = shape["d"];
    (d > MAX_D).then(|| format!("d is {d}, the accumulators hold {MAX_D}"))
}

/// Over the keys, and for each of them over four columns of the query and of the value at a time.
fn turns(shape: &Shape) -> usize {
    let quads = shape["d"].div_ceil(4);
    kernel::turns(shape["k"], &[quads, quads])
}

/// No barrier. Eight invocations fill one vector unit of a CPU adapter.
const FLASH: Variant = Variant { refuses, turns, ..Variant::new("flash", &[("WG", 8.0)]) };
const SHARED: Variant =
    Variant { refuses, turns, suits: Suits::Gpu, ..Variant::new("shared_keys", &[("WG", 64.0)]) };
/// Eight queries a subgroup, which share what is loaded and unpacked.
const BLOCK: Variant = Variant {
    needs: &[Need::Subgroup, Need::SubgroupOf8],
    refuses: |shape| {
        let d = shape["d"];
        let ragged =
            (!d.is_multiple_of(16) || d == 0).then(|| format!("d is {d}, not a multiple of 16"));
        refuses(shape).or(ragged)
    },
    ..Variant::new("subgroup_block", &[("WG", 8.0)])
};
const VARIANTS: &[Variant] = &[
    FLASH,
    half("flash_f16", FLASH),
    SHARED,
    half("shared_keys_f16", SHARED),
    BLOCK,
    half("subgroup_block_f16", BLOCK),
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last key dropped", "key < valid; key++", "key + 1u < valid; key++"),
    Mutant::new("length ignored", "min(len[b], params.keys)", "params.keys"),
    Mutant::new("sum not rescaled when the maximum grows", "(*seen).total *= factor;", ""),
    Mutant::new("scale of the key left out", "products * sk[row]", "products"),
    Mutant::new("scale of the value before", "scales[key].y", "scales[key].x"),
    Mutant::new("a query of another invocation", "Broadcast(query, 5u)", "Broadcast(query, 4u)"),
    Mutant::new(
        "weights of another invocation",
        "Shuffle(block[3].weights, i)",
        "Shuffle(block[3].weights, 0u)",
    ),
    Mutant::new(
        "keys beyond the last one weighed",
        "four(start) >= vec4<u32>(at.end)",
        "vec4<bool>(false)",
    ),
    Mutant::new("values not shrunk with their weights", "(*sums)[2] *= block[2].shrink;", ""),
    Mutant::new("scale of the values left out", "weights * scales.v", "weights"),
    Mutant::new("total of one invocation alone", "subgroupAdd(block[i].total)", "block[i].total"),
    Mutant::new("codes without a sign", "unpack4xI8(code)", "unpack4xU8(code)"),
    Mutant::new(
        "tile of keys too short",
        "min(TILE, valid - first)",
        "min(TILE - 1u, valid - first)",
    ),
];

const OPERANDS: &[Operand] = &[
    Operand::new("q", "b q h d"),
    Operand::new("k", "b k h d").drawn_as("original_k"),
    Operand::new("v", "b k h d").drawn_as("original_v"),
];

impl Kernel for CrossAttentionInt8 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "let queries of one modality attend to int8 keys and values of another",
            difficulties: &[2, 4],
            dtypes: &[Dtype::I8],
            variants: VARIANTS,
            inputs: Distribution::COMMON,
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 2, 3, 7, 5),
                of(1, 1, 1, 1501, 64),
                of(2, 3, 33, 65, 40),
                of(1, 1, 65, 257, 128),
                of(1, 1, 4, 0, 64),
                of(0, 1, 4, 8, 8),
                of(4, 5, 9, 130, 6).tag("tail"),
                of(2, 3, 5, 31, 64).tag("masked"),
            ],
            Preset::Models => vec![
                of(1, 12, 32, 257, 64).from("BLIP-2 Q-Former"),
                of(1, 20, 448, 1500, 64).from("Whisper-large decoder"),
                of(1, 20, 1, 1500, 64).from("Whisper-large decoder, one token"),
                of(1, 8, 64, 320, 64).from("Flamingo resampler"),
                of(1, 8, 256, 257, 96).from("CoCa pooler"),
            ],
            Preset::Sweep => [1, 32, 448]
                .into_iter()
                .flat_map(|q| (7..=14).map(move |log2| of(1, 12, q, 1 << log2, 64)))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, h, q, k, d) = axes(shape);
        let len = lengths(shape);
        let unused = |row: usize| row / h % k >= len[row / h / k] as usize;
        let rows = b * k * h;
        let drawn = originals(vec![
            // Standard normal whatever the data, as in cross_attention.
            generator.weight("original_k", &[rows, d], 1.0),
            generator.data("original_v", &[rows, d]),
        ]);
        let code =
            |original: &str| quantise(drawn.float::<Ix2>(original), Span::Row, Elem::I8, Elem::F32);
        let (keys, values) = (code("original_k"), code("original_v"));
        let codes =
            |name, codes| Tensor::codes(name, Elem::I8, &[rows, d.next_multiple_of(4)], codes);
        let scales = |name, scales: Array2<f32>| {
            Tensor::floats(name, Elem::F32, &[rows, 1], scales.into_iter().collect())
                .with_garbage(unused)
        };
        let params = Params::new().size("batch", b).size("heads", h).size("queries", q);
        Inputs {
            params: params.size("keys", k).size("d", d).real("scale", scale(d)),
            tensors: vec![
                generator.data("q", &[b * q * h, d]),
                codes("k", keys.codes),
                scales("sk", keys.scales),
                codes("v", values.codes),
                scales("sv", values.scales),
                Tensor::words("len", &[b], len.clone()),
            ],
            originals: drawn.tensors,
        }
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, h, q, _, d) = axes(shape);
        let lanes = variant.constant("WG");
        let workgroups = match entry(variant) {
            "flash" => (b * h * q).div_ceil(lanes),
            _ => b * h * q.div_ceil(lanes),
        };
        let output = Buffer::new("o", variant.storage(dtype), b * q * h, d);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = entry(variant);
        launch.with_constant("QUADS", d.div_ceil(4) as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (b, h, q, _, d) = axes(shape);
        let keys = lengths(shape).iter().map(|&len| len as usize).sum::<usize>();
        let float = variant.storage(dtype).bits() / 8;
        let codes = 2 * keys * h * (d.next_multiple_of(4) + 4);
        Work::new(h * q * keys * (4 * d + 7), codes + float * 2 * b * q * h * d + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        attention(problem, rows)
    }

    fn uncompressed(&self, problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
        uncompressed(problem, rows)
    }
}

fn of(b: usize, h: usize, q: usize, k: usize, d: usize) -> Shape {
    Shape::new(&[("b", b), ("h", h), ("q", q), ("k", k), ("d", d)])
}

/// Batch, heads, queries, keys, width.
fn axes(shape: &Shape) -> (usize, usize, usize, usize, usize) {
    (shape["b"], shape["h"], shape["q"], shape["k"], shape["d"])
}

/// Valid keys of each batch. `tail` shortens every batch but the second, `masked` leaves the first
/// one without any.
fn lengths(shape: &Shape) -> Vec<u32> {
    let keys = shape["k"];
    let of = |b: usize| match (shape.option(), b) {
        (Some("tail"), 1) => keys,
        (Some("tail"), b) => (keys / 2 + b).min(keys - 1),
        (Some("masked"), 0) => 0,
        _ => keys,
    };
    (0..shape["b"]).map(|b| of(b) as u32).collect()
}

/// 1/√d as the shader receives it.
fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

/// The rows of k and v that an output row attends to.
fn attended(problem: &Problem, row: usize) -> impl ExactSizeIterator<Item = usize> + Clone {
    let (_, h, q, k, _) = axes(problem.shape);
    let (b, head) = (row / (q * h), row % h);
    let valid = problem.inputs.words("len")[b] as usize;
    (0..valid).map(move |key| (b * k + key) * h + head)
}

fn attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, h, q, _, d) = axes(problem.shape);
    let inputs = problem.inputs;
    let queries = inputs.float::<Ix2>("q");
    let (keys, values) = (inputs.codes::<Ix2>("k"), inputs.codes::<Ix2>("v"));
    let (sk, sv) = (inputs.float::<Ix2>("sk"), inputs.float::<Ix2>("sv"));
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b * q * h, d, |row, mut o| {
        let query = queries.row(row).to_vec();
        let members = attended(problem, row);
        let scores: Vec<S> = members
            .clone()
            .map(|key| {
                let codes = keys.row(key).to_vec();
                let pairs = query.iter().zip(&codes).map(|(&q, &code)| (q, f32::from(code)));
                S::dot(pairs, d) * exact(sk[[key, 0]]) * exact(scale(d))
            })
            .collect();
        let weights = weigh(&scores);
        if weights.is_empty() {
            return;
        }
        let total = S::sum(weights.iter().copied(), weights.len());
        let scaled: Vec<S> =
            members.clone().zip(&weights).map(|(key, &w)| w * exact(sv[[key, 0]])).collect();
        for i in 0..d {
            let terms = members
                .clone()
                .zip(&scaled)
                .map(|(key, &scaled)| scaled * exact(f32::from(values[[key, i]])));
            o[i] = (S::sum(terms, scaled.len()) / total).store(problem.storage());
        }
    })]
}

/// e^(score − peak) of the online softmax: whenever the running maximum grows, everything summed so
/// far is multiplied by e^(old − new), a factor for all earlier terms.
fn weigh<S: Scalar>(scores: &[S]) -> Vec<S> {
    let mut peaks = scores.to_vec();
    for j in 1..peaks.len() {
        peaks[j] = peaks[j - 1].max(scores[j]);
    }
    let mut shrink = S::one();
    let mut weights = vec![S::zero(); scores.len()];
    for j in (0..scores.len()).rev() {
        weights[j] = (scores[j] - peaks[j]).exp() * shrink;
        if j > 0 && scores[j].value() > peaks[j - 1].value() {
            shrink = shrink * (peaks[j - 1] - peaks[j]).exp();
        }
    }
    weights
}

/// Attention over the original keys and values. An error in a score is one in its probability: its
/// share of the noise is the noise of the keys times the mean square of the scores. The noise of
/// the values averages out as the values themselves do.
fn uncompressed(problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
    let (b, h, q, _, d) = axes(problem.shape);
    let inputs = problem.inputs;
    let (k, v) = (inputs.float::<Ix2>("original_k"), inputs.float::<Ix2>("original_v"));
    let queries = inputs.float::<Ix2>("q");
    let exact = |a: &f32| f64::from(*a);
    let scores_of = |row: usize| -> Vec<f64> {
        let products = |key: usize| {
            queries.row(row).iter().zip(k.row(key)).map(|(q, k)| exact(q) * exact(k)).sum::<f64>()
        };
        attended(problem, row).map(|key| products(key) * f64::from(scale(d))).collect()
    };
    let output = by_rows(rows, b * q * h, d, |row, mut o| {
        let weights = weigh(&scores_of(row));
        let total: f64 = weights.iter().sum();
        for (key, weight) in attended(problem, row).zip(weights) {
            o.iter_mut().zip(v.row(key)).for_each(|(o, v)| *o += weight / total * exact(v));
        }
    });
    let chosen = rows.of(b * q * h);
    let scores: Vec<f64> = chosen.iter().flat_map(|&row| scores_of(row)).collect();
    let mean_square = scores.iter().map(|s| s * s).sum::<f64>() / scores.len().max(1) as f64;
    let mut used: Vec<usize> = chosen.iter().flat_map(|&row| attended(problem, row)).collect();
    used.sort_unstable();
    used.dedup();
    let noise = |x: ArrayView2<f32>, scales: &str| {
        noise_ratio(power(x, inputs.float::<Ix2>(scales), Span::Row, &used))
    };
    let noise = mean_square * noise(k, "sk") + noise(v, "sv");
    let predicted_sqnr_db = sqnr_db(noise, output.len().min(used.len() * d));
    Some(Uncompressed { output, restored: None, predicted_sqnr_db })
}
