//! Accuracy against speed: what each precision costs in error and gains in time.

use super::grid::{Grid, Group, Line, sqnr, strategy};
use super::layout::{Cell, Column, Style, clean};
use crate::record::{LAST_STAGE_ALONE, Row, Run, Status};
use crate::units::{NONE, Seconds, ratio, significant};

/// Rows of one kernel and shape, or of one strategy of a pipeline; of each precision the fastest
/// variant.
struct Rivals<'a> {
    rows: Vec<&'a Row>,
}

/// One line for each precision of a kernel that was timed at more than one, `None` where none was.
/// In a run of several kernels each shows its largest shape.
pub(super) fn grid(run: &Run) -> Option<Grid> {
    let all = rivals(run);
    let several = all.iter().any(|set| set.rows[0].kernel != all[0].rows[0].kernel);
    let mut groups: Vec<Group> = Vec::new();
    for set in &all {
        if several && !is_largest(set, &all) {
            continue;
        }
        let row = set.rows[0];
        let kernel = clean(&row.kernel);
        let shape = clean(shape_of(row));
        let lines = set.rows.iter().map(|row| line(row, set));
        let same = |group: &&mut Group| group.kernel == kernel && group.shape == shape;
        if let Some(group) = groups.iter_mut().find(same) {
            group.lines.extend(lines);
            continue;
        }
        let (model, lines) = (row.model.as_deref().map(clean), lines.collect());
        groups.push(Group { kernel, shape, model, lines });
    }
    let columns = vec![
        Column::left("variant"),
        Column::left("dtype"),
        Column::right("median"),
        Column::right("× f32"),
        Column::right("SQNR"),
        Column::right("worst element"),
        Column::left("verdict"),
    ];
    (!groups.is_empty()).then_some(Grid { columns, groups })
}

/// Stands for the SQNR of what the others are held to.
const REFERENCE: &str = "reference";

/// What stands above the lines.
pub(super) const TITLE: &str = "accuracy against speed: of each precision the fastest variant; × \
    f32: its time over that of f32; worst element: its largest absolute error";

fn rivals(run: &Run) -> Vec<Rivals<'_>> {
    let mut all: Vec<Rivals> = Vec::new();
    for row in run.rows.iter().filter(|row| row.accuracy.is_some() && comparable(row)) {
        let Some(set) = all.iter_mut().find(|set| rival(set.rows[0], row)) else {
            all.push(Rivals { rows: vec![row] });
            continue;
        };
        match set.rows.iter_mut().find(|known| known.dtype == row.dtype) {
            Some(known) if faster(row, known) => *known = row,
            Some(_) => {}
            None => set.rows.push(row),
        }
    }
    all.retain(|set| set.rows.len() > 1 && set.rows.iter().any(|row| row.time.is_some()));
    all
}

/// A wrong kernel has no time and is shown for that.
fn comparable(row: &Row) -> bool {
    row.time.is_some() || row.status == Status::Wrong
}

/// Strategies of a pipeline answer different questions; variants of a kernel the same one.
fn rival(a: &Row, b: &Row) -> bool {
    let pipeline = a.family == "pipeline";
    a.kernel == b.kernel && shape_of(a) == shape_of(b) && (!pipeline || a.variant == b.variant)
}

fn shape_of(row: &Row) -> &str {
    row.id.rsplit('/').next().unwrap_or_default()
}

fn faster(a: &Row, b: &Row) -> bool {
    let median = |row: &Row| row.time.as_ref().map_or(f64::INFINITY, |time| time.median);
    median(a) < median(b)
}

fn is_largest(set: &Rivals, all: &[Rivals]) -> bool {
    let size = |set: &Rivals| set.rows[0].work.flops + set.rows[0].work.bytes;
    let others = all.iter().filter(|other| other.rows[0].kernel == set.rows[0].kernel);
    let largest = others.max_by(|a, b| size(a).total_cmp(&size(b)));
    largest.is_none_or(|largest| shape_of(largest.rows[0]) == shape_of(set.rows[0]))
}

fn line(row: &Row, set: &Rivals) -> Line {
    let full = set.rows.iter().find(|row| row.dtype == "f32");
    let full = full.and_then(|row| Some(row.time.as_ref()?.median));
    let median = row.time.as_ref().map(|time| time.median);
    let times = median.zip(full).map(|(median, full)| ratio(median / full));
    let accuracy = row.accuracy.as_ref().expect("only judged rows are compared");
    let words = |text: Option<String>| Cell::new(text.unwrap_or(NONE.to_string()));
    let (verdict, style) = verdict(row, set);
    let cells = vec![
        Cell::new(strategy(row)),
        Cell::new(clean(&row.dtype)),
        words(median.map(|median| Seconds(median).to_string())),
        words(times),
        Cell::new(if is_reference(row) { REFERENCE.to_string() } else { sqnr(accuracy) }),
        words((!is_reference(row)).then(|| significant(accuracy.max_abs))),
        Cell::styled(verdict, style),
    ];
    Line { cells, words: None, stages: Vec::new() }
}

