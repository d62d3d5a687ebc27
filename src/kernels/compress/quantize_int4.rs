//! Codes of four bits with a scale for each group along k, the form of weight-only quantisation
//! (GPTQ, arXiv 2210.17323; AWQ, arXiv 2306.00978), symmetric: s = absmax/7.

use ndarray::{Array2, Ix2};

use super::codes::{Codes, Span, entry, half, least, padded, restored};
use super::quantize_int8::draw;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Uncompressed, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &QuantizeInt4;

struct QuantizeInt4;

/// One invocation a group.
const THREAD: Variant = Variant::new("thread", &[("WG", 8.0)]);
/// One workgroup sixty-four words of eight codes.
const TILE: Variant = Variant { suits: Suits::Gpu, ..Variant::new("tile", &[("WG", 64.0)]) };
/// One invocation 32 elements, up to four of them a group.
const REGISTERS: Variant = Variant {
    suits: Suits::Cpu,
    needs: &[Need::Subgroup, Need::SubgroupOf8],
    refuses: refuses_registers,
    ..Variant::new("registers", &[])
};
const VARIANTS: &[Variant] = &[
    THREAD,
    half("thread_f16", THREAD),
    TILE,
    half("tile_f16", TILE),
    REGISTERS,
    half("registers_f16", REGISTERS),
];

fn refuses_registers(shape: &Shape) -> Option<String> {
    let (m, k, group) = (shape["m"], shape["k"], group(shape));
    let ragged = || format!("rows of {k} elements are not whole groups of {group}");
    (m * k == 0 || !k.is_multiple_of(group)).then(ragged)
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("steps of eight", "/ 7.0", "/ 8.0"),
    Mutant::new("cut off instead of rounded", "clamp(v / scale,", "clamp(trunc(v / scale),"),
    Mutant::new("codes end a step early", "vec4<f32>(7.0)", "vec4<f32>(6.0)"),
    Mutant::new("division by a zero scale", "peak < params.least", "peak < -1.0"),
    Mutant::new(
        "last word not looked at",
        "word < end; word++) { peak",
        "word + 1u < end; word++) { peak",
    ),
    Mutant::new("neighbours of a group not asked", "if (LANES > 1u)", "if (LANES > 9u)"),
    Mutant::new("half a group not asked", "if (LANES > 2u)", "if (LANES > 9u)"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    Mutant::new("second half of a word from the first", "2u * word + 1u", "2u * word"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m k")];

impl Kernel for QuantizeInt4 {
    fn spec(&self) -> Spec {
        Spec {
            summary: "round weights to codes of four bits with a scale for each group along k",
            difficulties: &[4],
            dtypes: &[Dtype::I4],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Outliers,
                Distribution::Ties,
                Distribution::Subnormal,
            ],
            operands: Operands::of(OPERANDS).without(&["zeros"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        shapes(preset)
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let params = Params::new().size("rows", shape["m"]).size("k", shape["k"]);
        let params = params.size("group", group(shape));
        Inputs::new(
            params.real("least", least(Elem::I4, generator.storage)),
            draw(shape, generator),
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, k) = (shape["m"], shape["k"]);
        let (rows, cols) = Span::of(shape).dims(m, k);
        let words = k.div_ceil(8);
        let (workgroups, shared) = match entry(variant) {
            "registers" => ((m * k / 32).div_ceil(8), group(shape) / 32),
            "thread" => ((rows * cols).div_ceil(variant.constant("WG")), 1),
            _ => (m * words.div_ceil(variant.constant("WG")), group(shape) / 8),
        };
        let aligned = f64::from(u8::from(k.is_multiple_of(8)));
        let constants = vec![("LANES", shared as f64), ("ALIGNED", aligned)];
        Launch {
            outputs: vec![
                Buffer::new("s", variant.storage(dtype), rows, cols),
                Buffer::new("q", Elem::I4, m, padded(k, Elem::I4)),
            ],
            scratch: Vec::new(),
            dispatches: vec![Dispatch {
                constants,
                ..Dispatch::new(entry(variant), spill(workgroups))
            }],
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work {
        let (m, k) = (shape["m"], shape["k"]);
        let (rows, cols) = Span::of(shape).dims(m, k);
        let float = variant.storage(dtype).bits() / 8;
        let codes = m * padded(k, Elem::I4) / 2;
        Work::new(2 * m * k, float * (m * k + rows * cols) + codes)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        quantize(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        quantize(problem, rows)
    }

    fn uncompressed(&self, problem: &Problem, rows: &Rows) -> Option<Uncompressed> {
        let [s, q] = problem.device else { return None };
        let codes = Codes { codes: q, scales: s, points: None };
        restored(problem, rows, Span::of(problem.shape), &codes)
    }
}

/// Elements that share a scale.
pub fn group(shape: &Shape) -> usize {
    let Span::Group(length) = Span::of(shape) else { panic!("{shape} names no group") };
    length
}

/// Rows × width; the tag names the group, `zeros` is groups of 32 some of which are zero.
pub fn shapes(preset: Preset) -> Vec<Shape> {
    let of = |m, k, tag| Shape::new(&[("m", m), ("k", k)]).tag(tag);
    match preset {
        Preset::Smoke => vec![
            of(3, 6, "group32"),
            of(5, 130, "group32"),
            of(1, 1, "group128"),
            of(0, 8, "group32"),
            of(3, 216, "group64"),
            of(2, 1408, "group128"),
            of(4, 132, "zeros"),
            of(5, 96, "group32"),
            of(3, 192, "group64"),
            of(4, 128, "zeros"),
        ],
        Preset::Models => {
            let one = |group| of(4096, 1024, group).from("LLaVA-1.5-7B projector weights");
            vec![
                one("group32"),
                one("group64"),
                one("group128"),
                of(4096, 4096, "group128").from("LLaVA-1.5-7B projector weights"),
                of(1536, 1408, "group128").from("BLIP-2 Q-Former weights"),
            ]
        }
        Preset::Sweep => [256, 512, 1024, 2048, 4096].map(|n| of(n, n, "group128")).into(),
    }
}

fn quantize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, k) = (problem.shape["m"], problem.shape["k"]);
    let length = group(problem.shape);
    let (_, groups) = Span::of(problem.shape).dims(m, k);
    let storage = problem.storage();
    let x = problem.inputs.float::<Ix2>("x");
    let exact = |value: f32| S::exact(f64::from(value));
    let scale_of = |row: usize, group: usize| {
        let members = x.row(row).into_iter().skip(group * length).take(length);
        let peak = members.fold(0.0_f32, |peak, x| peak.max(x.abs()));
        if peak < least(Elem::I4, storage) {
            return S::one();
        }
        (exact(peak) / exact(7.0)).store(storage)
    };
    let s = by_rows(rows, m, groups, |row, mut s| {
        (0..groups).for_each(|group| s[group] = scale_of(row, group));
    });
    // Codes follow from the device's own scales, which are verified first.
    let given = problem.device.first();
    let q = by_rows(rows, m, padded(k, Elem::I4), |row, mut q| {
        let scales: Vec<S> = match given {
            Some(answer) => answer.row(row).into_iter().map(S::exact).collect(),
            None => (0..groups).map(|group| scale_of(row, group)).collect(),
        };
        for col in 0..k {
            let code = (exact(x[[row, col]]) / scales[col / length]).round();
            q[col] = code.max(exact(-7.0)).min(exact(7.0));
        }
    });
    vec![s, q]
}
