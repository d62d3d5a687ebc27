//! The node tests of ONNX, an outside oracle, run through the kernels on the device: every case
//! within the semantics of a kernel agrees with the published outputs, and those outside are listed
//! one by one.

mod case;
#[path = "../common/mod.rs"]
mod common;
mod operators;
mod outside;
mod proto;
#[path = "../common/readme.rs"]
mod readme;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

use case::Case;
use common::lab::{Element, Lab};
use common::{ran, session, skipped};
use fusebench::gpu::Checks;
use fusebench::suite::Sources;

use ndarray::Dimension;
use operators::{Checked, F16_NOISE, OPERATORS, Operator, Outcome};
use outside::{OUTSIDE, Outside};
use proto::{Array, Kind};

/// A case, what it is an operator of, and what the kernels gave.
struct Examined {
    case: Case,
    operator: &'static Operator,
    outcome: Outcome,
}

/// Every case of an operator that kernels stand for, run once for all tests; `None`, counted,
/// without a device or the oracle.
fn examined(test: &str) -> Option<&'static [Examined]> {
    static ALL: OnceLock<Vec<Examined>> = OnceLock::new();
    if !case::folder().is_dir() {
        skipped(test, "no ONNX node tests, run scripts/oracles");
        return None;
    }
    let session = session(test, Sources::default(), Checks::Safe)?;
    Some(ALL.get_or_init(|| {
        let lab = Lab::new(session);
        let known = |name: &str| OPERATORS.iter().find(|operator| operator.name == name);
        let examine = |case: Case| {
            let operator = known(&case.node.operator).expect("only these are read");
            let outcome = (operator.run)(&lab, &case);
            Examined { case, operator, outcome }
        };
        let cases = case::all(|operator| known(operator).is_some());
        cases.into_iter().map(examine).collect()
    }))
}

/// How far from exact the published outputs of a type may be; codes are exact.
fn noise(operator: &Operator, kind: Kind) -> f64 {
    match kind {
        Kind::FLOAT => operator.noise,
        Kind::FLOAT16 => F16_NOISE,
        _ => 0.0,
    }
}

/// What is wrong with the result of a case, if anything: an element further from the published one
/// than any device may be off, and the oracle besides.
fn fault(operator: &Operator, checked: &Checked, expected: &Array) -> Option<String> {
    let (by, published) = (&checked.by, &expected.values);
    if checked.elements.shape() != published.shape() {
        return Some(format!("{by}: {:?}, not {:?}", checked.elements.shape(), published.shape()));
    }
    let noise = noise(operator, expected.kind);
    checked.elements.indexed_iter().zip(published).find_map(|((at, element), &published)| {
        let Element { device, reference } = *element;
        let allowed = reference.worst + noise * published.abs().max(1.0);
        // Infinities agree or do not.
        let agrees = device == published || (device - published).abs() <= allowed;
        let known = reference.worst.is_finite() && !reference.is_undetermined();
        let fault = || {
            format!(
                "{by}: output {} at {:?} is {device:e}, published {published:e} ± {allowed:e}",
                checked.output,
                at.slice(),
            )
        };
        (!agrees || !known).then(fault)
    })
}

/// The published output that a result is for.
fn published<'a>(case: &'a Case, checked: &Checked) -> &'a Array {
    case.output(checked.output).unwrap_or_else(|| panic!("{}: no such output", case.name))
}

