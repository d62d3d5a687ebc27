//! Doubts about the numbers, each told once with its next step, however many cells it touches.

use super::grid::not_reached;
use super::header::count;
use super::layout::clean;
use crate::record::{LAST_STAGE_ALONE, Row, Run};
use crate::units::{percent, plus_minus, relative_half_interval};

/// Wider than this, two runs cannot be told apart by what most changes bring.
const WIDE_INTERVAL: f64 = 0.05;
/// From here on the time says more about the driver than about the kernel.
const LAUNCH_SHARE: f64 = 0.3;
/// Probes repeat to within this; beyond it the excess is not noise.
const PEAK_TOLERANCE: f64 = 0.05;
/// Above this rank autocorrelation the clock was drifting (simulated: 75 % real coverage).
const DRIFT: f64 = 0.6;
/// Runtime checks that cost less are not worth a remark.
const CHECKS_COST: f64 = 0.05;
const NVIDIA: u32 = 0x10de;

/// A remark on some cells.
pub(super) struct Note {
    /// What stands in the rows: `a`, `b`, …; there are fewer kinds than letters.
    pub mark: String,
    pub text: String,
    /// Positions in the run.
    pub rows: Vec<usize>,
}

/// A reason to doubt a cell.
struct Doubt {
    /// How much of it a row has, `None` where it does not apply.
    of: fn(&Run, &Row) -> Option<f64>,
    /// What it is at its worst, and what to do.
    words: fn(&Run, f64) -> (String, String),
}

const DOUBTS: [Doubt; 10] = [
    Doubt { of: wide_interval, words: wide_interval_words },
    Doubt { of: |_, row| over_peak(row, true), words: far_over_peak_words },
    Doubt { of: |_, row| over_peak(row, false), words: over_peak_words },
    Doubt { of: launch_share, words: launch_share_words },
    Doubt { of: drift, words: drift_words },
    Doubt { of: other_timer, words: other_timer_words },
    Doubt { of: trusted, words: trusted_words },
    Doubt { of: cost_of_checks, words: cost_of_checks_words },
    Doubt { of: sampled, words: sampled_words },
    Doubt { of: last_stage, words: last_stage_words },
];

/// The errors of a pipeline that are those of its last stage only.
fn last_stage(_: &Run, row: &Row) -> Option<f64> {
    let against = row.accuracy.as_ref()?.against.as_deref()?;
    (against == LAST_STAGE_ALONE).then_some(1.0)
}

fn last_stage_words(_: &Run, _: f64) -> (String, String) {
    let next = "the whole chain is too long for f64; the other precisions are held to this one";
    ("errors are those of the last stage alone".to_string(), next.to_string())
}

/// What applies to this run, lettered in the order of gravity, then the notes of the measurement.
pub(super) fn notes(run: &Run) -> Vec<Note> {
    let mut notes = Vec::new();
    for doubt in &DOUBTS {
        let found: Vec<(usize, f64)> = run
            .rows
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some((index, (doubt.of)(run, row)?)))
            .collect();
        if found.is_empty() {
            continue;
        }
        let worst = found.iter().map(|(_, size)| *size).fold(f64::MIN, f64::max);
        let (head, next) = (doubt.words)(run, worst);
        let text = format!("{head} ({}): {next}", count(found.len(), "cell"));
        push(&mut notes, text, found.into_iter().map(|(index, _)| index).collect());
    }
    for (text, rows) in measured_notes(run) {
        let text = format!("{text} ({})", count(rows.len(), "cell"));
        push(&mut notes, text, rows);
    }
    notes
}

fn push(notes: &mut Vec<Note>, text: String, rows: Vec<usize>) {
    let position = u8::try_from(notes.len()).unwrap_or(u8::MAX).min(25);
    let mark = char::from(b'a' + position).to_string();
    notes.push(Note { mark, text, rows });
}

/// The marks of one row: `ac`.
pub(super) fn marks(notes: &[Note], row: usize) -> String {
    let of_row = notes.iter().filter(|note| note.rows.contains(&row));
    of_row.map(|note| note.mark.as_str()).collect()
}

/// Remarks that hold for the whole run.
pub(super) fn general(run: &Run) -> Vec<String> {
    let timer = &run.environment.timer;
    let mut lines = Vec::new();
    let missed = run.rows.iter().filter(|row| not_reached(row)).count();
    if missed > 0 {
        let missed = count(missed, "cell");
        lines.push(format!("no time left for {missed}: name fewer by FILTER, or pass --max-time"));
    }
    if !run.rows.iter().any(|row| row.time.is_some()) {
        return lines;
    }
    if timer.kind == "wall" {
        lines.push("timing by wall clock: launch cost included; see launch_overhead".to_string());
    }
    if timer.quantised {
        let text = "timer is quantised: batches lengthened; short cells stay UNCLEAR";
        lines.push(text.to_string());
    }
    lines
}

