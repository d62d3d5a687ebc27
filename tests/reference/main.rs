//! Every kernel's f64 reference against an independent formulation on whole arrays with ndarray,
//! and its tracked instance against the plain one. A family's formulations are in its file.

mod align;
mod attend;
#[path = "../common/mod.rs"]
mod common;
mod compress;
mod explain;
mod fuse;
mod normalize;
mod probe;
mod project;
mod protect;
mod relate;

use common::kernels;
use fusebench::accuracy::{F16_MAX, Tracked};
use fusebench::inputs::{Distribution, Generator, Inputs};
use fusebench::kernel::{Dtype, Elem, Entry, Kernel, Preset, Problem, Shape, Variant};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use ndarray::{Array1, Array2, ArrayD, Axis, Dimension};

/// Both formulations are in f64 and sum at most some thousand terms.
const TOLERANCE: f64 = 1e-12;
/// Larger outputs only repeat what the smaller ones show.
const MAX_ELEMENTS: usize = 50_000;

/// The expected outputs of a kernel, before storage.
fn oracle(entry: &Entry, problem: &Problem) -> Vec<ArrayD<f64>> {
    let of = match entry.family {
        "align" => align::oracle,
        "attend" => attend::oracle,
        "explain" => explain::oracle,
        "compress" => compress::oracle,
        "fuse" => fuse::oracle,
        "normalize" => normalize::oracle,
        "probe" => probe::oracle,
        "project" => project::oracle,
        "relate" => relate::oracle,
        "protect" => protect::oracle,
        family => panic!("write the oracles of the family {family}"),
    };
    of(entry.name, problem)
}

fn float<D: Dimension>(inputs: &Inputs, name: &str) -> ndarray::Array<f64, D> {
    inputs.float::<D>(name).mapv(f64::from)
}

/// e^(x − log Σ e^x) over a whole vector.
fn probabilities(x: &Array1<f64>) -> Array1<f64> {
    let peak = x.fold(f64::MIN, |a, &b| a.max(b));
    let log_total = peak + x.mapv(|x| (x - peak).exp()).sum().ln();
    x.mapv(|x| (x - log_total).exp())
}

/// Says which element differs. Shapes may differ: only the row-major order counts.
fn compare(got: &Array2<f64>, wanted: &ArrayD<f64>) -> Result<(), String> {
    if got.len() != wanted.len() {
        return Err(format!("{} elements, the oracle has {}", got.len(), wanted.len()));
    }
    let scale = wanted.iter().fold(0.0_f64, |scale, x| scale.max(x.abs()));
    let mut pairs = got.iter().zip(wanted).enumerate();
    // Written so that a NaN on either side differs.
    let differing = pairs.find(|(_, (g, w))| {
        let close = (*g - *w).abs() <= TOLERANCE * scale;
        !close
    });
    differing.map_or(Ok(()), |(i, (g, w))| Err(format!("element {i} is {g:e}, not {w:e}")))
}

/// Runs a check on every smoke problem of moderate size.
fn for_each_problem(kernel: &dyn Kernel, mut check: impl FnMut(&Problem)) {
    for shape in kernel.shapes(Preset::Smoke) {
        for &dtype in kernel.spec().dtypes {
            for variant in kernel.spec().variants {
                if (variant.refuses)(&shape).is_some()
                    || elements(kernel, &shape, dtype, variant) > MAX_ELEMENTS
                {
                    continue;
                }
                let generator = Generator::new(dtype, variant, Distribution::Normal, 5);
                let inputs = kernel.inputs(&shape, &generator);
                let shape = &shape;
                check(&Problem { shape, dtype, variant, inputs: &inputs, device: &[] });
            }
        }
    }
}

fn elements(kernel: &dyn Kernel, shape: &Shape, dtype: Dtype, variant: &Variant) -> usize {
    kernel.launch(shape, dtype, variant).outputs.iter().map(|output| output.len()).sum()
}

fn describe(name: &str, problem: &Problem) -> String {
    let (variant, dtype) = (problem.variant.name, problem.dtype.name());
    format!("{name}/{variant}/{dtype}/{}", problem.shape)
}

/// What storage does to an exact value.
fn stored(x: f64, elem: Elem) -> f64 {
    if elem == Elem::F16 { x.clamp(-F16_MAX, F16_MAX) } else { x }
}

