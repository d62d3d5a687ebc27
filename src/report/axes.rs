//! How the error of a pipeline depends on the axes that are no sizes: how much larger one modality
//! is than the others (`r`), with and without standardising, and which are present (`p`).

use std::collections::BTreeMap;

use super::grid::{Grid, Group, Line, sqnr};
use super::layout::{Cell, Column, clean};
use crate::record::{Row, Run};
use crate::units::NONE;

/// Those axes.
const AXES: [&str; 2] = ["r", "p"];
/// The columns: precision, and whether standardising is left out.
const COLUMNS: [(&str, &str, bool); 8] = [
    ("f32", "f32", false),
    ("f16", "f16", false),
    ("i8", "i8", false),
    ("i4", "i4", false),
    ("f32 raw", "f32", true),
    ("f16 raw", "f16", true),
    ("i8 raw", "i8", true),
    ("i4 raw", "i4", true),
];

/// By axis and value, what the columns hold.
type Values<'a> = BTreeMap<(&'a str, u64), Vec<Cell>>;

/// What stands above the lines.
pub(super) const TITLE: &str = "SQNR end to end: one modality 2^r times as large as the others, \
    with and (raw) without standardising it; p: presence bits of the modalities";

/// One line for each value of such an axis, `None` where no pipeline has two.
pub(super) fn grid(run: &Run) -> Option<Grid> {
    // By pipeline, strategy and sizes.
    let mut sets: BTreeMap<(String, String), Values> = BTreeMap::new();
    for row in run.rows.iter().filter(|row| is_point(row)) {
        let Some((axis, value)) = axis_of(row) else { continue };
        let raw = row.option.as_deref() == Some("raw");
        let column = COLUMNS.iter().position(|&(_, d, r)| d == row.dtype && r == raw);
        let (Some(column), Some(accuracy)) = (column, &row.accuracy) else { continue };
        let name =
            (format!("{}/{}", clean(&row.kernel), clean(&row.variant)), sizes(row, (axis, value)));
        let blank = || vec![Cell::new(NONE); COLUMNS.len()];
        let cells = sets.entry(name).or_default().entry((axis, value)).or_insert_with(blank);
        cells[column] = Cell::new(sqnr(accuracy));
    }
    sets.retain(|_, values| values.len() > 1);
    if sets.is_empty() {
        return None;
    }
    let used = |column: &usize| {
        let mut all = sets.values().flat_map(BTreeMap::values);
        all.any(|cells| cells[*column].text != NONE)
    };
    let used: Vec<usize> = (0..COLUMNS.len()).filter(used).collect();
    let line = |(&(axis, value), cells): (&(&str, u64), &Vec<Cell>)| {
        let label = if axis == "r" { format!("2^{value}") } else { format!("{axis}{value}") };
        let cells = used.iter().map(|&column| cells[column].clone());
        let cells = std::iter::once(Cell::new(label)).chain(cells).collect();
        Line { cells, words: None, stages: Vec::new() }
    };
    let groups = sets.iter().map(|((kernel, shape), values)| Group {
        kernel: kernel.clone(),
        shape: shape.clone(),
        model: None,
        lines: values.iter().map(line).collect(),
    });
    let groups = groups.collect();
    let mut columns = vec![Column::left("axis")];
    columns.extend(used.iter().map(|&column| Column::right(COLUMNS[column].0)));
    Some(Grid { columns, groups })
}

/// Whether the row belongs into that table.
pub(super) fn is_point(row: &Row) -> bool {
    row.family == "pipeline" && axis_of(row).is_some()
}

fn axis_of(row: &Row) -> Option<(&'static str, u64)> {
    AXES.into_iter().find_map(|axis| Some((axis, *row.shape.get(axis)?)))
}

/// The shape without those axes, which stand at its end.
fn sizes(row: &Row, (axis, value): (&str, u64)) -> String {
    let shape = row.id.rsplit('/').next().unwrap_or_default();
    let shape = shape.strip_suffix("_raw").unwrap_or(shape);
    clean(shape.strip_suffix(&format!("{axis}{value}")).unwrap_or(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::{gpu_run, row, timed};

    fn cell(dtype: &str, axis: (&str, u64), raw: bool, sqnr_db: f64) -> Row {
        let row = row("pipeline_a", "mid", dtype, &[("b", 2), axis], "pipeline");
        let mut row = timed(row, [1.0, 0.9, 1.1], "memory", 0.5);
        row.option = raw.then(|| "raw".to_string());
        row.id.push_str(if raw { "_raw" } else { "" });
        row.accuracy.as_mut().expect("timed rows are judged").sqnr_db = sqnr_db;
        row
    }

    #[test]
    fn a_ratio_shows_its_precisions_with_and_without_standardising_in_one_line() {
        let rows = vec![
            cell("f32", ("r", 0), false, 120.0),
            cell("i8", ("r", 0), false, 40.0),
            cell("i8", ("r", 0), true, 41.0),
            cell("i8", ("r", 12), true, 11.0),
            cell("i8", ("r", 12), false, 39.0),
            cell("i8", ("p", 5), false, 38.0),
        ];
        let grid = grid(&Run { rows, ..gpu_run() }).expect("two ratios");
        let titles: Vec<&str> = grid.columns.iter().map(|column| column.title).collect();
        assert_eq!(titles, ["axis", "f32", "i8", "i8 raw"]);
        let text = |line: &Line| {
            line.cells.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>().join(" | ")
        };
        let [group] = &grid.groups[..] else { panic!("one pipeline under one strategy") };
        assert_eq!((&*group.kernel, &*group.shape), ("pipeline_a/mid", "b2"));
        let lines: Vec<String> = group.lines.iter().map(text).collect();
        let expected =
            ["p5 | – | 38 dB | –", "2^0 | 120 dB | 40 dB | 41 dB", "2^12 | – | 39 dB | 11 dB"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn runs_without_such_axes_have_no_such_table() {
        // The `r` of layer norm is its rows.
        assert!(grid(&gpu_run()).is_none() && !gpu_run().rows.iter().any(is_point));
        let one = vec![cell("f32", ("r", 0), false, 120.0)];
        assert!(grid(&Run { rows: one, ..gpu_run() }).is_none());
    }
}
