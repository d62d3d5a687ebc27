//! Python with the packages that `scripts/oracles` fetches.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::skipped;

/// An interpreter that sees the packages of one list in `scripts/requirements/`.
pub struct Python {
    program: PathBuf,
    path: OsString,
}

impl Python {
    /// The interpreter that FUSEBENCH_TEST_PYTHON names, or `python3`; `None`, counted, where it
    /// cannot import the module, fetched or installed.
    pub fn with(test: &str, list: &str, module: &str) -> Option<Self> {
        let named = env::var_os("FUSEBENCH_TEST_PYTHON");
        let program = named.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".oracles").join(list);
        let installed = env::var_os("PYTHONPATH").unwrap_or_default();
        let paths = [fetched].into_iter().chain(env::split_paths(&installed));
        let path = env::join_paths(paths).expect("the folder has no separator in its name");
        let python = Python { program, path };
        let import = python.command().args(["-c", &format!("import {module}")]).output();
        if import.is_ok_and(|output| output.status.success()) {
            return Some(python);
        }
        skipped(test, &format!("no python3 with {module}, run scripts/oracles"));
        None
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PYTHONPATH", &self.path);
        command
    }
}
