//! Attention bottlenecks of MBT (arXiv 2107.00135): modalities exchange what they know only through
//! a few tokens that each of them attends to and that are averaged afterwards.

use ndarray::{Array2, Ix1, Ix4, s};

use super::needle::Needle;
use super::weights::Weights;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &BottleneckAttention;

struct BottleneckAttention;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("flash", &[("WG", 8.0)]),
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            (!shape["d"].is_multiple_of(4))
                .then(|| format!("d is {}, not a multiple of 4", shape["d"]))
        },
        ..Variant::new("tile", &[("WG", 64.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((present[b] >> m) & 1u) == 1u", "true"),
    Mutant::new("mean over all modalities", "sum / count", "sum / f32(params.modalities)"),
    Mutant::new("bottlenecks not kept", "= f[index]", "= to_storage(0.0)"),
    Mutant::new(
        "bottlenecks not attended to",
        "key < end; key++",
        "key + params.bottlenecks < end; key++",
    ),
    Mutant::new("keys of the modality before", "var key = start_of(r.m);", "var key = 0u;"),
    Mutant::new("sum not rescaled when the maximum grows", "total *= shrink;", ""),
    Mutant::new(
        "last key of a tile dropped",
        "j < min(TILE, end - first)",
        "j + 1u < min(TILE, end - first)",
    ),
    Mutant::new("tile loaded from its first key", "min(first + i / (D / 4u), end - 1u)", "first"),
    Mutant::new(
        "tokens of later modalities not moved up",
        "- r.m * params.bottlenecks",
        "- min(r.m, 1u) * params.bottlenecks",
    ),
];

const OPERANDS: &[Operand] = &[
    Operand::new("q", "b T h d"),
    Operand::new("k", "b T h d"),
    Operand::new("v", "b T h d"),
    Operand::new("f", "b f h d"),
];

impl Kernel for BottleneckAttention {
    fn spec(&self) -> Spec {
        Spec {
            summary: "let modalities attend to themselves and to bottleneck tokens they share",
            difficulties: &[2, 4],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Needle,
                Distribution::Large,
                Distribution::Integers,
            ],
            operands: Operands::of(OPERANDS).deriving(|shape| Tokens::of(shape).all()),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => smoke(),
            Preset::Models => vec![
                of(1, 12, &[400, 784], 4, 64).from("MBT-B, spectrogram and 8 frames"),
                of(1, 12, &[400, 196], 4, 64).from("MBT-B, spectrogram and one frame"),
            ],
            Preset::Sweep => {
                (6..=12).map(|log2| of(1, 12, &[1 << log2, 1 << log2], 4, 64)).collect()
            }
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let tokens = Tokens::of(shape);
        let Tokens { b, h, f, d, .. } = tokens;
        let present = tokens.presence();
        let dims = [b, tokens.all(), h, d];
        let absent = |index: usize| {
            let (batch, token) = (index / (h * d * dims[1]), index / (h * d) % dims[1]);
            present[batch] >> tokens.modality(token) & 1 == 0
        };
        let params = Params::new().size("batch", b).size("heads", h);
        let params = params.size("modalities", tokens.ends.len()).size("bottlenecks", f);
        let end = |m: usize| tokens.ends.get(m).copied().unwrap_or(tokens.all());
        let params = params.size("end0", end(0)).size("end1", end(1)).size("end2", end(2));
        let (q, k) = queries_and_keys(&tokens, generator);
        Inputs::new(
            params.real("scale", scale(d)),
            vec![
                q.with_garbage(absent),
                k.with_garbage(absent),
                generator.data("v", &dims).with_garbage(absent),
                generator.data("f", &[b * f * h * d]),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let tokens = Tokens::of(shape);
        let Tokens { b, h, f, d, .. } = tokens;
        let modalities = tokens.ends.len();
        let lanes = variant.constant("WG");
        let (entry, grid) = if variant.name == "tile" {
            let longest = (0..modalities).map(|m| tokens.range(m).len()).max().unwrap_or(0);
            ("tile", [longest.div_ceil(lanes) as u32, modalities as u32, (b * h) as u32])
        } else {
            let entry = if d.is_multiple_of(4) { "flash" } else { "flash_any" };
            (entry, spill((b * h * tokens.all()).div_ceil(lanes)))
        };
        let constants = vec![("D", d as f64)];
        let average = spill((b * f * h * d).div_ceil(lanes));
        Launch {
            outputs: vec![
                Buffer::new("z", dtype.storage(), b * tokens.plain() * h, d),
                Buffer::new("f_next", dtype.storage(), b * f * h, d),
            ],
            scratch: vec![Buffer::new("parts", Elem::F32, modalities * b * f * h, d)],
            dispatches: vec![
                Dispatch { constants: constants.clone(), ..Dispatch::new(entry, grid) },
                Dispatch { constants, ..Dispatch::new("average", average) },
            ],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let tokens = Tokens::of(shape);
        let Tokens { b, h, f, d, .. } = tokens;
        let present = tokens.presence();
        let (mut pairs, mut rows) = (0, 0);
        for bits in &present {
            for m in (0..tokens.ends.len()).filter(|m| bits >> m & 1 == 1) {
                let n = tokens.range(m).len();
                (pairs, rows) = (pairs + n * n, rows + n);
            }
        }
        let elements = 3 * rows * h * d + b * (tokens.plain() + f) * h * d;
        let flops = h * pairs * (4 * d + 5) + b * f * h * d * tokens.ends.len();
        Work::new(flops, dtype.bytes() * elements + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        bottleneck_attention(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        bottleneck_attention(problem, rows)
    }
}

/// Axes of the tokens of up to three modalities.
const AXES: [&str; 3] = ["s", "t", "u"];

/// Batch, heads, tokens of each modality, bottlenecks, and width of a head.
fn of(b: usize, h: usize, tokens: &[usize], f: usize, d: usize) -> Shape {
    let modalities = AXES.iter().copied().zip(tokens.iter().copied());
    let axes: Vec<_> =
        [("b", b), ("h", h)].into_iter().chain(modalities).chain([("f", f), ("d", d)]).collect();
    Shape::new(&axes)
}

fn smoke() -> Vec<Shape> {
    vec![
        of(1, 1, &[1], 1, 5),
        of(5, 2, &[7, 33], 4, 8).tag("present"),
        of(9, 1, &[3, 1, 5], 4, 5).tag("present"),
        of(1, 2, &[31, 70], 4, 12),
        of(9, 1, &[5, 2, 17], 2, 8).tag("present"),
        of(1, 1, &[61, 5], 4, 64),
        of(1, 1, &[20, 9], 4, 128),
        of(1, 2, &[0, 3], 2, 8),
        of(0, 1, &[3, 4], 4, 8),
    ]
}

fn scale(d: usize) -> f32 {
    (d as f32).sqrt().recip()
}

/// The packed tokens: those of a modality, then its projections of the bottlenecks.
struct Tokens {
    b: usize,
    h: usize,
    f: usize,
    d: usize,
    ends: Vec<usize>,
    has_absent: bool,
}

impl Tokens {
    fn of(shape: &Shape) -> Self {
        let f = shape["f"];
        let lengths = shape.axes().iter().filter(|(axis, _)| AXES.contains(axis));
        let mut end = 0;
        let ends = lengths
            .map(|(_, n)| {
                end += n + f;
                end
            })
            .collect();
        let has_absent = shape.option() == Some("present");
        Tokens { b: shape["b"], h: shape["h"], f, d: shape["d"], ends, has_absent }
    }

    /// Where the tokens of a modality are, its bottlenecks at the end.
    fn range(&self, m: usize) -> std::ops::Range<usize> {
        m.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[m]
    }

    fn modality(&self, token: usize) -> usize {
        self.ends.iter().filter(|&&end| token >= end).count()
    }

    fn all(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Without bottlenecks.
    fn plain(&self) -> usize {
        self.all() - self.ends.len() * self.f
    }

    /// Bits of each sample: all, or with the tag `present` every mask in turn.
    fn presence(&self) -> Vec<u32> {
        let masks = 1 << self.ends.len();
        let of = |batch: u32| if self.has_absent { batch % masks } else { masks - 1 };
        (0..self.b as u32).map(of).collect()
    }
}

/// In a `Needle` run the rows of a modality take turns to be answered by its keys, from the last
/// one down, and codes differ between modalities, heads and batches.
fn queries_and_keys(tokens: &Tokens, generator: &Generator) -> (Tensor, Tensor) {
    let Tokens { b, h, d, .. } = *tokens;
    let dims = [b, tokens.all(), h, d];
    if generator.distribution != Distribution::Needle {
        // Keys are standard normal whatever the data, as in cross_attention.
        return (generator.data("q", &dims), generator.weight("k", &dims, 1.0));
    }
    let longest = (0..tokens.ends.len()).map(|m| tokens.range(m).len()).max().unwrap_or(0);
    let needle = Needle::new(longest, d);
    let code = |index: usize, of: &dyn Fn(usize, usize) -> usize| {
        let (head, batch) = (index / d % h, index / (d * h * dims[1]));
        let token = index / (d * h) % dims[1];
        let m = tokens.modality(token);
        let range = tokens.range(m);
        of(token - range.start, range.len()) + 5 * m + 7 * head + 3 * batch
    };
    let query = |i: usize| needle.query(code(i, &|token, n| n - 1 - token % n), i % d);
    let key = |i: usize| needle.key(code(i, &|token, _| token), i % d);
    (generator.filled("q", &dims, query), generator.filled("k", &dims, key))
}

fn bottleneck_attention<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let tokens = Tokens::of(problem.shape);
    let Tokens { b, h, f, d, .. } = tokens;
    let [q, k, v] = ["q", "k", "v"].map(|name| problem.inputs.float::<Ix4>(name));
    let unchanged = problem.inputs.float::<Ix1>("f");
    let present = problem.inputs.words("present");
    let members = |batch: usize| -> Vec<usize> {
        (0..tokens.ends.len()).filter(|m| present[batch] >> m & 1 == 1).collect()
    };
    let exact = |value: f32| S::exact(f64::from(value));
    let attend = |batch: usize, token: usize, head: usize| -> Vec<S> {
        let range = tokens.range(tokens.modality(token));
        let query = q.slice(s![batch, token, head, ..]);
        let score = |key: usize| {
            let key = k.slice(s![batch, key, head, ..]);
            S::dot(query.iter().copied().zip(key.iter().copied()), d) * exact(scale(d))
        };
        let scores: Vec<S> = range.clone().map(score).collect();
        let weights = Weights::running(&scores);
        let column = |i: usize| v.slice_move(s![batch, range.clone(), head, i]);
        (0..d).map(|i| weights.mean(&column(i).to_vec(), Elem::F32, scores.len())).collect()
    };
    let plain = tokens.plain();
    let z = by_rows(rows, b * plain * h, d, |row, mut z| {
        let (batch, head) = (row / (plain * h), row % h);
        let mut token = row / h % plain;
        for m in 0..tokens.ends.len() {
            if token >= tokens.range(m).end - f {
                token += f;
            }
        }
        if members(batch).contains(&tokens.modality(token)) {
            let mixed = attend(batch, token, head);
            z.iter_mut().zip(mixed).for_each(|(z, mixed)| *z = mixed.store(problem.storage()));
        }
    });
    let f_next = by_rows(rows, b * f * h, d, |row, mut out| {
        let (batch, token, head) = (row / (f * h), row / h % f, row % h);
        let bottleneck = |m: usize| attend(batch, tokens.range(m).end - f + token, head);
        let parts: Vec<Vec<S>> = members(batch).into_iter().map(bottleneck).collect();
        for i in 0..d {
            let sum = S::sum(parts.iter().map(|part| part[i]), parts.len());
            out[i] = match parts.len() {
                0 => exact(unchanged[row * d + i]),
                count => (sum / S::exact(count as f64)).store(problem.storage()),
            };
        }
    });
    vec![z, f_next]
}
