//! JUnit XML, as Jenkins, GitLab and most others show it: one suite for a machine, one case for an
//! id. Not SARIF, which wants a place in the source for each result.

use std::fmt::Write as _;

use crate::compare::Verdict;
use crate::record::{ComparedRow, Comparison, Environment, Row, Run, Status};
use crate::report::comparison::{change, interval, sentence};

/// What a case came to.
enum Outcome {
    Passed,
    /// A type and a message.
    Failed(&'static str, String),
    Error(String),
    Skipped(String),
}

struct Case<'a> {
    family: &'a str,
    name: String,
    seconds: Option<f64>,
    outcome: Outcome,
}

pub(super) fn of_run(run: &Run) -> String {
    let cases: Vec<Case<'_>> = run.rows.iter().map(case).collect();
    document(&run.environment, &cases)
}

/// What is SLOWER or WRONG fails; what is UNCLEAR is skipped with its reason.
pub(super) fn of_comparison(found: &Comparison) -> String {
    let cases: Vec<Case<'_>> = found.rows.iter().map(compared).collect();
    document(&found.environment, &cases)
}

fn compared(row: &ComparedRow) -> Case<'_> {
    let verdict = row.verdict.map_or(row.status.name(), Verdict::name);
    let ratio = row.ratio.as_ref();
    let size = ratio.map(|ratio| format!(" {} {}", change(ratio.ratio), interval(ratio)));
    let told = format!("{verdict}{}: {}", size.unwrap_or_default(), sentence(row));
    let outcome = match (row.verdict, row.status) {
        (Some(Verdict::Slower), _) => Outcome::Failed("PerformanceRegression", told),
        (Some(Verdict::Wrong) | None, Status::Error) => Outcome::Error(told),
        (Some(Verdict::Wrong), _) | (None, Status::Wrong) => Outcome::Failed("WrongResult", told),
        (Some(Verdict::Unclear | Verdict::Gone) | None, _) => Outcome::Skipped(told),
        (Some(Verdict::Faster | Verdict::Same | Verdict::New), _) => Outcome::Passed,
    };
    let name = named(&row.id, &row.checks);
    Case { family: &row.family, name, seconds: row.head_median, outcome }
}

/// The id, with the mode of checks where it is not the usual one.
fn named(id: &str, checks: &str) -> String {
    let mode = if checks == "safe" { String::new() } else { format!(" {checks}") };
    format!("{id}{mode}")
}

fn case(row: &Row) -> Case<'_> {
    let reason = || row.reason.clone().unwrap_or_else(|| row.status.name().to_owned());
    let outcome = match row.status {
        Status::Ok => Outcome::Passed,
        Status::Wrong => Outcome::Failed("WrongResult", reason()),
        Status::Error => Outcome::Error(reason()),
        Status::Unsupported | Status::Skipped => Outcome::Skipped(reason()),
    };
    let name = named(&row.id, &row.checks);
    let seconds = row.time.as_ref().map(|time| time.median);
    Case { family: &row.family, name, seconds, outcome }
}

fn document(environment: &Environment, cases: &[Case<'_>]) -> String {
    let device = &environment.device;
    let suite = format!("{} {} {}", environment.fingerprint, device.name, device.backend);
    let count = |of: fn(&Outcome) -> bool| cases.iter().filter(|case| of(&case.outcome)).count();
    let tests = cases.len();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed(..)));
    let errors = count(|outcome| matches!(outcome, Outcome::Error(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    // The schema wants no zone; the time is UTC.
    let started = escape(environment.started.trim_end_matches('Z'));
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(text, "<testsuites name=\"fusebench\" {counts}>");
    let suite = escape(&suite);
    let _ = writeln!(
        text,
        "  <testsuite name=\"{suite}\" {counts} skipped=\"{skipped}\" timestamp=\"{started}\">"
    );
    for case in cases {
        write_case(&mut text, case);
    }
    text + "  </testsuite>\n</testsuites>\n"
}

fn write_case(text: &mut String, case: &Case<'_>) {
    // Display writes every digit and no exponent, which readers of JUnit do not know.
    let time = case.seconds.map_or(String::new(), |seconds| format!(" time=\"{seconds}\""));
    let (family, name) = (escape(case.family), escape(&case.name));
    let child = match &case.outcome {
        Outcome::Passed => None,
        Outcome::Failed(kind, message) => {
            Some(format!("<failure type=\"{kind}\" message=\"{}\"/>", escape(message)))
        }
        Outcome::Error(message) => {
            Some(format!("<error type=\"Error\" message=\"{}\"/>", escape(message)))
        }
        Outcome::Skipped(message) => Some(format!("<skipped message=\"{}\"/>", escape(message))),
    };
    let start = format!("    <testcase classname=\"{family}\" name=\"{name}\"{time}");
    let _ = match child {
        None => writeln!(text, "{start}/>"),
        Some(child) => writeln!(text, "{start}>\n      {child}\n    </testcase>"),
    };
}

/// Text of an attribute; what XML 1.0 cannot hold at all is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\r' | '\t' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => escaped.push(c),
        }
    }
    escaped
}
