//! Concatenation, the plainest early fusion: along the features, or of streams along time.

use ndarray::{Array2, Ix2};

use super::{modalities, widths};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Preset, Problem, Shape, Spec, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Concat;

struct Concat;

/// Elements in 16 bytes of the narrowest storage type.
const VECTOR: usize = 8;

const VARIANTS: &[Variant] = &[
    Variant::new("word_each", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| {
            let ragged = columns(shape).into_iter().find(|width| !width.is_multiple_of(VECTOR));
            ragged.map(|width| format!("a row of {width} elements is no multiple of {VECTOR}"))
        },
        ..Variant::new("vector_each", &[("WG", 64.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((present[row] >> m) & 1u) == 1u", "true"),
    Mutant::new("presence of the next modality", "present[row] >> m", "present[row] >> (m + 1u)"),
    Mutant::new("third modality read from the second", "return x2[at]", "return x1[at]"),
    Mutant::new("fourth modality starts late", "first = p.f3; end", "first = p.f3 + 1u; end"),
    Mutant::new("row stride of the whole result", "row * (end - first)", "row * p.total"),
    Mutant::new(
        "halves of a word swapped",
        "(origin.at % 2u * 16u)",
        "(16u - origin.at % 2u * 16u)",
    ),
    Mutant::new("last half word left out", "(2u * index + 1u < count)", "(true)"),
    Mutant::new("last word dropped", "index * HALVES >= count", "(index + 1u) * HALVES >= count"),
    Mutant::new(
        "last vector dropped",
        "index >= params.batch * across",
        "index + 1u >= params.batch * across",
    ),
];

impl Kernel for Concat {
    fn spec(&self) -> Spec {
        Spec {
            summary: "join modalities bit for bit along features or time, zeros for absent ones",
            difficulties: &[2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Subnormal],
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |b, w: &[usize]| widths::shape(&[("b", b)], w);
        let streams = |b, d, t: &[usize]| widths::shape(&[("b", b), ("d", d)], t);
        match preset {
            Preset::Smoke => vec![
                of(1, &[1]),
                of(3, &[257, 35]),
                of(5, &[64, 8, 1, 30, 3, 16]),
                of(0, &[8, 8, 8]),
                of(5, &[5]).tag("present"),
                of(9, &[1, 35]).tag("present"),
                of(17, &[257, 5, 31]).tag("present"),
                of(129, &[8, 40, 16, 8, 24, 8]).tag("present"),
                of(129, &[1, 5, 35, 2, 33, 3]).tag("present"),
                streams(3, 30, &[50, 37, 1]).tag("time"),
                streams(17, 8, &[4, 31, 5]).tag("time_present"),
                widths::shape(&[("b", 2), ("p", 5)], &[7, 3, 8]),
            ],
            Preset::Models => vec![
                of(128, &[512, 512]).from("MultiBench MM-IMDb"),
                of(1200, &[300, 74, 35]).from("MulT MOSEI, batch 24 × 50 words"),
                of(1024, &[1024; 4]).from("ImageBind-huge, batch 1024"),
                streams(1, 1024, &[256, 64]).tag("time").from("Flamingo resampler keys"),
                streams(8, 768, &[3136, 4]).tag("time").from("MBT-B video and bottlenecks"),
            ],
            Preset::Sweep => {
                let sizes = modalities::sweep().into_iter();
                sizes.map(|(m, b)| of(b, &vec![modalities::SWEEP_WIDTH; m])).collect()
            }
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, columns) = (shape["b"], columns(shape));
        let firsts = widths::firsts(&columns);
        let total = columns.iter().sum();
        let present = widths::presence(shape);
        let names = ["x0", "x1", "x2", "x3", "x4", "x5"];
        let mut params = Params::new().size("batch", b).size("total", total);
        for (m, name) in ["f1", "f2", "f3", "f4", "f5"].into_iter().enumerate() {
            params = params.size(name, firsts.get(m + 1).copied().unwrap_or(total));
        }
        let modality = |(m, name)| {
            let width = columns.get(m).copied().unwrap_or(0);
            let absent = |index: usize| present[index / width] >> m & 1 == 0;
            generator.data(name, &[b, width]).with_garbage(absent)
        };
        let mut tensors: Vec<Tensor> = names.into_iter().enumerate().map(modality).collect();
        tensors.push(Tensor::words("present", &[b], present.clone()));
        Inputs::new(params, tensors)
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let output = Buffer::new("y", dtype.storage(), shape["b"], columns(shape).iter().sum());
        let vectors = if variant.name == "vector_each" { 4 } else { 1 };
        let words = output.bytes().div_ceil(4).div_ceil(vectors);
        let grid = spill(words.div_ceil(variant.constant("WG")));
        let mut launch = Launch::single(output, grid);
        launch.dispatches[0].entry = variant.name;
        launch.with_constant("HALVES", 4.0 / dtype.bytes() as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let elements = shape["b"] * columns(shape).iter().sum::<usize>();
        Work::new(0, 2 * dtype.bytes() * elements + 4 * shape["b"])
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        concat(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        concat(problem, rows)
    }
}

/// Elements of each modality in one row of the result; time steps have `d` features.
fn columns(shape: &Shape) -> Vec<usize> {
    let streams = shape.option().is_some_and(|tag| tag.starts_with("time"));
    let features = if streams { shape["d"] } else { 1 };
    widths::widths(shape).into_iter().map(|width| width * features).collect()
}

fn concat<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let columns = columns(problem.shape);
    let firsts = widths::firsts(&columns);
    let present = problem.inputs.words("present");
    let names = ["x0", "x1", "x2", "x3", "x4", "x5"];
    let x = names.map(|name| problem.inputs.float::<Ix2>(name));
    vec![by_rows(rows, problem.shape["b"], columns.iter().sum(), |row, mut y| {
        for m in modalities::members(present[row]) {
            for i in 0..columns[m] {
                y[firsts[m] + i] = S::exact(f64::from(x[m][[row, i]]));
            }
        }
    })]
}
