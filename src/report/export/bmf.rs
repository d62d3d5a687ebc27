//! Bencher Metric Format: benchmark → measure → value and bounds. It has no place for the machine:
//! that is `bencher run --testbed FINGERPRINT`.

use serde_json::{Map, Value, json};

use super::series::{self, Series, nanoseconds};
use crate::record::Run;

/// `latency` in nanoseconds is built into Bencher; the other measures are ours.
pub(super) fn text(run: &Run) -> String {
    let benchmarks: Map<String, Value> =
        series::of(run).iter().map(|series| (series.name.clone(), measures(series))).collect();
    super::json(&Value::Object(benchmarks))
}

fn measures(series: &Series<'_>) -> Value {
    let time = series.time;
    let mut measures = Map::new();
    let latency = json!({
        "value": nanoseconds(time.median),
        "lower_value": nanoseconds(time.low),
        "upper_value": nanoseconds(time.high),
    });
    measures.insert("latency".to_owned(), latency);
    for rate in series.rates() {
        measures.insert(rate.name.to_owned(), json!({ "value": rate.value }));
    }
    if let Some(nmse) = series.nmse() {
        measures.insert("nmse".to_owned(), json!({ "value": nmse }));
    }
    Value::Object(measures)
}
