use std::thread;

use super::super::{Added, NewRun};
use super::*;
use crate::record::fixture::gpu_run;
use crate::record::{Run, to_json};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A run that started `minute` minutes later.
fn run_at(minute: u32) -> Run {
    let mut run = gpu_run();
    run.environment.started = format!("2026-11-23T{:02}:{:02}:00Z", 8 + minute / 60, minute % 60);
    run
}

fn new(run: &Run) -> NewRun {
    NewRun::new(to_json(run).as_bytes(), run.clone())
}

/// Everything there is but the numbers that depend on the order of adding.
fn content(history: &History) -> Vec<String> {
    let sql = "SELECT file_hash, started, cell.status, series.cell, series.checks, median, n, \
               hex(samples) FROM cell JOIN run ON run.id = cell.run \
               JOIN series ON series.id = cell.series ORDER BY file_hash, series.cell, checks";
    let mut statement = history.connection.prepare(sql).expect("the schema");
    let rows = statement.query_map([], |row| {
        let fields = (0..8).map(|at| Ok(format!("{:?}", row.get_ref(at)?)));
        fields.collect::<rusqlite::Result<Vec<_>>>().map(|fields| fields.join(" "))
    });
    rows.expect("rows").collect::<rusqlite::Result<_>>().expect("text")
}

#[track_caller]
fn sound(history: &History) {
    let check = |pragma: &str| {
        history.connection.query_row(pragma, [], |row| row.get::<_, String>(0)).expect("an answer")
    };
    assert_eq!(check("PRAGMA integrity_check"), "ok");
    let broken = history.connection.prepare("PRAGMA foreign_key_check").unwrap().exists([]);
    assert!(!broken.unwrap(), "a cell without its run or series");
}

#[test]
fn a_run_comes_back_as_it_was_added_and_only_once() {
    let folder = folder();
    let path = folder.path().join("new/folder/history.sqlite");
    let mut history = History::create(&path).expect("a new history");
    let run = run_at(0);
    let tried =
        run.rows.iter().filter(|row| !matches!(row.status.name(), "skipped" | "unsupported"));
    let cells = tried.map(|row| 1 + usize::from(row.time_trusted.is_some())).sum();
    assert_eq!(history.add(&[new(&run)]).unwrap(), [Added::New(cells)]);
    let before = content(&history);
    assert_eq!(history.add(&[new(&run), new(&run)]).unwrap(), [Added::Known, Added::Known]);
    assert_eq!(content(&history), before);
    // The same run in other bytes.
    let compact = serde_json::to_string(&run).unwrap();
    let again = NewRun::new(compact.as_bytes(), run.clone());
    assert_eq!(history.add(&[again]).unwrap(), [Added::Known]);
    drop(history);

    let history = History::open(&path).expect("it is there");
    assert_eq!(history.runs().unwrap()[0].started(), "2026-11-23T08:00:00Z");
    let id = &run.rows[0].id;
    let series = history.series().unwrap().into_iter().find(|one| one.cell == *id).expect("it");
    let points = history.points(series.id, 9).unwrap();
    let time = run.rows[0].time.as_ref().unwrap();
    assert_eq!(points[0].median, Some(time.median));
    let samples = history.samples(points[0].run, series.id).unwrap();
    let expected: Vec<f32> = time.samples.iter().map(|sample| *sample as f32).collect();
    assert_eq!(samples, expected);
    sound(&history);
}

#[test]
fn a_finished_file_replaces_the_partial_one_of_its_run_and_not_the_other_way_round() {
    let folder = folder();
    let mut history = History::create(&folder.path().join("h")).expect("a new history");
    let whole = run_at(0);
    let mut part = Run { complete: false, ..whole.clone() };
    part.rows.truncate(1);
    assert!(matches!(history.add(&[new(&part)]).unwrap()[..], [Added::New(_)]));
    assert!(matches!(history.add(&[new(&whole)]).unwrap()[..], [Added::Completed(_)]));
    assert_eq!(history.runs().unwrap().len(), 1);
    assert!(history.runs().unwrap()[0].complete);
    let before = content(&history);
    assert_eq!(history.add(&[new(&part)]).unwrap(), [Added::Known]);
    assert_eq!(content(&history), before);
    sound(&history);
}

