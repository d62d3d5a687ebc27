//! Reading what `ab` and `selftest` wrote, with the same care as result files.

use std::path::Path;

use super::comparison::{ComparedRow, Comparison};
use super::error::StoreError;
use super::read::{Expected, check_version, head_kind, read_bytes, typed};

/// Whether a file says that it is a comparison, sound or not.
pub fn is_comparison(path: &Path) -> bool {
    read_bytes(path).is_ok_and(|bytes| head_kind(&bytes) == Some(Expected::Comparison))
}

/// A finished or a partial comparison; of a partial one the last line of a cell counts, and a last
/// line cut off by a crash is dropped.
///
/// # Errors
/// When the file cannot be read, is no comparison, or has another `format_version`.
pub fn read_comparison(path: &Path) -> Result<Comparison, StoreError> {
    parse_comparison(path, &read_bytes(path)?)
}

/// The comparison that `bytes` hold; `path` is what errors call them.
///
/// # Errors
/// As [`read_comparison`].
pub fn parse_comparison(path: &Path, bytes: &[u8]) -> Result<Comparison, StoreError> {
    let not_one = |why: String| StoreError::NotAComparison { path: path.to_path_buf(), why };
    let end = check_version(path, bytes, Expected::Comparison).map_err(|error| match error {
        StoreError::NotAResult { why, .. } => not_one(why),
        other => other,
    })?;
    let mut found: Comparison = typed(&bytes[..end]).map_err(|fault| not_one(fault.told(0)))?;
    let line_of_header = bytes[..end].iter().filter(|byte| **byte == b'\n').count();
    let mut lines = bytes[end..].split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = line_of_header + index + 1;
        if found.complete {
            let why = format!("line {number}: there is more after the end of the comparison");
            return Err(not_one(why));
        }
        match typed::<ComparedRow>(line) {
            Ok(row) => {
                found.rows.retain(|earlier| earlier.id != row.id);
                found.rows.push(row);
            }
            // A whole line ends with a newline, so this one was being written.
            Err(fault) if fault.is_cut_off() && lines.peek().is_none() => found.complete = false,
            Err(fault) => return Err(not_one(fault.told(number))),
        }
    }
    Ok(found)
}
