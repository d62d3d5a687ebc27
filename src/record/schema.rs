//! The result file, `format_version` 1. An allow-list: host and user names, paths and tensor
//! values have no field to go into. Times are f64 seconds; readers ignore unknown fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version this build writes.
pub const FORMAT_VERSION: u32 = 1;

/// One suite run on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub format_version: u32,
    /// False while running, and for good after an interrupt.
    pub complete: bool,
    pub environment: Environment,
    pub rows: Vec<Row>,
}

/// What the numbers depend on besides the kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub fusebench: Tool,
    pub device: Device,
    pub host: Host,
    pub timer: Timer,
    pub peaks: Vec<Peak>,
    /// Ceilings that could not be measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peaks_omitted: Vec<OmittedPeak>,
    /// Two 8-digit halves, DEVICE-ENV; equal fingerprints may be compared.
    pub fingerprint: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub finished: Option<String>,
    /// The command line, every path replaced by `PATH`.
    pub arguments: Vec<String>,
    pub preset: String,
    pub seed: u32,
}

/// A ceiling that is missing, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OmittedPeak {
    pub probe: String,
    pub dtype: String,
    pub reason: String,
}

/// The program under whose name the numbers stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub version: String,
    pub commit: String,
    pub dirty: bool,
    /// Hash over every shader as run, overlays included.
    pub kernels_hash: String,
    /// Raised when sampling or timing changes what a number means.
    pub measure_version: u32,
}

/// The adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub backend: String,
    pub driver: String,
    pub driver_info: String,
    pub device_type: String,
    pub vendor_id: u32,
    pub device_id: u32,
    /// Optional features the kernels use and the adapter has.
    pub features: Vec<String>,
    /// Limits the kernels are checked against, by WebGPU name.
    pub limits: BTreeMap<String, u64>,
    pub subgroup_size: [u32; 2],
    /// True for a CPU driver: its times are not comparable with a GPU's.
    pub emulated: bool,
}

/// The machine around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub os: String,
    pub arch: String,
    pub cpu: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

/// Which clock gave `time`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    /// `gpu` (pass-boundary timestamps) or `wall`.
    pub kind: String,
    pub resolution_s: f64,
    /// Timestamps come in multiples of 65,536 ns.
    pub quantised: bool,
    /// One empty submission and the wait for it.
    pub submit_cost_s: f64,
}

/// A ceiling measured on this device in this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// `copy`, `read`, `fma`, `dot4` or `launch_overhead`.
    pub probe: String,
    pub dtype: String,
    /// `bytes_per_s`, `flops_per_s`, `ops_per_s` (integer) or `s`.
    pub unit: String,
    pub value: f64,
    /// Working set of a bandwidth probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
}

/// One cell: kernel × variant × dtype × shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `KERNEL/VARIANT/DTYPE/SHAPE`.
    pub id: String,
    pub kernel: String,
    pub variant: String,
    pub dtype: String,
    pub family: String,
    /// Axis sizes by name.
    pub shape: BTreeMap<String, u64>,
    /// The named option of the shape (activation, mask), where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<String>,
    /// The model the shape comes from, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub preset: String,
    /// Override constants that tuning gave other values than the variant's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, f64>,
    /// The strategy was chosen by tuning, and the others were left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tuned: bool,
    /// `safe` (wgpu's runtime checks on) or `trusted`.
    pub checks: String,
    pub status: Status,
    /// Why the status is not `ok`.
    pub reason: Option<String>,
    pub work: Work,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// The same without wgpu's run-time checks, in a row whose `checks` are `safe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_trusted: Option<Time>,
    /// What each stage of a pipeline does and costs, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageRecord>,
    /// Building the pipelines, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_s: Option<f64>,
    /// Holding the outputs to the reference, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_s: Option<f64>,
    /// Seconds that were neither the device's nor spent on verification: drawing and uploading
    /// data, compiling, statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harness_s: Option<f64>,
    /// Bytes of device memory the cell's buffers take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
}

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Unsupported,
    Skipped,
    Wrong,
    Error,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Unsupported => "unsupported",
            Status::Skipped => "skipped",
            Status::Wrong => "wrong",
            Status::Error => "error",
        }
    }
}

