//! Runs in the forms that other programs read: one file per form, over one list of series.
//!
//! Common to all: finite numbers only and no null, no host name and no path, units in names, ids
//! unchanged. Forms for trackers of numbers hold the cells that have a time; JUnit and the summary
//! hold every cell.

mod bmf;
mod gbench;
mod gha;
mod junit;
mod openmetrics;
mod otava;
mod series;

use super::{comment, comparison, csv};
use crate::record::{Comparison, Run};

/// A consumer's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bencher Metric Format.
    Bmf,
    /// The custom JSON of github-action-benchmark.
    Gha,
    /// The JSON of google/benchmark.
    Gbench,
    OpenMetrics,
    /// CSV and configuration of Apache Otava.
    Otava,
    JUnit,
    Csv,
    /// A summary made for a pull request.
    Markdown,
}

/// What a form makes of results.
#[derive(Clone, Debug, PartialEq)]
pub enum Export {
    One(String),
    /// Names and contents, for a folder.
    Several(Vec<(String, String)>),
}

impl Form {
    pub const ALL: [Form; 8] = [
        Form::Bmf,
        Form::Gha,
        Form::Gbench,
        Form::OpenMetrics,
        Form::Otava,
        Form::JUnit,
        Form::Csv,
        Form::Markdown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Form::Bmf => "bmf",
            Form::Gha => "gha",
            Form::Gbench => "gbench",
            Form::OpenMetrics => "openmetrics",
            Form::Otava => "otava",
            Form::JUnit => "junit",
            Form::Csv => "csv",
            Form::Markdown => "markdown",
        }
    }

    /// Whether several runs of one machine make one series, in the order of their times.
    pub fn takes_several_runs(self) -> bool {
        self == Form::Otava
    }

    /// Whether the result is a folder of files.
    pub fn makes_several_files(self) -> bool {
        matches!(self, Form::Gha | Form::Gbench | Form::Otava)
    }

    /// Whether there is anything in the run that this form holds.
    pub fn holds_something_of(self, run: &Run) -> bool {
        match self {
            Form::JUnit | Form::Csv | Form::Markdown => !run.rows.is_empty(),
            _ => !series::of(run).is_empty(),
        }
    }

    /// Writes runs, of which every form but Otava's takes exactly one.
    pub fn write(self, runs: &[Run]) -> Export {
        let run = &runs[0];
        match self {
            Form::Bmf => Export::One(bmf::text(run)),
            Form::Gha => Export::Several(gha::files(run)),
            Form::Gbench => Export::Several(gbench::files(run)),
            Form::OpenMetrics => Export::One(openmetrics::text(run)),
            Form::Otava => Export::Several(otava::files(runs)),
            Form::JUnit => Export::One(junit::of_run(run)),
            Form::Csv => Export::One(csv::table(run)),
            Form::Markdown => Export::One(comment::of_run(run)),
        }
    }

    /// Writes a comparison: verdicts, which only forms for people and test reports have.
    pub fn write_comparison(self, found: &Comparison) -> Option<String> {
        match self {
            Form::JUnit => Some(junit::of_comparison(found)),
            Form::Markdown => Some(comparison::markdown(found)),
            _ => None,
        }
    }
}

/// JSON as every form has it: indented, an end of line at the end.
fn json(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests;
