//! Two finished runs for other programs.

use serde_json::{Value, json};

use super::{Sessions, next_step};
use crate::compare::runs::{AccuracyFound, ComparedCell};
use crate::compare::sessions::Ratio;
use crate::compare::{Reason, Verdict};
use crate::record::{Difference, Run};

/// Everything, for programs: ratios are head over base, times seconds.
pub fn json(found: &Sessions<'_>) -> String {
    serde_json::to_string_pretty(&value(found)).expect("plain values serialise")
}

/// The same as a value, to be put into another.
pub(super) fn value(found: &Sessions<'_>) -> Value {
    let differences = |fields: &[Difference]| -> Value {
        let one =
            |one: &Difference| json!({ "field": one.field, "base": one.base, "new": one.head });
        fields.iter().map(one).collect()
    };
    let side = |run: &Run| {
        let environment = &run.environment;
        json!({
            "commit": environment.fusebench.commit,
            "dirty": environment.fusebench.dirty,
            "started": environment.started,
            "fingerprint": environment.fingerprint,
            "complete": run.complete,
        })
    };
    let mut value = json!({
        "kind": "compare",
        "interleaved": false,
        "base": side(found.base),
        "new": side(found.head),
        "unlike": {
            "device": differences(&found.unlike.device),
            "env": differences(&found.unlike.env),
        },
        "rows": found.cells.iter().map(json_row).collect::<Vec<Value>>(),
    });
    if let Some(strength) = found.confirmed {
        value["confirms"] = json!({ "strength": strength });
    }
    value
}

fn json_row(cell: &ComparedCell) -> Value {
    let mut row = json!({ "id": cell.id, "checks": cell.checks });
    let mut put = |name: &str, value: Value| row[name] = value;
    let finite = |value: f64| value.is_finite().then_some(value);
    cell.verdict.into_iter().for_each(|verdict| put("verdict", json!(verdict.name())));
    cell.reason.into_iter().for_each(|reason| put("reason", json!(reason.name())));
    cell.why.iter().for_each(|why| put("why", json!(why)));
    if cell.verdict == Some(Verdict::Unclear) {
        put("next", json!(next_step(cell)));
    }
    cell.base_s.into_iter().for_each(|seconds| put("base_median_s", json!(seconds)));
    cell.head_s.into_iter().for_each(|seconds| put("new_median_s", json!(seconds)));
    if let Some(Ratio { ratio, low, high, .. }) = cell.ratio {
        for (name, value) in [("ratio", ratio), ("low", low), ("high", high)] {
            finite(value).into_iter().for_each(|value| put(name, json!(value)));
        }
    }
    if let Some(noise) = cell.noise {
        put("floor", json!(noise.floor));
        put("session_sd", json!(noise.sd));
        put("history_runs", json!(noise.runs));
        put("single_run", json!(noise.is_single_run()));
        put("raised_by_own_noise", json!(noise.raised));
    }
    let accuracy = match &cell.accuracy {
        AccuracyFound::None => "absent",
        AccuracyFound::Incomparable => "not compared",
        AccuracyFound::Same => "same",
        AccuracyFound::Changed(_) => "changed",
    };
    put("accuracy", json!(accuracy));
    if let AccuracyFound::Changed(figures) = &cell.accuracy {
        let one = |(metric, base, head): &(&str, f64, f64)| {
            let (base, head) = (json!(base), json!(head));
            json!({ "metric": metric, "base": base, "new": head })
        };
        put("accuracy_changed", figures.iter().map(one).collect());
    }
    row
}

/// One line a cell.
pub fn csv(found: &Sessions<'_>) -> String {
    let mut text = "id,checks,verdict,reason,ratio,low,high,floor,history_runs,base_median_s,\
                    new_median_s,accuracy_changed\n"
        .to_string();
    for cell in found.cells {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value}"));
        let ratio = cell.ratio;
        let changed = match &cell.accuracy {
            AccuracyFound::Changed(figures) => {
                figures.iter().map(|figure| figure.0).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        let fields = [
            cell.id.clone(),
            cell.checks.clone(),
            cell.verdict.map_or("", Verdict::name).to_string(),
            cell.reason.map_or("", Reason::name).to_string(),
            number(ratio.map(|ratio| ratio.ratio)),
            number(ratio.map(|ratio| ratio.low)),
            number(ratio.map(|ratio| ratio.high)),
            number(cell.noise.map(|noise| noise.floor)),
            cell.noise.map_or(String::new(), |noise| noise.runs.to_string()),
            number(cell.base_s),
            number(cell.head_s),
            changed,
        ];
        // Ids, names and numbers hold neither commas nor quotes.
        text.push_str(&(fields.join(",") + "\n"));
    }
    text
}
