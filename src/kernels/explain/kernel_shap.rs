//! Kernel SHAP (arXiv 1705.07874): Shapley values by weighted least squares over coalitions.

use ndarray::{Array2, Ix1, Ix2};

use super::coalitions::{self, bit};
use super::solve::{Bounded, Solver};
use crate::accuracy::Tracked;
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec,
    Variant, Work,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &KernelShap;

struct KernelShap;

/// Smallest pivot relative to its diagonal element: half of f32's 24 bits are then lost.
const RANK: f64 = 1.0 / 4096.0;

const MUTANTS: &[Mutant] = &[
    Mutant::new("weights ignored", "w[row] *", "1.0 *"),
    Mutant::new("last coalition dropped", "row < params.n", "row + 1u < params.n"),
    Mutant::new("last player's share not moved", "- bit(row, params.players - 1u) * gain", ""),
    Mutant::new("gain without the empty coalition", "ends[params.c + column] - none", {
        "ends[params.c + column]"
    }),
    Mutant::new("last step of the elimination left out", "k < j; k++) { rest", {
        "k + 1u < j; k++) { rest"
    }),
    Mutant::new("singular systems solved", "singular || ", "singular && "),
    Mutant::new("weight of the same invocation's row", "subgroupShuffle(own.weight, at_lane)", {
        "own.weight"
    }),
    Mutant::new("last rows left out", "row < n; row += 8u", "row + 8u < n; row += 8u"),
    Mutant::new("upper word left out by subgroups", "player >= 32u), at_lane)", "false), at_lane)"),
    Mutant::new("one of eight left out of the factor", "min(block + 8u, j)", "min(block + 7u, j)"),
    Mutant::new("right columns like the left", "four_of(v, 4u)", "four_of(v, 0u)"),
    Mutant::new("players of the second word", "player / 32u]", "0u]"),
];

const OPERANDS: &[Operand] = &[Operand::new("y", "n c"), Operand::new("ends", "2 c")];

