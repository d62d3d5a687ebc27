//! What `ab` and `selftest` find: one row a cell, head against base, and what the control arm says
//! of the run. An allow-list like the result file: sides are named by kind, never by path.

use serde::{Deserialize, Serialize};

use super::schema::{Environment, Status};
use crate::compare::{Reason, Verdict};

/// One comparison on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub format_version: u32,
    /// `ab` or `selftest`.
    pub kind: String,
    /// False while running, and for good after an interrupt.
    pub complete: bool,
    /// Of the base; the head shares all of it but the program.
    pub environment: Environment,
    pub base: SideRecord,
    pub head: SideRecord,
    pub protocol: ProtocolRecord,
    /// What was measured base against base; absent until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlRecord>,
    /// What earlier comparison this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirms: Option<ConfirmRecord>,
    pub rows: Vec<ComparedRow>,
}

/// Where a side's kernels come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// `folder`, `revision`, `binary` or `builtin`.
    pub kind: String,
    /// Commit of a revision or of a binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub kernels_hash: String,
}

/// How it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProtocolRecord {
    /// Pairs at each look, and the false-discovery rate spent there.
    pub looks: Vec<(u32, f64)>,
    pub sample_s: f64,
    /// Smallest change worth a verdict, as a fraction, where no noise of the cell raises it.
    pub floor: f64,
    pub confidence: f64,
    /// Slow-down asked for with `--inject`, as a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<f64>,
    /// The environments of the two sides differ and `--allow-unlike` was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlike: Vec<String>,
}

/// The control arm of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Cells measured base against base, and those of them with p < 0.05.
    pub n: u32,
    pub alarms: u32,
    /// Wilson 95 % interval of the rate of alarms.
    pub rate: [f64; 2],
    /// Of the n, called SLOWER or FASTER.
    pub verdicts: u32,
    pub verdict_rate: [f64; 2],
    /// Whether the run may be believed.
    pub valid: bool,
}

/// The comparison whose SLOWER cells are measured again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfirmRecord {
    /// When it started, RFC 3339.
    pub started: String,
    /// What lies between the two: `process`, or `boot` where the machine was started since. Another
    /// node looks like one of these, because no file says which machine it comes from.
    pub strength: String,
}

/// One cell, head against base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparedRow {
    /// `KERNEL/VARIANT/DTYPE/SHAPE`.
    pub id: String,
    pub family: String,
    pub checks: String,
    /// Of the head, or of the base where only that did not come through.
    pub status: Status,
    /// Absent where neither side could run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The class of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The reason in words, where the class does not say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioRecord>,
    /// Median seconds of one dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_median: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_median: Option<f64>,
    /// What `--inject` came to for this cell, as a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<f64>,
    /// How far the cell is from itself, the 95th percentile of |log ratio|: what a selftest found,
    /// now or, in `ab`, before. Twice that is the least floor of its verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Error figures that are not the same on both sides, to the last bit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accuracy_changed: Vec<AccuracyChange>,
    /// Base against base, where this cell was a control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<RatioRecord>,
    /// Dispatches in a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockRecord>,
}

/// Head over base.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatioRecord {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
    /// One-sided p-values.
    pub p_slower: f64,
    pub p_faster: f64,
    pub pairs: u32,
    /// Smallest change worth a verdict, as a fraction.
    pub floor: f64,
    /// The ratio in units of the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalised: Option<f64>,
}

/// One error figure before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccuracyChange {
    pub metric: String,
    pub base: f64,
    pub head: f64,
}

/// Four samples in the order taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// `ABBA` or `BAAB`, A being the base.
    pub order: String,
    /// Seconds of a dispatch; 0 where the clock gave no time.
    pub seconds: [f64; 4],
}

impl Comparison {
    /// Rows with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == Some(verdict)).count()
    }
}
