//! The rules of consumers that no registry has, written down from their documentation and sources.
//! Each is also shown a file that breaks it.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Files, run};

type Verdict = Result<(), String>;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Bencher Metric Format, version 0: names of at most 1,024 characters, measures of at most 64,
/// `value` with optional bounds round it and nothing else.
fn is_bmf(file: &Value) -> Verdict {
    for (benchmark, measures) in file.as_object().ok_or("no object")? {
        if benchmark.is_empty() || benchmark.len() > 1_024 {
            return Err(format!("the name {benchmark}"));
        }
        for (measure, metric) in measures.as_object().ok_or("measures are no object")? {
            let fail = |what: &str| Err(format!("{benchmark} {measure}: {what}"));
            if measure.is_empty() || measure.len() > 64 {
                return fail("the name");
            }
            let Some(metric) = metric.as_object() else { return fail("no object") };
            let known = ["value", "lower_value", "upper_value"];
            if metric.keys().any(|key| !known.contains(&key.as_str())) {
                return fail("a foreign key");
            }
            let number = |key: &str| metric.get(key).map(|value| value.as_f64().ok_or(()));
            let Some(Ok(value)) = number("value") else { return fail("no value") };
            let low = number("lower_value").unwrap_or(Ok(value));
            let high = number("upper_value").unwrap_or(Ok(value));
            match (low, high) {
                (Ok(low), Ok(high)) if low <= value && value <= high => {}
                _ => return fail("bounds"),
            }
        }
    }
    Ok(())
}

#[test]
fn bencher_takes_the_measures() {
    let files = Files::new();
    let file = parsed(&files.text("bmf", &run()));
    assert_eq!(is_bmf(&file), Ok(()));
    let row = &run().rows[0];
    let time = row.time.as_ref().expect("timed");
    let latency = file[&row.id]["latency"]["value"].as_f64().expect("a number");
    assert!((latency / time.median / 1e9 - 1.0).abs() < 1e-15, "nanoseconds");
    for (key, value) in
        [("lower_value", json!(1e300)), ("unit", json!("ns")), ("value", Value::Null)]
    {
        let mut broken = file.clone();
        broken[&row.id]["latency"][key] = value;
        assert!(is_bmf(&broken).is_err(), "{key}");
    }
}

/// github-action-benchmark's `custom…IsBetter`: a list that is not empty, of `name`, `unit` and
/// `value`, with `range` and `extra` as text. It finds earlier values by name.
fn is_gha(file: &Value) -> Verdict {
    let entries = file.as_array().filter(|entries| !entries.is_empty()).ok_or("no results")?;
    let mut names = HashSet::new();
    for entry in entries {
        let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
        let name = text("name").ok_or("no name")?;
        if !names.insert(name) {
            return Err(format!("{name} twice"));
        }
        text("unit").ok_or(format!("{name}: no unit"))?;
        entry["value"].as_f64().ok_or(format!("{name}: no value"))?;
        for key in ["range", "extra"] {
            if entry.get(key).is_some_and(|value| !value.is_string()) {
                return Err(format!("{name}: {key} is no text"));
            }
        }
    }
    Ok(())
}

#[test]
fn the_github_action_takes_both_directions() {
    let files = Files::new();
    let written = files.folder("gha", &run());
    let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fusebench.bigger.json", "fusebench.smaller.json"]);
    for (name, text) in &written {
        let file = parsed(text);
        assert_eq!(is_gha(&file), Ok(()), "{name}");
        for (key, value) in [("value", Value::Null), ("name", file[1]["name"].clone())] {
            let mut broken = file.clone();
            broken[0][key] = value;
            assert!(is_gha(&broken).is_err(), "{name}: {key}");
        }
        assert!(is_gha(&json!([])).is_err());
        let rates = file.as_array().expect("a list").iter();
        let rates = rates.filter(|entry| entry["unit"].as_str().expect("a unit").ends_with("/s"));
        let all = file.as_array().expect("a list").len();
        assert_eq!(rates.count(), if name.contains("bigger") { all } else { 0 }, "{name}");
    }
}

/// What readers of google/benchmark's JSON look at.
fn is_gbench(file: &Value) -> Verdict {
    let context = file["context"].as_object().ok_or("no context")?;
    if !context.contains_key("date") || context.get("json_schema_version") != Some(&json!(1)) {
        return Err("the context".to_owned());
    }
    for row in file["benchmarks"].as_array().ok_or("no benchmarks")? {
        let name = row["name"].as_str().ok_or("no name")?;
        let fail = |what: &str| Err(format!("{name}: {what}"));
        if row["run_name"] != row["name"] || row["run_type"] != "iteration" {
            return fail("the name or type of the run");
        }
        let whole = |key: &str| row[key].as_u64();
        let (Some(index), Some(of)) = (whole("repetition_index"), whole("repetitions")) else {
            return fail("repetitions");
        };
        if index >= of || whole("threads") != Some(1) || whole("iterations").is_none_or(|n| n == 0)
        {
            return fail("counts");
        }
        if row["time_unit"] != "ns" || !row["cpu_time"].is_f64() || !row["real_time"].is_f64() {
            return fail("times");
        }
    }
    Ok(())
}

#[test]
fn readers_of_google_benchmark_take_repetitions_and_medians() {
    let (files, run) = (Files::new(), run());
    let written = files.folder("gbench", &run);
    let timed = || run.rows.iter().filter_map(|row| row.time.as_ref());
    let trusted = || run.rows.iter().filter_map(|row| row.time_trusted.as_ref());
    let series = timed().count() + trusted().count();
    let samples: usize = timed().chain(trusted()).map(|time| time.samples.len()).sum();
    for ((name, text), count) in written.iter().zip([series, samples]) {
        let file = parsed(text);
        assert_eq!(is_gbench(&file), Ok(()), "{name}");
        assert_eq!(file["benchmarks"].as_array().expect("a list").len(), count, "{name}");
        let mut broken = file.clone();
        broken["benchmarks"][0]["repetition_index"] = json!(99_999);
        assert!(is_gbench(&broken).is_err());
    }
}
