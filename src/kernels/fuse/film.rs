//! Feature-wise linear modulation (arXiv 1709.07871) of one modality by another.

use ndarray::{Array2, Ix2, Ix3};

use super::modalities;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, refuses_ragged, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Film;

struct Film;

/// Bits of `present`.
const FEATURES: u32 = 1;
const CONDITION: u32 = 2;

const VARIANTS: &[Variant] = &[
    Variant::new("scalar", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| refuses_ragged(shape, "c"),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        refuses: |shape| refuses_ragged(shape, "c"),
        ..Variant::new("columns", &[("WG", 64.0), ("ROWS", 16.0)])
    },
    // The same in workgroups that fill one vector unit of a CPU adapter.
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| refuses_ragged(shape, "c"),
        ..Variant::new("columns8", &[("WG", 8.0), ("ROWS", 16.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("features taken as present", "(mask & FEATURES) != 0u", "true"),
    Mutant::new("condition taken as present", "(mask & CONDITION) != 0u", "true"),
    Mutant::new("presence bits swapped", "FEATURES: u32 = 1u", "FEATURES: u32 = 2u"),
    Mutant::new("shift left out", " + vec4<f32>(beta4[at])", ""),
    Mutant::new(
        "gain and shift swapped",
        "f32(gamma[at]) * v + f32(beta[at])",
        "f32(beta[at]) * v + f32(gamma[at])",
    ),
    Mutant::new("gain of one channel for all", "+ index - row * params.channels", ""),
    Mutant::new(
        "conditions of the first sample",
        "(beta4[sample * quads + quad])",
        "(beta4[quad])",
    ),
    Mutant::new("last row of a band dropped", "row < min(first", "row + 1u < min(first"),
    Mutant::new(
        "last element dropped",
        "params.len * params.channels)",
        "params.len * params.channels - 1u)",
    ),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "b l c"), Operand::new("gamma", "b c"), Operand::new("beta", "b c")];

impl Kernel for Film {
    fn spec(&self) -> Spec {
        Spec {
            summary: "scale and shift the features of one modality as another one says",
            difficulties: &[2],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Large,
                Distribution::Edges,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(b, l, c)| Shape::new(&[("b", b), ("l", l), ("c", c)]);
        match preset {
            Preset::Smoke => {
                let whole = [(1, 1, 1), (3, 5, 257), (2, 33, 36), (0, 4, 8), (2, 0, 8)].map(of);
                let masked = [(9, 1, 5), (5, 17, 35), (9, 31, 36), (6, 3, 516)];
                let masked = masked.map(|size| of(size).tag("present"));
                whole.into_iter().chain(masked).collect()
            }
            Preset::Models => vec![
                of((64, 196, 128)).from("FiLM on CLEVR, 14 × 14 features"),
                of((128, 1, 512)).from("MultiBench"),
                of((24, 925, 60)).from("MulT MOSEI"),
                of((1024, 1, 1024)).from("ImageBind-huge, batch 1024"),
            ],
            Preset::Sweep => [14, 16, 18, 20, 22, 24]
                .map(|log2| of((16, (1 << log2) / (16 * modalities::SWEEP_WIDTH), 512)))
                .into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, l, c) = (shape["b"], shape["l"], shape["c"]);
        let present = modalities::masks(shape, 2);
        let lacks = |bit: u32, sample: usize| present[sample] & bit == 0;
        // The identity: such a modulation is a copy.
        let identity = generator.distribution == Distribution::Edges;
        let condition = |name, neutral: f32| {
            let drawn = if identity {
                generator.filled(name, &[b, c], |_| neutral)
            } else {
                generator.weight(name, &[b, c], 1.0)
            };
            drawn.with_garbage(|index| lacks(CONDITION, index / c))
        };
        let x = generator.data("x", &[b, l, c]);
        Inputs::new(
            Params::new().size("batch", b).size("len", l).size("channels", c),
            vec![
                x.with_garbage(|index| lacks(FEATURES, index / (l * c))),
                condition("gamma", 1.0),
                condition("beta", 0.0),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, l, c) = (shape["b"], shape["l"], shape["c"]);
        let lanes = variant.constant("WG");
        let workgroups = match variant.name {
            "scalar" => (b * l * c).div_ceil(lanes),
            "vector" => (b * l * c / 4).div_ceil(lanes),
            _ => b * l.div_ceil(variant.constant("ROWS")) * (c / 4).div_ceil(lanes),
        };
        let output = Buffer::new("y", dtype.storage(), b * l, c);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name.trim_end_matches('8');
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, l, c) = (shape["b"], shape["l"], shape["c"]);
        Work::new(2 * b * l * c, dtype.bytes() * 2 * b * c * (l + 1) + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        film(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        film(problem, rows)
    }
}

fn film<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, l, c) = (problem.shape["b"], problem.shape["l"], problem.shape["c"]);
    let x = problem.inputs.float::<Ix3>("x");
    let gamma = problem.inputs.float::<Ix2>("gamma");
    let beta = problem.inputs.float::<Ix2>("beta");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b * l, c, |row, mut y| {
        let (sample, step) = (row / l, row % l);
        if present[sample] & FEATURES == 0 {
            return;
        }
        for i in 0..c {
            let feature = exact(x[[sample, step, i]]);
            let modulated = if present[sample] & CONDITION == 0 {
                feature
            } else {
                exact(gamma[[sample, i]]) * feature + exact(beta[[sample, i]])
            };
            y[i] = modulated.store(problem.storage());
        }
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(distribution: Distribution, shape: &Shape) -> (Inputs, Array2<Tracked>) {
        let generator = Generator::new(Dtype::F32, &VARIANTS[0], distribution, 3);
        let inputs = Film.inputs(shape, &generator);
        let (dtype, variant) = (Dtype::F32, &VARIANTS[0]);
        let problem = Problem { shape, dtype, variant, inputs: &inputs, device: &[] };
        let y = Film.tracked(&problem, &Rows::All).swap_remove(0);
        (inputs, y)
    }

    #[test]
    fn gain_one_and_shift_zero_must_copy_every_bit() {
        let shape = Shape::new(&[("b", 2), ("l", 3), ("c", 5)]);
        let (inputs, y) = tracked(Distribution::Edges, &shape);
        let x = inputs.float::<Ix3>("x");
        assert!(y.iter().zip(&x).all(|(y, &x)| y.worst == 0.0 && y.value == f64::from(x)));
        let (_, other) = tracked(Distribution::Normal, &shape);
        assert!(other.iter().any(|y| y.worst > 0.0), "a true modulation rounds");
    }
}
