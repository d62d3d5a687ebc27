//! `fusebench compare --confirm`: what recurs in a new process is believed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::compare::told;
use super::exit::{Exit, Failure};
use super::output;
use crate::compare::runs::{ComparedCell, compare_runs};
use crate::compare::sessions::SessionNoise;
use crate::compare::{Reason, Verdict};
use crate::record::{Run, Unlike, read};
use crate::report::sessions::{change, interval};

/// A file that goes away with it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing to do about a failure: it is a small file in the folder for such files.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Measures the SLOWER cells once more: they stay SLOWER (`confirmed`) or become UNCLEAR
/// (`unconfirmed`), or WRONG.
///
/// # Errors
/// `Usage` when this machine or this build is not that of `head`, and what the run itself fails
/// with.
pub fn confirm(cells: &mut [ComparedCell], base: &Run, head: &Run) -> Result<(), Failure> {
    for checks in ["safe", "trusted"] {
        let slower =
            |cell: &&ComparedCell| cell.verdict == Some(Verdict::Slower) && cell.checks == checks;
        let ids: Vec<String> = cells.iter().filter(slower).map(|cell| cell.id.clone()).collect();
        if ids.is_empty() {
            continue;
        }
        let again = measure(head, &ids, checks)?;
        let unlike = Unlike::between(&head.environment, &again.environment);
        if !unlike.is_like() {
            let fields = unlike.device.iter().chain(&unlike.env);
            let fields: Vec<String> = fields.map(|one| format!("  {}\n", told(one))).collect();
            let fields = fields.concat();
            return Err(Failure::usage(format!(
                "NEW was not measured on this machine as it is now\n{fields}run --confirm there"
            )));
        }
        if again.environment.fusebench.kernels_hash != head.environment.fusebench.kernels_hash {
            return Err(Failure::usage(
                "NEW was measured with other shaders than this build has\n\
                 run --confirm with the build that wrote it",
            ));
        }
        let noise: Vec<(String, Option<SessionNoise>)> =
            cells.iter().map(|cell| (cell.id.clone(), cell.noise)).collect();
        let noise = |id: &str, _: &str| {
            let known = noise.iter().find(|(other, _)| other == id).and_then(|(_, noise)| *noise);
            known.unwrap_or_else(|| SessionNoise::of(&[]))
        };
        let second = compare_runs(base, &again, &unlike, noise);
        for cell in cells.iter_mut().filter(|cell| slower(&&**cell)) {
            judge(cell, second.iter().find(|one| one.id == cell.id && one.checks == checks));
        }
    }
    Ok(())
}

fn judge(cell: &mut ComparedCell, second: Option<&ComparedCell>) {
    let verdict = second.and_then(|second| second.verdict);
    (cell.verdict, cell.reason) = match verdict {
        Some(Verdict::Slower) => (verdict, Some(Reason::Confirmed)),
        Some(Verdict::Wrong) => (verdict, Some(Reason::Failed)),
        _ => (Some(Verdict::Unclear), Some(Reason::Unconfirmed)),
    };
    let why = second.and_then(|second| second.why.clone());
    let ratio = second.and_then(|second| second.ratio);
    let measured = ratio.map(|ratio| format!("{} {}", change(ratio.ratio), interval(&ratio)));
    cell.why = why.or(measured).or_else(|| Some("it could not be timed".to_owned()));
}

/// Runs the cells as `head` did, in a process of its own.
fn measure(head: &Run, ids: &[String], checks: &str) -> Result<Run, Failure> {
    let name = format!("fusebench-confirm-{}.json", std::process::id());
    let file = Temporary(std::env::temp_dir().join(name));
    let device = &head.environment.device;
    let selector = format!("{}:{}", device.backend, device.name);
    let mut variants: Vec<&str> = ids.iter().filter_map(|id| id.split('/').nth(1)).collect();
    variants.sort_unstable();
    variants.dedup();
    let row = |id: &String| head.rows.iter().find(|row| row.id == *id);
    let preset = ids.iter().find_map(row).map_or("models", |row| row.preset.as_str());
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("FUSEBENCH_") && text != "FUSEBENCH_KERNELS" {
            command.env_remove(&name);
        }
    }
    command.arg("run").args(ids.iter().map(|id| format!("^{}$", regex::escape(id))));
    // A comma would end the selector; what stands before it is enough.
    command.args(["--device", selector.split(',').next().unwrap_or_default()]);
    command.args(["--preset", preset, "--checks", checks, "--untuned", "--variant"]);
    command.arg(variants.join(",")).args(["--seed", &head.environment.seed.to_string()]);
    command.arg("--output").arg(&file.0).stdin(Stdio::null()).stdout(Stdio::null());
    anstream::eprintln!("fusebench: measuring {} SLOWER cells again", ids.len());
    let failure = |why: String| Failure::environment(format!("cannot measure again: {why}"));
    let status = command.status().map_err(|error| failure(error.to_string()))?;
    match status.code() {
        // Wrong and failed cells are in the file.
        Some(0 | 1) => read_run(&file.0),
        Some(4) => Err(Failure::usage("this build has none of the SLOWER cells to measure again")),
        Some(130) => Err(Failure { exit: Exit::Interrupted, message: "interrupted".to_owned() }),
        _ => Err(failure("its reason stands above".to_owned())),
    }
}

fn read_run(path: &Path) -> Result<Run, Failure> {
    read(path).map_err(output::failure)
}

fn program() -> Result<PathBuf, Failure> {
    let failure = |error| Failure::environment(format!("cannot find this program: {error}"));
    std::env::current_exe().map_err(failure)
}
