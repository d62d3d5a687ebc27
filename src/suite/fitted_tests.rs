use std::sync::Arc;

use super::*;
use crate::given::FileTensor;
use crate::inputs::{Distribution, Inputs, Tensor};
use crate::kernel::Preset;
use crate::npy::Kind;
use crate::operands::Operands;
use crate::rng;
use crate::suite::cells;

/// Cells that are drawn in milliseconds, one for each kernel and shape.
fn small() -> Vec<Cell> {
    let first = |cell: &Cell| cell.entry.kernel.spec().variants[0].name == cell.variant.name;
    let small = |cell: &Cell| cell.work().bytes < 1e6 && !cell.is_empty();
    cells(Preset::Smoke).into_iter().filter(|cell| first(cell) && small(cell)).collect()
}

fn operands(cell: &Cell) -> Operands {
    cell.entry.kernel.spec().operands
}

/// What a shape with this option has of the operands.
fn of_option(cell: &Cell) -> Vec<&'static Operand> {
    let has_axis = |axis: &str| cell.shape.axes().iter().any(|(known, _)| *known == axis);
    // Not what belongs to a modality that the shape does not have.
    let is_there = |axis: &str| axis.len() > 1 || !"uvwxyz".contains(axis) || has_axis(axis);
    let has = |operand: &&Operand| {
        operands(cell).suit(cell.shape.option(), &[operand])
            && operand.dims.split(' ').all(is_there)
    };
    operands(cell).list().iter().filter(has).collect()
}

fn tensor<'a>(inputs: &'a Inputs, name: &str) -> &'a Tensor {
    let mut all = inputs.tensors.iter().chain(&inputs.originals);
    all.find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
}

/// Normal numbers that f16 holds, which no generator draws.
fn numbers(dims: &[usize], stream: u32) -> Arc<FileTensor> {
    let len = dims.iter().product::<usize>() as u32;
    let value = |index| half::f16::from_f32(rng::normal(99, stream, index).abs() + 0.01);
    let bytes = (0..len).flat_map(|index| value(index).to_le_bytes()).collect();
    Arc::new(FileTensor::new(Kind::F16, dims.to_vec(), bytes))
}

fn user(cell: &Cell) -> UserTensors {
    let one = |(stream, operand): (usize, &&Operand)| {
        let dims = operands(cell).dims(operand, &cell.shape);
        (operand.name.to_owned(), numbers(&dims, stream as u32))
    };
    let list = of_option(cell).iter().enumerate().map(one).collect();
    UserTensors { list, allow_nonfinite: false }
}

#[test]
fn every_kernel_says_what_it_takes() {
    for cell in small() {
        let (spec, name) = (cell.entry.kernel.spec(), cell.entry.name);
        let is_none = spec.operands.list().is_empty();
        assert_eq!(spec.operands.why_none().is_some_and(|why| !why.is_empty()), is_none, "{name}");
        // Not one of those that are there to be measured with, nor one without any input.
        let exempt = cell.entry.family == "probe" || name == "gaussian_noise";
        assert_eq!(is_none, exempt, "{name}");
    }
}

#[test]
fn what_a_kernel_declares_is_what_it_draws() {
    let mut compared = 0;
    for cell in small() {
        let inputs = cell.inputs(Distribution::Normal, 1);
        for operand in of_option(&cell) {
            let declared: usize = operands(&cell).dims(operand, &cell.shape).iter().product();
            let drawn = tensor(&inputs, operand.tensor);
            let drawn: usize = drawn.dims().iter().product();
            // Exact copies are uploaded as words.
            let words = ["center_crop_pad", "patchify"].contains(&cell.entry.name);
            let expected =
                if words { (declared * cell.dtype.bytes()).div_ceil(4) } else { declared };
            assert_eq!(drawn, expected, "{} of {}", operand.name, cell.id());
            compared += 1;
        }
    }
    assert!(compared > 500, "only {compared}");
}

