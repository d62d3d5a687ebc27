//! Exact Shapley values of modalities over all coalitions (Shapley 1953), in f32 from values of
//! either storage type.

use ndarray::{Array2, Ix1, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &ShapleyModalities;

struct ShapleyModalities;

const VARIANTS: &[Variant] = &[
    Variant::new("thread", &[("WG", 64.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("weight of one size more", "weight[countOneBits(members)]", {
        "weight[min(countOneBits(members) + 1u, countOneBits(params.present) - 1u)]"
    }),
    Mutant::new("absent players take part", "(members & ~params.present) != 0u", "false"),
    Mutant::new("gain with the wrong sign", "* gain", "* -gain"),
    Mutant::new("full coalition dropped", "(members | (1u << i))", {
        "select(members | (1u << i), members, countOneBits(members) + 1u == params.players)"
    }),
    Mutant::new("value of the empty coalition subtracted", "v[members * params.c", "v[0u"),
    Mutant::new("a level of the tree left out", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
];

const OPERANDS: &[Operand] = &[Operand::new("v", "2^m c")];

/// Weights in units of 1/lcm(1..m) are integers that f32 holds.
fn refuses_many(shape: &Shape) -> Option<String> {
    let m = shape["m"];
    (m > 10).then(|| format!("{m} players, at most 10 are weighed exactly"))
}

impl Kernel for ShapleyModalities {
    fn spec(&self) -> Spec {
        Spec {
            summary: "credit each modality with its exact Shapley value over all coalitions",
            difficulties: &[2, 6],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Offset,
                Distribution::Small,
            ],
            operands: Operands::of(OPERANDS).refusing(refuses_many),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |m, c| Shape::new(&[("m", m), ("c", c)]);
        match preset {
            Preset::Smoke => {
                let all = [(1, 1), (2, 5), (3, 257), (6, 31), (10, 3), (3, 0)];
                let some = [(1, 3), (2, 33), (3, 5), (6, 7), (9, 2)];
                let some = some.map(|(m, c)| of(m, c).tag("present"));
                // No player, and all but the second.
                let named = [0, 5].map(|p| Shape::new(&[("m", 3), ("c", 5), ("p", p)]));
                all.map(|(m, c)| of(m, c)).into_iter().chain(some).chain(named).collect()
            }
            Preset::Models => vec![
                of(3, 7).from("MulT MOSEI, seven emotions"),
                of(6, 1000).from("ImageBind-huge, 1,000 classes"),
                of(10, 1000),
            ],
            Preset::Sweep => (2..=10).map(|m| of(m, 1024)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, c) = (shape["m"], shape["c"]);
        let present = presence(shape);
        let players = present.count_ones() as usize;
        // Every other coalition only: garbage minus garbage would be nothing.
        let unused = |index: usize| {
            let members = (index / c) as u32;
            members & !present != 0 && members.count_ones() % 2 == 1
        };
        let params =
            Params::new().size("players", m).size("c", c).size("present", present as usize);
        Inputs::new(
            params.real("divisor", divisor(players) as f32),
            vec![
                generator.data("v", &[1 << m, c]).with_garbage(unused),
                Tensor::floats("weight", Elem::F32, &[m], numerators(players, m)),
            ],
        )
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (m, c) = (shape["m"], shape["c"]);
        let across = match variant.name {
            "thread" => c.div_ceil(variant.constant("WG")),
            _ => c,
        };
        let output = Buffer::new("phi", Elem::F32, m, c);
        let mut launch = Launch::single(output, [across as u32, m as u32, 1]);
        launch.dispatches[0].entry = variant.name;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, c) = (shape["m"], shape["c"]);
        let players = presence(shape).count_ones() as usize;
        let flops = 3 * players * (1 << players) / 2 * c;
        Work::new(flops, c * (dtype.bytes() * (1 << players) + 4 * m))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        shapley_modalities(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        shapley_modalities(problem, rows)
    }
}

/// Bits of the modalities that are there: those of the axis `p`, else all, or with the tag
/// `present` all but every third.
fn presence(shape: &Shape) -> u32 {
    let m = shape["m"];
    if let Some(bits) = shape.get("p") {
        return bits as u32;
    }
    let there = |i: &usize| shape.option() != Some("present") || i % 3 != 1 && m > 1;
    (0..m).filter(there).fold(0, |bits, i| bits | 1 << i)
}

fn binomial(n: usize, k: usize) -> usize {
    (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
}

/// lcm(1..M), the common divisor of the weights of M players.
fn divisor(players: usize) -> usize {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    (1..=players).fold(1, |lcm, n| lcm / gcd(lcm, n) * n)
}

/// |S|!(M−|S|−1)!/M! = 1/(M·C(M−1, |S|)) in units of 1/lcm(1..M): integers by the identity
/// M·lcm(C(M−1, 0), …, C(M−1, M−1)) = lcm(1..M). Zeros up to `len`.
fn numerators(players: usize, len: usize) -> Vec<f32> {
    let of = |s| (divisor(players) / (players * binomial(players - 1, s))) as f32;
    (0..len).map(|s| if s < players { of(s) } else { 0.0 }).collect()
}

fn shapley_modalities<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (m, c) = (problem.shape["m"], problem.shape["c"]);
    let v = problem.inputs.float::<Ix2>("v");
    let weight = problem.inputs.float::<Ix1>("weight");
    let exact = |value: f32| S::exact(f64::from(value));
    let present = presence(problem.shape);
    let divisor = S::exact(divisor(present.count_ones() as usize) as f64);
    let coalitions: Vec<usize> = (0..1_usize << m).filter(|s| *s as u32 & !present == 0).collect();
    let lanes = if problem.variant.name == "group" { problem.variant.constant("WG") } else { 1 };
    let depth = coalitions.len().min((1_usize << (m - 1)).div_ceil(lanes)) + lanes.ilog2() as usize;
    vec![by_rows(rows, m, c, |i, mut phi| {
        if present >> i & 1 == 0 {
            return;
        }
        let without: Vec<usize> = coalitions.iter().copied().filter(|s| s >> i & 1 == 0).collect();
        for class in 0..c {
            let gain = |&s: &usize| exact(v[[s | 1 << i, class]]) - exact(v[[s, class]]);
            let terms = without.iter().map(|s| exact(weight[s.count_ones() as usize]) * gain(s));
            phi[class] = S::sum(terms, depth) / divisor;
        }
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_integers_over_the_divisor_and_sum_to_one_over_all_coalitions() {
        for players in 1..=10 {
            let weights = numerators(players, players);
            let of = |s: usize| f64::from(weights[s]) * binomial(players - 1, s) as f64;
            assert_eq!((0..players).map(of).sum::<f64>(), divisor(players) as f64, "{players}");
        }
        assert_eq!(numerators(3, 4), [2.0, 1.0, 2.0, 0.0]);
        assert_eq!(divisor(10), 2520);
    }
}
