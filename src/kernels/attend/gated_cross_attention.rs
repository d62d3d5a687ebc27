//! The gated cross-attention of Flamingo (arXiv 2204.14198), as in open_flamingo's `helpers.py`: a
//! language model's tokens look at the image they follow, through a gate that starts closed.

use ndarray::{Array2, ArrayView5, Ix2, Ix4, s};

use super::needle::Needle;
use super::weights::Weights;
use crate::accuracy::functions::tanh;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, refuses_ragged, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &GatedCrossAttention;

struct GatedCrossAttention;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("register", &[("WG", 8.0)]),
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("tiled", &[("WG", 64.0)])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("broadcast", &[])
    },
];

/// Queries of a head that a subgroup of `broadcast` has.
const ATTENDING: usize = 16;

const MUTANTS: &[Mutant] = &[
    Mutant::new("rows of the first eight for all", "let high = o_row(r + lane + 8u, i)", {
        "let high = o_row(r + lane, i)"
    }),
    Mutant::new("a row of another invocation", "subgroupShuffle(v, first + 1u)", {
        "subgroupShuffle(v, first)"
    }),
    Mutant::new("keys before those of a query's medium", "(own < vec4<u32>(span.first)) | ", ""),
    Mutant::new("keys behind those of a query's medium", " | (own >= vec4<u32>(span.end))", ""),
    Mutant::new("last of sixteen queries without values", "add_to(part, 15u, i, values);", ""),
    Mutant::new("values not rescaled when the maximum grows", "parts[0][i] *= shrink;", ""),
    Mutant::new("next medium", "times[position] - 1u", "min(times[position], params.media - 1u)"),
    Mutant::new("first latent dropped", "var key = at.first;", "var key = at.first + 1u;"),
    Mutant::new("tanh clamped too early", "min(abs(v), 15.0)", "min(abs(v), 0.6)"),
    Mutant::new("queries after the last medium see it", "&& time <= params.media", ""),
    Mutant::new("sigmoid for tanh", "1.0 - 2.0 / (exp(2.0 *", "1.0 - 1.0 / (exp(1.0 *"),
    Mutant::new("sum not rescaled when the maximum grows", "total *= shrink;", ""),
    Mutant::new(
        "values of the next head",
        "from_k + params.heads *",
        "from_k + (params.heads + 1u) *",
    ),
    Mutant::new("input left out", "f32(x[at]) +", ""),
    Mutant::new("last column dropped", "col >= params.width)", "col + 1u >= params.width)"),
    Mutant::new("tile beyond the width not cleared", "vec4<f32>(), row,", "row, row,"),
];

const OPERANDS: &[Operand] = &[
    Operand::new("x", "b q n"),
    Operand::new("q", "b q h d"),
    Operand::new("kv", "b m*l 2 h d"),
    Operand::new("w", "n h*d"),
];