/// Whether the others are held to this one: an f32 chain that is too large for one in f64.
fn is_reference(row: &Row) -> bool {
    let against = row.accuracy.as_ref().and_then(|accuracy| accuracy.against.as_deref());
    row.dtype == "f32" && against == Some(LAST_STAGE_ALONE)
}

/// Signal over error, infinite where there is no error.
fn exactness(row: &Row) -> f64 {
    row.accuracy.as_ref().map_or(f64::NEG_INFINITY, |accuracy| {
        if accuracy.nmse == 0.0 || is_reference(row) { f64::INFINITY } else { accuracy.sqnr_db }
    })
}

/// Where the precision stands: a rival that is more exact and not measurably slower leaves no
/// reason for it.
fn verdict(row: &Row, set: &Rivals) -> (String, Style) {
    let Some(time) = row.time.as_ref() else {
        return (Status::Wrong.name().to_string(), Style::Bad);
    };
    let timed = || set.rows.iter().filter_map(|row| Some((*row, row.time.as_ref()?)));
    let better = timed().filter(|(other, others)| {
        let (own, theirs) = (exactness(row), exactness(other));
        theirs > own && others.low <= time.high || theirs == own && others.high < time.low
    });
    if let Some((other, _)) = better.max_by(|a, b| exactness(a.0).total_cmp(&exactness(b.0))) {
        return (format!("no gain over {}", clean(&other.dtype)), Style::Dim);
    }
    let most_exact = timed().all(|(other, _)| exactness(other) <= exactness(row));
    let fastest = timed().all(|(_, others)| time.median <= others.median);
    let words = match (most_exact, fastest) {
        (true, true) => "most exact and fastest",
        (true, false) => "most exact",
        (false, true) => "fastest",
        (false, false) => "between",
    };
    (words.to_string(), Style::Good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::{gpu_run, row, timed};

    /// Median in seconds (± 1 %) and SQNR in dB.
    fn cell(variant: &str, dtype: &str, median: f64, sqnr_db: f64) -> Row {
        let row = row("film", variant, dtype, &[("r", 7)], "fuse");
        let mut row = timed(row, [median, 0.99 * median, 1.01 * median], "memory", 0.5);
        let accuracy = row.accuracy.as_mut().expect("timed rows are judged");
        (accuracy.sqnr_db, accuracy.nmse) = (sqnr_db, 1e-9);
        row
    }

    fn verdicts(rows: Vec<Row>) -> Vec<(String, String)> {
        let run = Run { rows, ..gpu_run() };
        let lines =
            grid(&run).map_or(Vec::new(), |grid| grid.groups.into_iter().next().unwrap().lines);
        let text = |line: &Line, at: usize| line.cells[at].text.clone();
        lines.iter().map(|line| (text(line, 1), text(line, 6))).collect()
    }

    fn of(dtype: &str, verdict: &str) -> (String, String) {
        (dtype.to_string(), verdict.to_string())
    }

    #[test]
    fn a_precision_that_is_neither_faster_nor_more_exact_gains_nothing() {
        let rows = || vec![cell("a", "f32", 1e-3, 130.0), cell("a", "f16", 6e-4, 70.0)];
        assert_eq!(verdicts(rows()), [of("f32", "most exact"), of("f16", "fastest")]);
        let mut slower = rows();
        slower[1] = cell("a", "f16", 1.015e-3, 70.0);
        assert_eq!(verdicts(slower)[1], of("f16", "no gain over f32"), "intervals overlap");
        let mut four = rows();
        four.push(cell("a", "i8", 5e-4, 35.0));
        four.push(cell("a", "i4", 5.5e-4, 12.0));
        let expected = [
            of("f32", "most exact"),
            of("f16", "between"),
            of("i8", "fastest"),
            of("i4", "no gain over i8"),
        ];
        assert_eq!(verdicts(four), expected);
    }

    #[test]
    fn a_chain_too_large_for_f64_is_the_reference_of_the_others() {
        let mut rows = vec![cell("mid", "f32", 1e-3, 99.0), cell("mid", "f16", 1e-3, 110.0)];
        rows[0].accuracy.as_mut().unwrap().against = Some(LAST_STAGE_ALONE.to_string());
        let run = Run { rows, ..gpu_run() };
        let lines = &grid(&run).expect("two precisions").groups[0].lines;
        assert_eq!(lines[0].cells[4..6], [Cell::new(REFERENCE), Cell::new(NONE)]);
        assert_eq!(lines[1].cells[6].text, "no gain over f32");
    }

    #[test]
    fn only_the_fastest_variant_of_a_precision_counts_and_one_alone_is_no_trade() {
        let rows = vec![
            cell("slow", "f32", 2e-3, 130.0),
            cell("fast", "f32", 1e-3, 125.0),
            cell("slow", "f16", 3e-3, 70.0),
        ];
        let run = Run { rows, ..gpu_run() };
        let lines = &grid(&run).expect("two precisions").groups[0].lines;
        assert_eq!(lines.len(), 2);
        assert_eq!((&*lines[0].cells[0].text, &*lines[1].cells[3].text), ("fast", "3.00"));
        assert!(grid(&Run { rows: run.rows[..2].to_vec(), ..gpu_run() }).is_none());
    }
}
