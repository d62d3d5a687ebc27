//! Sessions of unchanged code, each compared with the one before: how often that alarms.

use serde_json::{Value, json};

use super::data::value;
use super::{Sessions, change, device, interval};
use crate::compare::Verdict;
use crate::compare::control::{MOST_SUITES, SessionSummary, wilson};
use crate::compare::runs::ComparedCell;
use crate::report::header::count;
use crate::report::layout::{clean, wrap};
use crate::report::markdown::escape;
use crate::units::percent;

/// The heading where it stands in an issue.
const TITLE: &str = "fusebench selftest";

/// Whether a cell that nothing changed was called changed.
fn is_alarm(cell: &&ComparedCell) -> bool {
    matches!(cell.verdict, Some(Verdict::Slower | Verdict::Faster))
}

/// Counts over all suites; each is a session held against the one before.
pub fn summary(suites: &[Sessions<'_>]) -> SessionSummary {
    let timed = |cell: &&ComparedCell| cell.ratio.is_some();
    let alarms = |suite: &Sessions<'_>| suite.cells.iter().filter(is_alarm).count();
    SessionSummary {
        suites: suites.len(),
        alarmed: suites.iter().filter(|suite| alarms(suite) > 0).count(),
        cells: suites.iter().map(|suite| suite.cells.iter().filter(timed).count()).sum(),
        verdicts: suites.iter().map(alarms).sum(),
    }
}

/// `1 of 40 cells SLOWER or FASTER (0.4 to 12.9 %)`, the same of suites, and what that means.
fn rates(found: &SessionSummary) -> Vec<String> {
    let rate = |k: usize, n: usize| {
        let (low, high) = wilson(k, n);
        format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high)
    };
    let SessionSummary { suites, alarmed, cells, verdicts } = *found;
    let bound = percent(MOST_SUITES);
    let meaning = if found.is_valid() {
        format!("no more than chance explains at {bound} of suites")
    } else {
        format!(
            "more than {bound} of suites: do not trust `fusebench compare` here until that is \
             understood; more runs in the history tell it the noise of this machine"
        )
    };
    vec![
        format!(
            "{verdicts} of {} SLOWER or FASTER though nothing changed ({})",
            count(cells, "cell"),
            rate(verdicts, cells)
        ),
        format!(
            "{alarmed} of {} with any ({}): {meaning}",
            count(suites, "suite"),
            rate(alarmed, suites)
        ),
    ]
}

/// Cells that alarmed: `session 2: SLOWER +14.0 % [+10.4, +17.7] ID`.
fn alarms(suites: &[Sessions<'_>]) -> Vec<String> {
    let told = |(at, suite): (usize, &Sessions<'_>)| -> Vec<String> {
        let line = |cell: &ComparedCell| {
            let verdict = cell.verdict.map_or("", Verdict::name);
            let ratio = cell.ratio.as_ref();
            let (change, interval) =
                ratio.map_or_else(Default::default, |r| (change(r.ratio), interval(r)));
            clean(&format!("session {}: {verdict} {change} {interval} {}", at + 2, cell.id))
        };
        suite.cells.iter().filter(is_alarm).map(line).collect()
    };
    suites.iter().enumerate().flat_map(told).collect()
}

/// For a terminal, at most `width` columns wide but for ids.
pub fn table(suites: &[Sessions<'_>], width: usize) -> String {
    let mut lines = Vec::new();
    if let Some(first) = suites.first() {
        lines.extend(wrap(&device(&first.base.environment), width, 3));
    }
    lines.extend(alarms(suites));
    lines.extend(rates(&summary(suites)).iter().flat_map(|text| wrap(text, width, 4)));
    lines.join("\n") + "\n"
}

/// For an issue.
pub fn markdown(suites: &[Sessions<'_>]) -> String {
    let device = suites.first().map(|first| device(&first.base.environment));
    let lines = device.into_iter().chain(alarms(suites)).chain(rates(&summary(suites)));
    let lines: Vec<String> = lines.map(|line| format!("- {}\n", escape(&line))).collect();
    format!("### {TITLE}: sessions of unchanged code\n\n{}", lines.concat())
}

/// Everything, for programs.
pub fn json(suites: &[Sessions<'_>]) -> String {
    let found = summary(suites);
    let rate = |k: usize, n: usize| -> Value {
        let (low, high) = wilson(k, n);
        json!({ "k": k, "n": n, "low": low, "high": high })
    };
    let value = json!({
        "kind": "selftest",
        "sessions": suites.len() + 1,
        "cells": rate(found.verdicts, found.cells),
        "suites": rate(found.alarmed, found.suites),
        "valid": found.is_valid(),
        "comparisons": suites.iter().map(value).collect::<Vec<Value>>(),
    });
    serde_json::to_string_pretty(&value).expect("plain values serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::runs::compare_runs;
    use crate::compare::sessions::SessionNoise;
    use crate::record::fixture::gpu_run;
    use crate::record::{Run, Unlike};

    fn cells(base: &Run, head: &Run) -> Vec<ComparedCell> {
        compare_runs(base, head, &Unlike::default(), |_, _| SessionNoise::of(&[]))
    }

    #[test]
    fn equal_sessions_alarm_nowhere_and_one_slow_cell_condemns_a_single_suite() {
        let run = gpu_run();
        let mut slow = run.clone();
        let time = slow.rows[0].time.as_mut().expect("timed");
        time.median *= 2.0;
        time.samples.iter_mut().for_each(|sample| *sample *= 2.0);
        let unlike = Unlike::default();
        let judged = |head: &Run| {
            let cells = cells(&run, head);
            let suite =
                Sessions { base: &run, head, unlike: &unlike, cells: &cells, confirmed: None };
            let suites = [suite];
            (summary(&suites), table(&suites, 100), markdown(&suites), json(&suites))
        };
        let (quiet, text, ..) = judged(&run);
        assert!((quiet.suites, quiet.alarmed, quiet.verdicts) == (1, 0, 0) && quiet.cells > 1);
        assert!(quiet.is_valid() && text.contains("no more than chance explains"), "{text}");
        let (loud, text, issue, data) = judged(&slow);
        assert_eq!((loud.alarmed, loud.verdicts, loud.cells), (1, 1, quiet.cells));
        assert!(!loud.is_valid() && text.contains("session 2: SLOWER +100.0 %"), "{text}");
        assert!(text.contains(&run.rows[0].id) && text.contains("do not trust"), "{text}");
        assert!(issue.contains("SLOWER"), "{issue}");
        let data: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!((&data["cells"]["k"], &data["valid"]), (&json!(1), &json!(false)));
        assert_eq!(data["comparisons"][0]["kind"], "compare");
    }
}
