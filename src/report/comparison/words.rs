//! The words both forms share.

use crate::compare::noise;
use crate::compare::plan::FLOOR;
use crate::compare::{Reason, Verdict};
use crate::record::{ComparedRow, Comparison, ControlRecord, RatioRecord, SideRecord, Status};
use crate::report::header::count;
use crate::report::layout::{Style, clean};
use crate::units::percent;

/// The sides as the user named them, to repeat a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    pub base: String,
    pub head: String,
}

impl Command {
    /// The comparison of one cell.
    pub fn again(&self, id: &str) -> String {
        let (base, head) = (quoted(&self.base), quoted(&self.head));
        format!("fusebench ab --base {base} --head {head} '^{id}$'")
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./~^@:+=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A change in per cent: `+6.1 %`.
pub fn change(ratio: f64) -> String {
    format!("{:+.1} %", 100.0 * (ratio - 1.0)).replace("-0.0", "+0.0")
}

pub fn interval(ratio: &RatioRecord) -> String {
    let end = |ratio: f64| format!("{:+.1}", 100.0 * (ratio - 1.0)).replace("-0.0", "+0.0");
    format!("[{}, {}]", end(ratio.low), end(ratio.high))
}

/// The p-value of the direction that the ratio points in.
pub fn p_value(ratio: &RatioRecord) -> String {
    let p = ratio.p_slower.min(ratio.p_faster);
    if p >= 0.001 { format!("{p:.3}") } else { format!("{p:.0e}") }
}

pub fn style(verdict: Option<Verdict>) -> Style {
    match verdict {
        Some(Verdict::Wrong | Verdict::Slower) => Style::Bad,
        Some(Verdict::Unclear) => Style::Warn,
        Some(Verdict::Faster) => Style::Good,
        _ => Style::Plain,
    }
}

/// The floor of a row, and where it comes from unless it is the general one.
fn floor(row: &ComparedRow) -> String {
    let floor = row.ratio.as_ref().map_or(FLOOR, |ratio| ratio.floor);
    let learnt = row.noise.is_some_and(|own| (noise::floor(own) - floor).abs() < 1e-9);
    let origin = if learnt { ", twice its own noise" } else { "" };
    format!("{}{origin}", percent(floor))
}

/// What is said of the floor: of how many cells the noise is known, if of any.
pub fn floors(found: &Comparison) -> String {
    let general = percent(found.protocol.floor);
    let known = found.rows.iter().filter(|row| row.noise.is_some()).count();
    if known == 0 {
        return format!("floor {general}");
    }
    let of = format!("{known} of {}", count(found.rows.len(), "cell"));
    if found.kind == "selftest" {
        let next = "twice that is the floor of later comparisons, if it is larger";
        return format!("floor {general}; noise: 95 % of |log ratio|, of {of}; {next}");
    }
    format!("floor {general}, or twice the noise that selftest found, known of {of}")
}

/// What the reason means, in one sentence.
pub fn sentence(row: &ComparedRow) -> String {
    let floor = floor(row);
    let general = match row.reason {
        None => row.status.name().to_string(),
        Some(Reason::Evidence) => format!("the whole interval lies beyond {floor}"),
        Some(Reason::Confirmed) => "found again by this measurement".to_string(),
        Some(Reason::Equivalent) => format!("the whole interval lies within {floor}"),
        Some(Reason::Identical) => "the same shader and constants".to_string(),
        Some(Reason::Straddles) => {
            format!("the interval lies neither beyond nor within {floor}")
        }
        Some(Reason::TooFew) => "fewer than 40 pairs with a time on both sides".to_string(),
        Some(Reason::Clock) => match row.ratio.as_ref().and_then(|ratio| ratio.normalised) {
            Some(ratio) => {
                format!("another verdict at an even clock: {} there", change(ratio))
            }
            None => "another verdict at an even clock".to_string(),
        },
        Some(Reason::Control) => "the control arm alarms too often in this run".to_string(),
        Some(Reason::Unconfirmed) => "SLOWER before, not again now".to_string(),
        Some(Reason::Environment) => "the two sides see unlike environments".to_string(),
        Some(Reason::TimerQuantised) => {
            format!("one step of the timer is more than {floor} of a sample")
        }
        Some(Reason::BaseWrong) => "the base gives no right answer to compare with".to_string(),
        Some(Reason::Interrupted) => "interrupted before it was decided".to_string(),
        Some(Reason::Failed) => match row.status {
            Status::Wrong => "the head is wrong".to_string(),
            _ => "the head fails".to_string(),
        },
        Some(Reason::OneSided) => match row.verdict {
            Some(Verdict::New) => "not in the base".to_string(),
            _ => "not in the head".to_string(),
        },
    };
    match &row.why {
        Some(why) => format!("{general}: {}", clean(why)),
        None => general,
    }
}

/// What to do about a verdict that is none, or about a wrong result.
pub fn next_step(row: &ComparedRow, command: &Command) -> Option<String> {
    let again = command.again(&row.id);
    let step = match row.reason? {
        Reason::Straddles | Reason::TooFew | Reason::Interrupted | Reason::Unconfirmed => {
            format!("again, alone: {again}")
        }
        Reason::Clock => format!("with the clock locked (see the driver's tool): {again}"),
        Reason::Control => {
            "on a quiet machine: fusebench selftest, then the same again".to_string()
        }
        Reason::Environment => "on one machine, under one driver: the same again".to_string(),
        Reason::TimerQuantised => format!("on a larger shape, or without --quick: {again}"),
        Reason::BaseWrong | Reason::Failed => format!("fusebench check '^{}$'", row.id),
        Reason::Evidence
        | Reason::Confirmed
        | Reason::Equivalent
        | Reason::Identical
        | Reason::OneSided => return None,
    };
    Some(step)
}

/// `nmse 8.1e-8 → 9.4e-8`, all of them.
pub fn accuracy(row: &ComparedRow) -> String {
    let change = |change: &crate::record::AccuracyChange| {
        format!("{} {:.1e} → {:.1e}", change.metric, change.base, change.head)
    };
    // Decibels are read as decibels.
    let decibels = |found: &crate::record::AccuracyChange| {
        format!("{} {:.2} → {:.2}", found.metric, found.base, found.head)
    };
    let parts = row.accuracy_changed.iter().map(|found| match found.metric.as_str() {
        "sqnr_db" => decibels(found),
        _ => change(found),
    });
    parts.collect::<Vec<_>>().join(", ")
}

pub fn side(record: &SideRecord) -> String {
    let commit = record.commit.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
    let hash: String = record.kernels_hash.chars().take(8).collect();
    format!("{}{commit} (shaders {hash})", record.kind)
}

/// `12 cells: 1 SLOWER, 2 UNCLEAR, 9 SAME`
pub fn totals(found: &Comparison) -> String {
    let mut parts: Vec<String> = Verdict::ALL
        .iter()
        .map(|verdict| (found.count(*verdict), verdict.name()))
        .filter(|(n, _)| *n > 0)
        .map(|(n, name)| format!("{n} {name}"))
        .collect();
    for status in [Status::Unsupported, Status::Skipped] {
        let n = found.rows.iter().filter(|r| r.verdict.is_none() && r.status == status).count();
        parts.extend((n > 0).then(|| format!("{n} {}", status.name())));
    }
    let cells = count(found.rows.len(), "cell");
    format!("{cells}: {}", if parts.is_empty() { "none ran".to_string() } else { parts.join(", ") })
}

/// What the control arm says.
pub fn control(found: &Comparison) -> Option<String> {
    let ControlRecord { n, alarms, rate, verdicts, verdict_rate, valid } =
        found.control.as_ref()?;
    let share = |[low, high]: &[f64; 2]| format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high);
    if found.protocol.inject.is_some() && found.kind == "selftest" {
        let (found, of) = (verdicts, n);
        return Some(format!("found {found} of {of} injected changes ({})", share(verdict_rate)));
    }
    let arms = format!(
        "{alarms} of {n} cells against themselves alarm at p < 0.05 ({}), {verdicts} get a \
         verdict ({})",
        share(rate),
        share(verdict_rate)
    );
    if *valid {
        return Some(arms);
    }
    let consequence = if found.kind == "selftest" {
        "more than chance explains: do not trust comparisons here until that is understood"
    } else {
        "more than chance explains: this run says nothing"
    };
    Some(format!("{arms}: {consequence}"))
}
