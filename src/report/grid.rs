//! Rows as columns of words: what the terminal and Markdown forms share.

use super::layout::{Align, Cell, Column, Style, clean};
use super::notes::{Note, marks, wide_interval};
use super::stages::{self, StageLine};
use crate::record::{Accuracy, Rate, Row, Run, Status, Time, Work};
use crate::units::{
    BytesPerSecond, FlopsPerSecond, NONE, OpsPerSecond, Seconds, fraction_of_peak, percent,
    plus_minus, ratio, relative_half_interval,
};

/// Cards balance arithmetic and traffic near this many operations per byte (H200: 13.9, A100: 12.5
/// in f32); it only chooses which rate to show where no ceiling was measured.
const BALANCE_FLOP_PER_BYTE: f64 = 10.0;

/// A whole run as text.
pub(super) struct Grid {
    pub columns: Vec<Column>,
    pub groups: Vec<Group>,
}

/// The cells of one kernel and shape.
pub(super) struct Group {
    pub kernel: String,
    pub shape: String,
    pub model: Option<String>,
    pub lines: Vec<Line>,
}

/// One variant at one dtype.
pub(super) struct Line {
    /// Variant and dtype, then one cell per further column, or none.
    pub cells: Vec<Cell>,
    /// What became of a cell that has no numbers, or why its numbers are wrong.
    pub words: Option<Cell>,
    /// Where the time of a pipeline goes, a line each.
    pub stages: Vec<StageLine>,
}

/// How the reason of a row begins that the time of the run did not suffice for.
const RUN_BUDGET: &str = "run budget:";

/// How a grid fills the columns after variant and dtype.
type Fill = fn(&Run, &Row) -> Option<Vec<Cell>>;

/// Times, rates and errors.
pub(super) fn times(run: &Run, notes: &[Note]) -> Grid {
    let columns = vec![
        Column::right("median"),
        Column::right("±"),
        Column::right("cold").expendable(2),
        Column::right("rate").expendable(1),
        Column::left("of peak"),
        Column::right("SQNR"),
        Column::right("bound").expendable(3),
        Column::left(""),
    ];
    build(run, columns, time_cells, notes)
}

/// Gates and errors.
pub(super) fn checks(run: &Run) -> Grid {
    let columns = vec![
        Column::right("G0"),
        Column::right("G1"),
        Column::right("G1p"),
        Column::right("G2"),
        Column::right("SQNR"),
        Column::right("predicted").expendable(1),
        Column::left("verified"),
        Column::left("verdict"),
    ];
    build(run, columns, check_cells, &[])
}

/// Whether the run was over before this cell's turn.
pub(super) fn not_reached(row: &Row) -> bool {
    let over = |reason: &String| reason.starts_with(RUN_BUDGET) && reason.contains("used up");
    row.status == Status::Skipped && row.reason.as_ref().is_some_and(over)
}

/// The strategy, with the constants that tuning gave it: `thread WG=16`.
pub(super) fn strategy(row: &Row) -> String {
    let constants = row.constants.iter().map(|(name, value)| format!(" {name}={value}"));
    clean(&format!("{}{}", row.variant, constants.collect::<String>()))
}

fn build(run: &Run, columns: Vec<Column>, fill: Fill, notes: &[Note]) -> Grid {
    let mut groups: Vec<Group> = Vec::new();
    // Rows that no time was left for are counted, not listed.
    let reached = run.rows.iter().enumerate().filter(|(_, row)| !not_reached(row));
    for (index, row) in reached {
        let shape = clean(row.id.rsplit('/').next().unwrap_or_default());
        let kernel = clean(&row.kernel);
        let mut cells = vec![Cell::new(strategy(row)), Cell::new(clean(&row.dtype))];
        if let Some(filled) = fill(run, row) {
            cells.extend(filled);
            cells.push(Cell::styled(marks(notes, index), Style::Warn));
            // The checks have a column for each of their words and no room for marks.
            cells.truncate(columns.len() + 2);
        }
        let judged = cells.len() > 2 && row.status == Status::Wrong;
        let words = if judged { outcome_after(row) } else { outcome(row) };
        let line = Line { cells, words, stages: stages::lines(row) };
        let same = |group: &&mut Group| group.kernel == kernel && group.shape == shape;
        if let Some(group) = groups.iter_mut().find(same) {
            group.lines.push(line);
            continue;
        }
        groups.push(Group {
            kernel,
            shape,
            model: row.model.as_deref().map(clean),
            lines: vec![line],
        });
    }
    let mut all = vec![Column::left("variant"), Column::left("dtype")];
    all.extend(columns);
    Grid { columns: all, groups }
}

