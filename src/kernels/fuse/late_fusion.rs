//! Late fusion of class scores: weighted average, product of experts (Hinton, "Training Products
//! of Experts", 2002, as the log-linear opinion pool) or majority vote.

use std::cmp::Reverse;

use ndarray::{Array2, Ix1, Ix3};

use super::modalities;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem, Shape, Spec, Suits,
    Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LateFusion;

struct LateFusion;

/// How the modalities are brought together.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Average,
    Experts,
    Vote,
}

/// Weights of the modalities: unlike, and exact in either storage type.
const WEIGHTS: [f32; 6] = [1.0, 0.5, 2.0, 0.25, 1.5, 0.75];

const VARIANTS: &[Variant] = &[
    // Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("thread", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("presence ignored", "((mask >> m) & 1u) == 1u", "true"),
    Mutant::new("presence bits from the other end", "mask >> m", "mask >> (MODALITIES - 1u - m)"),
    Mutant::new("last modality dropped", "m < MODALITIES", "m + 1u < MODALITIES"),
    Mutant::new("weights not normalised", "f32(a[m]) / p.total", "f32(a[m])"),
    Mutant::new("weights left out", "f32(a[m]) / p.total", "1.0 / p.total"),
    Mutant::new("modalities without weight counted", "total > 0.0 || FORM == 2u", "true"),
    Mutant::new(
        "maxima of experts not taken off",
        "(logit(m, p.row, i) - peaks[m])",
        "logit(m, p.row, i)",
    ),
    Mutant::new(
        "maximum of the pool not taken off",
        "pooled_sum(p, peaks, peak)",
        "pooled_sum(p, peaks, 0.0)",
    ),
    Mutant::new(
        "last class left out of the sum",
        "sum += exp(",
        "sum += select(0.0, 1.0, i + 1u < params.classes) * exp(",
    ),
    Mutant::new("ties to the highest class", "v > best.value", "v >= best.value"),
    Mutant::new(
        "equal votes to the later modality",
        "votes > 0u && winners[m] < elected",
        "votes > 0u",
    ),
    Mutant::new(
        "votes of absent modalities counted",
        "if (is_present(mask, m) && agree)",
        "if (winners[n] == winners[m])",
    ),
    Mutant::new("rows and modalities swapped", "m * params.batch + row", "row * MODALITIES + m"),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "m b c"), Operand::new("a", "m").nonnegative()];

