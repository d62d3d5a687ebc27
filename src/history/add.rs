//! Putting runs into the history, and taking old ones out.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::error::HistoryError;
use super::store::History;
use crate::record::{self, Environment, Row, Run, Status, StoreError, Time};

/// What the history keeps of one result file: small, so that many can be read before the first is
/// written.
#[derive(Clone, Debug)]
pub struct NewRun {
    file_hash: String,
    identity: String,
    complete: bool,
    started_s: i64,
    environment: Environment,
    cells: Vec<NewCell>,
}

#[derive(Clone, Debug)]
struct NewCell {
    id: String,
    checks: String,
    status: Status,
    /// Median, low, high, and the samples.
    time: Option<([f64; 3], Vec<u8>)>,
    nmse: Option<f64>,
    sqnr_db: Option<f64>,
}

/// What became of a run that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new, with this many cells.
    New(usize),
    /// It continues a run of which only a partial file was there.
    Completed(usize),
    /// It was there already.
    Known,
}

impl NewRun {
    /// Reads a result file.
    ///
    /// # Errors
    /// When it is no sound result file.
    pub fn read(path: &Path) -> Result<NewRun, StoreError> {
        let bytes = record::read_bytes(path)?;
        Ok(NewRun::new(&bytes, record::parse(path, &bytes)?))
    }

    /// `bytes` are those of the file that `run` was read from.
    pub fn new(bytes: &[u8], run: Run) -> NewRun {
        let cells = run.rows.iter().flat_map(NewCell::of).collect();
        let environment = run.environment;
        let started = environment.started.parse::<jiff::Timestamp>();
        NewRun {
            file_hash: format!("{:032x}", record::fnv1a(bytes)),
            identity: identity(&environment),
            complete: run.complete,
            started_s: started.map_or(0, jiff::Timestamp::as_second),
            environment,
            cells,
        }
    }

    /// When it was started and on what, for people.
    pub fn name(&self) -> String {
        format!("{} on {}", self.environment.started, self.environment.device.name)
    }
}

/// The same for every file of one run, and no other: what it was asked to do where, and when.
fn identity(environment: &Environment) -> String {
    let tool = &environment.fusebench;
    let seed = environment.seed.to_string();
    let fields = [
        environment.fingerprint.as_str(),
        &environment.started,
        &tool.version,
        &tool.commit,
        &tool.kernels_hash,
        &environment.preset,
        &seed,
        &environment.arguments.join("\u{1}"),
    ];
    format!("{:032x}", record::fnv1a(fields.join("\0").as_bytes()))
}

impl NewCell {
    /// The series that a row belongs to: one, or two where it was timed with checks and without.
    /// Cells that were not tried say nothing about the device and are left out.
    fn of(row: &Row) -> Vec<NewCell> {
        if matches!(row.status, Status::Skipped | Status::Unsupported) {
            return Vec::new();
        }
        let accuracy = row.accuracy.as_ref();
        let cell = |checks: &str, time: Option<&Time>| NewCell {
            id: row.id.clone(),
            checks: checks.to_string(),
            status: row.status,
            time: time.map(|time| {
                let bytes = time.samples.iter().flat_map(|sample| stored(*sample).to_le_bytes());
                ([time.median, time.low, time.high], bytes.collect())
            }),
            nmse: accuracy.map(|accuracy| accuracy.nmse),
            sqnr_db: accuracy.map(|accuracy| accuracy.sqnr_db),
        };
        let trusted = row.time_trusted.as_ref().filter(|_| row.checks != "trusted");
        let other = trusted.map(|time| cell("trusted", Some(time)));
        [cell(&row.checks, row.time.as_ref())].into_iter().chain(other).collect()
    }
}

/// A time as the history keeps it; what is beyond f32 stays a time.
fn stored(sample_s: f64) -> f32 {
    (sample_s as f32).clamp(f32::MIN_POSITIVE, f32::MAX)
}

impl History {
    /// Adds runs, all of them or none; in the order given.
    ///
    /// # Errors
    /// When the history is locked, full or cannot be written; it is then as it was.
    pub fn add(&mut self, runs: &[NewRun]) -> Result<Vec<Added>, HistoryError> {
        self.write(|transaction| runs.iter().map(|run| add(transaction, run)).collect())
    }