/// `unsupported (needs shader-f16)`, `wrong: G1 …`; nothing for a cell that is fine.
fn outcome(row: &Row) -> Option<Cell> {
    let style = match row.status {
        Status::Ok => return None,
        Status::Unsupported | Status::Skipped => Style::Dim,
        Status::Wrong | Status::Error => Style::Bad,
    };
    let name = row.status.name();
    let reason = clean(row.reason.as_deref().unwrap_or("no reason was recorded"));
    let reason = reason.strip_prefix(&format!("{name}: ")).unwrap_or(&reason);
    let text = match row.status {
        Status::Unsupported => format!("{name} ({reason})"),
        _ => format!("{name}: {reason}"),
    };
    Some(Cell::styled(text, style))
}

/// The same beside a verdict that already says `wrong`.
fn outcome_after(row: &Row) -> Option<Cell> {
    row.reason.as_ref().map(|reason| Cell::styled(clean(reason), Style::Bad))
}

fn time_cells(run: &Run, row: &Row) -> Option<Vec<Cell>> {
    let time = row.time.as_ref()?;
    let rate = row.rate.as_ref();
    let accuracy = row.accuracy.as_ref();
    let noisy = wide_interval(run, row).is_some();
    let interval_style = if noisy { Style::Warn } else { Style::Dim };
    Some(vec![
        Cell::styled(Seconds(time.median).to_string(), Style::Bold),
        Cell::styled(interval(time), interval_style),
        Cell::new(time.cold_median.map_or(NONE.to_string(), |cold| Seconds(cold).to_string())),
        Cell::new(rate.map_or(NONE.to_string(), |rate| rate_words(rate, &row.work))),
        rate.map_or(Cell::new(NONE), share_of_peak),
        Cell::new(accuracy.map_or(NONE.to_string(), sqnr)),
        Cell::new(accuracy.map_or(NONE.to_string(), over_bound)),
    ])
}

fn interval(time: &Time) -> String {
    plus_minus(relative_half_interval(time.median, time.low, time.high))
}

/// The rate that the binding resource limits.
fn rate_words(rate: &Rate, work: &Work) -> String {
    let arithmetic = match rate.bound_by.as_deref() {
        Some("memory") => false,
        Some("compute") => true,
        _ => work.flops > BALANCE_FLOP_PER_BYTE * work.bytes,
    };
    match (arithmetic, work.arithmetic.as_str()) {
        (true, "i8") => OpsPerSecond(rate.flops_per_s).to_string(),
        (true, _) => FlopsPerSecond(rate.flops_per_s).to_string(),
        (false, _) => BytesPerSecond(rate.bytes_per_s).to_string(),
    }
}

/// ` 83 % memory`, aligned at the sign; `104 % over peak` where something must be wrong.
fn share_of_peak(rate: &Rate) -> Cell {
    let Some(fraction) = rate.fraction_of_peak else { return Cell::new(NONE) };
    let bound_by = clean(rate.bound_by.as_deref().unwrap_or_default());
    if fraction > 1.0 {
        return Cell::styled(format!("{:>7}", fraction_of_peak(fraction)), Style::Warn);
    }
    Cell::new(format!("{:>5} {bound_by}", percent(fraction)).trim_end().to_string())
}

pub(super) fn sqnr(accuracy: &Accuracy) -> String {
    if accuracy.nmse == 0.0 { "exact".to_string() } else { format!("{:.0} dB", accuracy.sqnr_db) }
}

fn over_bound(accuracy: &Accuracy) -> String {
    accuracy.worst_over_bound.map_or(NONE.to_string(), ratio)
}

fn check_cells(_: &Run, row: &Row) -> Option<Vec<Cell>> {
    let accuracy = row.accuracy.as_ref()?;
    let mut cells: Vec<Cell> =
        ["G0", "G1", "G1p", "G2"].into_iter().map(|name| gate(accuracy, name)).collect();
    let predicted = accuracy.predicted_sqnr_db;
    let verdict = match (accuracy.passed, accuracy.report_only) {
        (true, _) => ("pass", Style::Good),
        (false, true) => ("report", Style::Warn),
        (false, false) => (Status::Wrong.name(), Style::Bad),
    };
    cells.extend([
        Cell::new(sqnr(accuracy)),
        Cell::new(predicted.map_or(NONE.to_string(), |db| format!("{db:.0} dB"))),
        Cell::new(clean(&accuracy.verified)),
        Cell::styled(verdict.0, verdict.1),
    ]);
    Some(cells)
}

/// Observed over allowed, with a sign on the gates that failed.
fn gate(accuracy: &Accuracy, name: &str) -> Cell {
    let Some(gate) = accuracy.gates.iter().find(|gate| gate.gate == name) else {
        return Cell::styled(NONE, Style::Dim);
    };
    // G0 counts differing elements; the others are ratios.
    let counted = name == "G0" && gate.worst < 1e9;
    let worst = if counted { format!("{:.0}", gate.worst) } else { ratio(gate.worst) };
    match gate.passed {
        true => Cell::new(worst),
        false => Cell::styled(format!("✗ {worst}"), Style::Bad),
    }
}

/// Right-aligned numbers stay right-aligned in Markdown.
pub(super) fn is_right(column: &Column) -> bool {
    column.align == Align::Right
}
