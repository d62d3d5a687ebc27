//! Two finished runs, cell by cell.

use std::collections::HashMap;

use super::sessions::{self, Ratio, SessionNoise};
use super::verdict::{Reason, Verdict};
use crate::record::{Accuracy, Row, Run, Status, Time, Unlike};

/// Whether the error figures of a cell can be compared, and how they differ.
#[derive(Clone, Debug, PartialEq)]
pub enum AccuracyFound {
    /// One side has none.
    None,
    /// Other data, or only a sample of the rows was looked at.
    Incomparable,
    /// To the last bit.
    Same,
    /// Figures that differ: name, base and head.
    Changed(Vec<(&'static str, f64, f64)>),
}

/// One cell, head against base.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedCell {
    /// `KERNEL/VARIANT/DTYPE/SHAPE`.
    pub id: String,
    /// `safe` or `trusted`.
    pub checks: String,
    /// `None` where neither side has a time, and between unlike devices.
    pub verdict: Option<Verdict>,
    pub reason: Option<Reason>,
    /// Where the class of the reason does not say it all.
    pub why: Option<String>,
    /// Median seconds.
    pub base_s: Option<f64>,
    pub head_s: Option<f64>,
    pub ratio: Option<Ratio>,
    /// What the ratio was held against.
    pub noise: Option<SessionNoise>,
    pub accuracy: AccuracyFound,
}

/// One side of a cell: the row, and its time in one mode of checks.
#[derive(Clone, Copy)]
struct Side<'a> {
    row: &'a Row,
    time: Option<&'a Time>,
    quantised: bool,
}

/// Step of timestamps that are called quantised, in seconds.
const QUANTISED_STEP_S: f64 = 65_536e-9;

