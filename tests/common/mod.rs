//! What the tests on a device share: opening it, and counting those that could not run.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;

use fusebench::gpu::{Checks, GpuError, Selector};
use fusebench::suite::{Session, Sources};

/// Seed of every test.
pub const SEED: u32 = 1;

/// Notes a device test that ran.
pub fn ran(test: &str) {
    log(&format!("ran {test}"));
}

/// Notes a device test, or a part of one, that could not run.
pub fn skipped(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    log(&format!("skipped {test}: {reason}"));
}

/// `scripts/test` reads the file and prints the count.
fn log(line: &str) {
    let Some(path) = std::env::var_os("FUSEBENCH_TEST_LOG") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("test log");
    writeln!(file, "{line}").expect("test log");
}

/// Opens the best device with some shaders replaced; `None`, counted, where there is none.
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
