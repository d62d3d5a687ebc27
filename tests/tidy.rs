//! Sentences about what is absent, each one a test.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_COLUMNS: usize = 100;

fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a readable folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).expect("a readable file");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    walk(&root.join(folder), extension, &mut found);
    assert!(!found.is_empty(), "no .{extension} under {folder}");
    found
}

/// Lines of code (not comments) that hold one of the words.
fn uses(files: &[(PathBuf, String)], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        for (number, line) in text.lines().enumerate() {
            let code = !line.trim_start().starts_with("//");
            if code && words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

fn outside(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let mut files = files("src", "rs");
    files.retain(|(path, _)| !path.starts_with(&root));
    files
}

#[test]
fn only_the_device_layer_names_wgpu() {
    let found = uses(&outside("gpu"), &["wgpu::", "naga::", "use wgpu", "use naga"]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_pure_modules_do_no_input_or_output() {
    let impure = ["std::fs", "std::time", "std::env", "std::thread", "println!", "crate::gpu"];
    for folder in ["src/measure", "src/accuracy", "src/compare"] {
        assert_eq!(uses(&files(folder, "rs"), &impure), [""; 0]);
    }
}

#[test]
fn only_the_record_is_serialised() {
    assert_eq!(uses(&outside("record"), &["Serialize", "Deserialize"]), [""; 0]);
}

#[test]
fn kernels_know_neither_clock_nor_device() {
    let alien = ["std::fs", "std::time", "println!", "crate::gpu", "crate::measure", "crate::cli"];
    assert_eq!(uses(&files("src/kernels", "rs"), &alien), [""; 0]);
}

#[test]
fn lines_fit_a_hundred_columns() {
    let mut wide = Vec::new();
    let rust = ["src", "tests", "benches", "fuzz", "peers/src", "peers/tests"];
    let rust = rust.map(|folder| (folder, "rs"));
    for (folder, extension) in rust.into_iter().chain([("kernels", "wgsl")]) {
        for (path, text) in files(folder, extension) {
            let over = text.lines().enumerate().filter(|(_, l)| l.chars().count() > MAX_COLUMNS);
            wide.extend(over.map(|(number, _)| format!("{}:{}", path.display(), number + 1)));
        }
    }
    assert_eq!(wide, [""; 0]);
}

#[test]
fn unfinished_work_has_an_issue_number() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), "unimplemented!(", "todo!("];
    let mut found = uses(&files("src", "rs"), &words);
    found.extend(uses(&files("kernels", "wgsl"), &words));
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_forbidden_word_in_code_would_be_found_and_one_in_a_comment_would_not() {
    let file = |text: &str| vec![(PathBuf::from("x.rs"), text.to_owned())];
    assert_eq!(uses(&file("let a = wgpu::Device;"), &["wgpu::"]).len(), 1);
    assert_eq!(uses(&file("/// about wgpu::Device"), &["wgpu::"]).len(), 0);
}
