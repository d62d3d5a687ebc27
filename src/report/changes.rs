//! Changes of level, latest first.

use serde_json::{Value, json};

use super::header::count;
use super::history::{device, environment_change};
use super::layout::{Style, clean, wrap};
use super::markdown as md;
use super::sessions::change as percent;
use crate::compare::Verdict;
use crate::compare::change_points::{ChangePoint, FLOOR, MIN_POINTS};
use crate::history::{RunInfo, Series};
use crate::units::Seconds;

/// One change of one series; `from` and `to` are the positions of the last run at the old level
/// and of the first at the new one.
pub struct Change {
    pub series: Series,
    pub from: usize,
    pub to: usize,
    pub point: ChangePoint,
}

/// A device that ran with another driver, system or timer from a run on.
pub struct NewEnvironment {
    pub from: usize,
    pub to: usize,
    /// Runs in the new environment.
    pub runs: usize,
}

/// What is to be shown.
pub struct Changes<'a> {
    pub runs: &'a [RunInfo],
    pub changes: Vec<Change>,
    pub environments: Vec<NewEnvironment>,
    /// Series long enough, and too short, to look for changes.
    pub looked_at: usize,
    pub too_short: usize,
}

const INDENT: usize = 4;
const WORD_LINES: usize = 3;

impl Change {
    fn verdict(&self) -> Verdict {
        if self.point.relative() > 0.0 { Verdict::Slower } else { Verdict::Faster }
    }

    fn name(&self) -> String {
        match self.series.checks.as_str() {
            "safe" => clean(&self.series.cell),
            checks => clean(&format!("{} ({checks})", self.series.cell)),
        }
    }

    /// `52.1 µs → 56.3 µs between commit a and b, p = 5e-5, 20 runs before and 12 after`
    fn words(&self, runs: &[RunInfo]) -> String {
        let point = &self.point;
        let (old, new) = (commit(&runs[self.from]), commit(&runs[self.to]));
        let between = if old == new {
            format!("both at commit {old}")
        } else {
            format!("between commits {old} and {new}")
        };
        format!(
            "{} → {}, {between}, p = {:.0e}, {} before, {} after",
            Seconds(point.before),
            Seconds(point.after),
            point.p,
            count(point.runs_before, "run"),
            count(point.runs_after, "run")
        )
    }
}

fn commit(run: &RunInfo) -> String {
    clean(&format!("{}{}", run.commit, if run.dirty { "+dirty" } else { "" }))
}

impl Changes<'_> {
    fn totals(&self) -> String {
        let slower = self.changes.iter().filter(|one| one.verdict() == Verdict::Slower).count();
        let faster = self.changes.len() - slower;
        format!("{slower} SLOWER, {faster} FASTER in {} series", self.looked_at)
    }

    /// What was not looked at, and from where on a change is told.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.too_short > 0 {
            remarks.push(format!(
                "{} series not looked at: {MIN_POINTS} runs on one fingerprint are needed",
                self.too_short
            ));
        }
        remarks.push(format!("told from {:.0} % on, p ≤ 0.01", 100.0 * FLOOR));
        remarks
    }

    /// Line and details of every environment and every change, latest first.
    fn entries(&self) -> Vec<(usize, String, String, Style)> {
        let runs = self.runs;
        let environments = self.environments.iter().filter_map(|one| {
            let words = environment_change(&runs[one.from], &runs[one.to])?;
            let details = format!("{}; {} since", device(&runs[one.to]), count(one.runs, "run"));
            Some((one.to, words, details, Style::Warn))
        });
        let changes = self.changes.iter().map(|one| {
            let verdict = one.verdict();
            let relative = percent(1.0 + one.point.relative());
            let style = if verdict == Verdict::Slower { Style::Bad } else { Style::Good };
            let line = format!("{} {relative}  {}", verdict.name(), one.name());
            (one.to, line, one.words(runs), style)
        });
        let mut entries: Vec<_> = environments.chain(changes).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.0));
        entries
    }
}

/// Paragraphs for a terminal.
pub fn table(found: &Changes<'_>, colour: bool, width: usize) -> String {
    let mut lines = vec![found.totals(), String::new()];
    for (to, line, details, style) in found.entries() {
        let started = found.runs[to].started();
        let line = format!("{started}  {}", style.paint(&line, colour));
        lines.push(line);
        for text in wrap(&details, width - INDENT, WORD_LINES) {
            lines.push(format!("{:INDENT$}{text}", ""));
        }
    }
    if lines.len() > 2 {
        lines.push(String::new());
    }
    lines.extend(found.remarks().iter().map(|text| Style::Dim.paint(text, colour)));
    lines.join("\n") + "\n"
}

/// The body of an issue.
pub fn markdown(found: &Changes<'_>) -> String {
    let mut text = format!("### fusebench history: {}\n\n", found.totals());
    for (to, line, details, _) in found.entries() {
        let started = found.runs[to].started();
        let (line, details) = (md::escape(&line), md::escape(&details));
        text.push_str(&format!("- **{line}** from {started} on: {details}\n"));
    }
    text.push('\n');
    found.remarks().iter().for_each(|remark| text.push_str(&format!("- {remark}\n")));
    text
}

/// For programs; times in seconds.
pub fn json(found: &Changes<'_>) -> String {
    let run = |at: usize| {
        let run = &found.runs[at];
        json!({ "started": run.started(), "commit": run.commit, "dirty": run.dirty,
                "fingerprint": run.fingerprint })
    };
    let changes = found.changes.iter().map(|one| {
        json!({
            "id": one.series.cell,
            "checks": one.series.checks,
            "verdict": one.verdict().name(),
            "ratio": 1.0 + one.point.relative(),
            "before_s": one.point.before,
            "after_s": one.point.after,
            "runs_before": one.point.runs_before,
            "runs_after": one.point.runs_after,
            "p": one.point.p,
            "last_before": run(one.from),
            "first_after": run(one.to),
        })
    });
    let environments = found.environments.iter().map(|one| {
        let (before, after) = (&found.runs[one.from], &found.runs[one.to]);
        let words = environment_change(before, after);
        json!({ "last_before": run(one.from), "first_after": run(one.to), "runs": one.runs,
                "told": words })
    });
    let value = json!({
        "changes": changes.collect::<Vec<Value>>(),
        "environments": environments.collect::<Vec<Value>>(),
        "series_looked_at": found.looked_at,
        "series_too_short": found.too_short,
    });
    serde_json::to_string_pretty(&value).expect("plain values serialise")
}

/// One line a change of level.
pub fn csv(found: &Changes<'_>) -> String {
    let mut text = "id,checks,verdict,ratio,before_s,after_s,runs_before,runs_after,p,started,\
                    fingerprint\n"
        .to_string();
    for one in &found.changes {
        let run = &found.runs[one.to];
        let fields = [
            one.series.cell.clone(),
            one.series.checks.clone(),
            one.verdict().name().to_string(),
            (1.0 + one.point.relative()).to_string(),
            one.point.before.to_string(),
            one.point.after.to_string(),
            one.point.runs_before.to_string(),
            one.point.runs_after.to_string(),
            one.point.p.to_string(),
            run.started(),
            run.fingerprint.clone(),
        ];
        text.push_str(&(fields.join(",") + "\n"));
    }
    text
}
