//! One record per cell in SI base units, quoted as RFC 4180 has it, for spreadsheets and pandas.
//! The stages of a pipeline follow it, a record each, with its name in `stage`; that is empty
//! elsewhere.

use crate::record::{Accuracy, Rate, Row, Run, StageRecord, Time};

/// One column: its name, unit included, and its field; an empty field means "not measured".
type Field = (&'static str, fn(&Run, &Row) -> String);

const FIELDS: &[Field] = &[
    ("id", |_, row| row.id.clone()),
    ("kernel", |_, row| row.kernel.clone()),
    ("variant", |_, row| row.variant.clone()),
    ("constants", |_, row| {
        let constants = row.constants.iter().map(|(name, value)| format!("{name}={value}"));
        constants.collect::<Vec<_>>().join(" ")
    }),
    ("tuned", |_, row| row.tuned.to_string()),
    ("dtype", |_, row| row.dtype.clone()),
    ("shape", |_, row| row.id.rsplit('/').next().unwrap_or_default().to_string()),
    ("model", |_, row| row.model.clone().unwrap_or_default()),
    ("family", |_, row| row.family.clone()),
    ("preset", |_, row| row.preset.clone()),
    ("checks", |_, row| row.checks.clone()),
    ("status", |_, row| row.status.name().to_string()),
    ("reason", |_, row| row.reason.clone().unwrap_or_default()),
    ("device", |run, _| run.environment.device.name.clone()),
    ("backend", |run, _| run.environment.device.backend.clone()),
    ("driver", |run, _| run.environment.device.driver.clone()),
    ("driver_info", |run, _| run.environment.device.driver_info.clone()),
    ("emulated", |run, _| run.environment.device.emulated.to_string()),
    ("fusebench_version", |run, _| run.environment.fusebench.version.clone()),
    ("commit", |run, _| run.environment.fusebench.commit.clone()),
    ("dirty", |run, _| run.environment.fusebench.dirty.to_string()),
    ("kernels_hash", |run, _| run.environment.fusebench.kernels_hash.clone()),
    ("fingerprint", |run, _| run.environment.fingerprint.clone()),
    ("started", |run, _| run.environment.started.clone()),
    ("seed", |run, _| run.environment.seed.to_string()),
    ("timer", |_, row| time(row, |time| time.timer.clone())),
    ("median_s", |_, row| time(row, |time| number(time.median))),
    ("low_s", |_, row| time(row, |time| number(time.low))),
    ("high_s", |_, row| time(row, |time| number(time.high))),
    ("confidence", |_, row| time(row, |time| number(time.confidence))),
    ("cold_median_s", |_, row| time(row, |time| optional(time.cold_median))),
    ("wall_median_s", |_, row| time(row, |time| number(time.wall_median))),
    ("min_s", |_, row| time(row, |time| number(time.min))),
    ("samples", |_, row| time(row, |time| time.samples.len().to_string())),
    ("stopped_by", |_, row| time(row, |time| time.stopped_by.clone())),
    ("notes", |_, row| time(row, |time| time.notes.join("; "))),
    ("trusted_median_s", |_, row| {
        row.time_trusted.as_ref().map_or(String::new(), |time| number(time.median))
    }),
    ("work_flops", |_, row| number(row.work.flops)),
    ("work_bytes", |_, row| number(row.work.bytes)),
    ("flops_per_s", |_, row| rate(row, |rate| number(rate.flops_per_s))),
    ("bytes_per_s", |_, row| rate(row, |rate| number(rate.bytes_per_s))),
    ("bound_by", |_, row| rate(row, |rate| rate.bound_by.clone().unwrap_or_default())),
    ("fraction_of_peak", |_, row| rate(row, |rate| optional(rate.fraction_of_peak))),
    ("launch_share", |_, row| rate(row, |rate| optional(rate.launch_share))),
    ("compile_s", |_, row| optional(row.compile_s)),
    ("verify_s", |_, row| optional(row.verify_s)),
    ("device_bytes", |_, row| row.device_bytes.map_or(String::new(), |n| n.to_string())),
    ("passed", |_, row| accuracy(row, |accuracy| accuracy.passed.to_string())),
    ("g0_differing", |_, row| gate(row, "G0")),
    ("g1_over_allowed", |_, row| gate(row, "G1")),
    ("g1p_over_allowed", |_, row| gate(row, "G1p")),
    ("g2_over_allowed", |_, row| gate(row, "G2")),
    ("inputs", |_, row| accuracy(row, |accuracy| accuracy.inputs.clone())),
    ("max_abs", |_, row| accuracy(row, |accuracy| number(accuracy.max_abs))),
    ("rmse", |_, row| accuracy(row, |accuracy| number(accuracy.rmse))),
    ("sqnr_db", |_, row| accuracy(row, |accuracy| number(accuracy.sqnr_db))),
    ("predicted_sqnr_db", |_, row| accuracy(row, |accuracy| optional(accuracy.predicted_sqnr_db))),
    ("worst_over_bound", |_, row| accuracy(row, |accuracy| optional(accuracy.worst_over_bound))),
    ("verified", |_, row| accuracy(row, |accuracy| accuracy.verified.clone())),
    ("against", |_, row| accuracy(row, |accuracy| accuracy.against.clone().unwrap_or_default())),
    ("stage", |_, _| String::new()),
    ("stage_share", |_, _| String::new()),
];

/// What a column holds in the record of a stage: itself, or what it shares with its pipeline.
fn stage_field((name, field): Field, run: &Run, row: &Row, stage: &StageRecord) -> String {
    let part = |at: usize| stage.id.split('/').nth(at).unwrap_or_default().to_string();
    match name {
        "stage" => stage.name.clone(),
        "stage_share" => optional(stage.share),
        "kernel" => part(0),
        "variant" => part(1),
        "dtype" => part(2),
        "shape" => part(3),
        "median_s" => optional(stage.median),
        "work_flops" => number(stage.work.flops),
        "work_bytes" => number(stage.work.bytes),
        "device_bytes" => stage.device_bytes.to_string(),
        "worst_over_bound" => optional(stage.worst_over_bound),
        _ if SHARED.contains(&name) => field(run, row),
        _ => String::new(),
    }
}

/// Columns in which a stage says what its pipeline says.
const SHARED: [&str; 17] = [
    "id",
    "model",
    "family",
    "preset",
    "checks",
    "status",
    "device",
    "backend",
    "driver",
    "driver_info",
    "emulated",
    "fusebench_version",
    "commit",
    "dirty",
    "kernels_hash",
    "fingerprint",
    "started",
];

/// The whole run, a header record first.
pub fn table(run: &Run) -> String {
    let header: Vec<String> = FIELDS.iter().map(|(name, _)| (*name).to_string()).collect();
    let mut text = record(&header);
    for row in &run.rows {
        let fields: Vec<String> = FIELDS.iter().map(|(_, field)| field(run, row)).collect();
        text.push_str(&record(&fields));
        for stage in &row.stages {
            let fields: Vec<String> =
                FIELDS.iter().map(|&field| stage_field(field, run, row, stage)).collect();
            text.push_str(&record(&fields));
        }
    }
    text
}

pub(super) fn record(fields: &[String]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| quote(field)).collect();
    quoted.join(",") + "\r\n"
}

