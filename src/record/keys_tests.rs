//! Host names, user names, paths and tensor values stay out of a file because nothing has a field
//! for them. A field added to the schema has to be added here too, by someone who thought of that.

use std::collections::BTreeSet;

use serde_json::Value;

use super::comparison_fixture::comparison;
use super::fixture::gpu_run;
use super::to_json;

/// Every key a result file may hold; `*` stands for axis and limit names.
const ALLOWED: &str = "
    format_version complete environment rows
    environment.fusebench environment.device environment.host environment.timer
    environment.peaks environment.fingerprint environment.started environment.finished
    environment.arguments environment.preset environment.seed
    environment.fusebench.version environment.fusebench.commit environment.fusebench.dirty
    environment.fusebench.kernels_hash environment.fusebench.measure_version
    environment.device.name environment.device.backend environment.device.driver
    environment.device.driver_info environment.device.device_type environment.device.vendor_id
    environment.device.device_id environment.device.features environment.device.limits
    environment.device.limits.* environment.device.subgroup_size environment.device.emulated
    environment.host.os environment.host.arch environment.host.cpu environment.host.cores
    environment.host.memory_bytes
    environment.timer.kind environment.timer.resolution_s environment.timer.quantised
    environment.timer.submit_cost_s
    environment.peaks.probe environment.peaks.dtype environment.peaks.unit
    environment.peaks.value environment.peaks.bytes
    environment.peaks_omitted environment.peaks_omitted.probe environment.peaks_omitted.dtype
    environment.peaks_omitted.reason
    rows.id rows.kernel rows.variant rows.dtype rows.family rows.shape rows.shape.* rows.option
    rows.model rows.preset rows.constants rows.constants.* rows.tuned rows.checks rows.status
    rows.reason rows.work rows.time rows.rate
    rows.accuracy rows.time_trusted rows.stages rows.compile_s rows.verify_s rows.harness_s
    rows.device_bytes
    rows.stages.name rows.stages.id rows.stages.work rows.stages.work.flops
    rows.stages.work.bytes rows.stages.work.arithmetic rows.stages.median rows.stages.share
    rows.stages.device_bytes rows.stages.worst_over_bound
    rows.work.flops rows.work.bytes rows.work.arithmetic
    rows.time.unit rows.time.median rows.time.low rows.time.high rows.time.confidence
    rows.time.timer rows.time.stopped_by rows.time.samples rows.time.cold_median
    rows.time.wall_median rows.time.cold_samples rows.time.min rows.time.batch
    rows.time.n_invalid rows.time.outliers rows.time.rank_autocorrelation rows.time.canary
    rows.time.time_normalised rows.time.notes
    rows.rate.flops_per_s rows.rate.bytes_per_s rows.rate.bound_by rows.rate.fraction_of_peak
    rows.rate.launch_share rows.rate.footprint_bytes
    rows.accuracy.failed_by rows.accuracy.failed_by.rule rows.accuracy.failed_by.worst
    rows.accuracy.failed_by.inputs
    rows.accuracy.passed rows.accuracy.gates rows.accuracy.gates.gate
    rows.accuracy.gates.passed rows.accuracy.gates.worst rows.accuracy.max_abs
    rows.accuracy.rmse rows.accuracy.nmse rows.accuracy.sqnr_db rows.accuracy.predicted_sqnr_db
    rows.accuracy.cosine rows.accuracy.worst_index rows.accuracy.inputs rows.accuracy.checked
    rows.accuracy.verified rows.accuracy.against
    rows.accuracy.worst_over_bound rows.accuracy.rms_over_predicted
    rows.accuracy.converted rows.accuracy.converted.input rows.accuracy.converted.from
    rows.accuracy.converted.to rows.accuracy.converted.sqnr_db
    rows.accuracy.converted.predicted_sqnr_db rows.accuracy.report_only";

/// Every key a comparison may hold beside those of its environment.
const ALLOWED_IN_COMPARISONS: &str = "
    format_version kind complete environment base head protocol control confirms rows
    base.kind base.commit base.kernels_hash head.kind head.commit head.kernels_hash
    protocol.looks protocol.sample_s protocol.floor protocol.confidence protocol.inject
    protocol.unlike
    control.n control.alarms control.rate control.verdicts control.verdict_rate control.valid
    confirms.started confirms.strength
    rows.id rows.family rows.checks rows.status rows.verdict rows.reason rows.why rows.ratio
    rows.ratio.ratio rows.ratio.low rows.ratio.high rows.ratio.p_slower rows.ratio.p_faster
    rows.ratio.pairs rows.ratio.floor rows.ratio.normalised
    rows.base_median rows.head_median rows.injected rows.noise rows.accuracy_changed
    rows.accuracy_changed.metric rows.accuracy_changed.base rows.accuracy_changed.head
    rows.control rows.control.ratio rows.control.low rows.control.high rows.control.p_slower
    rows.control.p_faster rows.control.pairs rows.control.floor rows.control.normalised
    rows.batch rows.blocks rows.blocks.order rows.blocks.seconds";

fn collect(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    let open =
        path.ends_with(".shape") || path.ends_with(".constants") || path.ends_with(".limits");
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, keys)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            let name = if open { "*" } else { name };
            let key = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            // The same fields in both modes.
            collect(field, &key.replace("time_trusted", "time"), keys);
            keys.insert(key);
        }),
        _ => {}
    }
}

/// What a file holds beside the allow-list.
fn foreign(value: &Value) -> Vec<String> {
    foreign_to(value, ALLOWED)
}

fn foreign_to(value: &Value, allowed: &str) -> Vec<String> {
    let mut keys = BTreeSet::new();
    collect(value, "", &mut keys);
    let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
    keys.into_iter().filter(|key| !allowed.contains(key.as_str())).collect()
}

#[test]
fn a_result_file_has_no_key_outside_the_allow_list() {
    let mut file: Value = serde_json::from_str(&to_json(&gpu_run())).expect("our own JSON");
    assert_eq!(foreign(&file), [""; 0]);
    // The check itself must see a planted field.
    file["environment"]["host"]["hostname"] = Value::from("planted");
    file["rows"][0]["time"]["path"] = Value::from("planted");
    assert_eq!(foreign(&file), ["environment.host.hostname", "rows.time.path"]);
}

#[test]
fn a_comparison_has_no_key_outside_its_allow_list() {
    let environment = ALLOWED.split_whitespace().filter(|key| key.starts_with("environment"));
    let environment = environment.collect::<Vec<_>>().join(" ");
    let allowed = format!("{environment} {ALLOWED_IN_COMPARISONS}");
    let mut file: Value = serde_json::from_str(&to_json(&comparison())).expect("our own JSON");
    assert_eq!(foreign_to(&file, &allowed), [""; 0]);
    file["base"]["path"] = Value::from("planted");
    file["rows"][0]["user"] = Value::from("planted");
    assert_eq!(foreign_to(&file, &allowed), ["base.path", "rows.user"]);
}