impl Kernel for LateFusion {
    fn spec(&self) -> Spec {
        Spec {
            summary: "average the class scores of modalities, pool them as experts or by vote",
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
            operands: Operands::of(OPERANDS).refusing(modalities::too_many),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        let of = |(m, b, c)| Shape::new(&[("m", m), ("b", b), ("c", c)]);
        match preset {
            Preset::Smoke => vec![
                of((1, 3, 1)).tag("average"),
                of((3, 17, 257)).tag("average_present"),
                of((6, 65, 5)).tag("average_present"),
                of((1, 3, 1)).tag("experts"),
                of((2, 9, 257)).tag("experts_present"),
                of((6, 65, 33)).tag("experts_present"),
                of((3, 0, 8)).tag("experts"),
                of((1, 3, 1)).tag("vote"),
                of((3, 17, 257)).tag("vote_present"),
                of((6, 129, 5)).tag("vote_present"),
                Shape::new(&[("m", 3), ("b", 4), ("c", 7), ("p", 6)]).tag("average"),
            ],
            Preset::Models => ["average", "experts", "vote"]
                .into_iter()
                .flat_map(|tag| {
                    let zero_shot = of((4, 1024, 1000)).from("ImageBind-huge, ImageNet classes");
                    let genres = of((2, 128, 23)).from("MultiBench MM-IMDb");
                    [zero_shot.tag(tag), genres.tag(tag)]
                })
                .collect(),
            Preset::Sweep => modalities::sweep()
                .into_iter()
                .map(|(m, b)| of((m, b, modalities::SWEEP_WIDTH)).tag("experts"))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, b, c) = (shape["m"], shape["b"], shape["c"]);
        let present = modalities::presence(shape);
        let weightless = generator.distribution == Distribution::Edges;
        let weight = |index: usize| if weightless { 0.0 } else { WEIGHTS[index] };
        let absent = |index: usize| modalities::is_absent_of((b, c), &present, index);
        Inputs::new(
            Params::new().size("modalities", m).size("batch", b).size("classes", c),
            vec![
                generator.data("x", &[m, b, c]).with_garbage(absent),
                generator.filled("a", &[m], weight),
                Tensor::words("present", &[b], present.clone()),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (m, b, c) = (shape["m"], shape["b"], shape["c"]);
        let workgroups = match variant.name {
            "thread" => b.div_ceil(variant.constant("WG")),
            _ => b,
        };
        let output = Buffer::new("y", dtype.storage(), b, c);
        let mut launch = Launch::single(output, spill(workgroups));
        launch.dispatches[0].entry = variant.name;
        launch
            .with_constant("FORM", f64::from(form(shape) as u8))
            .with_constant("MODALITIES", m as f64)
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (m, b, c) = (shape["m"], shape["b"], shape["c"]);
        let each = match form(shape) {
            Form::Average => 2 * m,
            Form::Experts => 5 * m + 5,
            Form::Vote => 0,
        };
        Work::new(each * b * c, dtype.bytes() * ((m + 1) * b * c + m) + 4 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        late_fusion(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        late_fusion(problem, rows)
    }
}

/// The tag, which may end in `_present`.
fn form(shape: &Shape) -> Form {
    match shape.option().and_then(|tag| tag.split('_').next()) {
        Some("experts") => Form::Experts,
        Some("vote") => Form::Vote,
        _ => Form::Average,
    }
}

/// Most additions one term of the sum over classes passes through.
fn depth(classes: usize, variant: &Variant) -> usize {
    let lanes = variant.constant("WG");
    if variant.name == "thread" {
        classes
    } else {
        classes.div_ceil(lanes) + lanes.ilog2() as usize
    }
}

fn late_fusion<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, c) = (problem.shape["b"], problem.shape["c"]);
    let x = problem.inputs.float::<Ix3>("x");
    let a = problem.inputs.float::<Ix1>("a");
    let present = problem.inputs.words("present");
    let exact = |value: f32| S::exact(f64::from(value));
    vec![by_rows(rows, b, c, |row, mut y| {
        let mut members = modalities::members(present[row]);
        let logits = |m: usize| (0..c).map(move |i| x[[m, row, i]]);
        if form(problem.shape) == Form::Vote {
            let winners: Vec<usize> = members.iter().filter_map(|&m| largest(logits(m))).collect();
            let votes = |class: usize| winners.iter().filter(|&&winner| winner == class).count();
            let elected = winners.iter().copied().max_by_key(|&w| (votes(w), Reverse(w)));
            elected.into_iter().for_each(|class| y[class] = S::one());
            return;
        }
        let total = S::sum(members.iter().map(|&m| exact(a[m])), members.len());
        if total.value() == 0.0 {
            members.clear();
        }
        let experts = form(problem.shape) == Form::Experts;
        let peak = |m: usize| if experts { logits(m).fold(f32::MIN, f32::max) } else { 0.0 };
        let experts_of = |&m: &usize| (m, exact(a[m]) / total, exact(peak(m)));
        let pool: Vec<(usize, S, S)> = members.iter().map(experts_of).collect();
        let pooled = |i: usize| {
            let terms = pool.iter().map(|&(m, w, peak)| w * (exact(x[[m, row, i]]) - peak));
            S::sum(terms, members.len())
        };
        let mut values: Vec<S> = (0..c).map(pooled).collect();
        if let (true, Some(peak)) = (experts, values.iter().copied().reduce(S::max)) {
            let terms = values.iter().map(|&value| (value - peak).exp());
            let log_sum = S::sum(terms, depth(c, problem.variant)).ln();
            values.iter_mut().for_each(|value| *value = *value - peak - log_sum);
        }
        for (y, value) in y.iter_mut().zip(values) {
            *y = value.store(problem.storage());
        }
    })]
}

/// The lowest index of the largest value.
fn largest(values: impl Iterator<Item = f32>) -> Option<usize> {
    let best = values.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_equal_classes_is_the_largest() {
        assert_eq!(largest([1.0, 3.0, 3.0, 2.0].into_iter()), Some(1));
        assert_eq!(largest([].into_iter()), None);
    }
}