    /// Makes the history again from `runs` alone. The order they come in does not matter.
    ///
    /// # Errors
    /// As [`History::add`]; without `force` also when a run that is there now would be lost.
    pub fn rebuild(
        &mut self,
        runs: &mut [NewRun],
        force: bool,
    ) -> Result<Vec<Added>, HistoryError> {
        let path = self.path.clone();
        runs.sort_by(|a, b| (a.started_s, &a.file_hash).cmp(&(b.started_s, &b.file_hash)));
        let added = self.write(|transaction| {
            let stored = stored_runs(transaction)?;
            let given = |run: &&(String, String)| !runs.iter().any(|new| new.identity == run.0);
            let missing: Vec<&(String, String)> = stored.iter().filter(given).collect();
            if let Some((_, first)) = missing.first().filter(|_| !force) {
                let (missing, stored, first) = (missing.len(), stored.len(), first.clone());
                return Ok(Err(HistoryError::WouldDrop { path, missing, stored, first }));
            }
            transaction.execute_batch("DELETE FROM run; DELETE FROM series;")?;
            let added: rusqlite::Result<_> = runs.iter().map(|run| add(transaction, run)).collect();
            added.map(Ok)
        })??;
        self.shrink()?;
        Ok(added)
    }

    /// Takes out the runs with these ids, and the series that only they had.
    ///
    /// # Errors
    /// As [`History::add`].
    pub fn remove(&mut self, ids: &[i64]) -> Result<(), HistoryError> {
        self.write(|transaction| {
            for id in ids {
                transaction.prepare_cached("DELETE FROM run WHERE id = ?")?.execute([id])?;
            }
            transaction.execute_batch(
                "DELETE FROM series WHERE id NOT IN (SELECT DISTINCT series FROM cell);",
            )
        })?;
        self.shrink()
    }

    /// Gives the space of deleted rows back.
    fn shrink(&self) -> Result<(), HistoryError> {
        self.connection.execute_batch("VACUUM").map_err(|error| self.error(&error))
    }

    /// One transaction that waits for other writers before it reads.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let done = begun.and_then(|transaction| {
            let outcome = work(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        });
        done.map_err(|error| self.error(&error))
    }
}

/// Identity and name of every run there is, oldest first.
fn stored_runs(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT identity, strftime('%Y-%m-%dT%H:%M:%SZ', started, 'unixepoch') || ' on ' \
               || device FROM run ORDER BY started, file_hash";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn add(transaction: &Transaction<'_>, run: &NewRun) -> rusqlite::Result<Added> {
    let mut known = transaction.prepare_cached(
        "SELECT id, complete, (SELECT count(*) FROM cell WHERE run = id) FROM run \
         WHERE identity = ?1 OR file_hash = ?2",
    )?;
    let found = known
        .query_row([&run.identity, &run.file_hash], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let mut replaces = false;
    if let Some((id, complete, cells)) = found {
        let says_more = run.complete || run.cells.len() as i64 > cells;
        if complete || !says_more {
            return Ok(Added::Known);
        }
        transaction.prepare_cached("DELETE FROM run WHERE id = ?")?.execute([id])?;
        replaces = true;
    }
    let id = insert_run(transaction, run)?;
    for cell in &run.cells {
        insert_cell(transaction, id, cell)?;
    }
    let count = run.cells.len();
    Ok(if replaces { Added::Completed(count) } else { Added::New(count) })
}

fn insert_run(transaction: &Transaction<'_>, run: &NewRun) -> rusqlite::Result<i64> {
    let (environment, tool) = (&run.environment, &run.environment.fusebench);
    let (device, host) = (&environment.device, &environment.host);
    let mut insert = transaction.prepare_cached(
        "INSERT INTO run (file_hash, identity, complete, started, fingerprint, version, commit_id, \
         dirty, kernels_hash, measure_version, preset, device, backend, driver, driver_info, os, \
         cpu, timer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.insert(params![
        run.file_hash,
        run.identity,
        run.complete,
        run.started_s,
        environment.fingerprint,
        tool.version,
        tool.commit,
        tool.dirty,
        tool.kernels_hash,
        tool.measure_version,
        environment.preset,
        device.name,
        device.backend,
        device.driver,
        device.driver_info,
        host.os,
        host.cpu,
        environment.timer.kind,
    ])
}

fn insert_cell(transaction: &Transaction<'_>, run: i64, cell: &NewCell) -> rusqlite::Result<()> {
    let mut find =
        transaction.prepare_cached("SELECT id FROM series WHERE cell = ? AND checks = ?")?;
    let found = find.query_row([&cell.id, &cell.checks], |row| row.get(0)).optional()?;
    let series: i64 = match found {
        Some(id) => id,
        None => transaction
            .prepare_cached("INSERT INTO series (cell, checks) VALUES (?, ?)")?
            .insert([&cell.id, &cell.checks])?,
    };
    let (interval, samples) = match &cell.time {
        Some((interval, samples)) => (interval.map(Some), samples.as_slice()),
        None => ([None; 3], &[][..]),
    };
    let mut insert = transaction.prepare_cached(
        "INSERT INTO cell (run, series, status, median, low, high, n, nmse, sqnr_db, samples) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        run,
        series,
        cell.status.name(),
        interval[0],
        interval[1],
        interval[2],
        (samples.len() / size_of::<f32>()) as i64,
        cell.nmse,
        cell.sqnr_db,
        samples,
    ])?;
    Ok(())
}
