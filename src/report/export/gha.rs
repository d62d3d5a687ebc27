//! The custom JSON of github-action-benchmark. One file has one direction, so there are two:
//! `customSmallerIsBetter` for times and errors, `customBiggerIsBetter` for rates.

use serde_json::{Value, json};

use super::series::{self, Series, nanoseconds};
use crate::record::Run;

pub(super) fn files(run: &Run) -> Vec<(String, String)> {
    let all = series::of(run);
    let smaller: Vec<Value> = all.iter().flat_map(|series| times(run, series)).collect();
    let bigger: Vec<Value> = all.iter().flat_map(rates).collect();
    // The action fails on a file without results.
    [("smaller", smaller), ("bigger", bigger)]
        .into_iter()
        .filter(|(_, entries)| !entries.is_empty())
        .map(|(name, entries)| {
            (format!("fusebench.{name}.json"), super::json(&Value::Array(entries)))
        })
        .collect()
}

fn times(run: &Run, series: &Series<'_>) -> Vec<Value> {
    let time = series.time;
    let half = nanoseconds((time.high - time.low) / 2.0);
    let (fingerprint, samples) = (&run.environment.fingerprint, time.samples.len());
    let extra = format!("fp={fingerprint}\nn={samples} median");
    let mut entries = vec![json!({
        "name": series.name,
        "unit": "ns",
        "value": nanoseconds(time.median),
        "range": format!("± {}", crate::units::significant(half)),
        "extra": extra,
    })];
    if let Some(nmse) = series.nmse().filter(|_| series.checks == series.row.checks) {
        let name = format!("{} nmse", series.name);
        entries.push(json!({ "name": name, "unit": "nmse", "value": nmse, "extra": extra }));
    }
    entries
}

fn rates(series: &Series<'_>) -> Vec<Value> {
    let named = |rate: series::Rate| {
        let name = format!("{} {}", series.name, rate.name);
        json!({ "name": name, "unit": rate.unit, "value": rate.value })
    };
    series.rates().into_iter().map(named).collect()
}
