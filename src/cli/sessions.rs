//! `fusebench selftest --sessions N`: how often `compare` alarms though nothing changed.

use super::ab::{Form, PairFlags};
use super::args::Global;
use super::arguments::{flag, option, selected};
use super::compare::told;
use super::exit::{Exit, Failure};
use super::known::StoreArg;
use super::output::{print, width};
use super::{again, interrupt, known, noise, select};
use crate::compare::Verdict;
use crate::compare::runs::ComparedCell;
use crate::record::{Run, Unlike};
use crate::report::sessions::{Sessions, unchanged};

/// Runs everything `count` times in processes of their own and holds each against the one before.
///
/// # Errors
/// As for `run` and `compare`; `Usage` when driver or system change in between.
pub fn selftest(
    flags: &PairFlags,
    earlier: &StoreArg,
    global: &Global,
    count: u32,
) -> Result<Exit, Failure> {
    // A filter that selects nothing is told before a process is started.
    select::select(&flags.selection)?;
    let noise = noise::read(flags.noise.as_deref())?;
    let runs = measure(flags, global, count)?;
    let mut compared: Vec<(&[Run], Vec<ComparedCell>)> = Vec::new();
    let unlike = Unlike::default();
    for pair in runs.windows(2) {
        same_environment(&pair[0], &pair[1])?;
        let cells = known::compare(earlier, &noise, &pair[0], &pair[1], &unlike)?;
        compared.push((pair, cells));
    }
    let suites: Vec<Sessions<'_>> = compared
        .iter()
        .map(|(pair, cells)| {
            let (base, head) = (&pair[0], &pair[1]);
            Sessions { base, head, unlike: &unlike, cells, confirmed: None }
        })
        .collect();
    let text = match flags.format {
        Form::Table => unchanged::table(&suites, width()),
        Form::Markdown => unchanged::markdown(&suites),
        Form::Json => unchanged::json(&suites),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
    let found = unchanged::summary(&suites);
    let wrong =
        |suite: &Sessions<'_>| suite.cells.iter().any(|cell| cell.verdict == Some(Verdict::Wrong));
    let applies = [
        (interrupt::requested(), Exit::Interrupted),
        (suites.iter().any(wrong), Exit::Finding),
        (found.cells == 0, Exit::Nothing),
        (!found.is_valid(), Exit::Inconclusive),
    ];
    Ok(Exit::gravest(applies.into_iter().filter(|(applies, _)| *applies).map(|(_, exit)| exit)))
}

fn measure(flags: &PairFlags, global: &Global, count: u32) -> Result<Vec<Run>, Failure> {
    let arguments = arguments(flags, global);
    let nothing = || Failure::nothing("nothing ran: every cell was skipped or is unsupported");
    let mut runs = Vec::new();
    for session in 1..=count {
        anstream::eprintln!("fusebench: session {session} of {count}");
        runs.push(again::run(&arguments)?.ok_or_else(nothing)?);
    }
    Ok(runs)
}

/// What `run` is asked to do, by the flags that it shares with `selftest`.
fn arguments(flags: &PairFlags, global: &Global) -> Vec<String> {
    let mut list = Vec::new();
    selected(&mut list, &flags.selection);
    option(&mut list, "--device", flags.device.clone());
    flag(&mut list, "--quick", flags.quick);
    option(&mut list, "--seed", Some(flags.seed.to_string()));
    option(&mut list, "--checks", Some(flags.checks.name().to_owned()));
    option(&mut list, "--patience", Some(flags.patience.to_string()));
    flag(&mut list, "--verbose", global.verbose);
    list
}

fn same_environment(base: &Run, head: &Run) -> Result<(), Failure> {
    let unlike = Unlike::between(&base.environment, &head.environment);
    if unlike.is_like() {
        return Ok(());
    }
    let fields = unlike.device.iter().chain(&unlike.env);
    let fields: Vec<String> = fields.map(|one| format!("  {}\n", told(one))).collect();
    Err(Failure::usage(format!(
        "two sessions come from unlike environments\n{}run it again",
        fields.concat()
    )))
}