fn quote(field: &str) -> String {
    if !field.contains([',', '"', '\r', '\n']) {
        return field.to_string();
    }
    format!("\"{}\"", field.replace('"', "\"\""))
}

/// The shortest digits that read back as the same double.
fn number(value: f64) -> String {
    format!("{value:?}")
}

pub(super) fn optional(value: Option<f64>) -> String {
    value.map_or(String::new(), number)
}

fn time(row: &Row, field: fn(&Time) -> String) -> String {
    row.time.as_ref().map_or(String::new(), field)
}

fn rate(row: &Row, field: fn(&Rate) -> String) -> String {
    row.rate.as_ref().map_or(String::new(), field)
}

fn accuracy(row: &Row, field: fn(&Accuracy) -> String) -> String {
    row.accuracy.as_ref().map_or(String::new(), field)
}

fn gate(row: &Row, name: &str) -> String {
    let gates = row.accuracy.iter().flat_map(|accuracy| &accuracy.gates);
    let mut named = gates.filter(|gate| gate.gate == name);
    named.next().map_or(String::new(), |gate| number(gate.worst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::{emulated_run, gpu_run, pipeline_run};

    /// A reader of RFC 4180, written from its grammar.
    fn parse(text: &str) -> Vec<Vec<String>> {
        let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
        let (mut quoted, mut chars) = (false, text.chars().peekable());
        while let Some(c) = chars.next() {
            match (quoted, c) {
                (true, '"') if chars.peek() == Some(&'"') => {
                    field.push(c);
                    chars.next();
                }
                (_, '"') => quoted = !quoted,
                (false, ',') => record.push(std::mem::take(&mut field)),
                (false, '\r') => assert_eq!(chars.peek(), Some(&'\n')),
                (false, '\n') => {
                    record.push(std::mem::take(&mut field));
                    records.push(std::mem::take(&mut record));
                }
                _ => field.push(c),
            }
        }
        assert!(!quoted && field.is_empty() && record.is_empty(), "the last record is closed");
        records
    }

    #[test]
    fn every_field_of_every_cell_reads_back() {
        for mut run in [gpu_run(), emulated_run()] {
            let reason = "a \"quoted\" word, a comma,\r\nand a line";
            run.rows[2].reason = Some(reason.to_string());
            let records = parse(&table(&run));
            assert_eq!(records.len(), run.rows.len() + 1);
            assert!(records.iter().all(|record| record.len() == FIELDS.len()));
            let at = |name| records[0].iter().position(|title| title == name).expect("a column");
            assert_eq!(records[3][at("reason")], reason);
            for (record, row) in records[1..].iter().zip(&run.rows) {
                assert_eq!(record[at("id")], row.id);
                assert_eq!(record[at("status")], row.status.name());
                let median = row.time.as_ref().map(|time| time.median);
                assert_eq!(record[at("median_s")].parse().ok(), median);
                assert_eq!(record[at("work_flops")].parse(), Ok(row.work.flops));
            }
        }
    }

    #[test]
    fn stages_follow_their_pipeline_under_its_id() {
        let run = pipeline_run();
        let records = parse(&table(&run));
        let row = &run.rows[0];
        assert!(records.iter().all(|record| record.len() == FIELDS.len()));
        let at = |name| records[0].iter().position(|title| title == name).expect("a column");
        assert_eq!(records[1][at("stage")], "");
        for (record, stage) in records[2..].iter().zip(&row.stages) {
            assert_eq!((&record[at("id")], &record[at("stage")]), (&row.id, &stage.name));
            assert_eq!(record[at("median_s")].parse().ok(), stage.median);
            assert_eq!(record[at("work_bytes")].parse(), Ok(stage.work.bytes));
            assert!(stage.id.starts_with(&format!("{}/", record[at("kernel")])));
            assert_eq!(record[at("max_abs")], "", "the error is that of the whole");
        }
        for name in SHARED {
            assert!(FIELDS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn column_names_are_unique_and_plain() {
        for (index, (name, _)) in FIELDS.iter().enumerate() {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c)));
            assert!(FIELDS[..index].iter().all(|(other, _)| other != name), "{name} twice");
        }
    }
}
