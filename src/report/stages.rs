//! Where the time and the memory of a pipeline go: the lines under its row.

use super::layout::clean;
use crate::record::{Row, StageRecord};
use crate::units::{Bytes, NONE, Seconds, percent};

/// One line under the row of a pipeline.
pub(super) struct StageLine {
    pub time: String,
    /// Of the sum over the stages.
    pub share: String,
    /// Compulsory traffic.
    pub bytes: String,
    /// Stage and kernel, or what else the line is about.
    pub what: String,
}

/// Stages of a pipeline that are told one by one.
const STAGES_TOLD: usize = 4;

/// The stages that take longest, what the others take together, and the memory of all of them;
/// nothing for a row that is no pipeline or was not timed.
pub(super) fn lines(row: &Row) -> Vec<StageLine> {
    let mut timed: Vec<(f64, f64, &StageRecord)> =
        row.stages.iter().filter_map(|stage| Some((stage.share?, stage.median?, stage))).collect();
    timed.sort_by(|a, b| b.0.total_cmp(&a.0));
    let tell = |&(share, median, stage): &(f64, f64, &StageRecord)| {
        let kernel = stage.id.rsplit_once('/').map_or(stage.id.as_str(), |(kernel, _)| kernel);
        let what = format!("{}, {}", clean(&stage.name), clean(kernel));
        line(median, share, stage.work.bytes, what)
    };
    let mut lines: Vec<StageLine> = timed.iter().take(STAGES_TOLD).map(tell).collect();
    let others = &timed[timed.len().min(STAGES_TOLD)..];
    if !others.is_empty() {
        let sum = |of: fn(&(f64, f64, &StageRecord)) -> f64| others.iter().map(of).sum();
        let what = format!("{} other stages", others.len());
        lines.push(line(sum(|o| o.1), sum(|o| o.0), sum(|o| o.2.work.bytes), what));
    }
    if let (false, Some(bytes)) = (timed.is_empty(), row.device_bytes) {
        let (time, share) = (NONE.to_string(), NONE.to_string());
        let what = "peak GPU memory: the buffers of all stages at once".to_string();
        lines.push(StageLine { time, share, bytes: Bytes(bytes as f64).to_string(), what });
    }
    lines
}

fn line(median: f64, share: f64, bytes: f64, what: String) -> StageLine {
    let (time, share) = (Seconds(median).to_string(), percent(share));
    StageLine { time, share, bytes: Bytes(bytes).to_string(), what }
}
