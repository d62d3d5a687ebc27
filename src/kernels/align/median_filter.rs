//! Running median of rows with reflection at the ends (`median_filter` of openai/whisper).

use ndarray::{Array2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &MedianFilter;

struct MedianFilter;

/// The shader holds half the window and two more values, 16 at most.
const MAX_WIDTH: usize = 29;

const VARIANTS: &[Variant] = &[
    Variant { refuses: refuses_width, ..Variant::new("single", &[("WG", 64.0)]) },
    Variant { refuses: refuses_width, ..Variant::new("quad", &[("WG", 64.0)]) },
    Variant { refuses: refuses_run, ..Variant::new("run", &[("WG", 8.0)]) },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        suits: Suits::Cpu,
        refuses: refuses_run,
        ..Variant::new("stream", &[])
    },
];

fn refuses_width(shape: &Shape) -> Option<String> {
    let w = shape["w"];
    (w > MAX_WIDTH || w.is_multiple_of(2))
        .then(|| format!("width {w} is not odd and at most {MAX_WIDTH}"))
}

/// Times four outputs of one invocation of `run`.
const RUN: usize = 4;

fn refuses_run(shape: &Shape) -> Option<String> {
    let (t, w) = (shape["t"], shape["w"]);
    let ragged = || (!t.is_multiple_of(4)).then(|| format!("rows of {t}, not a multiple of 4"));
    (!matches!(w, 3 | 5 | 7)).then(|| format!("width {w} is none of 3, 5 and 7")).or_else(ragged)
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("edge repeated", "abs(last - abs(i))", "abs(last - select(i, -1 - i, i < 0))"),
    Mutant::new("the next larger value", "return held[1];", "return held[2];"),
    Mutant::new("fifth value dropped", "min(most, max(least, q))", "least"),
    Mutant::new("short rows filtered", "params.t <= WIDTH / 2u", "params.t < WIDTH / 2u"),
    Mutant::new("edge of a run repeated", "v.xwzy", "v.wzyx"),
    Mutant::new("end of a run repeated", "v.zyxw", "v.wzyx"),
    Mutant::new("neighbour before is the one after", "(lane + 7u) % 8u", "(lane + 1u) % 8u"),
    Mutant::new("end of eight vectors not carried on", "carried = subgroupShuffle(v, 7u)", {
        "carried = subgroupShuffle(v, 0u)"
    }),
    Mutant::new("next eight vectors not looked at", "select(v, next, lane == 0u)", "v"),
    Mutant::new("window shifted", "i32(WIDTH / 2u)", "i32(WIDTH / 2u - 1u)"),
    Mutant::new("last value of the window never added", "if (count > 3u)", "if (count > 4u)"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "r t")];

impl Kernel for MedianFilter {
    fn spec(&self) -> Spec {
        Spec {
            summary: "replace each value by the median of its neighbours along the row",
            difficulties: &[3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Ties],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(10, 6, 3),
                of(3, 12, 5),
                of(5, 240, 7),
                of(2, 513, 13),
                of(4, 3, 7),
                of(4, 4, 7),
                of(3, 31, 1),
                of(1, 1, 3),
                of(0, 8, 5),
                of(33, 20, 7),
                of(9, 16, 3),
            ],
            Preset::Models => vec![
                of(4_480, 1_500, 7).from("Whisper-large-v3 alignment heads"),
                of(840, 500, 5).from("MulT MOSEI vision, smoothed"),
            ],
            Preset::Sweep => [3, 5, 7, 13]
                .into_iter()
                .flat_map(|w| [14, 17, 20, 23].map(|log2| of((1 << log2) / 1024, 1024, w)))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (r, t) = (shape["r"], shape["t"]);
        Inputs::new(Params::new().size("rows", r).size("t", t), vec![generator.data("x", &[r, t])])
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (r, t) = (shape["r"], shape["t"]);
        let of = |invocations: usize| invocations.div_ceil(variant.constant("WG"));
        let workgroups = match variant.name {
            "stream" => r,
            "quad" => of(r * t.div_ceil(4)),
            "run" => of(r * t.div_ceil(4 * RUN)),
            _ => of(r * t),
        };
        let output = Buffer::new("y", dtype.storage(), r, t);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        launch.with_constant("WIDTH", shape["w"] as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        Work::new(0, dtype.bytes() * 2 * shape["r"] * shape["t"])
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        median_filter(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        median_filter(problem, rows)
    }
}

fn of(r: usize, t: usize, w: usize) -> Shape {
    Shape::new(&[("r", r), ("t", t), ("w", w)])
}

fn median_filter<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (r, t, w) = (problem.shape["r"], problem.shape["t"], problem.shape["w"]);
    let x = problem.inputs.float::<Ix2>("x");
    let reach = w / 2;
    vec![by_rows(rows, r, t, |row, mut y| {
        let x = x.row(row);
        let mut window = vec![0.0; w];
        for i in 0..t {
            let mut median = x[i];
            if t > reach {
                for (tap, value) in window.iter_mut().enumerate() {
                    // Reflected at the first element, then at the last.
                    let at = (i + tap).abs_diff(reach);
                    *value = x[at.min((2 * (t - 1)).saturating_sub(at))];
                }
                median = *window.select_nth_unstable_by(reach, f32::total_cmp).1;
            }
            y[i] = S::exact(f64::from(median)).store(problem.storage());
        }
    })]
}