/// Output by output, with what storage does to the oracle's values.
fn agrees(entry: &Entry, problem: &Problem, got: &[Array2<f64>], wanted: &[ArrayD<f64>]) {
    let id = describe(entry.name, problem);
    let launch = entry.kernel.launch(problem.shape, problem.dtype, problem.variant);
    assert_eq!((got.len(), wanted.len()), (launch.outputs.len(), launch.outputs.len()), "{id}");
    for ((got, wanted), output) in got.iter().zip(wanted).zip(&launch.outputs) {
        let wanted = wanted.mapv(|x| stored(x, output.elem));
        assert_eq!(compare(got, &wanted), Ok(()), "`{}` of {id}", output.name);
    }
}

#[test]
fn every_reference_agrees_with_an_independent_formulation() {
    for entry in kernels() {
        for_each_problem(entry.kernel, |problem| {
            let got = entry.kernel.reference(problem, &Rows::All);
            agrees(entry, problem, &got, &oracle(entry, problem));
        });
    }
}

#[test]
fn tracked_values_are_the_plain_ones_and_bounds_are_numbers() {
    for entry in kernels() {
        for_each_problem(entry.kernel, |problem| {
            let plain = entry.kernel.reference(problem, &Rows::All);
            let tracked = entry.kernel.tracked(problem, &Rows::All);
            let id = describe(entry.name, problem);
            assert_eq!(plain.len(), tracked.len(), "{id}");
            for (plain, tracked) in plain.iter().zip(&tracked) {
                let values = tracked.mapv(|t| t.value);
                assert_eq!(compare(&values, &plain.clone().into_dyn()), Ok(()), "{id}");
                // Errors of f16 sums may pass the sums; what an activation makes of those has no
                // bound, and such elements are reported, not judged.
                let bounded = |t: &Tracked| t.worst.is_finite() || problem.dtype == Dtype::F16Acc;
                let sound = tracked
                    .iter()
                    .all(|t| t.is_undetermined() || (bounded(t) && t.variance >= 0.0));
                assert!(sound, "{id} has an unbounded element");
            }
        });
    }
}

#[test]
fn outputs_have_the_declared_size_and_rows_select_them() {
    for entry in kernels() {
        for_each_problem(entry.kernel, |problem| {
            // The layout of the rows does not depend on the precision.
            if problem.dtype != entry.kernel.spec().dtypes[0] {
                return;
            }
            let launch = entry.kernel.launch(problem.shape, problem.dtype, problem.variant);
            let all = entry.kernel.reference(problem, &Rows::All);
            let rows = all.iter().map(|output| output.nrows()).max().unwrap_or(0);
            let rows: Vec<usize> = (0..rows).step_by(3).collect();
            let some = entry.kernel.reference(problem, &Rows::Some(rows.clone()));
            let id = describe(entry.name, problem);
            for ((all, some), output) in all.iter().zip(&some).zip(&launch.outputs) {
                assert_eq!(all.dim(), (output.rows, output.cols), "`{}` of {id}", output.name);
                let rows: Vec<usize> =
                    rows.iter().copied().filter(|&row| row < all.nrows()).collect();
                assert_eq!(some, all.select(Axis(0), &rows), "`{}` of {id}", output.name);
            }
        });
    }
}

#[test]
fn garbage_in_padding_and_absent_modalities_never_shows() {
    let mut masked = 0;
    for entry in ALL {
        for_each_problem(entry.kernel, |problem| {
            if !matches!(problem.shape.option(), Some("tail" | "masked" | "present")) {
                return;
            }
            masked += 1;
            let launch = entry.kernel.launch(problem.shape, problem.dtype, problem.variant);
            let outputs = entry.kernel.reference(problem, &Rows::All);
            let floats = outputs.iter().zip(&launch.outputs).filter(|(_, b)| b.elem.is_float());
            for (y, _) in floats {
                assert!(y.iter().all(|y| y.abs() < 1e4), "{}", describe(entry.name, problem));
            }
        });
    }
    assert!(masked > 50, "only {masked} problems with padding");
}

#[test]
fn one_corrupted_element_is_found() {
    let entry = ALL.iter().find(|entry| entry.name == "linear").expect("a kernel");
    for_each_problem(entry.kernel, |problem| {
        let right = oracle(entry, problem).swap_remove(0);
        let flat = Array1::from_iter(right.iter().copied()).insert_axis(Axis(1));
        for index in [0, right.len() / 2, right.len().saturating_sub(1)] {
            let mut wrong = flat.clone();
            let Some(element) = wrong.iter_mut().nth(index) else { return };
            *element += 1e-9;
            assert!(compare(&wrong, &right).is_err(), "{}", describe(entry.name, problem));
            *wrong.iter_mut().nth(index).expect("the same element") = f64::NAN;
            assert!(compare(&wrong, &right).is_err(), "{}", describe(entry.name, problem));
        }
    });
}