/// The notes rows carry, those that differ only in their numbers together.
fn measured_notes(run: &Run) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(String, String, Vec<usize>)> = Vec::new();
    for (index, row) in run.rows.iter().enumerate() {
        for note in row.time.iter().flat_map(|time| &time.notes).map(|note| clean(note)) {
            // What the row shows already: its interval, and the drift above.
            if ["time limit", "clock drifting"].iter().any(|told| note.starts_with(told)) {
                continue;
            }
            let number = |c: char| c.is_ascii_digit() || c == '±';
            let kind = note.split(number).next().unwrap_or("").trim_end().to_string();
            match groups.iter_mut().find(|(known, _, _)| *known == kind) {
                Some((_, _, rows)) if rows.last() == Some(&index) => {}
                Some((_, _, rows)) => rows.push(index),
                None => groups.push((kind, note, vec![index])),
            }
        }
    }
    let text = |note: String, rows: &[usize]| match rows.len() {
        1 => note,
        _ => format!("{note} and the like"),
    };
    groups.into_iter().map(|(_, note, rows)| (text(note, &rows), rows)).collect()
}

/// Half the interval as a share of the median, where that is too much.
pub(super) fn wide_interval(_: &Run, row: &Row) -> Option<f64> {
    let time = row.time.as_ref()?;
    let half = relative_half_interval(time.median, time.low, time.high);
    (half > WIDE_INTERVAL).then_some(half)
}

fn wide_interval_words(run: &Run, worst: f64) -> (String, String) {
    let device = &run.environment.device;
    let lock = match (device.emulated, device.vendor_id) {
        (true, _) => "",
        (false, NVIDIA) => "lock clocks (nvidia-smi -lgc …), ",
        _ => "lock clocks, ",
    };
    let longer = if used(run, "--max-time") { "a longer --max-time" } else { "--max-time 10" };
    let next = format!("close other programs, {lock}or pass {longer}");
    (format!("interval up to {}", plus_minus(worst)), next)
}

/// Whether the recorded command line has a flag, in either spelling.
fn used(run: &Run, flag: &str) -> bool {
    let is = |argument: &String| argument.split('=').next() == Some(flag);
    run.environment.arguments.iter().any(is)
}

fn over_peak(row: &Row, far: bool) -> Option<f64> {
    let fraction = row.rate.as_ref()?.fraction_of_peak?;
    (fraction > 1.0 && (fraction > 1.0 + PEAK_TOLERANCE) == far).then_some(fraction)
}

fn far_over_peak_words(run: &Run, worst: f64) -> (String, String) {
    let next = if run.environment.device.emulated {
        "the ceilings of a CPU driver move with what else the machine does".to_string()
    } else {
        "the byte model or the probe is wrong; please report".to_string()
    };
    (format!("over peak, up to {}", percent(worst)), next)
}

fn over_peak_words(_: &Run, worst: f64) -> (String, String) {
    let next = "within what the probe repeats to; read it as 100 %".to_string();
    (format!("over peak, up to {}", percent(worst)), next)
}

fn launch_share(_: &Run, row: &Row) -> Option<f64> {
    row.rate.as_ref()?.launch_share.filter(|share| *share > LAUNCH_SHARE)
}

fn launch_share_words(_: &Run, worst: f64) -> (String, String) {
    let next = "compare kernels on larger shapes, and fused with unfused here".to_string();
    (format!("launch overhead up to {} of the run", percent(worst)), next)
}

fn drift(_: &Run, row: &Row) -> Option<f64> {
    row.time.as_ref().map(|time| time.rank_autocorrelation).filter(|rho| *rho > DRIFT)
}

fn drift_words(_: &Run, worst: f64) -> (String, String) {
    let next = "the interval is optimistic; let the device settle and run again".to_string();
    (format!("clock drifting, ρ up to {worst:.2}"), next)
}

fn other_timer(run: &Run, row: &Row) -> Option<f64> {
    let row = row.time.as_ref()?;
    (row.timer == "wall" && run.environment.timer.kind != "wall").then_some(0.0)
}

fn other_timer_words(_: &Run, _: f64) -> (String, String) {
    let next = "its timestamps were invalid; launch cost is included".to_string();
    ("timed by wall clock".to_string(), next)
}

fn trusted(_: &Run, row: &Row) -> Option<f64> {
    (row.time.is_some() && row.checks == "trusted").then_some(0.0)
}

fn trusted_words(_: &Run, _: f64) -> (String, String) {
    let next = "a series of its own, not to be compared with safe rows".to_string();
    ("timed without runtime checks".to_string(), next)
}

/// How much longer a row takes with run-time checks than without, where that shows.
fn cost_of_checks(_: &Run, row: &Row) -> Option<f64> {
    let (safe, trusted) = (row.time.as_ref()?, row.time_trusted.as_ref()?);
    let cost = safe.median / trusted.median - 1.0;
    (cost > CHECKS_COST).then_some(cost)
}

fn cost_of_checks_words(_: &Run, worst: f64) -> (String, String) {
    let next = "--checks trusted times without them; the result file has both".to_string();
    (format!("runtime checks cost up to {}", percent(worst)), next)
}

fn sampled(_: &Run, row: &Row) -> Option<f64> {
    let accuracy = row.accuracy.as_ref()?;
    (row.time.is_some() && accuracy.verified == "sampled").then_some(0.0)
}

fn sampled_words(_: &Run, _: f64) -> (String, String) {
    ("verified on a sample".to_string(), "errors are those of the sampled output rows".to_string())
}
