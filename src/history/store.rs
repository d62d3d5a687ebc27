//! The file: how it is opened, and its schema, which is versioned.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::HistoryError;

/// How long another writer is waited for. Adding a run takes milliseconds.
const BUSY_S: f64 = 5.0;
/// Says whose file it is: `fuse` in ASCII.
const APPLICATION_ID: i64 = 0x6675_7365;

/// Each step leads from the version of its position to the next; a step that has been released is
/// never changed.
const STEPS: &[&str] = &["
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        -- Of the bytes of the result file.
        file_hash TEXT NOT NULL UNIQUE,
        -- Of what makes a run that run: the same for its partial and its finished file.
        identity TEXT NOT NULL UNIQUE,
        complete INTEGER NOT NULL,
        -- Seconds since 1970, UTC.
        started INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        version TEXT NOT NULL,
        commit_id TEXT NOT NULL,
        dirty INTEGER NOT NULL,
        kernels_hash TEXT NOT NULL,
        measure_version INTEGER NOT NULL,
        preset TEXT NOT NULL,
        device TEXT NOT NULL,
        backend TEXT NOT NULL,
        driver TEXT NOT NULL,
        driver_info TEXT NOT NULL,
        os TEXT NOT NULL,
        cpu TEXT NOT NULL,
        timer TEXT NOT NULL
    ) STRICT;
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        -- KERNEL/VARIANT/DTYPE/SHAPE, and safe or trusted.
        cell TEXT NOT NULL,
        checks TEXT NOT NULL,
        UNIQUE (cell, checks)
    ) STRICT;
    CREATE TABLE cell (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        series INTEGER NOT NULL REFERENCES series,
        status TEXT NOT NULL,
        -- Seconds; null where nothing was timed.
        median REAL, low REAL, high REAL,
        n INTEGER NOT NULL,
        nmse REAL, sqnr_db REAL,
        -- Seconds as little-endian f32, n of them.
        samples BLOB NOT NULL,
        PRIMARY KEY (run, series)
    ) STRICT;
    -- Holds all that a series is drawn from, so that no sample is read for it.
    CREATE INDEX cell_series ON cell (series, run, status, median);
"];

/// An open history.
pub struct History {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    busy_s: f64,
}

impl History {
    /// Opens the history, and makes it with its folder where there is none.
    ///
    /// # Errors
    /// When it cannot be opened, is another program's file, or a newer program's.
    pub fn create(path: &Path) -> Result<History, HistoryError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let unopenable = |error: std::io::Error| HistoryError::Unopenable {
                path: path.to_path_buf(),
                why: format!("{}: {error}", folder.display()),
            };
            fs::create_dir_all(folder).map_err(unopenable)?;
        }
        History::open_with(path, OpenFlags::SQLITE_OPEN_CREATE, BUSY_S, STEPS)
    }

    /// Opens a history that is there.
    ///
    /// # Errors
    /// As [`History::create`], and when there is none.
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        if !path.exists() {
            return Err(HistoryError::Missing { path: path.to_path_buf() });
        }
        History::open_with(path, OpenFlags::empty(), BUSY_S, STEPS)
    }

    /// Read-write even to read: what a killed writer left half done is undone by whoever comes
    /// next. SQLite falls back to reading where the file cannot be written.
    fn open_with(
        path: &Path,
        extra: OpenFlags,
        busy_s: f64,
        steps: &[&str],
    ) -> Result<History, HistoryError> {
        if path.is_dir() {
            let why = "it is a folder".to_string();
            return Err(HistoryError::Unopenable { path: path.to_path_buf(), why });
        }
        let told = |error: rusqlite::Error| HistoryError::of(path, &error, busy_s);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
        let connection = Connection::open_with_flags(path, flags).map_err(told)?;
        connection.busy_timeout(Duration::from_secs_f64(busy_s)).map_err(told)?;
        let mut history = History { connection, path: path.to_path_buf(), busy_s };
        history.migrate(steps)?;
        let settings = "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";
        history.connection.execute_batch(settings).map_err(told)?;
        Ok(history)
    }

    /// Brings the schema to the version of this program, in one step or not at all.
    fn migrate(&mut self, steps: &[&str]) -> Result<(), HistoryError> {
        if self.version(steps)? == steps.len() {
            return Ok(());
        }
        let busy_s = self.busy_s;
        let path = self.path.clone();
        let told = |error: rusqlite::Error| HistoryError::of(&path, &error, busy_s);
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(told)?;
        // Another program may have done it while this one waited for the lock.
        let version = version(&transaction).map_err(told)?;
        for step in steps.iter().skip(version as usize) {
            transaction.execute_batch(step).map_err(told)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(told)?;
        transaction.pragma_update(None, "user_version", steps.len() as i64).map_err(told)?;
        transaction.commit().map_err(told)
    }

    /// The version of the schema, 0 of an empty file.
    fn version(&self, steps: &[&str]) -> Result<usize, HistoryError> {
        // One look: another program may be making the history at this moment.
        let look = || -> rusqlite::Result<(i64, i64, i64)> {
            let transaction = self.connection.unchecked_transaction()?;
            let number = |sql| transaction.query_row(sql, [], |row| row.get::<_, i64>(0));
            let tables = number("SELECT count(*) FROM sqlite_schema")?;
            Ok((number("PRAGMA user_version")?, number("PRAGMA application_id")?, tables))
        };
        let (found, owner, tables) = look().map_err(|error| self.error(&error))?;
        let path = self.path.clone();
        let is_empty = (found, owner, tables) == (0, 0, 0);
        if !is_empty && owner != APPLICATION_ID {
            let why = "it is another program's SQLite file".to_string();
            return Err(HistoryError::Foreign { path, why });
        }
        match usize::try_from(found) {
            Ok(version) if version <= steps.len() => Ok(version),
            _ => Err(HistoryError::Newer { path, found, known: steps.len() }),
        }
    }

    pub(super) fn error(&self, error: &rusqlite::Error) -> HistoryError {
        HistoryError::of(&self.path, error, self.busy_s)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