#[test]
fn tensors_make_the_shape_they_were_cut_from_and_become_the_inputs() {
    let all = small();
    let mut fitted = 0;
    for cell in &all {
        let tensors = user(cell);
        let template = all.iter().find(|other| {
            other.entry.name == cell.entry.name
                && other.dtype == cell.dtype
                && other.shape.option() == cell.shape.option()
                && other.shape.axes().len() == cell.shape.axes().len()
        });
        let template = template.expect("at least the cell itself");
        let whole = cell.fitted(&tensors).unwrap_or_else(|why| panic!("{}: {why}", cell.id()));
        let Some(whole) = whole.filter(|_| !tensors.list.is_empty()) else { continue };
        assert_eq!(whole.id(), cell.id(), "from its own shape");
        assert_eq!(whole.fitted_from(), Some(cell.id()));
        for given in &whole.given.as_ref().expect("fitted").tensors {
            let inputs = whole.inputs(Distribution::User, 1);
            let drawn = tensor(&inputs, given.drawn_as);
            if !drawn.elem.is_float() || given.tensor.is_empty() {
                continue;
            }
            let decoded = drawn.elem.decode(&drawn.bytes(), given.tensor.len());
            let expected = given.tensor.converted(drawn.elem).values;
            // Padding holds what must not be read.
            let same = |other: &[f32]| {
                let mut pairs = decoded.iter().zip(other);
                pairs.all(|(&a, &b)| a == f64::from(b) || a > 1e4)
            };
            assert!(same(&expected), "{} of {}", given.name, cell.id());
            // The twin: other values show, where not all is padding.
            let other = numbers(&given.tensor.dims, 77).converted(drawn.elem).values;
            assert!(!same(&other) || decoded.iter().all(|&value| value > 1e4));
        }
        // Axes that no tensor gives stay those of the template.
        if let Ok(Some(moved)) = template.fitted(&tensors) {
            let axes = |cell: &Cell| cell.shape.axes().to_vec();
            let same = axes(&moved).iter().filter(|axis| axes(cell).contains(axis)).count();
            assert!(same > 0, "{} from {}", moved.id(), template.id());
            fitted += usize::from(moved.id() == cell.id());
        }
    }
    assert!(fitted > 150, "only {fitted} shapes were found again");
}

#[test]
fn options_about_generated_values_are_left_out() {
    let all = small();
    let cell = |id: &str| all.iter().find(|cell| cell.id() == id).expect(id);
    let x =
        UserTensors { list: vec![("x".to_owned(), numbers(&[4, 96], 1))], allow_nonfinite: false };
    let zeros = cell("quantize_int8/thread/i8/m4k128_zeros");
    assert!(zeros.fitted(&x).expect("it has an x").is_none());
    let rows = cell("quantize_int8/thread/i8/m3k6").fitted(&x).expect("it fits");
    assert_eq!(rows.expect("taken").id(), "quantize_int8/thread/i8/m4k96");
}

#[test]
fn the_rms_gate_needs_zero_mean_rows_of_many_values() {
    let given = |tensor: Arc<FileTensor>| Given {
        tensors: vec![GivenTensor { name: "x", drawn_as: "x", tensor }],
        preset_shape: small()[0].shape.clone(),
        report_only: false,
    };
    let floats = |value: &dyn Fn(u32) -> f32| {
        let bytes = (0..1024).flat_map(|index| value(index).to_le_bytes()).collect();
        Arc::new(FileTensor::new(Kind::F32, vec![4, 256], bytes))
    };
    let normal = |index| rng::normal(3, 5, index);
    let noise = |value: &dyn Fn(u32) -> f32| user_noise(&given(floats(value)), Elem::F32);
    assert_eq!(noise(&normal), Noise::Dependent);
    assert_eq!(noise(&|index| 1.0 + normal(index)), Noise::Repeating);
    assert_eq!(noise(&|index| normal(index).round()), Noise::Repeating);
    // One row out of four.
    let one = |index| if index < 256 { normal(index) + 0.5 } else { normal(index) };
    assert_eq!(noise(&one), Noise::Repeating);
}

#[test]
fn values_beyond_half_precision_skip_only_cells_that_store_halves() {
    let bytes = [1.0_f32, 70_000.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = Arc::new(FileTensor::new(Kind::F32, vec![1, 2], bytes));
    let tensors = UserTensors { list: vec![("x".to_owned(), tensor)], allow_nonfinite: false };
    let mut seen = 0;
    for cell in small().into_iter().filter(|cell| cell.entry.name == "layer_norm") {
        let cell = cell.fitted(&tensors).expect("it fits").expect("taken");
        let skipped = cell.within_storage();
        assert_eq!(skipped.is_err(), cell.storage() == Elem::F16, "{}", cell.id());
        if let Err(error) = skipped {
            assert!(error.reason.contains("`x`") && !error.reason.contains("70"), "{error:?}");
            seen += 1;
        }
    }
    assert!(seen > 0, "no f16 cell");
}