impl Kernel for KernelShap {
    fn spec(&self) -> Spec {
        Spec {
            summary: "fit Shapley values to sampled coalitions, the end points as constraints",
            difficulties: &[6],
            dtypes: &[Dtype::F32],
            variants: coalitions::VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Small,
                Distribution::Offset,
            ],
            operands: Operands::of(OPERANDS).without(&["rank"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |n, m, c| Shape::new(&[("n", n), ("m", m), ("c", c)]);
        match preset {
            Preset::Smoke => vec![
                of(3, 1, 4),
                of(2, 2, 3),
                of(6, 3, 65),
                of(62, 6, 7),
                of(257, 20, 2),
                of(1400, 50, 1),
                of(40, 5, 0),
                // Two players always together; fewer coalitions than unknowns; none.
                of(40, 6, 3).tag("rank"),
                of(3, 7, 2).tag("rank"),
                of(0, 4, 2).tag("rank"),
            ],
            Preset::Models => vec![
                of(62, 6, 1000).from("ImageBind-huge, 1,000 classes"),
                of(512, 16, 1).from("BLIP-2 ViT-g, 16 patches"),
                of(2048, 50, 16).from("MulT MOSEI, 50 text tokens"),
            ],
            Preset::Sweep => [64, 128, 256, 512, 1024, 2048].map(|n| of(n, 16, 16)).into(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (n, m, c) = (shape["n"], shape["m"], shape["c"]);
        let sets = coalitions_of(shape, generator.seed);
        let weights = sets.iter().map(|set| weight(n, m, set.count_ones() as usize)).collect();
        Inputs::new(
            Params::new().size("n", n).size("players", m).size("c", c),
            vec![
                coalitions::tensor(&sets),
                Tensor::floats("w", Elem::F32, &[n], weights),
                generator.data("y", &[n, c]),
                generator.data("ends", &[2, c]),
            ],
        )
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (m, c) = (shape["m"], shape["c"]);
        let outputs =
            vec![Buffer::new("phi", Elem::F32, c, m), Buffer::new("solved", Elem::U32, c, 1)];
        coalitions::launch(variant, outputs, Vec::new(), Vec::new(), m - 1)
    }

    fn work(&self, shape: &Shape, _dtype: Dtype, _variant: &Variant) -> Work {
        let (n, m, c) = (shape["n"], shape["m"], shape["c"]);
        let flops = n * m * m + m * m * m / 3 + c * (2 * n * m + 2 * m * m);
        Work::new(flops, 12 * n + 4 * c * (n + m + 3))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        kernel_shap(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        kernel_shap(problem, rows)
    }
}

/// Whether the shape has one row for every coalition but the empty and the full one.
fn is_complete(n: usize, m: usize) -> bool {
    m > 1 && m <= 10 && n == (1 << m) - 2
}

/// All proper coalitions, or random ones whose sizes follow the Shapley kernel as in the paper.
/// With the tag `rank` the first two players are always on the same side.
fn coalitions_of(shape: &Shape, seed: u32) -> Vec<u64> {
    let (n, m) = (shape["n"], shape["m"]);
    if is_complete(n, m) {
        return (1..=n as u64).collect();
    }
    let share = |size: usize| 1.0 / (size * (m - size)) as f64;
    let total = (1..m).map(share).sum::<f64>();
    let draw = |row: usize| {
        let mut left = f64::from(rng::uniform(seed, 0x5a9, row as u32)) * total;
        let size = (1..m).find(|&size| {
            left -= share(size);
            left <= 0.0
        });
        let set = coalitions::of_size(seed, row, m, size.unwrap_or(m / 2));
        if shape.option() == Some("rank") { set & !2 | (set & 1) << 1 } else { set }
    };
    (0..n).map(draw).collect()
}

/// The Shapley kernel (M−1)/(C(M, k)·k·(M−k)) in units that make it an integer for every k; 1 for
/// coalitions drawn with that probability already.
fn weight(n: usize, m: usize, size: usize) -> f32 {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    if !is_complete(n, m) {
        return 1.0;
    }
    let rarity = |k: usize| {
        let binomial = (0..k).fold(1, |product, i| product * (m - i) / (i + 1));
        binomial * k * (m - k)
    };
    let common = (1..m).map(rarity).fold(1, |lcm, n| lcm / gcd(lcm, n) * n);
    (common / rarity(size)) as f32
}

fn kernel_shap<S: Bounded>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (n, players, c) = (problem.shape["n"], problem.shape["m"], problem.shape["c"]);
    let z = problem.inputs.words("z");
    let w = problem.inputs.float::<Ix1>("w");
    let y = problem.inputs.float::<Ix2>("y");
    let ends = problem.inputs.float::<Ix2>("ends");
    let exact = |value: f32| S::exact(f64::from(value));
    let m = players - 1;
    let design = |row, player| S::exact(bit(&z, row, player) - bit(&z, row, m));
    let normal = |at: usize| {
        let of_row = |row| exact(w[row]) * (design(row, at / m) * design(row, at % m));
        S::sum((0..n).map(of_row), n)
    };
    let solver = Solver::new((0..m * m).map(normal).collect(), m, RANK);
    let phi = by_rows(rows, c, players, |column, mut phi| {
        let none = exact(ends[[0, column]]);
        let gain = exact(ends[[1, column]]) - none;
        let rest: Vec<S> = (0..n)
            .map(|row| {
                let above = exact(y[[row, column]]) - none;
                if bit(&z, row, m) == 1.0 { above - gain } else { above }
            })
            .collect();
        let side = |player| {
            let of_row = |row: usize| exact(w[row]) * (design(row, player) * rest[row]);
            S::sum((0..n).map(of_row), n)
        };
        let solution = solver.solve(&(0..m).map(side).collect::<Vec<S>>());
        let terms = std::iter::once(gain).chain(solution.iter().map(|&x| -x));
        // A vector, because a chain does not know its length.
        let last = S::sum(terms.collect::<Vec<_>>().into_iter(), players);
        solution.into_iter().enumerate().for_each(|(i, x)| phi[i] = x);
        phi[m] = if solver.is_regular() { last } else { solver.flag() };
    });
    let solved = by_rows(rows, c, 1, |_, mut solved| solved[0] = solver.flag());
    vec![phi, solved]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::Scalar as _;

    #[test]
    fn kernel_weights_are_integers_in_the_right_proportion() {
        let of = |size| weight(62, 6, size);
        assert_eq!([1, 2, 3, 4, 5].map(of), [12.0, 3.0, 2.0, 3.0, 12.0]);
        assert_eq!(weight(100, 6, 3), 1.0);
        assert_eq!((weight(1022, 10, 1), weight(1022, 10, 5)), (280.0, 4.0));
    }

    #[test]
    fn the_rank_of_every_awkward_system_is_beyond_doubt() {
        for shape in KernelShap.shapes(Preset::Smoke) {
            let variant = &coalitions::VARIANTS[0];
            let generator = Generator::new(Dtype::F32, variant, Distribution::Normal, 1);
            let inputs = &KernelShap.inputs(&shape, &generator);
            let (dtype, device) = (Dtype::F32, &[][..]);
            let problem = Problem { shape: &shape, dtype, variant, inputs, device };
            let solved = KernelShap.tracked(&problem, &Rows::All).swap_remove(1);
            let expected = f64::from(u8::from(shape.option() != Some("rank")));
            assert!(solved.iter().all(|flag| *flag == Tracked::exact(expected)), "{shape}");
        }
    }

    #[test]
    fn sampled_coalitions_are_proper_and_mostly_small_or_large() {
        let shape = Shape::new(&[("n", 2000), ("m", 20), ("c", 1)]);
        let sets = coalitions_of(&shape, 1);
        let sizes = || sets.iter().map(|set| set.count_ones());
        assert!(sizes().all(|size| (1..20).contains(&size)));
        let outer = sizes().filter(|&size| !(3..=17).contains(&size)).count() as f64;
        let harmonic =
            |range: std::ops::Range<usize>| range.map(|k| 1.0 / (k * (20 - k)) as f64).sum::<f64>();
        let expected = 2000.0 * (1.0 - harmonic(3..18) / harmonic(1..20));
        assert!((outer - expected).abs() < 100.0, "{outer}, expected {expected}");
    }
}