/// Every cell of either run that was tried: cells of the base in their order, then those that only
/// the head has. `noise` gives what is known of the id and checks of a cell.
pub fn compare_runs(
    base: &Run,
    head: &Run,
    unlike: &Unlike,
    mut noise: impl FnMut(&str, &str) -> SessionNoise,
) -> Vec<ComparedCell> {
    let (bases, heads) = (sides(base), sides(head));
    let find = |sides: &[(Key, Side<'_>)]| -> HashMap<Key, usize> {
        sides.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect()
    };
    let (in_base, in_head) = (find(&bases), find(&heads));
    let same_data = base.environment.seed == head.environment.seed;
    let mut cells = Vec::new();
    for (key, side) in &bases {
        let other = in_head.get(key).map(|at| heads[*at].1);
        cells.push(compare(key, Some(*side), other, unlike, same_data, &mut noise));
    }
    for (key, side) in heads.iter().filter(|(key, _)| !in_base.contains_key(key)) {
        cells.push(compare(key, None, Some(*side), unlike, same_data, &mut noise));
    }
    cells
}

/// Whether the two runs have any cell in common.
pub fn have_common_cells(cells: &[ComparedCell]) -> bool {
    let one_sided = |cell: &ComparedCell| cell.reason == Some(Reason::OneSided);
    cells.iter().any(|cell| !one_sided(cell))
}

/// Id and checks.
type Key = (String, String);

/// What was tried in a run; a row timed in both modes of checks counts twice.
fn sides(run: &Run) -> Vec<(Key, Side<'_>)> {
    let mut sides = Vec::new();
    let quantised = run.environment.timer.quantised;
    for row in &run.rows {
        if matches!(row.status, Status::Skipped | Status::Unsupported) {
            continue;
        }
        let time = row.time.as_ref();
        sides.push(((row.id.clone(), row.checks.clone()), Side { row, time, quantised }));
        if let Some(time) = row.time_trusted.as_ref().filter(|_| row.checks != "trusted") {
            let side = Side { row, time: Some(time), quantised };
            sides.push(((row.id.clone(), "trusted".to_string()), side));
        }
    }
    sides
}

fn compare(
    (id, checks): &Key,
    base: Option<Side<'_>>,
    head: Option<Side<'_>>,
    unlike: &Unlike,
    same_data: bool,
    noise: &mut impl FnMut(&str, &str) -> SessionNoise,
) -> ComparedCell {
    let time = |side: Option<Side<'_>>| side.and_then(|side| side.time.map(|time| time.median));
    let mut cell = ComparedCell {
        id: id.clone(),
        checks: checks.clone(),
        verdict: None,
        reason: None,
        why: None,
        base_s: time(base),
        head_s: time(head),
        ratio: None,
        noise: None,
        accuracy: AccuracyFound::None,
    };
    let judged = |verdict, reason| (Some(verdict), Some(reason));
    let failed = head.filter(|head| matches!(head.row.status, Status::Wrong | Status::Error));
    if let Some(head) = failed {
        (cell.verdict, cell.reason) = judged(Verdict::Wrong, Reason::Failed);
        cell.why = head.row.reason.clone();
    }
    let (Some(base), Some(head)) = (base, head) else {
        if failed.is_none() {
            let verdict = if head.is_some() { Verdict::New } else { Verdict::Gone };
            (cell.verdict, cell.reason) = judged(verdict, Reason::OneSided);
        }
        return cell;
    };
    cell.accuracy = accuracy(base.row, head.row, same_data);
    if failed.is_some() {
        return cell;
    }
    if base.row.status != Status::Ok {
        (cell.verdict, cell.reason) = judged(Verdict::Unclear, Reason::BaseWrong);
        cell.why = base.row.reason.clone();
        return cell;
    }
    if let (Some(before), Some(after)) = (base.time, head.time) {
        let noise = noise(id, checks);
        let ratio = sessions::ratio(&before.samples, &after.samples, noise, 1);
        let (verdict, reason) = sessions::verdict(&ratio, noise.floor);
        (cell.ratio, cell.noise) = (Some(ratio), Some(noise));
        if unlike.device.is_empty() {
            let coarse = [base, head].iter().any(|side| is_coarse(side, noise.floor));
            (cell.verdict, cell.reason) = if !unlike.env.is_empty() {
                judged(Verdict::Unclear, Reason::Environment)
            } else if coarse {
                judged(Verdict::Unclear, Reason::TimerQuantised)
            } else {
                judged(verdict, reason)
            };
        }
    }
    cell
}

/// Whether one step of the timer, spread over a batch, is beyond the floor.
fn is_coarse(side: &Side<'_>, floor: f64) -> bool {
    let share = |time: &Time| QUANTISED_STEP_S / (f64::from(time.batch.max(1)) * time.median);
    side.quantised && side.time.is_some_and(|time| time.timer == "gpu" && share(time) > floor)
}

/// Error figures are the same to the last bit or they changed; nothing is averaged. Rows sampled
/// for verification depend on the time there was, so only whole outputs are compared.
fn accuracy(base: &Row, head: &Row, same_data: bool) -> AccuracyFound {
    let (Some(before), Some(after)) = (&base.accuracy, &head.accuracy) else {
        return AccuracyFound::None;
    };
    let what = |accuracy: &Accuracy| {
        (accuracy.inputs.clone(), accuracy.verified.clone(), accuracy.against.clone())
    };
    if !same_data || what(before) != what(after) || before.verified != "all" {
        return AccuracyFound::Incomparable;
    }
    let figures = |accuracy: &Accuracy| {
        [
            ("nmse", accuracy.nmse),
            ("sqnr_db", accuracy.sqnr_db),
            ("max_abs", accuracy.max_abs),
            ("rmse", accuracy.rmse),
            ("cosine", accuracy.cosine),
        ]
    };
    let pairs = figures(before).into_iter().zip(figures(after));
    let differs = |(old, new): &((_, f64), (_, f64))| old.1.to_bits() != new.1.to_bits();
    let changed: Vec<_> = pairs.filter(differs).map(|(old, new)| (old.0, old.1, new.1)).collect();
    if changed.is_empty() { AccuracyFound::Same } else { AccuracyFound::Changed(changed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::gpu_run;

    fn compared(base: &Run, head: &Run) -> Vec<ComparedCell> {
        let unlike = Unlike::between(&base.environment, &head.environment);
        compare_runs(base, head, &unlike, |_, _| SessionNoise::of(&[]))
    }

    fn cell<'a>(cells: &'a [ComparedCell], id: &str) -> &'a ComparedCell {
        cells.iter().find(|cell| cell.id == id && cell.checks == "safe").expect("the cell")
    }

    /// Multiplies every time of a row.
    fn scale(row: &mut Row, factor: f64) {
        let time = row.time.as_mut().expect("a timed row");
        for value in [&mut time.median, &mut time.low, &mut time.high] {
            *value *= factor;
        }
        time.samples.iter_mut().for_each(|sample| *sample *= factor);
    }

    #[test]
    fn a_run_against_itself_differs_in_nothing() {
        let run = gpu_run();
        let cells = compared(&run, &run);
        assert!(have_common_cells(&cells));
        for cell in &cells {
            let expected = match cell.id.as_str() {
                id if id.contains("/subgroup/") || id.contains("gather/") => Some(Verdict::Wrong),
                _ => cell.base_s.map(|_| Verdict::Same),
            };
            let unclear = cell.verdict == Some(Verdict::Unclear) && expected == Some(Verdict::Same);
            assert!(cell.verdict == expected || unclear, "{cell:?}");
            let changed = matches!(cell.accuracy, AccuracyFound::Changed(_));
            assert!(!changed, "{cell:?}");
        }
    }

    #[test]
    fn slower_and_faster_cells_are_told_and_unlike_environments_mark_them() {
        let base = gpu_run();
        let mut head = base.clone();
        scale(&mut head.rows[0], 1.5);
        scale(&mut head.rows[1], 0.5);
        let (slower, faster) = (head.rows[0].id.clone(), head.rows[1].id.clone());
        let cells = compared(&base, &head);
        assert_eq!(cell(&cells, &slower).verdict, Some(Verdict::Slower));
        assert_eq!(cell(&cells, &slower).reason, Some(Reason::Evidence));
        assert_eq!(cell(&cells, &faster).verdict, Some(Verdict::Faster));
        assert!((cell(&cells, &slower).ratio.unwrap().ratio - 1.5).abs() < 1e-9);
        head.environment.device.driver_info = "other".to_string();
        let cells = compared(&base, &head);
        assert_eq!(cell(&cells, &slower).verdict, Some(Verdict::Unclear));
        assert_eq!(cell(&cells, &slower).reason, Some(Reason::Environment));
        head.environment.device.name = "other".to_string();
        let cells = compared(&base, &head);
        assert_eq!(cell(&cells, &slower).verdict, None);
        assert!(cell(&cells, &slower).ratio.is_some());
    }

    #[test]
    fn what_only_one_side_has_or_got_right_is_said() {
        let mut base = gpu_run();
        let mut head = base.clone();
        let gone = head.rows.remove(0).id;
        let new = base.rows.remove(1).id;
        let broken = &mut head.rows[3];
        let broken_id = broken.id.clone();
        (broken.status, broken.time, broken.rate) = (Status::Wrong, None, None);
        let mended = base.rows.iter_mut().find(|row| row.dtype == "f16" && row.time.is_some());
        let mended = mended.expect("a timed row");
        let mended_id = mended.id.clone();
        (mended.status, mended.time, mended.rate) = (Status::Wrong, None, None);
        let cells = compared(&base, &head);
        assert_eq!(cell(&cells, &gone).verdict, Some(Verdict::Gone));
        assert_eq!(cell(&cells, &new).verdict, Some(Verdict::New));
        assert_eq!(cell(&cells, &broken_id).verdict, Some(Verdict::Wrong));
        assert_eq!(cell(&cells, &mended_id).reason, Some(Reason::BaseWrong));
        let nothing = Run { rows: Vec::new(), ..base.clone() };
        assert!(!have_common_cells(&compared(&base, &nothing)));
    }

    #[test]
    fn one_bit_of_an_error_figure_is_a_change_unless_the_data_differ() {
        let base = gpu_run();
        let mut head = base.clone();
        let accuracy = head.rows[0].accuracy.as_mut().expect("judged");
        accuracy.nmse = f64::from_bits(accuracy.nmse.to_bits() + 1);
        let id = head.rows[0].id.clone();
        let AccuracyFound::Changed(found) = cell(&compared(&base, &head), &id).accuracy.clone()
        else {
            panic!("the change went unnoticed");
        };
        assert_eq!((found.len(), found[0].0), (1, "nmse"));
        assert_eq!(cell(&compared(&base, &base), &id).accuracy, AccuracyFound::Same);
        head.environment.seed = 2;
        assert_eq!(cell(&compared(&base, &head), &id).accuracy, AccuracyFound::Incomparable);
        head.environment.seed = 1;
        head.rows[0].accuracy.as_mut().expect("judged").verified = "sampled".to_string();
        assert_eq!(cell(&compared(&base, &head), &id).accuracy, AccuracyFound::Incomparable);
    }

    #[test]
    fn a_timer_too_coarse_for_the_floor_gives_no_verdict() {
        let mut base = gpu_run();
        base.environment.timer.quantised = true;
        let mut head = base.clone();
        scale(&mut head.rows[0], 1.5);
        let time = |run: &mut Run, batch| run.rows[0].time.as_mut().expect("timed").batch = batch;
        time(&mut base, 1);
        let id = base.rows[0].id.clone();
        let cells = compared(&base, &head);
        assert_eq!(cell(&cells, &id).reason, Some(Reason::TimerQuantised));
        time(&mut base, 10_000);
        time(&mut head, 10_000);
        assert_eq!(cell(&compared(&base, &head), &id).reason, Some(Reason::Evidence));
    }
}