impl Kernel for GatedCrossAttention {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add to text tokens what they see of the image before them, through a gate",
            difficulties: &[2, 3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Needle,
                Distribution::Large,
                Distribution::Integers,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => smoke(),
            Preset::Models => vec![
                of(1, 8, 256, 4, 64, 64, 2048).from("OpenFlamingo-3B"),
                of(1, 8, 256, 4, 64, 64, 4096).from("OpenFlamingo-9B"),
                of(1, 8, 1, 4, 64, 64, 4096).from("OpenFlamingo-9B, one token"),
            ],
            Preset::Sweep => (4..=10).map(|log2| of(1, 8, 1 << log2, 4, 64, 64, 2048)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, h, q, d, n) = (shape["b"], shape["h"], shape["q"], shape["d"], shape["n"]);
        let params = Params::new().size("batch", b).size("heads", h).size("queries", q);
        let params = params.size("media", shape["m"]).size("latents", shape["l"]).size("width", n);
        let (queries, keys_and_values) = attended(shape, generator);
        // Keeps what is added of the size of the values, as trained weights do.
        let weight = ((h * d) as f32).sqrt().recip();
        Inputs::new(
            params.real("alpha", alpha(shape)).real("scale", scale(d)),
            vec![
                generator.data("x", &[b * q, n]),
                queries,
                keys_and_values,
                generator.weight("w", &[n, h * d], weight),
                Tensor::words("times", &[b * q], times(shape)),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (h, d, n) = (shape["h"], shape["d"], shape["n"]);
        let positions = shape["b"] * shape["q"];
        let lanes = || variant.constant("WG");
        let rows = positions * h;
        let (attend, attending, project, down, across) = match (variant.name, d % 4) {
            ("register", 0) => ("attend", rows.div_ceil(lanes()), "project", 8, 4 * lanes()),
            ("register", _) => ("attend_any", rows.div_ceil(lanes()), "project_any", 1, lanes()),
            ("broadcast", _) => {
                let blocks = shape["b"] * h * shape["q"].div_ceil(ATTENDING);
                ("attend_block", blocks, "project_broadcast", 16, 64)
            }
            _ => ("attend", rows.div_ceil(lanes()), "project_tiled", 32, 32),
        };
        let constants = vec![("D", d as f64)];
        let grid = [n.div_ceil(across) as u32, positions.div_ceil(down) as u32, 1];
        Launch {
            outputs: vec![Buffer::new("y", dtype.storage(), positions, n)],
            scratch: vec![Buffer::new("o", Elem::F32, positions, h * d)],
            dispatches: vec![
                Dispatch {
                    constants: constants.clone(),
                    ..Dispatch::new(attend, spill(attending))
                },
                Dispatch { constants, ..Dispatch::new(project, grid) },
            ],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (h, d, n) = (shape["h"], shape["d"], shape["n"]);
        let (positions, latents) = (shape["b"] * shape["q"], shape["l"]);
        let keys = shape["b"] * shape["m"] * latents;
        let seeing = times(shape).iter().filter(|&&time| sees(shape, time)).count();
        let flops = seeing * (h * latents * (4 * d + 5) + 2 * h * d * n + 2 * n);
        let elements = 2 * positions * n + positions * h * d + 2 * keys * h * d + n * h * d;
        Work::new(flops, dtype.bytes() * elements + 4 * positions)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        gated_cross_attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        gated_cross_attention(problem, rows)
    }
}

/// `m` media of `l` latents each; `n` is the width of the language model.
fn of(b: usize, h: usize, q: usize, m: usize, l: usize, d: usize, n: usize) -> Shape {
    Shape::new(&[("b", b), ("h", h), ("q", q), ("m", m), ("l", l), ("d", d), ("n", n)])
}

fn smoke() -> Vec<Shape> {
    vec![
        of(1, 1, 1, 1, 1, 5, 1),
        of(2, 3, 7, 2, 5, 5, 33).tag("dropped"),
        of(2, 2, 33, 3, 7, 8, 65).tag("dropped"),
        of(1, 3, 9, 2, 4, 12, 35),
        of(1, 2, 5, 2, 64, 64, 31),
        of(1, 1, 5, 1, 31, 128, 30),
        of(1, 2, 6, 2, 3, 5, 7).tag("closed"),
        of(1, 2, 9, 2, 3, 8, 34).tag("closed"),
        of(1, 1, 3, 2, 0, 8, 4),
        of(0, 1, 3, 2, 4, 8, 4),
    ]
}

/// What the gate's tanh is taken of; `closed` is its initial value.
fn alpha(shape: &Shape) -> f32 {
    if shape.option() == Some("closed") { 0.0 } else { 0.7 }
}

fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

/// Media markers at or before each token, evenly spread, the first one after some text. With the
/// tag `dropped` there is one marker more than media.
fn times(shape: &Shape) -> Vec<u32> {
    let q = shape["q"];
    let markers = shape["m"] + usize::from(shape.option() == Some("dropped"));
    let time = |position: usize| (position % q + 1) * (markers + 1) / (q + 1);
    (0..shape["b"] * q).map(|position| time(position) as u32).collect()
}

fn sees(shape: &Shape, time: u32) -> bool {
    (1..=shape["m"]).contains(&(time as usize))
}

/// In a `Needle` run rows take turns to be answered by the latents of their medium, from the last
/// one down, and codes differ between heads, media and batches.
fn attended(shape: &Shape, generator: &Generator) -> (Tensor, Tensor) {
    let (b, h, q, d) = (shape["b"], shape["h"], shape["q"], shape["d"]);
    let (media, latents) = (shape["m"], shape["l"]);
    let (queries, keys) = ([b, q, h, d], [b, media * latents, 2, h, d]);
    if generator.distribution != Distribution::Needle {
        return (generator.data("q", &queries), generator.data("kv", &keys));
    }
    let needle = Needle::new(latents, d);
    let times = times(shape);
    let code = |block: usize, latent: usize, head: usize| latent + 3 * block + 7 * head;
    let query = |i: usize| {
        let row = i / d;
        let block = row / (h * q) * media + (times[row / h] as usize).saturating_sub(1);
        let latent = latents.saturating_sub(1 + row % latents.max(1));
        needle.query(code(block, latent, row % h), i % d)
    };
    let key_or_value = |i: usize| {
        let (key, head) = (i / (2 * h * d), i / d % h);
        match i / (h * d) % 2 {
            0 => needle.key(code(key / latents, key % latents, head), i % d),
            _ => rng::normal(generator.seed, 0x6b76, i as u32),
        }
    };
    (generator.filled("q", &queries, query), generator.filled("kv", &keys, key_or_value))
}

fn gated_cross_attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (h, q, d, n) = (shape["h"], shape["q"], shape["d"], shape["n"]);
    let latents = shape["l"];
    let x = problem.inputs.float::<Ix2>("x");
    let queries = problem.inputs.float::<Ix4>("q");
    let kv: ArrayView5<f32> = problem.inputs.float("kv");
    let w = problem.inputs.float::<Ix2>("w");
    let times = problem.inputs.words("times");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, shape["b"] * q, n, |position, mut y| {
        let time = times[position];
        if alpha(shape) == 0.0 || !sees(shape, time) {
            y.iter_mut().zip(x.row(position)).for_each(|(y, &x)| *y = exact(x));
            return;
        }
        let first = (time as usize - 1) * latents;
        let own = kv.slice(s![position / q, first..first + latents, .., .., ..]);
        let mixed: Vec<S> = (0..h)
            .flat_map(|head| {
                let query = queries.slice(s![position / q, position % q, head, ..]);
                let score = |key: usize| {
                    let key = own.slice(s![key, 0, head, ..]);
                    let products = query.iter().copied().zip(key.iter().copied());
                    S::dot(products, d) * exact(scale(d))
                };
                let scores: Vec<S> = (0..latents).map(score).collect();
                let weights = Weights::running(&scores);
                let mean = |i: usize| {
                    weights.mean(&own.slice(s![.., 1, head, i]).to_vec(), Elem::F32, latents)
                };
                (0..d).map(mean).collect::<Vec<S>>()
            })
            .collect();
        let gate = tanh(exact(alpha(shape)));
        for col in 0..n {
            let terms = mixed.iter().zip(w.row(col)).map(|(&o, &weight)| o * exact(weight));
            let out = exact(x[[position, col]]) + gate * S::sum(terms, h * d);
            y[col] = out.store(problem.storage());
        }
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_and_a_query_without_a_medium_leave_the_input_as_it_is() {
        for shape in smoke() {
            let variant = &VARIANTS[0];
            let generator = Generator::new(Dtype::F32, variant, Distribution::Normal, 1);
            let inputs = GatedCrossAttention.inputs(&shape, &generator);
            let (dtype, device) = (Dtype::F32, &[][..]);
            let problem = Problem { shape: &shape, dtype, variant, inputs: &inputs, device };
            let x = inputs.float::<Ix2>("x");
            let y = GatedCrossAttention.tracked(&problem, &Rows::All).swap_remove(0);
            for (position, &time) in times(&shape).iter().enumerate() {
                let copied = (0..shape["n"])
                    .map(|col| (y[[position, col]], f64::from(x[[position, col]])))
                    .filter(|(y, x)| y.worst == 0.0 && y.value == *x)
                    .count();
                let untouched = alpha(&shape) == 0.0 || !sees(&shape, time) || shape["l"] == 0;
                let wanted = if untouched { shape["n"] } else { 0 };
                assert_eq!(copied, wanted, "row {position} of {shape}");
            }
        }
    }
}
