//! Values that other people's libraries give, stored in `tests/fixtures` with the script and the
//! versions that made them.

mod common;

use common::lab::{Ask, Element, Lab, Run};
use common::{ran, session};
use fusebench::accuracy::privacy::{Conversion, SampledGaussian};
use fusebench::gpu::Checks;
use fusebench::kernel::Elem;
use fusebench::suite::Sources;
use serde_json::Value;

const SHAP: &str = include_str!("fixtures/shap.json");
const DP_ACCOUNTING: &str = include_str!("fixtures/dp_accounting.json");

fn cases(fixture: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(fixture).expect("a fixture is JSON");
    fixture["cases"].as_array().expect("cases").clone()
}

fn number(case: &Value, name: &str) -> f64 {
    case[name].as_f64().unwrap_or_else(|| panic!("{name} is a number"))
}

/// Rows of numbers one after the other.
fn matrix(case: &Value, name: &str) -> Vec<f64> {
    let rows = case[name].as_array().expect("rows");
    let numbers = rows.iter().flat_map(|row| row.as_array().expect("a row"));
    numbers.map(|x| x.as_f64().expect("a number")).collect()
}

/// Relative rounding of what shap computes in f64, in units of the largest value.
const SHAP_NOISE: f64 = 1e-12;

/// The first element further from the published value than the device may be off; the published
/// ones are `[player, column]`, the kernel's of that layout or transposed.
fn differing(elements: &[Element], published: &[f64]) -> Option<usize> {
    assert_eq!(elements.len(), published.len());
    let mut pairs = elements.iter().zip(published);
    pairs.position(|(element, &published)| {
        let allowed = element.reference.worst + SHAP_NOISE;
        let close = (element.device - published).abs() <= allowed
            && (element.reference.value - published).abs() <= SHAP_NOISE;
        !close || allowed > 1e-3
    })
}

/// Holds every strategy to published values, and to ones of which one is corrupted.
fn hold_to(runs: &[Run], published: &[f64], what: &str) {
    for run in runs {
        let elements = &run.outputs[0];
        let found = differing(elements, published);
        assert!(found.is_none(), "{what}/{}: element {found:?}", run.variant);
        for corrupt in 0..published.len() {
            let mut wrong = published.to_vec();
            wrong[corrupt] += 2e-3;
            assert_eq!(differing(elements, &wrong), Some(corrupt), "{what}/{}", run.variant);
        }
    }
}

fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns).copied()).collect()
}

#[test]
fn shapley_values_are_those_of_shap() {
    let test = "shapley_values_are_those_of_shap";
    let Some(session) = session(test, Sources::default(), Checks::Safe) else { return };
    let lab = Lab::new(session);
    for case in cases(SHAP) {
        let (m, c) = (number(&case, "players") as usize, number(&case, "columns") as usize);
        let values = matrix(&case, "values");
        let ask = Ask::new("explain/shapley_modalities", Elem::F32, &[("m", m), ("c", c)])
            .tensor("v", values.iter().copied());
        hold_to(&lab.run(&ask), &matrix(&case, "exact"), "shapley_modalities");
        // One row for each coalition but the empty and the full one, which are constraints.
        let (n, last) = ((1 << m) - 2, values.len() - c);
        let ask = Ask::new("explain/kernel_shap", Elem::F32, &[("n", n), ("m", m), ("c", c)])
            .tensor("y", values[c..last].iter().copied())
            .tensor("ends", values[..c].iter().chain(&values[last..]).copied());
        hold_to(&lab.run(&ask), &transposed(&matrix(&case, "kernel"), c), "kernel_shap");
    }
    ran(test);
}

#[test]
fn privacy_spent_is_what_dp_accounting_says() {
    let spent = |case: &Value| {
        let mechanism = SampledGaussian::new(number(case, "sigma"), number(case, "rate")).unwrap();
        let steps = number(case, "steps") as u64;
        mechanism.spent(steps, number(case, "delta"), Conversion::Tight).unwrap()
    };
    let agree = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.max(1.0);
    let cases = cases(DP_ACCOUNTING);
    assert!(cases.len() > 30, "only {} cases", cases.len());
    for case in &cases {
        let (got, said) = (spent(case), number(case, "epsilon"));
        assert!(agree(got.epsilon, said), "{case}: {got:?}");
        assert_eq!(f64::from(got.order), number(case, "order"), "{case}");
        assert!(!agree(got.epsilon, said * 1.0001 + 1e-8), "{case}: a corrupted value passes");
    }
}
