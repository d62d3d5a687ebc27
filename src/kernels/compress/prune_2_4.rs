//! 2:4 pruning of weights (arXiv 2104.08378): the two largest of every four along k.

use ndarray::{Array2, Ix2};

use super::codes::entry;
use super::sparsity::{groups, positions, survivors};
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Prune24;

struct Prune24;

const VARIANTS: &[Variant] = &[
    Variant::new("word", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("tile", &[("WG", 64.0)]) },
    // One workgroup a row, sixteen bytes a load.
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| {
            let k = shape["k"];
            (!k.is_multiple_of(16)).then(|| format!("k is {k}, not a multiple of 16"))
        },
        ..Variant::new("strip", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("of equal ones the last stays", "u32(m.y >= m.z)", "u32(m.y > m.z)"),
    Mutant::new("signs not ignored", "& vec4<u32>(0x7fffffffu)", "& vec4<u32>(0xffffffffu)"),
    Mutant::new("second position in the wrong bits", "places.y << 2u", "places.y << 1u"),
    Mutant::new("second half of a word like the first", "vec2<u32>(16u)", "vec2<u32>(0u)"),
    Mutant::new(
        "second group of halves like the first",
        "keep(halves(words.zw)",
        "keep(halves(words.xy)",
    ),
    Mutant::new("signs of halves not ignored", "words.xy), 0x8000u)", "words.xy), 0x10000u)"),
    Mutant::new("second vector like the first", "second = keep(b,", "second = keep(a,"),
    Mutant::new(
        "last vectors of a row dropped",
        "min(each, end - each * word)",
        "min(each, end - each * word - 1u)",
    ),
    Mutant::new("next row read at the end of a row", "select(T4(), out, inside)", "out"),
    Mutant::new("row starts rounded to vectors", "switch at % 4u", "switch 0u * at"),
    Mutant::new("last of eight groups dropped", "i < 8u; i++", "i < 7u; i++"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "n k")];

impl Kernel for Prune24 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "keep the two largest of every four weights, with their positions",
            difficulties: &[4],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Ties,
                Distribution::Constant,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(n, k)| Shape::new(&[("n", n), ("k", k)]);
        match preset {
            Preset::Smoke => {
                [(1, 1), (3, 4), (5, 6), (7, 31), (9, 130), (33, 257), (2, 1408), (5, 80), (0, 8)]
                    .map(of)
                    .into()
            }
            Preset::Models => vec![
                of((768, 1024)).from("CLIP ViT-L/14-336 image projection"),
                of((1536, 1408)).from("BLIP-2 Q-Former keys and values"),
                of((4096, 1024)).from("LLaVA-1.5-7B projector"),
                of((4096, 4096)).from("LLaVA-1.5-7B projector"),
            ],
            Preset::Sweep => [256, 512, 1024, 2048, 4096].map(|n| of((n, n))).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, k) = (shape["n"], shape["k"]);
        let params = Params::new().size("rows", n).size("k", k);
        Inputs::new(params, vec![generator.data("x", &[n, k])])
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (n, k) = (shape["n"], shape["k"]);
        let lanes = variant.constant("WG");
        let workgroups = match variant.name {
            "word" => (n * groups(k).div_ceil(8)).div_ceil(lanes),
            "strip" => n,
            _ => n * groups(k).div_ceil(lanes),
        };
        Launch {
            outputs: vec![
                Buffer::new("v", dtype.storage(), n, 2 * groups(k)),
                Buffer::new("p", Elem::U2, n, positions(k)),
            ],
            scratch: Vec::new(),
            dispatches: vec![Dispatch::new(entry(variant), spill(workgroups))],
        }
        .with_constant("HALF", f64::from(u8::from(dtype.storage() == Elem::F16)))
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (n, k) = (shape["n"], shape["k"]);
        Work::new(0, dtype.bytes() * n * (k + 2 * groups(k)) + n * positions(k) / 4)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        prune(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        prune(problem, rows)
    }
}

fn prune<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, k) = (problem.shape["n"], problem.shape["k"]);
    let x = problem.inputs.float::<Ix2>("x");
    let four = |row: usize, group: usize| -> Vec<f32> {
        x.row(row).iter().skip(4 * group).take(4).copied().collect()
    };
    let v = by_rows(rows, n, 2 * groups(k), |row, mut v| {
        for group in 0..groups(k) {
            let four = four(row, group);
            for (slot, at) in survivors(&four).into_iter().enumerate() {
                let value = four.get(at).copied().unwrap_or(0.0);
                v[2 * group + slot] = S::exact(f64::from(value));
            }
        }
    });
    let p = by_rows(rows, n, positions(k), |row, mut p| {
        for group in 0..groups(k) {
            for (slot, at) in survivors(&four(row, group)).into_iter().enumerate() {
                p[2 * group + slot] = S::exact(at as f64);
            }
        }
    });
    vec![v, p]
}
