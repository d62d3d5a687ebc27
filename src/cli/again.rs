//! A run in a process of its own: what differs between two processes cannot hide there.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::exit::{Exit, Failure};
use super::{interrupt, output};
use crate::record::{Run, read};

/// A file that goes away with it.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Temporary(std::env::temp_dir().join(format!("fusebench-run-{process}-{count}.json")))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing to do about a failure: it is a small file in the folder for such files.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `fusebench run` with these arguments; `None` where nothing could run.
///
/// # Errors
/// As that run, which has said why on stderr.
pub fn run(arguments: &[String]) -> Result<Option<Run>, Failure> {
    // Ctrl-C reaches both processes; this one waits for the other and takes its file away.
    interrupt::listen();
    let file = Temporary::new();
    let failure = |why: &str| Failure::environment(format!("cannot measure: {why}"));
    let program = std::env::current_exe().map_err(|error| failure(&error.to_string()))?;
    let mut command = Command::new(program);
    // What these variables say is in the arguments.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("FUSEBENCH_") && text != "FUSEBENCH_KERNELS" {
            command.env_remove(&name);
        }
    }
    command.arg("run").args(arguments).arg("--output").arg(&file.0);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().map_err(|error| failure(&error.to_string()))?;
    match status.code() {
        // Wrong and failed cells are in the file.
        Some(0 | 1) => read(&file.0).map(Some).map_err(output::failure),
        Some(4) => Ok(None),
        Some(130) => Err(Failure { exit: Exit::Interrupted, message: "interrupted".to_owned() }),
        Some(2) => Err(Failure::usage("its reason stands above")),
        _ => Err(failure("its reason stands above")),
    }
}
