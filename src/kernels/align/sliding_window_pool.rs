//! Mean or maximum over sliding or adaptive windows of time, over valid steps only.
//!
//! Windows of width `w` every `s` steps, or `u` adaptive ones as in `torch.nn.AdaptiveAvgPool1d`.
//! Tags: `max` for the maximum instead of the mean, `masked` for samples with fewer valid steps
//! (one of them none), `max_masked` for both.

use ndarray::{Array2, Ix3};

use super::steps;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &SlidingWindowPool;

struct SlidingWindowPool;

/// Neighbouring features in one workgroup of `group`.
const LANES: usize = 16;
/// Rows a grid holds; `group` loops over more.
const MAX_ROWS: usize = 65_535;

const VARIANTS: &[Variant] = &[
    steps::SCALAR,
    steps::VECTOR,
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 128.0)]) },
    Variant {
        suits: Suits::Cpu,
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let rows = shape["b"] * targets(shape);
            (rows > MAX_ROWS).then(|| format!("{rows} output rows, a grid holds {MAX_ROWS}"))
        },
        ..Variant::new("aligned", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last step dropped", "first + params.width", "first + params.width - 1u"),
    Mutant::new("divided by the whole window", "f32(count)", "f32(max(count, params.width))"),
    Mutant::new("length ignored", "min(len[b], params.steps)", "params.steps"),
    Mutant::new("maximum not below zero", "select(0.0, LOWEST, MAXIMUM == 1u)", "0.0"),
    Mutant::new("end rounded down", "params.steps + params.targets - 1u)", "params.steps)"),
    Mutant::new("columns of the same invocation", "(lane + 1u) % 8u", "lane"),
    Mutant::new("every fourth row left out", "three = join(three, ", "three = join(two, "),
    Mutant::new("third row beyond the last four left out", "rest > 2u", "rest > 3u"),
    Mutant::new("all rows moved alike", ", at % 4u);", ", 0u);"),
    Mutant::new("last column of four never stored", "column + 3u < d", "false"),
    Mutant::new("a level of the tree left out", "half >= LANES", "half > LANES"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "b t f")];

fn refuses_beyond(shape: &Shape) -> Option<String> {
    let (all, valid) = (shape["t"], shape.get("n")?);
    (valid > all).then(|| format!("{valid} of {all} steps are valid"))
}

impl Kernel for SlidingWindowPool {
    fn spec(&self) -> Spec {
        Spec {
            summary: "pool valid steps over sliding or adaptive windows by mean or maximum",
            difficulties: &[1, 3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Offset],
            operands: Operands::of(OPERANDS).refusing(refuses_beyond),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                sliding(2, 500, 74, 10, 10),
                sliding(2, 50, 35, 7, 3),
                sliding(1, 3, 5, 7, 1),
                sliding(0, 8, 5, 3, 1),
                adaptive(2, 375, 35, 50),
                adaptive(1, 3, 4, 7),
                adaptive(1, 257, 33, 1),
                sliding(3, 31, 8, 5, 2).tag("max"),
                sliding(5, 33, 8, 9, 4).tag("masked"),
                adaptive(5, 31, 12, 6).tag("max_masked"),
                valid(2, 27, 5, 14),
                valid(3, 9, 4, 0),
            ],
            Preset::Models => vec![
                sliding(24, 500, 74, 10, 10).from("MulT MOSEI audio to text"),
                adaptive(24, 375, 35, 50).from("MulT MOSEI vision to text"),
                sliding(8, 1500, 1280, 2, 2).from("Whisper-large encoder, halved"),
                adaptive(64, 257, 1408, 1).from("BLIP-2 ViT-g tokens to one"),
            ],
            Preset::Sweep => [6, 8, 10, 12, 14]
                .into_iter()
                .flat_map(|log2| {
                    let t = 1 << log2;
                    [sliding(8, t, 64, 8, 4), adaptive(8, t, 64, t / 16)]
                })
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, t, f) = (shape["b"], shape["t"], shape["f"]);
        let len = lengths(shape);
        let x = generator.data("x", &[b, t, f]);
        let x = x.with_garbage(|index| index / f % t >= len[index / f / t] as usize);
        let (width, stride) = if is_adaptive(shape) { (0, 0) } else { (shape["w"], shape["s"]) };
        let params = Params::new().size("batch", b).size("steps", t);
        let params = params.size("targets", targets(shape)).size("d", f);
        Inputs::new(
            params.size("width", width).size("stride", stride),
            vec![x, Tensor::words("len", &[b], len)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (rows, f) = (shape["b"] * targets(shape), shape["f"]);
        let mut launch = steps::launch(rows, f, dtype, variant);
        let columns = match variant.name {
            "group" => Some(LANES),
            // Of eight invocations seven have columns.
            "aligned" => Some(28),
            _ => None,
        };
        if let Some(columns) = columns {
            launch.dispatches[0].grid = [f.div_ceil(columns) as u32, rows.min(MAX_ROWS) as u32, 1];
        }
        let launch = launch.with_constant("ADAPTIVE", f64::from(u8::from(is_adaptive(shape))));
        launch.with_constant("MAXIMUM", f64::from(u8::from(is_max(shape))))
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, t, f, u) = (shape["b"], shape["t"], shape["f"], targets(shape));
        let len = lengths(shape);
        let joined: usize =
            (0..b * u).map(|row| window(shape, row % u, len[row / u] as usize).len()).sum();
        let read: usize = len.iter().map(|&len| t.min(len as usize)).sum();
        let flops = if is_max(shape) { 0 } else { joined * f };
        Work::new(flops, dtype.bytes() * f * (read + b * u) + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        pool(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        pool(problem, rows)
    }
}

fn sliding(b: usize, t: usize, f: usize, w: usize, s: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("f", f), ("w", w), ("s", s)])
}

