//! Rate of subgroup reductions, checked against the subgroups the device itself reports.

use std::collections::HashMap;

use ndarray::Array2;

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Ceiling, Dtype, Elem, Kernel, Launch, Mutant, Need, Operands, Preset, Problem, Shape,
    Spec, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &SubgroupSum;

struct SubgroupSum;

/// Lanes of a subgroup where no device has told: any number that divides a workgroup.
const ASSUMED: usize = 8;

const VARIANTS: &[Variant] =
    &[Variant { needs: &[Need::Subgroup], ..Variant::new("add", &[("WG", 64.0)]) }];

const MUTANTS: &[Mutant] = &[
    Mutant::new("last trip dropped", "i < params.trips", "i + 1u < params.trips"),
    Mutant::new("maximum for the sum", "subgroupAdd(word)", "subgroupMax(word)"),
    Mutant::new("own share left out", "sum + share", "sum"),
    Mutant::new("dead lanes take part", "select(0u,", "select(1u,"),
];

impl Kernel for SubgroupSum {
    fn spec(&self) -> Spec {
        Spec {
            summary: "add over subgroups again and again: the cost of a reduction without barrier",
            difficulties: &[4],
            dtypes: &[Dtype::F32],
            variants: VARIANTS,
            inputs: &[Distribution::Normal],
            operands: Operands::none("a probe measures the device"),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(n, t)| Shape::new(&[("n", n), ("t", t)]);
        match preset {
            Preset::Smoke => [(0, 4), (1, 0), (1, 1), (31, 3), (257, 33), (64, 5)].map(of).into(),
            Preset::Models => vec![of((262_144, 256))],
            Preset::Sweep => (4..=10).map(|log2| of((262_144, 1 << log2))).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, t) = (shape["n"], shape["t"]);
        let words = (0..n as u32).map(|i| rng::word(generator.seed, 3, i)).collect();
        let params = Params::new().size("invocations", n).size("trips", t);
        Inputs::new(params, vec![Tensor::words("x", &[n], words)])
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let n = shape["n"];
        let output = |name| Buffer::new(name, Elem::U32, n, 1);
        let launch = Launch::single(output("group"), spill(n.div_ceil(variant.constant("WG"))));
        Launch { outputs: vec![output("group"), output("y")], ..launch }
    }

    /// One addition for each invocation and trip; how many steps one takes is the device's affair.
    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        let (n, t) = (shape["n"], shape["t"]);
        Work { ceiling: Ceiling::None, ..Work::new(n * t, 12 * n) }
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        subgroup_sum(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        subgroup_sum(problem, rows)
    }
}

fn subgroup_sum<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, t) = (problem.shape["n"], problem.shape["t"]);
    let lanes = problem.variant.constant("WG");
    let words = problem.inputs.words("x");
    let told = problem.device.first().map(|answer| answer.values());
    let group = |i: usize| told.as_ref().map_or(i % lanes / ASSUMED, |told| told[i] as usize);
    let mut members: HashMap<(usize, usize), Vec<usize>> = HashMap::new();
    (0..n).for_each(|i| members.entry((i / lanes, group(i))).or_default().push(i));
    let mut y: Vec<u32> = words.iter().copied().collect();
    for members in members.values() {
        for _ in 0..t {
            let sum = members.iter().fold(0_u32, |sum, &i| sum.wrapping_add(y[i]));
            members.iter().for_each(|&i| y[i] = sum.wrapping_add(words[i]));
        }
    }
    vec![
        by_rows(rows, n, 1, |i, mut out| out[0] = S::undetermined(group(i) as f64)),
        by_rows(rows, n, 1, |i, mut out| out[0] = S::exact(f64::from(y[i]))),
    ]
}
