//! Writing result files: streamed while measuring, replaced in one step at the end.
//!
//! An interrupt or a crash loses at most the cell in progress, and no reader ever sees half a file
//! under the final name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::comparison::{ComparedRow, Comparison};
use super::error::StoreError;
use super::schema::{Row, Run, Time};

/// The fields the contract allows to be null; every other null was a NaN or an infinity.
const NULLABLE: [&str; 5] = [
    "reason",
    "finished",
    "time.cold_median",
    "time_trusted.cold_median",
    "accuracy.predicted_sqnr_db",
];

/// The growing `FILE.partial.jsonl` of a run, and the promise of its `FILE`.
pub struct PartialFile {
    file: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    lines: usize,
}

impl PartialFile {
    /// Opens the partial file, so that a path nobody can write to is found before measuring. What
    /// an earlier run left under that name is replaced, as `FILE` itself will be.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let unwritable =
            |source: io::Error| StoreError::Unwritable { path: path.to_path_buf(), source };
        let file = writable_target(path).map_err(unwritable)?;
        let partial = with_suffix(&file, ".partial.jsonl");
        let out = File::create(&partial).map_err(|error| unwritable(plain(error, &partial)))?;
        Ok(PartialFile { file, partial, out: BufWriter::new(out), lines: 0 })
    }

    /// The first line: what is known before the first row.
    pub fn header(&mut self, run: &Run) -> Result<(), StoreError> {
        assert_eq!(self.lines, 0, "the header is the first line");
        let header = Run { complete: false, rows: Vec::new(), ..run.clone() };
        check_environment(&header)?;
        self.line(&header)
    }

    /// Appends one cell. Needs the header first, or nobody could read the row.
    pub fn row(&mut self, row: &Row) -> Result<(), StoreError> {
        assert!(self.lines > 0, "the header comes before the rows");
        check_finite(row)?;
        self.line(row)
    }

    /// Writes the whole run to its final name and removes the partial file, which stays where it
    /// is when that fails.
    pub fn finish(mut self, run: &Run) -> Result<(), StoreError> {
        check_environment(run)?;
        run.rows.iter().try_for_each(check_finite)?;
        let bytes = to_json(run).into_bytes();
        replace(&self.file, &bytes).map_err(|source| self.unfinished(source))?;
        self.lines = 0;
        Ok(())
    }

    /// The first line of a comparison: what is known before the first verdict.
    pub fn comparison(&mut self, comparison: &Comparison) -> Result<(), StoreError> {
        assert_eq!(self.lines, 0, "the header is the first line");
        self.line(&Comparison { complete: false, rows: Vec::new(), ..comparison.clone() })
    }

    /// Appends one compared cell.
    pub fn compared(&mut self, row: &ComparedRow) -> Result<(), StoreError> {
        assert!(self.lines > 0, "the header comes before the rows");
        check_compared(row)?;
        self.line(row)
    }

    /// As [`PartialFile::finish`], for a comparison.
    pub fn finish_comparison(mut self, comparison: &Comparison) -> Result<(), StoreError> {
        comparison.rows.iter().try_for_each(check_compared)?;
        let bytes = to_json(comparison).into_bytes();
        replace(&self.file, &bytes).map_err(|source| self.unfinished(source))?;
        self.lines = 0;
        Ok(())
    }

    fn line<T: Serialize>(&mut self, value: &T) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec(value).expect("result types have string keys only");
        text.push(b'\n');
        let written = self.out.write_all(&text).and_then(|()| self.out.flush());
        written.map_err(|source| self.unfinished(source))?;
        self.lines += 1;
        Ok(())
    }

    fn unfinished(&self, source: io::Error) -> StoreError {
        let (path, partial) = (self.file.clone(), self.partial.clone());
        StoreError::Unfinished { path, partial, source }
    }
}

/// Without rows to save, because none came or because `finish` moved them, nothing is left behind.
impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.lines == 0 {
            // Nothing to do about a failure here: the file is empty or superseded.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A run as its finished file holds it: indented JSON, SI base units, full precision.
pub fn to_json<T: Serialize>(run: &T) -> String {
    let mut text = serde_json::to_string_pretty(run).expect("result types have string keys only");
    text.push('\n');
    text
}

/// Replaces `path` in one step: readers see the old bytes or the new ones.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let unwritable =
        |source: io::Error| StoreError::Unwritable { path: path.to_path_buf(), source };
    let target = writable_target(path).map_err(unwritable)?;
    replace(&target, bytes).map_err(unwritable)
}

fn check_compared(row: &ComparedRow) -> Result<(), StoreError> {
    let field = first_null(row);
    field.map_or(Ok(()), |field| Err(StoreError::NotFinite { id: row.id.clone(), field }))
}

/// Names the first field of a row that JSON cannot hold.
pub fn check_finite(row: &Row) -> Result<(), StoreError> {
    let cold = |time: &Option<Time>| time.as_ref().and_then(|time| time.cold_median);
    let accuracy = row.accuracy.as_ref().and_then(|accuracy| accuracy.predicted_sqnr_db);
    let nullable = [
        ("time.cold_median", cold(&row.time)),
        ("time_trusted.cold_median", cold(&row.time_trusted)),
        ("accuracy.predicted_sqnr_db", accuracy),
    ];
    let hidden = nullable.iter().find(|(_, value)| value.is_some_and(|value| !value.is_finite()));
    let field = hidden.map(|(field, _)| (*field).to_string()).or_else(|| first_null(row));
    field.map_or(Ok(()), |field| Err(StoreError::NotFinite { id: row.id.clone(), field }))
}

fn check_environment(run: &Run) -> Result<(), StoreError> {
    let field = first_null(&run.environment);
    let id = || "the environment of this run".to_string();
    field.map_or(Ok(()), |field| Err(StoreError::NotFinite { id: id(), field }))
}

/// serde_json writes what is not finite as null, so one walk covers every field there will be.
fn first_null<T: Serialize>(value: &T) -> Option<String> {
    let value = serde_json::to_value(value).expect("result types have string keys only");
    null_below(&value, "")
}

fn null_below(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Null if !NULLABLE.contains(&path) => Some(path.to_string()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| null_below(item, &format!("{path}[{index}]"))),
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            let dot = if path.is_empty() { "" } else { "." };
            null_below(field, &format!("{path}{dot}{name}"))
        }),
        _ => None,
    }
}

/// Where `path` leads: links are followed, and what a rename would destroy is refused.
fn writable_target(path: &Path) -> io::Result<PathBuf> {
    let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if let Ok(metadata) = fs::metadata(&file) {
        let problem = match metadata {
            found if found.is_dir() => "it is a folder",
            found if !found.is_file() => "it is not a regular file",
            found if found.permissions().readonly() => "it is read-only",
            _ => return Ok(file),
        };
        return Err(io::Error::other(problem));
    }
    if file.file_name().is_none() {
        return Err(io::Error::other("it names no file"));
    }
    let folder = folder_of(&file);
    if !folder.is_dir() {
        let problem = format!("the folder {} does not exist", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
    }
    Ok(file)
}

/// Writes a neighbour of `file`, so that the rename stays on one file system.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(file, &format!(".{}.tmp", std::process::id()));
    let written = File::create(&temporary)
        .map_err(|error| plain(error, &temporary))
        .and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        // The first error is the one to tell; a leftover would only confuse.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The error of the system, with the file it was about.
fn plain(error: io::Error, file: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
