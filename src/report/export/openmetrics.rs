//! OpenMetrics 1.0 text. For a gateway or a dashboard: Prometheus is no store for runs that end,
//! and the commit is no label, because each would start a new series.

use std::fmt::Write as _;

use super::series::{self, Series};
use crate::record::{Run, Status};

const STATUSES: [Status; 5] =
    [Status::Ok, Status::Unsupported, Status::Skipped, Status::Wrong, Status::Error];

/// A family of gauges: its name, which ends with the unit, the unit, what it is, and its value.
type Gauge = (&'static str, &'static str, &'static str, fn(&Series<'_>) -> Option<f64>);

const GAUGES: [Gauge; 4] = [
    ("fusebench_kernel_time_seconds", "seconds", "Median device time of one dispatch.", |series| {
        Some(series.time.median)
    }),
    (
        "fusebench_kernel_operations_per_second",
        "operations_per_second",
        "Compulsory operations over the median time, integer ones for int8 arithmetic.",
        |series| per_second(series.row.work.flops, series),
    ),
    (
        "fusebench_kernel_bytes_per_second",
        "bytes_per_second",
        "Compulsory bytes over the median time.",
        |series| per_second(series.row.work.bytes, series),
    ),
    (
        "fusebench_kernel_error_ratio",
        "ratio",
        "Normalised mean square error against the reference.",
        |series| series.nmse(),
    ),
];

pub(super) fn text(run: &Run) -> String {
    let all = series::of(run);
    let mut text = String::new();
    for (name, unit, help, value) in GAUGES {
        let found: Vec<(&Series<'_>, f64)> =
            all.iter().filter_map(|series| Some((series, value(series)?))).collect();
        if found.is_empty() {
            continue;
        }
        head(&mut text, name, "gauge", unit, help);
        for (series, value) in found {
            line(&mut text, name, &labels(run, series), value, time(run));
        }
    }
    histogram(&mut text, run, &all);
    cells(&mut text, run);
    let tool = format!("version={}", quoted(&run.environment.fusebench.version));
    head(&mut text, "fusebench_build", "info", "", "The program that measured.");
    line(&mut text, "fusebench_build_info", &tool, 1.0, None);
    let device = &run.environment.device;
    let device = format!(
        "fp={},name={},backend={},driver={}",
        quoted(&run.environment.fingerprint),
        quoted(&device.name),
        quoted(&device.backend),
        quoted(&format!("{} {}", device.driver, device.driver_info))
    );
    head(&mut text, "fusebench_device", "info", "", "The device that was measured.");
    line(&mut text, "fusebench_device_info", &device, 1.0, None);
    text + "# EOF\n"
}

fn per_second(amount: f64, series: &Series<'_>) -> Option<f64> {
    Some(amount / series.time.median).filter(|rate| rate.is_finite() && *rate > 0.0)
}

fn histogram(text: &mut String, run: &Run, all: &[Series<'_>]) {
    let name = "fusebench_kernel_time_samples_seconds";
    let bounds = bounds(all);
    if bounds.is_empty() {
        return;
    }
    head(text, name, "histogram", "seconds", "Samples of the device time of one dispatch.");
    for series in all {
        let (samples, labels) = (&series.time.samples, labels(run, series));
        for (bound, written) in &bounds {
            let within = samples.iter().filter(|sample| *sample <= bound).count();
            let labels = format!("{labels},le=\"{written}\"");
            line(text, &format!("{name}_bucket"), &labels, within as f64, None);
        }
        let count = samples.len() as f64;
        line(text, &format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), count, None);
        line(text, &format!("{name}_count"), &labels, count, None);
        line(text, &format!("{name}_sum"), &labels, samples.iter().sum(), None);
    }
}

fn cells(text: &mut String, run: &Run) {
    head(text, "fusebench_cells", "gauge", "", "Cells of the run by what became of them.");
    for status in STATUSES {
        let count = run.rows.iter().filter(|row| row.status == status).count();
        let fingerprint = quoted(&run.environment.fingerprint);
        let labels = format!("status={},fp={fingerprint}", quoted(status.name()));
        line(text, "fusebench_cells", &labels, count as f64, time(run));
    }
}

/// Bounds of the buckets: 1, 2 and 5 times the powers of ten around the samples, as numbers and
/// as the parsers want them, which is how Python writes floats.
fn bounds(all: &[Series<'_>]) -> Vec<(f64, String)> {
    let samples = all.iter().flat_map(|series| series.time.samples.iter().copied());
    let (low, high) = samples
        .filter(|sample| *sample > 0.0)
        .fold((f64::MAX, 0.0_f64), |(low, high), sample| (low.min(sample), high.max(sample)));
    let mut bounds: Vec<(f64, String)> = Vec::new();
    for exponent in -12..=9 {
        for digit in [1, 2, 5] {
            let bound: f64 = format!("{digit}e{exponent}").parse().expect("a number");
            // The last bound is the first that holds every sample.
            let done = bounds.last().is_some_and(|(last, _)| *last >= high);
            if bound >= low && !done {
                let written = match exponent {
                    -12..=-5 => format!("{digit}e-{:02}", -exponent),
                    6.. => format!("{digit}e+{exponent:02}"),
                    _ => format!("{bound:?}"),
                };
                bounds.push((bound, written));
            }
        }
    }
    bounds
}

fn head(text: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
}

fn line(text: &mut String, name: &str, labels: &str, value: f64, time: Option<i64>) {
    let time = time.map_or(String::new(), |seconds| format!(" {seconds}"));
    // Counts are whole; of the rest every digit.
    let value = match value.fract() == 0.0 && value.abs() < 1e15 {
        true => format!("{value:.0}"),
        false => format!("{value:?}"),
    };
    let _ = writeln!(text, "{name}{{{labels}}} {value}{time}");
}

/// The start of the run in seconds since 1970.
fn time(run: &Run) -> Option<i64> {
    let started = run.environment.started.parse::<jiff::Timestamp>().ok()?;
    Some(started.as_second())
}

fn labels(run: &Run, series: &Series<'_>) -> String {
    let [kernel, variant, dtype, shape] = series.parts().map(quoted);
    let (checks, fingerprint) = (quoted(series.checks), quoted(&run.environment.fingerprint));
    format!(
        "kernel={kernel},variant={variant},dtype={dtype},shape={shape},checks={checks},\
         fp={fingerprint}"
    )
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
