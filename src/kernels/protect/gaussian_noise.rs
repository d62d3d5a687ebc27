//! Gaussian noise from a counter-based generator, the same on every device.

use ndarray::Array2;

use super::noise;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operands, Preset, Problem, Shape, Spec, Variant,
    Work, refuses_ragged, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &GaussianNoise;

struct GaussianNoise;

/// σ·C of the published accountant example: noise multiplier 1.5, clipping norm 1.
const SCALE: f32 = 1.5;
const _: () = assert!(SCALE > 0.0, "without noise there is nothing to draw");

const VARIANTS: &[Variant] = &[
    Variant::new("scalar", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| refuses_ragged(shape, "p"),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("nine rounds", "round < 10u", "round < 9u"),
    Mutant::new("a carry of the high word dropped", "+ (low >> 16u)", ""),
    Mutant::new("key not advanced", "key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u)", {
        "key += vec2<u32>(0x9e3779b9u, 0u)"
    }),
    Mutant::new("ten bits of the word dropped", "word >> 9u", "word >> 10u"),
    Mutant::new("cosine cut short", "+ q * (1.0 / 40320.0", "+ q * (0.0"),
    Mutant::new("series of the logarithm cut short", "0.5 + t * (1.0 / 3.0", "0.5 + t * (0.33"),
    Mutant::new("quarters not turned", "quarter & 3u", "quarter & 1u"),
    Mutant::new("the same step for every tensor", "params.tensor, params.step", {
        "params.step, params.step"
    }),
];

impl Kernel for GaussianNoise {
    fn spec(&self) -> Spec {
        Spec {
            summary: "draw Gaussian noise from a counter, bit for bit the same words everywhere",
            difficulties: &[7],
            dtypes: &[Dtype::F32],
            variants: VARIANTS,
            // There is no data: a seed is all that is drawn from.
            inputs: &[Distribution::Normal],
            operands: Operands::none("it draws noise and reads nothing"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |p| Shape::new(&[("p", p)]);
        match preset {
            Preset::Smoke => vec![
                of(1),
                of(5),
                of(770),
                of(4096),
                of(10_001),
                of(0),
                // The counters of the generator's known answers.
                of(4).tag("zeros"),
                of(4).tag("ones"),
                of(4).tag("pi"),
            ],
            Preset::Models => vec![
                of(32_400).from("MulT MOSEI, a 180 × 180 layer"),
                of(786_432).from("CLIP ViT-L/14-336 projection"),
                of(16_777_216).from("LLaVA-1.5-7B, second projector layer"),
            ],
            Preset::Sweep => [12, 14, 16, 18, 20, 22, 24].map(|log2| of(1 << log2)).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let ([key0, key1], [first, tensor, step, shard]) = start(shape, generator.seed);
        let params = Params::new().size("n", shape["p"]);
        let words = [
            ("key0", key0),
            ("key1", key1),
            ("first", first),
            ("tensor", tensor),
            ("step", step),
            ("shard", shard),
        ];
        let params = words.into_iter().fold(params, |p, (name, word)| p.size(name, word as usize));
        Inputs::new(params.real("scale", SCALE), Vec::new())
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let p = shape["p"];
        let (rows, cols) = layout(p);
        let groups = p.div_ceil(4).div_ceil(variant.constant("WG"));
        let mut launch = Launch::single(Buffer::new("noise", Elem::F32, rows, cols), spill(groups));
        launch.outputs.push(Buffer::new("words", Elem::U32, rows, cols));
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        // Box and Muller take 25 for each element. Philox is integer arithmetic: a round has two
        // products of both words each, four exclusive ors and two additions to the key.
        let philox = 10 * (4 + 4 + 2) / 4;
        Work::new((25 + philox) * shape["p"], 8 * shape["p"])
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        gaussian_noise(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        gaussian_noise(problem, rows)
    }
}

/// One row for each counter, or one for each element of a ragged length.
fn layout(p: usize) -> (usize, usize) {
    if p.is_multiple_of(4) { (p / 4, 4) } else { (p, 1) }
}

/// Key and first counter. The tags name vectors of Random123's `kat_vectors`.
fn start(shape: &Shape, seed: u32) -> ([u32; 2], [u32; 4]) {
    match shape.option() {
        Some("zeros") => ([0; 2], [0; 4]),
        Some("ones") => ([u32::MAX; 2], [u32::MAX; 4]),
        Some("pi") => {
            ([0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344])
        }
        _ => ([seed, 0], [0, 3, 17, 0]),
    }
}

fn gaussian_noise<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (total, cols) = layout(problem.shape["p"]);
    let word = |name: &str| noise::param(problem.inputs, name);
    let key = [word("key0"), word("key1")];
    let words = |row: usize| {
        let block = (row * cols / 4) as u32;
        let first = word("first").wrapping_add(block);
        noise::philox([first, word("tensor"), word("step"), word("shard")], key)
    };
    let lane = |row: usize, i: usize| (row * cols + i) % 4;
    let scale = S::exact(f64::from(SCALE));
    vec![
        by_rows(rows, total, cols, |row, mut out| {
            let words = words(row);
            for i in 0..cols {
                out[i] = noise::normal::<S>(words, lane(row, i)) * scale;
            }
        }),
        by_rows(rows, total, cols, |row, mut out| {
            let words = words(row);
            for i in 0..cols {
                out[i] = S::exact(f64::from(words[lane(row, i)]));
            }
        }),
    ]
}