#[test]
fn every_case_agrees_or_is_listed_as_outside() {
    let test = "every_case_agrees_or_is_listed_as_outside";
    let Some(all) = examined(test) else { return };
    let mut faults = Vec::new();
    for Examined { case, operator, outcome } in all {
        let listed = OUTSIDE.iter().find(|(name, _)| *name == case.name).map(|(_, why)| *why);
        match (outcome, listed) {
            (Ok(results), None) => faults.extend(results.iter().filter_map(|checked| {
                let fault = fault(operator, checked, published(case, checked))?;
                Some(format!("{}: {fault}", case.name))
            })),
            (Ok(_), Some(why)) => faults.push(format!("{} runs, listed as {why:?}", case.name)),
            (Err(why), listed) if listed != Some(*why) => {
                faults
                    .push(format!("(\"{}\", Outside::{why:?}), // listed: {listed:?}", case.name));
            }
            (Err(_), _) => {}
        }
    }
    let known = |name: &str| all.iter().any(|examined| examined.case.name == name);
    let unknown = OUTSIDE.iter().filter(|(name, _)| !known(name));
    faults.extend(unknown.map(|(name, _)| format!("no case {name}")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    ran(test);
}

#[test]
fn every_output_is_compared_or_named_as_one_no_kernel_gives() {
    let test = "every_output_is_compared_or_named_as_one_no_kernel_gives";
    let Some(all) = examined(test) else { return };
    for Examined { case, operator, outcome } in all {
        let Ok(results) = outcome else { continue };
        for (position, name) in case.node.outputs.iter().enumerate() {
            let compared = results.iter().any(|checked| checked.output == position);
            let left_out = name.is_empty() || operator.uncompared.contains(&name.as_str());
            assert_ne!(compared, left_out, "{}: output {name}", case.name);
        }
    }
    ran(test);
}

#[test]
fn one_corrupted_element_of_a_published_output_is_caught() {
    let test = "one_corrupted_element_of_a_published_output_is_caught";
    let Some(all) = examined(test) else { return };
    let (mut caught, mut undecided) = (0, 0);
    for Examined { case, operator, outcome } in all {
        for checked in outcome.iter().flatten() {
            let whole = published(case, checked);
            let finite = whole.values.iter().filter(|value| value.is_finite());
            let largest = finite.fold(0.0_f64, |largest, value| largest.max(value.abs()));
            let change = match whole.kind {
                Kind::FLOAT => 1e-4 * largest,
                Kind::FLOAT16 => 1e-2 * largest,
                _ => 1.0,
            };
            for (at, element) in checked.elements.indexed_iter() {
                // Devices may round such a code up or down.
                if whole.kind.integer().is_some() && element.reference.worst > 0.0 {
                    undecided += 1;
                    continue;
                }
                let mut corrupted = whole.clone();
                let value = &mut corrupted.values[at.clone()];
                *value = if value.is_finite() { *value + change } else { 0.0 };
                let fault = fault(operator, checked, &corrupted);
                let fault = fault.unwrap_or_else(|| panic!("{}: {at:?} is missed", case.name));
                assert!(fault.contains(&format!("at {:?} ", at.slice())), "{fault}");
                caught += 1;
            }
        }
    }
    assert!(caught > 20_000 && undecided < caught / 1000, "{caught} caught, {undecided} undecided");
    ran(test);
}

/// Largest error of the published outputs of a type against the f64 reference, as
/// `Operator::noise` counts.
fn measured_noise(all: &[Examined], operator: &Operator, kind: Kind) -> f64 {
    let own = all.iter().filter(|examined| examined.operator.name == operator.name);
    let results = own.flat_map(|examined| {
        let results = examined.outcome.iter().flatten();
        results.map(|checked| (checked, published(&examined.case, checked)))
    });
    let each = results.filter(|(_, whole)| whole.kind == kind).flat_map(|(checked, whole)| {
        let pairs = checked.elements.iter().zip(&whole.values);
        let finite = pairs.filter(|(_, published)| published.is_finite());
        finite
            .map(|(e, published)| (e.reference.value - published).abs() / published.abs().max(1.0))
    });
    each.fold(0.0, f64::max)
}

#[test]
fn published_outputs_are_as_far_from_exact_as_they_are_taken_to_be() {
    let test = "published_outputs_are_as_far_from_exact_as_they_are_taken_to_be";
    let Some(all) = examined(test) else { return };
    for operator in OPERATORS {
        let (measured, taken) = (measured_noise(all, operator, Kind::FLOAT), operator.noise);
        eprintln!("{}: {measured:.2e} of {taken:.1e}", operator.name);
        assert!(measured <= taken && taken <= 2.0 * measured, "{}: {measured:e}", operator.name);
    }
    let halves = measured_noise(all, &OPERATORS[0], Kind::FLOAT16);
    assert!(halves <= F16_NOISE && F16_NOISE <= 2.0 * halves, "f16: {halves:e}");
    ran(test);
}

#[test]
fn the_expansion_of_a_case_holds_the_same_data() {
    let test = "the_expansion_of_a_case_holds_the_same_data";
    let Some(all) = examined(test) else { return };
    let mut expansions = 0;
    for Examined { case, .. } in all {
        for suffix in ["_expanded", "_expanded_ver18"] {
            expansions += usize::from(case.is_expanded_as(suffix));
        }
    }
    eprintln!("{expansions} expansions of {} cases", all.len());
    assert!(expansions > 100, "only {expansions}");
    ran(test);
}

/// The table of README.md: cases of each operator, and why some are outside.
fn table(all: &[Examined]) -> String {
    let mut table =
        String::from("| operator | by | cases that agree | outside |\n|---|---|---|---|\n");
    let mut sums = (0, 0);
    for operator in OPERATORS {
        let own = all.iter().filter(|examined| examined.operator.name == operator.name);
        let (mut inside, mut outside) = (0, BTreeMap::<Outside, usize>::new());
        for examined in own {
            match examined.outcome {
                Ok(_) => inside += 1,
                Err(why) => *outside.entry(why).or_default() += 1,
            }
        }
        sums = (sums.0 + inside, sums.1 + outside.values().sum::<usize>());
        let kernels: Vec<String> = operator.kernels.iter().map(|k| format!("`{k}`")).collect();
        let reasons: Vec<String> =
            outside.iter().map(|(why, count)| format!("{count}: {}", why.why())).collect();
        let (kernels, reasons) = (kernels.join(", "), reasons.join("; "));
        writeln!(table, "| {} | {kernels} | {inside} | {reasons} |", operator.name).unwrap();
    }
    writeln!(table, "| all | | {} | {} |", sums.0, sums.1).unwrap();
    table
}

#[test]
fn the_readme_counts_the_cases() {
    let test = "the_readme_counts_the_cases";
    let Some(all) = examined(test) else { return };
    let expected = readme::replaced(&readme::text(), "onnx", &table(all));
    readme::hold_to(&expected, "cargo test --test onnx");
    ran(test);
}