#[test]
fn rebuilding_gives_the_same_content_in_any_order_and_loses_nothing_unasked() {
    let folder = folder();
    let mut history = History::create(&folder.path().join("h")).expect("a new history");
    let mut runs: Vec<NewRun> = (0..4).map(|minute| new(&run_at(minute))).collect();
    history.add(&runs).unwrap();
    let before = content(&history);
    runs.reverse();
    history.rebuild(&mut runs, false).expect("all are there");
    assert_eq!(content(&history), before);
    let error = history.rebuild(&mut runs[1..], false).unwrap_err();
    assert!(error.to_string().contains("1 of the 4 runs"), "{error}");
    assert_eq!(content(&history), before, "refused is unchanged");
    history.rebuild(&mut runs[1..], true).expect("forced");
    assert_eq!(history.runs().unwrap().len(), 3);
    sound(&history);
}

#[test]
fn removed_runs_take_their_cells_and_lonely_series_along() {
    let folder = folder();
    let mut history = History::create(&folder.path().join("h")).expect("a new history");
    let mut only_one = run_at(1);
    only_one.rows.truncate(1);
    history.add(&[new(&run_at(0)), new(&only_one)]).unwrap();
    let oldest = history.runs().unwrap()[0].id;
    history.remove(&[oldest]).unwrap();
    assert_eq!((history.runs().unwrap().len(), content(&history).len()), (1, 1));
    assert_eq!(history.series().unwrap().len(), 1);
    sound(&history);
}

#[test]
fn an_older_schema_is_brought_up_to_date_and_a_step_that_fails_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("h");
    let mut history = History::create(&path).expect("a new history");
    history.add(&[new(&run_at(0))]).unwrap();
    let before = content(&history);
    drop(history);
    let open = |steps: &[&str]| History::open_with(&path, OpenFlags::empty(), BUSY_S, steps);
    let next = "ALTER TABLE run ADD COLUMN note TEXT NOT NULL DEFAULT 'none'";
    let broken = "CREATE TABLE extra (a); INSERT INTO nowhere VALUES (1)";
    assert!(open(&[STEPS, &[next, broken]].concat()).is_err());
    assert_eq!(content(&History::open(&path).expect("the version it had")), before);
    let newer = open(&[STEPS, &[next]].concat()).expect("one step");
    assert_eq!(content(&newer), before);
    let note: String =
        newer.connection.query_row("SELECT note FROM run", [], |row| row.get(0)).unwrap();
    assert_eq!(note, "none");
    drop(newer);
    // This program meets the newer file and leaves it as it is.
    let bytes = fs::read(&path).unwrap();
    let error = History::open(&path).err().expect("too new");
    assert!(matches!(error, HistoryError::Newer { found: 2, known: 1, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn files_of_others_are_refused_and_left_as_they_are() {
    let folder = folder();
    let foreign = folder.path().join("places.sqlite");
    let other = Connection::open(&foreign).unwrap();
    other.execute_batch("CREATE TABLE visits (url)").unwrap();
    drop(other);
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a database at all, but long enough to have a header\n".repeat(9))
        .unwrap();
    let mut damaged = fs::read(&foreign).unwrap();
    damaged.truncate(600);
    let cut = folder.path().join("cut.sqlite");
    fs::write(&cut, damaged).unwrap();
    for path in [&foreign, &text, &cut, &folder.path().to_path_buf()] {
        let bytes = fs::read(path).ok();
        let message = History::create(path).err().expect("refused").to_string();
        assert_eq!(message.lines().count(), 3, "{message}");
        assert!(message.contains(&*path.to_string_lossy()), "{message}");
        assert_eq!(fs::read(path).ok(), bytes);
    }
    let missing = History::open(&folder.path().join("none")).err().expect("none");
    assert!(missing.to_string().contains("history add"), "{missing}");
}

#[test]
fn a_lock_is_waited_for_and_then_reported() {
    let folder = folder();
    let path = folder.path().join("h");
    let mut history = History::create(&path).expect("a new history");
    let busy_s = 0.2;
    let mut waiting = History::open_with(&path, OpenFlags::empty(), busy_s, STEPS).unwrap();
    let held = history.connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let held = held.expect("the lock");
    let error = waiting.add(&[new(&run_at(0))]).unwrap_err();
    assert!(matches!(error, HistoryError::Busy { .. }), "{error}");
    held.commit().unwrap();
    assert!(matches!(waiting.add(&[new(&run_at(0))]).unwrap()[..], [Added::New(_)]));
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let folder = folder();
    let path = folder.path().join("h");
    // Nobody has made the file yet: that is a race too.
    thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for minute in 0..8 {
                    // Each run is added by two of the writers.
                    let run = new(&run_at(8 * (writer / 2) + minute));
                    History::create(path).expect("a history").add(&[run]).expect("added");
                }
            });
        }
    });
    let history = History::open(&path).expect("it is there");
    assert_eq!(history.runs().unwrap().len(), 16);
    let cells = content(&history).len();
    assert_eq!(cells % 16, 0);
    sound(&history);
}
