//! What the numbers stand for, in the same words above every form.

use super::layout::clean;
use crate::record::{Environment, Peak, Run, Status};
use crate::units::{Bytes, BytesPerSecond, FlopsPerSecond, OpsPerSecond, Seconds, significant};

/// Times of a CPU driver look like any others, so this stands above and beside them.
pub(in crate::report) const EMULATED: &str = "CPU-emulated: not comparable with GPUs";

const STATUSES: [Status; 5] =
    [Status::Ok, Status::Unsupported, Status::Skipped, Status::Wrong, Status::Error];

/// Labelled lines: adapter, driver, timer, version, seed, fingerprint, ceilings.
pub(super) fn block(run: &Run) -> Vec<(&'static str, String)> {
    let environment = &run.environment;
    let mut lines = origin(environment);
    let tuned = run.rows.iter().filter(|row| row.tuned).count();
    if tuned > 0 {
        let text = format!("{}, rivals of the winner left out", count(tuned, "cell"));
        lines.push(("tuned", text));
    }
    // Where nothing was timed, no clock was looked at.
    if run.rows.iter().any(|row| row.time.is_some()) {
        lines.insert(2, ("timer", clean(&timer(run))));
        lines.push(("peaks", peaks(&environment.peaks)));
        let omitted = environment.peaks_omitted.iter();
        lines.extend(omitted.map(|peak| {
            let text = format!("{} {}: {}", peak.probe, peak.dtype, peak.reason);
            ("no ceiling", clean(&text))
        }));
    }
    lines
}

/// The lines that say where and from what results come: adapter, driver, version, seed,
/// fingerprint.
pub(in crate::report) fn origin(environment: &Environment) -> Vec<(&'static str, String)> {
    let (device, tool) = (&environment.device, &environment.fusebench);
    let dirty = if tool.dirty { "+dirty" } else { "" };
    let driver = clean(&format!("{} {}", device.driver, device.driver_info));
    let mut lines = vec![
        ("adapter", format!("{} ({})", device.name, device_type(&device.device_type))),
        ("backend", format!("{}, driver {driver}", device.backend)),
        ("version", format!("{}, commit {}{dirty}", tool.version, tool.commit)),
        (
            "run",
            format!(
                "preset {}, seed {}, started {}",
                environment.preset, environment.seed, environment.started
            ),
        ),
        ("fingerprint", environment.fingerprint.clone()),
    ];
    for (_, text) in &mut lines {
        *text = clean(text);
    }
    lines
}

/// What must be read before any number.
pub(super) fn banners(run: &Run) -> Vec<String> {
    let mut banners = Vec::new();
    if run.environment.device.emulated {
        banners.push(EMULATED.to_string());
    }
    if !run.complete {
        banners.push(format!("incomplete: stopped after {}", count(run.rows.len(), "cell")));
    }
    banners
}

/// `10 cells: 6 ok, 1 unsupported, …`
pub(super) fn totals(run: &Run) -> String {
    let of = |status| run.rows.iter().filter(|row| row.status == status).count();
    let parts: Vec<String> = STATUSES
        .iter()
        .map(|status| (of(*status), status.name()))
        .filter(|(n, _)| *n > 0)
        .map(|(n, name)| format!("{n} {name}"))
        .collect();
    match parts.len() {
        0 => "no cells".to_string(),
        _ => format!("{}: {}", count(run.rows.len(), "cell"), parts.join(", ")),
    }
}

pub(in crate::report) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn device_type(name: &str) -> &str {
    match name {
        "DiscreteGpu" => "discrete GPU",
        "IntegratedGpu" => "integrated GPU",
        "VirtualGpu" => "virtual GPU",
        "Cpu" => "CPU",
        other => other,
    }
}

fn timer(run: &Run) -> String {
    let timer = &run.environment.timer;
    let kind = match timer.kind.as_str() {
        "gpu" => "GPU timestamps",
        "wall" => "wall clock",
        other => other,
    };
    let quantised = if timer.quantised { ", quantised" } else { "" };
    format!("{kind}, resolution {}{quantised}", Seconds(timer.resolution_s))
}

/// The ceilings that a percentage refers to; of a bandwidth curve its largest working set, which
/// no cache can hold.
fn peaks(peaks: &[Peak]) -> String {
    let size = |peak: &Peak| peak.bytes.unwrap_or(0.0);
    let largest = |peak: &&Peak| {
        let same = |other: &&Peak| other.probe == peak.probe && other.dtype == peak.dtype;
        peaks.iter().filter(same).all(|other| size(other) <= size(peak))
    };
    let parts: Vec<String> = peaks.iter().filter(largest).map(describe_peak).collect();
    if parts.is_empty() {
        return "none measured, so no percentages".to_string();
    }
    parts.join(", ")
}

fn describe_peak(peak: &Peak) -> String {
    let value = match peak.unit.as_str() {
        "bytes_per_s" => BytesPerSecond(peak.value).to_string(),
        "flops_per_s" => FlopsPerSecond(peak.value).to_string(),
        "ops_per_s" => OpsPerSecond(peak.value).to_string(),
        "s" => Seconds(peak.value).to_string(),
        unit => format!("{} {unit}", significant(peak.value)),
    };
    let probe = match peak.probe.as_str() {
        "launch_overhead" => "launch".to_string(),
        "fma" | "dot4" => format!("{} {}", peak.probe, peak.dtype),
        other => other.to_string(),
    };
    let size = peak.bytes.map_or(String::new(), |bytes| format!(" at {}", Bytes(bytes)));
    // One peak stays on one line.
    clean(&format!("{probe} {value}{size}")).replace(' ', "\u{a0}")
}
