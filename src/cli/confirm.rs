//! `fusebench compare --confirm`: what recurs in a new process is believed.

use super::again;
use super::compare::told;
use super::exit::Failure;
use super::strength::strength;
use crate::compare::runs::{ComparedCell, compare_runs};
use crate::compare::sessions::SessionNoise;
use crate::compare::{Reason, Verdict};
use crate::record::{Run, Unlike};
use crate::report::sessions::{change, interval};

/// Measures the SLOWER cells once more: they stay SLOWER (`confirmed`) or become UNCLEAR
/// (`unconfirmed`), or WRONG. Tells what lies between the two measurements, if there was a second.
///
/// # Errors
/// `Usage` when this machine or this build is not that of `head`, and what the run itself fails
/// with.
pub fn confirm(
    cells: &mut [ComparedCell],
    base: &Run,
    head: &Run,
) -> Result<Option<&'static str>, Failure> {
    let mut measured = None;
    for checks in ["safe", "trusted"] {
        let slower =
            |cell: &&ComparedCell| cell.verdict == Some(Verdict::Slower) && cell.checks == checks;
        let ids: Vec<String> = cells.iter().filter(slower).map(|cell| cell.id.clone()).collect();
        if ids.is_empty() {
            continue;
        }
        let again = measure(head, &ids, checks)?;
        measured = Some(strength(&head.environment.started));
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
    Ok(measured)
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
    let device = &head.environment.device;
    let selector = format!("{}:{}", device.backend, device.name);
    let mut variants: Vec<&str> = ids.iter().filter_map(|id| id.split('/').nth(1)).collect();
    variants.sort_unstable();
    variants.dedup();
    let row = |id: &String| head.rows.iter().find(|row| row.id == *id);
    let preset = ids.iter().find_map(row).map_or("models", |row| row.preset.as_str());
    let mut arguments: Vec<String> =
        ids.iter().map(|id| format!("^{}$", regex::escape(id))).collect();
    // A comma would end the selector; what stands before it is enough.
    let selector = selector.split(',').next().unwrap_or_default();
    let (variants, seed) = (variants.join(","), head.environment.seed.to_string());
    let flags = ["--device", selector, "--preset", preset, "--checks", checks, "--untuned"];
    arguments.extend(flags.map(str::to_owned));
    arguments.extend(["--variant", &variants, "--seed", &seed].map(str::to_owned));
    anstream::eprintln!("fusebench: measuring {} SLOWER cells again", ids.len());
    let none = || Failure::usage("this build has none of the SLOWER cells to measure again");
    again::run(&arguments)?.ok_or_else(none)
}
