//! Reading the history.

use rusqlite::{OptionalExtension as _, Row, params};

use super::error::HistoryError;
use super::store::History;

/// One run in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    pub id: i64,
    /// Seconds since 1970, UTC.
    pub started_s: i64,
    pub complete: bool,
    /// DEVICE-ENV.
    pub fingerprint: String,
    pub version: String,
    pub commit: String,
    pub dirty: bool,
    pub preset: String,
    pub device: String,
    pub backend: String,
    pub driver: String,
    pub driver_info: String,
    pub os: String,
    pub cpu: String,
    pub timer: String,
    pub measure_version: i64,
}

impl RunInfo {
    /// The half of the fingerprint that says which device it was.
    pub fn device_half(&self) -> &str {
        self.fingerprint.split('-').next().unwrap_or_default()
    }

    /// When it was started, RFC 3339.
    pub fn started(&self) -> String {
        jiff::Timestamp::from_second(self.started_s).unwrap_or_default().to_string()
    }

    /// What its times depend on besides the device, name and value, in the order of the ENV half.
    pub fn surroundings(&self) -> [(&'static str, String); 6] {
        [
            ("driver", self.driver.clone()),
            ("driver version", self.driver_info.clone()),
            ("operating system", self.os.clone()),
            ("processor", self.cpu.clone()),
            ("timer", self.timer.clone()),
            ("measure version", self.measure_version.to_string()),
        ]
    }
}

/// One cell over all runs that tried it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// `KERNEL/VARIANT/DTYPE/SHAPE`.
    pub cell: String,
    /// `safe` or `trusted`.
    pub checks: String,
    pub id: i64,
}

/// One cell in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub run: i64,
    pub status: String,
    /// Seconds; `None` where nothing was timed.
    pub median: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub samples: u32,
    pub nmse: Option<f64>,
    pub sqnr_db: Option<f64>,
}

impl History {
    /// All runs, oldest first; runs that started in the same second in an order that does not
    /// depend on which was added first.
    ///
    /// # Errors
    /// When the history cannot be read; likewise for all below.
    pub fn runs(&self) -> Result<Vec<RunInfo>, HistoryError> {
        self.all(
            "SELECT id, started, complete, fingerprint, version, commit_id, dirty, preset, device, \
             backend, driver, driver_info, os, cpu, timer, measure_version FROM run \
             ORDER BY started, file_hash",
            [],
            run_info,
        )
    }

    /// All series by name.
    pub fn series(&self) -> Result<Vec<Series>, HistoryError> {
        self.all("SELECT cell, checks, id FROM series ORDER BY cell, checks", [], |row| {
            Ok(Series { cell: row.get(0)?, checks: row.get(1)?, id: row.get(2)? })
        })
    }

    /// Run, status name and median in seconds of the cells of a series, those of the runs with the
    /// highest ids first, at most `limit`.
    pub fn medians(
        &self,
        series: i64,
        limit: usize,
    ) -> Result<Vec<(i64, String, Option<f64>)>, HistoryError> {
        // The index holds it all in this order.
        let sql = "SELECT run, status, median FROM cell WHERE series = ? \
                   ORDER BY run DESC LIMIT ?";
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        self.all(sql, params![series, most(limit)], read)
    }

    /// The same with all that is known of each.
    pub fn points(&self, series: i64, limit: usize) -> Result<Vec<Point>, HistoryError> {
        let sql = "SELECT run, status, median, low, high, n, nmse, sqnr_db FROM cell \
                   WHERE series = ? ORDER BY run DESC LIMIT ?";
        self.all(sql, params![series, most(limit)], |row| {
            Ok(Point {
                run: row.get(0)?,
                status: row.get(1)?,
                median: row.get(2)?,
                low: row.get(3)?,
                high: row.get(4)?,
                samples: row.get(5)?,
                nmse: row.get(6)?,
                sqnr_db: row.get(7)?,
            })
        })
    }

    /// Medians in seconds of the latest runs of a cell in one environment, at most `limit`, the
    /// latest first.
    pub fn latest_medians(
        &self,
        cell: &str,
        checks: &str,
        fingerprint: &str,
        limit: u32,
    ) -> Result<Vec<f64>, HistoryError> {
        self.all(
            "SELECT median FROM cell JOIN series ON series.id = cell.series \
             JOIN run ON run.id = cell.run \
             WHERE series.cell = ? AND checks = ? AND fingerprint = ? AND median IS NOT NULL \
             ORDER BY started DESC, file_hash LIMIT ?",
            params![cell, checks, fingerprint, limit],
            |row| row.get(0),
        )
    }

    /// The samples of one cell of one run in seconds, as f32 kept them.
    pub fn samples(&self, run: i64, series: i64) -> Result<Vec<f32>, HistoryError> {
        let sql = "SELECT samples FROM cell WHERE run = ? AND series = ?";
        let blob: Option<Vec<u8>> = self
            .connection
            .query_row(sql, [run, series], |row| row.get(0))
            .optional()
            .map_err(|error| self.error(&error))?;
        let (samples, _) = blob.as_deref().unwrap_or_default().as_chunks::<4>();
        Ok(samples.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn all<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, HistoryError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, read)?.collect()
        };
        rows().map_err(|error| self.error(&error))
    }
}

/// A limit as SQLite takes it.
fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn run_info(row: &Row<'_>) -> rusqlite::Result<RunInfo> {
    Ok(RunInfo {
        id: row.get(0)?,
        started_s: row.get(1)?,
        complete: row.get(2)?,
        fingerprint: row.get(3)?,
        version: row.get(4)?,
        commit: row.get(5)?,
        dirty: row.get(6)?,
        preset: row.get(7)?,
        device: row.get(8)?,
        backend: row.get(9)?,
        driver: row.get(10)?,
        driver_info: row.get(11)?,
        os: row.get(12)?,
        cpu: row.get(13)?,
        timer: row.get(14)?,
        measure_version: row.get(15)?,
    })
}
