//! Concatenation, the plainest early fusion: along the features, or of streams along time.

use ndarray::{Array2, Ix2};

use super::{modalities, widths};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &Concat;

struct Concat;

/// Elements in 16 bytes of the narrowest storage type.
const VECTOR: usize = 16;

const VARIANTS: &[Variant] = &[
    Variant::new("word_each", &[("WG", 64.0)]),
    Variant { refuses: refuses_ragged, ..Variant::new("vector_each", &[("WG", 64.0)]) },
    Variant {
        suits: Suits::Cpu,
        refuses: refuses_ragged,
        ..Variant::new("chunk", &[("WG", 8.0), ("CHUNK", 128.0)])
    },
];

fn refuses_ragged(shape: &Shape) -> Option<String> {
    let ragged = columns(shape).into_iter().find(|width| !width.is_multiple_of(VECTOR));
    ragged.map(|width| format!("a row of {width} elements is no multiple of {VECTOR}"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((present[row] >> m) & 1u) == 1u", "true"),
    Mutant::new("presence of the next modality", "present[row] >> m", "present[row] >> (m + 1u)"),
    Mutant::new("third modality read from the second", "return x2[at]", "return x1[at]"),
    Mutant::new("fourth modality starts late", "first = p.f3; end", "first = p.f3 + 1u; end"),
    Mutant::new("row stride of the whole result", "row * (end - first)", "row * p.total"),
    Mutant::new(
        "elements of a word in reverse",
        "(origin.at % EACH * bits)",
        "((EACH - 1u - origin.at % EACH) * bits)",
    ),
    Mutant::new("half behind the result cleared", "EACH == 2u && ", "EACH == 3u && "),
    Mutant::new("neighbours of an element kept", "(0xffffffffu >> (32u - bits))", "0xffffffffu"),
    Mutant::new("last word dropped", "index * EACH >= count", "(index + 1u) * EACH >= count"),
    Mutant::new("chunks of absent modalities", "select(start, end, is_present)", "end"),
    Mutant::new(
        "chunks end a vector early",
        "(chunk + 1u) * CHUNK, last",
        "(chunk + 1u) * CHUNK - 1u, last",
    ),
    Mutant::new(
        "first row of each modality",
        "row * width - first / vector",
        "0u - first / vector",
    ),
    Mutant::new(
        "last vector dropped",
        "index >= params.batch * across",
        "index + 1u >= params.batch * across",
    ),
];

const OPERANDS: &[Operand] = &[
    Operand::new("x0", "b u"),
    Operand::new("x1", "b v"),
    Operand::new("x2", "b w"),
    Operand::new("x3", "b x"),
    Operand::new("x4", "b y"),
    Operand::new("x5", "b z"),
];

impl Kernel for Concat {
    fn spec(&self) -> Spec {
        Spec {
            summary: "join modalities bit for bit along features or time, zeros for absent ones",
            difficulties: &[2],
            dtypes: &[Dtype::F32, Dtype::F16, Dtype::I8],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Subnormal],
            operands: Operands::of(OPERANDS).without(&["time", "time_present"]),
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
                of(129, &[16, 80, 32, 16, 48, 16]).tag("present"),
                of(129, &[1, 5, 35, 2, 33, 3]).tag("present"),
                streams(3, 30, &[50, 37, 1]).tag("time"),
                streams(17, 16, &[4, 31, 5]).tag("time_present"),
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
            if generator.dtype == Dtype::I8 {
                let code = |index: usize| match absent(index) {
                    true => i8::MAX,
                    false => rng::word(generator.seed, 7 + m as u32, index as u32) as i8,
                };
                let codes = (0..b * width).map(code).collect();
                return Tensor::codes(name, Elem::I8, &[b, width], codes);
            }
            generator.data(name, &[b, width]).with_garbage(absent)
        };
        let mut tensors: Vec<Tensor> = names.into_iter().enumerate().map(modality).collect();
        tensors.push(Tensor::words("present", &[b], present.clone()));
        Inputs::new(params, tensors)
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let elem = elem(dtype);
        let output = Buffer::new("y", elem, shape["b"], columns(shape).iter().sum());
        let words = output.bytes().div_ceil(4);
        let workgroups = match variant.name {
            "chunk" => {
                let vectors = output.cols * elem.bits() / 128;
                shape["b"] * vectors.div_ceil(variant.constant("CHUNK"))
            }
            "vector_each" => words.div_ceil(4 * variant.constant("WG")),
            _ => words.div_ceil(variant.constant("WG")),
        };
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        let launch = launch.with_constant("EACH", (32 / elem.bits()) as f64);
        launch.with_constant("COUNT", columns(shape).len() as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let elements = shape["b"] * columns(shape).iter().sum::<usize>();
        Work::new(0, 2 * elem(dtype).bytes_of(elements) + 4 * shape["b"])
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        concat(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        concat(problem, rows)
    }
}

/// How both sides are stored: codes without their scales, which a concatenation leaves alone.
fn elem(dtype: Dtype) -> Elem {
    if dtype == Dtype::I8 { Elem::I8 } else { dtype.storage() }
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
    let (b, total) = (problem.shape["b"], columns.iter().sum());
    let joined = |value: &(dyn Fn(usize, usize, usize) -> f64 + Sync)| {
        by_rows(rows, b, total, |row, mut y| {
            for m in modalities::members(present[row]) {
                for i in 0..columns[m] {
                    y[firsts[m] + i] = S::exact(value(m, row, i));
                }
            }
        })
    };
    vec![if problem.dtype == Dtype::I8 {
        let x = names.map(|name| problem.inputs.codes::<Ix2>(name));
        joined(&|m, row, i| f64::from(x[m][[row, i]]))
    } else {
        let x = names.map(|name| problem.inputs.float::<Ix2>(name));
        joined(&|m, row, i| f64::from(x[m][[row, i]]))
    }]
}
