//! The JSON of google/benchmark. `compare.py` tests repetitions against each other; Bencher, the
//! GitHub action and Conbench take the first row of a name or the mean, so they get medians.
//!
//! Of the context only what the run knows is there: a clock rate or a load average would be made
//! up.

use serde_json::{Map, Value, json};

use super::series::{self, Series, nanoseconds};
use crate::record::Run;

pub(super) fn files(run: &Run) -> Vec<(String, String)> {
    let all = series::of(run);
    let (mut repetitions, mut medians) = (Vec::new(), Vec::new());
    for (family, series) in all.iter().enumerate() {
        let samples = &series.time.samples;
        for (index, &sample) in samples.iter().enumerate() {
            let place = Place { family, index, of: samples.len() };
            let dispatches = u64::from(series.time.batch);
            repetitions.push(benchmark(series, sample, dispatches, place));
        }
        let dispatches = u64::from(series.time.batch) * samples.len() as u64;
        let place = Place { family, index: 0, of: 1 };
        medians.push(benchmark(series, series.time.median, dispatches, place));
    }
    let named = |name: &str, benchmarks: Vec<Value>| {
        let whole = json!({ "context": context(run), "benchmarks": benchmarks });
        (format!("fusebench.{name}.json"), super::json(&whole))
    };
    vec![named("repetitions", repetitions), named("medians", medians)]
}

fn context(run: &Run) -> Value {
    let environment = &run.environment;
    json!({
        "date": environment.started,
        // There is no field for a device, and comparisons are by host.
        "host_name": environment.fingerprint,
        "executable": "fusebench",
        "num_cpus": environment.host.cores,
        "caches": [],
        "load_avg": [],
        "library_version": format!("v{}", environment.fusebench.version),
        "library_build_type": "release",
        "json_schema_version": 1,
    })
}

/// Where a benchmark stands among the others.
struct Place {
    family: usize,
    /// Of the repetition.
    index: usize,
    of: usize,
}

fn benchmark(series: &Series<'_>, seconds: f64, dispatches: u64, place: Place) -> Value {
    let (time, work) = (nanoseconds(seconds), &series.row.work);
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("name", json!(series.name));
    set("run_name", json!(series.name));
    set("run_type", json!("iteration"));
    set("family_index", json!(place.family));
    set("per_family_instance_index", json!(0));
    set("repetitions", json!(place.of));
    set("repetition_index", json!(place.index));
    set("threads", json!(1));
    set("iterations", json!(dispatches));
    set("real_time", json!(time));
    // The device's time; the host only waits.
    set("cpu_time", json!(time));
    set("time_unit", json!("ns"));
    for (name, amount) in [("bytes_per_second", work.bytes), ("flops_per_second", work.flops)] {
        let rate = amount / seconds;
        if rate.is_finite() && rate > 0.0 {
            set(name, json!(rate));
        }
    }
    if let Some(nmse) = series.nmse() {
        set("nmse", json!(nmse));
    }
    Value::Object(fields)
}
