//! Kernels at the sizes of published models against ONNX Runtime, another implementation in f32,
//! through what `dump` writes.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::python::Python;
use common::{has_adapter, ran};
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real_shapes.py");

/// One shape of every operator that both have.
const MODELS: &[&str] = &[
    "^layer_norm/thread/f32/r257d1408$",
    "^rms_norm/thread/f32/r577d1024$",
    "^group_norm/group/f32/n1c256l273g32$",
    "^l2_normalize/thread/f32/r256d512$",
    "^softmax/thread/f32/r384n257$",
    "^linear/register/f32/m77n768k768$",
    "^linear_w8a8/register/i8/m77n768k768$",
    "^cross_attention/flash/f32/b1h12q32k257d64$",
    "^top_k/insert/f32/r1024n1024k5$",
];

/// Twice as large, where its coordinates are exact: they are f32, and from 16 to 24 pixels the
/// results are 4.6 times the bound of ours off, whose coordinates are integers.
const SWEEP: &[&str] = &["^resize_bilinear/scalar/f32/h128w128c4y256x256$"];

fn dump(folder: &Path, preset: &str, filters: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_fusebench"))
        .args(["dump", "--preset", preset, "--force", "-o"])
        .arg(folder)
        .args(filters)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Exit code and last line of the comparison.
fn compare(python: &Python, folder: &Path) -> (Option<i32>, String) {
    let output = python.command().arg(SCRIPT).arg(folder).output().expect("python3 starts");
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(!last.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), last)
}

/// Changes the last element of the first output of every cell by an eighth or so.
fn corrupt(folder: &Path) {
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("it is JSON");
    for cell in manifest["cells"].as_array().expect("cells") {
        let mut files = cell["files"].as_array().expect("files").iter();
        let output = files.find(|file| file["role"] == "output").expect("an output");
        let path = folder.join(output["path"].as_str().expect("a path"));
        let mut bytes = fs::read(&path).expect("an array");
        let at = bytes.len() - 2;
        bytes[at] ^= 0x20;
        fs::write(&path, bytes).expect("it is writable");
    }
}

#[test]
fn real_shapes_agree_with_onnx_runtime() {
    let test = "real_shapes_agree_with_onnx_runtime";
    if !has_adapter(test) {
        return;
    }
    let Some(python) = Python::with(test, "onnxruntime", "onnx, onnxruntime") else { return };
    for (preset, filters) in [("models", MODELS), ("sweep", SWEEP)] {
        let folder = tempfile::tempdir().expect("a folder");
        dump(folder.path(), preset, filters);
        let cells = filters.len();
        let said = |wrong: usize| format!("{cells} cells, {wrong} differ from ONNX Runtime");
        assert_eq!(compare(&python, folder.path()), (Some(0), said(0)));
        corrupt(folder.path());
        assert_eq!(compare(&python, folder.path()), (Some(1), said(cells)));
    }
    ran(test);
}
