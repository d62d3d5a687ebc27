//! What the tests on a device share: opening it, and counting those that could not run.

#[allow(dead_code, reason = "few test files choose the inputs of kernels")]
pub mod lab;
#[allow(dead_code, reason = "few test files ask a program in Python")]
pub mod python;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use fusebench::gpu::{Checks, GpuError, Selector};
use fusebench::kernel::Entry;
use fusebench::kernels::ALL;
use fusebench::record::{Row, Run, Status, read};
use fusebench::suite::{Session, Sources};

/// Seed of every test.
pub const SEED: u32 = 1;

/// The kernels to test: all, or while one is written only those whose `FAMILY/NAME` holds one of
/// the comma-separated words in FUSEBENCH_TEST_ONLY.
#[allow(dead_code, reason = "not every test file goes through the kernels")]
pub fn kernels() -> impl Iterator<Item = &'static Entry> {
    ALL.iter().filter(|entry| is_kernel_chosen(entry))
}

#[allow(dead_code, reason = "not every test file goes through the kernels")]
pub fn is_kernel_chosen(entry: &Entry) -> bool {
    let only = std::env::var("FUSEBENCH_TEST_ONLY").unwrap_or_default();
    let whole = only.is_empty() || std::env::var_os("CI").is_some();
    whole || only.split(',').any(|word| entry.path().contains(word))
}

/// Notes a device test that ran.
#[allow(dead_code, reason = "not every test file runs on a device")]
pub fn ran(test: &str) {
    log(&format!("ran {test}"));
}

/// Notes a device test, or a part of one, that could not run.
#[allow(dead_code, reason = "not every test file runs on a device")]
pub fn skipped(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    log(&format!("skipped {test}: {reason}"));
}

/// `scripts/test` reads the file and prints the count.
#[allow(dead_code, reason = "not every test file runs on a device")]
fn log(line: &str) {
    let Some(path) = std::env::var_os("FUSEBENCH_TEST_LOG") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("test log");
    writeln!(file, "{line}").expect("test log");
}

/// Opens the best device with some shaders replaced; `None`, counted, where there is none.
#[allow(dead_code, reason = "not every test file runs on a device")]
pub fn session(test: &str, sources: Sources, checks: Checks) -> Option<Session> {
    match Session::open(&Selector::Best, sources, SEED, checks, Arc::default()) {
        Ok(session) => Some(session),
        Err(GpuError::NoAdapter) => {
            skipped(test, "no adapter");
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

/// Whether a device can be opened at all; if not, the test counts as skipped.
#[allow(dead_code, reason = "not every test file drives the program")]
pub fn has_adapter(test: &str) -> bool {
    session(test, Sources::default(), Checks::Safe).is_some()
}

/// Whether a program ended with this code and said all of these, and did not panic.
#[allow(dead_code, reason = "not every test file runs the program")]
#[track_caller]
pub fn ends(output: &Output, code: i32, says: &[&str]) {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    for words in says {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// What a program said.
#[allow(dead_code, reason = "not every test file runs the program")]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The reference run of llvmpipe with so many of its rows, of kernels whose times were settled.
#[allow(dead_code, reason = "few test files want a run of a real device")]
pub fn reference(rows: usize) -> Run {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/llvmpipe/models.json");
    let mut run = read(&path).expect("the reference run");
    let settled =
        |row: &Row| row.time.as_ref().is_some_and(|time| time.high - time.low < 0.05 * time.median);
    run.rows.retain(|row| row.status == Status::Ok && row.stages.is_empty() && settled(row));
    run.rows.truncate(rows);
    run
}