fn adaptive(b: usize, t: usize, f: usize, u: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("f", f), ("u", u)])
}

/// One window over the first `n` steps, as where whole modalities are absent.
fn valid(b: usize, t: usize, f: usize, n: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("f", f), ("u", 1), ("n", n)])
}

fn is_adaptive(shape: &Shape) -> bool {
    shape.get("u").is_some()
}

fn is_max(shape: &Shape) -> bool {
    matches!(shape.option(), Some("max" | "max_masked"))
}

/// Windows of one sample.
fn targets(shape: &Shape) -> usize {
    if is_adaptive(shape) {
        return shape["u"];
    }
    shape["t"].checked_sub(shape["w"]).map_or(0, |rest| rest / shape["s"] + 1)
}

/// Valid steps of each sample: all, those of the axis `n`, or every kind in turn.
fn lengths(shape: &Shape) -> Vec<u32> {
    let t = shape["t"];
    let kinds = match shape.option() {
        Some("masked" | "max_masked") => [t, 0, 1, t / 2, t - 1],
        _ => [shape.get("n").unwrap_or(t); 5],
    };
    (0..shape["b"]).map(|b| kinds[b % kinds.len()] as u32).collect()
}

/// The valid steps of window `j`.
fn window(shape: &Shape, j: usize, valid: usize) -> std::ops::Range<usize> {
    let (first, end) = if is_adaptive(shape) {
        let (t, u) = (shape["t"], shape["u"]);
        (j * t / u, ((j + 1) * t).div_ceil(u))
    } else {
        (j * shape["s"], j * shape["s"] + shape["w"])
    };
    first.min(valid)..end.min(valid)
}

/// Most additions one term passes through.
fn depth(count: usize, variant: &Variant) -> usize {
    match variant.name {
        "group" => (),
        // Every fourth row, then the four of them.
        "aligned" => return count.div_ceil(4) + 2,
        _ => return count,
    }
    let slices = variant.constant("WG") / LANES;
    count.div_ceil(slices) + slices.ilog2() as usize
}

fn pool<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (b, f, u) = (shape["b"], shape["f"], targets(shape));
    let x = problem.inputs.float::<Ix3>("x");
    let len = problem.inputs.words("len");
    vec![by_rows(rows, b * u, f, |row, mut y| {
        let sample = row / u;
        let steps = window(shape, row % u, len[sample] as usize);
        if steps.is_empty() {
            return;
        }
        let (count, depth) = (steps.len(), depth(steps.len(), problem.variant));
        for i in 0..f {
            let value = |step: usize| S::exact(f64::from(x[[sample, step, i]]));
            let values = steps.clone().map(value);
            let out = if is_max(shape) {
                values.reduce(S::max).expect("a step")
            } else {
                S::sum(values, depth) / S::exact(count as f64)
            };
            y[i] = out.store(problem.storage());
        }
    })]
}