/// Compulsory operations and traffic of one run of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Floating-point operations, or integer ones where the arithmetic is `i8`.
    pub flops: f64,
    pub bytes: f64,
    /// Whose peak applies: `f32`, `f16acc` or `i8`.
    #[serde(default)]
    pub arithmetic: String,
}

/// Seconds per run of the kernel, data in cache unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Always `s`.
    pub unit: String,
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    /// `gpu` or `wall`, for this row.
    pub timer: String,
    pub stopped_by: String,
    pub samples: Vec<f64>,
    pub cold_median: Option<f64>,
    pub wall_median: f64,
    pub cold_samples: Vec<f64>,
    pub min: f64,
    /// Dispatches between one pair of timestamps.
    pub batch: u32,
    pub n_invalid: u32,
    /// Samples beyond the 1.5 and the 3 IQR fences.
    pub outliers: [u32; 2],
    pub rank_autocorrelation: f64,
    /// Clock checks: sample position and seconds.
    pub canary: Vec<(u32, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_normalised: Option<f64>,
    pub notes: Vec<String>,
}

/// The time against the measured ceilings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    pub flops_per_s: f64,
    pub bytes_per_s: f64,
    /// `memory`, `compute` or `launch`; absent with the fraction when a ceiling is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_by: Option<String>,
    /// Ideal time over median, not clamped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction_of_peak: Option<f64>,
    /// Share of the time that an empty dispatch takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_share: Option<f64>,
    pub footprint_bytes: f64,
}

/// The result against the CPU reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    pub passed: bool,
    /// The first rule that the result breaks; `reason` of the row says it in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by: Option<FailedBy>,
    /// Per gate the worst over all distributions checked.
    pub gates: Vec<GateRecord>,
    pub max_abs: f64,
    pub rmse: f64,
    pub nmse: f64,
    pub sqnr_db: f64,
    pub predicted_sqnr_db: Option<f64>,
    pub cosine: f64,
    pub worst_index: u64,
    /// Distribution the error figures belong to.
    pub inputs: String,
    /// Distributions the gates were applied to.
    pub checked: Vec<String>,
    /// `all` or `sampled` output rows.
    pub verified: String,
    /// What the error figures are against, where it is not the kernel's own arithmetic in f64:
    /// `full precision`, `f64 end to end`, `f32 on this device, end to end`, or `f64, last stage
    /// alone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Largest error over its worst-case bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_over_bound: Option<f64>,
    /// RMS error over the predicted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rms_over_predicted: Option<f64>,
    /// What it cost to bring the user's tensors to the type of the cell; no part of the errors
    /// above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub converted: Vec<ConvertedInput>,
    /// Gates did not decide, because some value of the user is not finite.
    #[serde(default, skip_serializing_if = "is_false")]
    pub report_only: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// One tensor of the user on its way into the cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvertedInput {
    /// What the kernel calls it.
    pub input: String,
    /// Type of the elements in the file: `f64`, `i8`.
    pub from: String,
    /// Type in the cell, before any compression.
    pub to: String,
    /// Signal over conversion error in dB; absent where nothing was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqnr_db: Option<f64>,
    /// What evenly spread roundings would cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_sqnr_db: Option<f64>,
}

/// What `against` says of a pipeline of which only the last stage could be held to a reference.
pub const LAST_STAGE_ALONE: &str = "f64, last stage alone";

/// What a wrong result broke, and on what data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedBy {
    /// A gate, `guard band` (written past the end) or `never written` (or not finite).
    pub rule: String,
    /// Observed over allowed, for G0 the number of differing elements; absent where the rule has
    /// no measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<f64>,
    /// The input distribution.
    pub inputs: String,
}

/// One stage of a pipeline, run by itself on the data it has in the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    pub name: String,
    /// `KERNEL/VARIANT/DTYPE/SHAPE`.
    pub id: String,
    pub work: Work,
    /// Seconds of one run; absent when it was only verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// Of the sum over the stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Bytes of device memory that no earlier stage has.
    pub device_bytes: u64,
    /// Largest error over its worst-case bound, inputs as the device had them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_over_bound: Option<f64>,
}

/// One gate: observed over allowed, above 1 fails; for G0 the number of differing elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateRecord {
    pub gate: String,
    pub passed: bool,
    pub worst: f64,
}
