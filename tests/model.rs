//! Weights and activations of a real model, which `scripts/oracles` fetches: what their scales
//! promise is what the device shows.

#![cfg(feature = "cli")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{ran, session, skipped};
use fusebench::given::{FileTensor, UserTensors};
use fusebench::gpu::Checks;
use fusebench::kernel::Preset;
use fusebench::kernels::ALL;
use fusebench::record::{Row, Status};
use fusebench::suite::{Cell, Session, Sources, Task, cells};
use fusebench::tensors::Source;

/// A sample of the rows is enough for the error figures, and takes a second.
const CHECK: Task = Task::Check { flops: 2e6 };
const LAYER: &str = "encoder.layer.3.intermediate.dense";

fn folder(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".oracles/minilm");
    if !folder.join("activations.safetensors").exists() {
        skipped(test, "no sentence model, run scripts/oracles");
        return None;
    }
    Some(folder)
}

fn tensor(folder: &Path, file: &str, name: &str) -> Arc<FileTensor> {
    let path = folder.join(file);
    let source = Source { name: "x".to_owned(), path, tensor: Some(name.to_owned()) };
    Arc::new(source.read().unwrap_or_else(|why| panic!("{name}: {why}")))
}

fn given(list: &[(&str, &Arc<FileTensor>)]) -> UserTensors {
    let list = list.iter().map(|&(name, tensor)| (name.to_owned(), tensor.clone()));
    UserTensors { list: list.collect(), allow_nonfinite: false }
}

/// The first cell of a kernel, strategy, precision and option, with the tensors.
fn fitted(kernel: &str, variant: &str, option: Option<&str>, tensors: &UserTensors) -> Cell {
    let mut all = cells(Preset::Smoke).into_iter();
    let found = all.find(|cell| {
        (cell.entry.name, cell.variant.name, cell.shape.option()) == (kernel, variant, option)
            && !cell.is_empty()
    });
    let found = found.unwrap_or_else(|| panic!("no {kernel}/{variant} {option:?}"));
    found.fitted(tensors).expect("it fits").expect("the option is about no generated values")
}

fn check(session: &mut Session, cell: &Cell) -> Row {
    session.run(&cell.clone().into(), &CHECK, &mut |_, _| {}).0
}

#[track_caller]
fn within_a_decibel(row: &Row) -> f64 {
    assert_eq!(row.status, Status::Ok, "{}: {:?}", row.id, row.reason);
    let accuracy = row.accuracy.as_ref().expect("verified");
    assert_eq!(accuracy.against.as_deref(), Some("full precision"), "{}", row.id);
    let said = accuracy.predicted_sqnr_db.unwrap_or_else(|| panic!("{}: no prediction", row.id));
    let got = accuracy.sqnr_db;
    assert!((got - said).abs() < 1.0, "{}: {got:.2} dB, predicted {said:.2}", row.id);
    got
}

const QUANTISERS: [(&str, Option<&str>); 6] = [
    ("quantize_int8", Some("tensor")),
    ("quantize_int8", None),
    ("quantize_int8", Some("group32")),
    ("quantize_int4", Some("group32")),
    ("quantize_int4", Some("group64")),
    ("quantize_int4", Some("group128")),
];

#[test]
fn real_weights_lose_what_their_scales_predict() {
    let test = "real_weights_lose_what_their_scales_predict";
    let Some(folder) = folder(test) else { return };
    let Some(mut session) = session(test, Sources::default(), Checks::Safe) else { return };
    for name in ["encoder.layer.0.attention.self.query", LAYER] {
        let w = tensor(&folder, "model.safetensors", &format!("{name}.weight"));
        let tensors = given(&[("x", &w)]);
        let of = |(kernel, option)| {
            let cell = fitted(kernel, "thread", option, &tensors);
            within_a_decibel(&check(&mut session, &cell))
        };
        let [tensor, row, group, four32, four64, four128] = QUANTISERS.map(of);
        // The finer the scales and the more the bits, the better.
        assert!(tensor < row && row < group, "{name}: {tensor} {row} {group}");
        assert!(four128 < four64 && four64 < four32 && four32 < tensor, "{name}: {four32}");
        let half = w.converted(fusebench::elem::Elem::F16);
        let (got, said) = (half.sqnr_db.expect("f32"), half.predicted_sqnr_db.expect("f32"));
        assert!((got - said).abs() < 1.0, "{name}: {got} dB in f16, predicted {said}");
    }
    ran(test);
}

#[test]
fn a_real_layer_on_real_activations_loses_what_its_scales_predict() {
    let test = "a_real_layer_on_real_activations_loses_what_its_scales_predict";
    let Some(folder) = folder(test) else { return };
    let Some(mut session) = session(test, Sources::default(), Checks::Safe) else { return };
    let of_model = |part: &str| tensor(&folder, "model.safetensors", &format!("{LAYER}.{part}"));
    let (w, b) = (of_model("weight"), of_model("bias"));
    let x = tensor(&folder, "activations.safetensors", &format!("{LAYER}.input"));
    let tensors = given(&[("x", &x), ("w", &w), ("b", &b)]);
    for (kernel, option) in [("linear_w8a8", None), ("linear_w4a16", Some("group128"))] {
        let row = check(&mut session, &fitted(kernel, "register", option, &tensors));
        assert!(row.id.contains("m67n1536k384"), "{}", row.id);
        within_a_decibel(&row);
    }
    let row = check(&mut session, &fitted("linear", "register", None, &tensors));
    assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
    let attention = "encoder.layer.5.attention.self";
    let [q, k, v] = ["q", "k", "v"]
        .map(|part| tensor(&folder, "activations.safetensors", &format!("{attention}.{part}")));
    let tensors = given(&[("q", &q), ("k", &k), ("v", &v)]);
    for kernel in ["cross_attention", "cross_attention_int8"] {
        let row = check(&mut session, &fitted(kernel, "flash", None, &tensors));
        assert_eq!(row.status, Status::Ok, "{}: {:?}", row.id, row.reason);
        assert!(row.id.ends_with("b1h12q18k18d32"), "{}", row.id);
    }
    ran(test);
}

#[test]
fn one_corrupted_code_of_a_real_weight_is_caught() {
    let test = "one_corrupted_code_of_a_real_weight_is_caught";
    let Some(folder) = folder(test) else { return };
    let path = "compress/quantize_int4";
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
    let codes = "let low = codes(load(row, 2u * word), scale)";
    assert!(entry.wgsl.contains(codes));
    // Of 589,824 codes one is off by one.
    let corrupted = format!("{codes} ^ select(0u, 1u, row == 777u && word == 3u)");
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(codes, &corrupted));
    let Some(mut session) = session(test, sources, Checks::Safe) else { return };
    let w = tensor(&folder, "model.safetensors", &format!("{LAYER}.weight"));
    let cell = fitted("quantize_int4", "thread", Some("group32"), &given(&[("x", &w)]));
    let row = session.run(&cell.into(), &Task::Check { flops: f64::INFINITY }, &mut |_, _| {}).0;
    assert_eq!(row.status, Status::Wrong, "{row:?}");
    assert!(row.reason.is_some_and(|why| why.contains("`q`") && why.contains("user inputs")));
    ran(test);
}
