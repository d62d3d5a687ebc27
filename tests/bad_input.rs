//! Degenerate input has a defined result, or one clear refusal: that the shapes which show it are
//! among those that `tests/agree.rs` runs on the device and `tests/reference/` holds to an oracle.

use std::collections::BTreeSet;

use fusebench::accuracy::privacy::{PrivacyError, SampledGaussian};
use fusebench::inputs::{Distribution, Generator, Inputs};
use fusebench::kernel::{Entry, Preset, Shape};
use fusebench::kernels::ALL;

fn entry(name: &str) -> &'static Entry {
    ALL.iter().find(|entry| entry.name == name).expect("a registered kernel")
}

fn smoke(entry: &Entry) -> Vec<Shape> {
    entry.kernel.shapes(Preset::Smoke)
}

fn inputs(entry: &Entry, shape: &Shape) -> Inputs {
    let spec = entry.kernel.spec();
    let generator = Generator::new(spec.dtypes[0], &spec.variants[0], Distribution::Normal, 1);
    entry.kernel.inputs(shape, &generator)
}

/// Whether a variant takes a smoke shape that satisfies `wanted`.
fn takes(entry: &Entry, wanted: impl Fn(&Shape) -> bool) -> bool {
    let taken = |shape: &Shape| {
        entry.kernel.spec().variants.iter().any(|variant| (variant.refuses)(shape).is_none())
    };
    smoke(entry).iter().any(|shape| wanted(shape) && taken(shape))
}

#[test]
fn every_kernel_is_run_on_a_shape_without_elements() {
    for entry in ALL {
        // It has no data.
        if entry.name == "launch_overhead" {
            continue;
        }
        let (dtype, variant) = (entry.kernel.spec().dtypes[0], &entry.kernel.spec().variants[0]);
        let is_empty = |shape: &Shape| {
            let outputs = entry.kernel.launch(shape, dtype, variant).outputs;
            let tensors = inputs(entry, shape).tensors;
            outputs.iter().any(|output| output.is_empty())
                || tensors.iter().any(|tensor| tensor.dims().contains(&0))
        };
        assert!(takes(entry, is_empty), "{} has no empty shape", entry.path());
    }
}

#[test]
fn fusion_is_run_with_one_modality_missing_and_with_all() {
    let mut seen = 0;
    for entry in ALL.iter().filter(|entry| entry.family == "fuse") {
        let mut masks = BTreeSet::new();
        for shape in smoke(entry) {
            let inputs = inputs(entry, &shape);
            if inputs.tensors.iter().any(|tensor| tensor.name == "present") {
                masks.extend(inputs.words("present").iter().copied());
            }
        }
        let Some(&most) = masks.last() else { continue };
        seen += 1;
        assert!(masks.contains(&0), "{}: never all missing", entry.path());
        let some = masks.iter().any(|&mask| mask > 0 && mask < most);
        assert!(some || most == 1, "{}: never one missing: {masks:?}", entry.path());
    }
    assert!(seen >= 10, "only {seen} kernels know missing modalities");
}

#[test]
fn attention_is_run_without_keys_and_with_masked_rows() {
    for name in ["cross_attention", "cross_attention_int8", "attention_map"] {
        let entry = entry(name);
        assert!(takes(entry, |shape| shape["k"] == 0 && shape["q"] > 0), "{name}: no keys");
        assert!(takes(entry, |shape| shape.option() == Some("masked")), "{name}: masked");
    }
}

#[test]
fn compressed_kernels_are_run_on_widths_that_fill_no_word() {
    let packed = [
        ("quantize_int8", 4),
        ("dequantize_int8", 4),
        ("linear_w8a8", 4),
        ("quantize_int4", 8),
        ("dequantize_int4", 8),
        ("linear_w4a16", 8),
        ("prune_2_4", 4),
        ("linear_sparse_2_4", 4),
    ];
    for (name, each) in packed {
        assert!(takes(entry(name), |shape| shape["k"] % each != 0), "{name}: k % {each} = 0");
    }
}

#[test]
fn windows_longer_than_their_sequence_are_run() {
    for name in ["sliding_window_pool", "median_filter", "conv1d"] {
        let longer = |shape: &Shape| {
            let axes = shape.axes();
            let size = |axis| axes.iter().find(|(name, _)| *name == axis).map(|&(_, size)| size);
            size("w").zip(size("t")).is_some_and(|(w, t)| w > t && t > 0)
        };
        assert!(takes(entry(name), longer), "{name}");
    }
}

#[test]
fn more_largest_elements_than_there_are_is_one_refusal() {
    let of = |n, k| Shape::new(&[("r", 2), ("n", n), ("k", k)]);
    for variant in entry("top_k").kernel.spec().variants {
        let why = (variant.refuses)(&of(5, 7));
        assert_eq!(why.as_deref(), Some("k is 7, a row has 5 elements"), "{}", variant.name);
        assert_eq!((variant.refuses)(&of(5, 5)), None, "{}", variant.name);
    }
}

#[test]
fn noise_of_zero_or_less_is_one_error() {
    for multiplier in [0.0, -1.5, f64::NAN, f64::INFINITY] {
        let error = SampledGaussian::new(multiplier, 0.04).expect_err("no such noise");
        assert!(matches!(error, PrivacyError::NoiseMultiplier(_)), "{error}");
        assert!(error.to_string().ends_with("it must be positive and finite"), "{error}");
    }
    assert!(SampledGaussian::new(1.5, 0.04).is_ok());
}
