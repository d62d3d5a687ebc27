//! Reading result files, finished or partial. A file may come from anywhere: whatever is wrong with
//! it is one error that names the file, the line or field, what was expected and what to do next.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::StoreError;
use super::schema::{FORMAT_VERSION, Row, Run, Status, Time};

/// Longest file that is read. The largest runs take a few megabytes; a device or a pipe that never
/// ends must not fill the memory.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// A finished or a partial result file. A last line cut off by a crash is dropped, and the run is
/// then incomplete; unknown fields are ignored.
///
/// # Errors
/// When the file cannot be read, is no result file, has another `format_version`, or holds a value
/// that no run writes: a time that is not above zero, an id twice, a malformed id.
pub fn read(path: &Path) -> Result<Run, StoreError> {
    parse(path, &read_bytes(path)?)
}

/// The bytes of a file of at most [`MAX_FILE_BYTES`].
///
/// # Errors
/// When it cannot be read or is longer.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, StoreError> {
    let unreadable = |source| StoreError::Unreadable { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("it is longer than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(unreadable(io::Error::other(problem)));
    }
    Ok(bytes)
}

/// The bytes of a file that need not be there.
///
/// # Errors
/// As [`read_bytes`].
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match read_bytes(path) {
        Err(StoreError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// The run that `bytes` hold; `path` is what errors call them.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Run, StoreError> {
    let end = check_version(path, bytes, Expected::Run)?;
    let not_a_result = |why: String| StoreError::NotAResult { path: path.to_path_buf(), why };
    let mut run: Run = typed(&bytes[..end]).map_err(|fault| not_a_result(fault.told(0)))?;
    let in_header = run.rows.len();
    // Rows behind the header are lines; those inside are named by their position.
    let mut places: Vec<String> = (0..in_header).map(|at| format!("rows[{at}].")).collect();
    let line_of_header = bytes[..end].iter().filter(|byte| **byte == b'\n').count();
    let mut lines = bytes[end..].split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let number = line_of_header + index + 1;
        if run.complete {
            let why = format!("line {number}: there is more after the end of the run");
            return Err(not_a_result(why));
        }
        match typed::<Row>(line) {
            Ok(row) => run.rows.push(row),
            // A whole line ends with a newline, so this one was being written.
            Err(fault) if fault.is_cut_off() && lines.peek().is_none() => run.complete = false,
            Err(fault) => return Err(not_a_result(fault.told(number))),
        }
        places.push(format!("line {number}, "));
    }
    check_values(&run, &places).map_err(|(field, why)| StoreError::Unsound {
        path: path.to_path_buf(),
        field,
        why,
    })?;
    Ok(run)
}

/// Why some JSON is not what it should be: the field, and the parser's words.
pub(super) struct Fault {
    field: String,
    error: serde_json::Error,
}

impl Fault {
    pub fn is_cut_off(&self) -> bool {
        self.error.is_eof()
    }

    /// In words; `line` replaces the parser's own number where it saw that line alone.
    pub fn told(&self, line: usize) -> String {
        let text = self.error.to_string();
        // serde_json ends its messages with the place, which is said first here.
        let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
        let line = if line == 0 { self.error.line() } else { line };
        let told = match self.field.as_str() {
            "." => format!("line {line}: {why}"),
            field => format!("line {line}, {field}: {why}"),
        };
        printable(&told)
    }
}

/// Names in a foreign file may hold ends of lines, or codes that a terminal acts on.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

/// One JSON value and nothing after it.
pub(super) fn typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut parser)
        .map_err(|error| Fault { field: error.path().to_string(), error: error.into_inner() })?;
    parser.end().map_err(|error| Fault { field: ".".to_string(), error })?;
    Ok(value)
}

/// What tells a result file from its neighbours.
#[derive(Deserialize)]
struct Head {
    format_version: Option<Value>,
    /// Of a dump's manifest.
    format: Option<Value>,
    mutants: Option<serde::de::IgnoredAny>,
    /// Of a comparison: `ab` or `selftest`.
    kind: Option<Value>,
}

/// Which kind of file a command reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Run,
    Comparison,
}

/// What the first JSON object says the file is.
pub(super) fn head_kind(bytes: &[u8]) -> Option<Expected> {
    let head = serde_json::Deserializer::from_slice(bytes).into_iter::<Head>().next()?.ok()?;
    Some(if head.kind.is_some() { Expected::Comparison } else { Expected::Run })
}

/// The end of the first JSON object, once it is known to be of this version.
pub(super) fn check_version(
    path: &Path,
    bytes: &[u8],
    expected: Expected,
) -> Result<usize, StoreError> {
    let not_a_result =
        |why: &str| Err(StoreError::NotAResult { path: path.to_path_buf(), why: why.to_string() });
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return not_a_result("it is UTF-16 text, as PowerShell's > writes; use -o FILE instead");
    }
    if bytes.starts_with(b"\x1f\x8b") {
        return not_a_result("it is compressed; unpack it with gunzip first");
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Head>();
    let head = match values.next() {
        None => return not_a_result("it is empty"),
        Some(Err(error)) if error.is_eof() => {
            return not_a_result(&format!("line {}: it is cut off here", error.line()));
        }
        Some(Err(error)) => {
            // What is no JSON, such as NaN, may stand in a field that has a name.
            let named = typed::<Run>(bytes).err().filter(|fault| !fault.is_cut_off());
            let fault = named.unwrap_or(Fault { field: ".".to_string(), error });
            return not_a_result(&fault.told(0));
        }
        Some(Ok(head)) => head,
    };
    if head.format.is_some() {
        return not_a_result("it is the manifest of a dump");
    }
    if head.mutants.is_some() {
        return not_a_result("it holds mutants, which `check --mutants` wrote, and no times");
    }
    match (expected, head.kind.is_some()) {
        (Expected::Run, true) => return not_a_result("it is a comparison, which `ab` wrote"),
        (Expected::Comparison, false) => return not_a_result("it compares nothing"),
        _ => {}
    }
    match head.format_version {
        Some(version) if version == FORMAT_VERSION => Ok(values.byte_offset()),
        Some(found) => {
            Err(StoreError::Version { path: path.to_path_buf(), found: found.to_string() })
        }
        None => not_a_result("it has no format_version"),
    }
}

/// A field, and what is wrong with it.
type Unsound = (String, String);

/// Values of the right type that no run writes. `places` says where each row is.
fn check_values(run: &Run, places: &[String]) -> Result<(), Unsound> {
    let environment = &run.environment;
    let fault = |field: &str, why: String| Err((format!("environment.{field}"), why));
    if !is_fingerprint(&environment.fingerprint) {
        let why = format!("{:?} is not two halves of 8 hex digits", environment.fingerprint);
        return fault("fingerprint", why);
    }
    if environment.started.parse::<jiff::Timestamp>().is_err() {
        let why = format!("{:?} is no time like 2026-11-23T08:15:42Z", environment.started);
        return fault("started", why);
    }
    let mut seen: HashMap<(&str, &str), &str> = HashMap::new();
    for (row, place) in run.rows.iter().zip(places) {
        check_row(row).map_err(|(field, why)| (format!("{place}{field}"), why))?;
        if let Some(first) = seen.insert((&row.id, &row.checks), place) {
            let first = first.trim_end_matches(['.', ',', ' ']);
            return Err((format!("{place}id"), format!("{} is there twice, see {first}", row.id)));
        }
    }
    Ok(())
}

fn is_fingerprint(text: &str) -> bool {
    let hex = |half: &str| half.len() == 8 && half.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_once('-').is_some_and(|(device, env)| hex(device) && hex(env))
}

fn check_row(row: &Row) -> Result<(), Unsound> {
    let fault = |field: &str, why: String| Err((field.to_string(), why));
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let parts: Vec<&str> = row.id.split('/').collect();
    let well_formed =
        parts.len() == 4 && parts.iter().all(|part| !part.is_empty() && part.chars().all(legal));
    if !well_formed {
        return fault("id", format!("{:?} is not KERNEL/VARIANT/DTYPE/SHAPE", row.id));
    }
    if parts[..3] != [row.kernel.as_str(), row.variant.as_str(), row.dtype.as_str()] {
        return fault("id", format!("{} names another kernel, variant or dtype", row.id));
    }
    if !["safe", "trusted"].contains(&row.checks.as_str()) {
        return fault("checks", format!("{:?} is neither safe nor trusted", row.checks));
    }
    let times = [("time", &row.time), ("time_trusted", &row.time_trusted)];
    for (name, time) in times {
        let Some(time) = time else { continue };
        if row.status != Status::Ok {
            return fault(name, format!("{} is {} and has a time", row.id, row.status.name()));
        }
        check_time(time).map_err(|(field, why)| (format!("{name}.{field}"), why))?;
    }
    Ok(())
}

/// Seconds are above zero; what a JSON number can be beside that is not a time.
fn check_time(time: &Time) -> Result<(), Unsound> {
    let samples = time.samples.iter().enumerate();
    let cold = time.cold_median.map(|value| ("cold_median".to_string(), value));
    let values = [("median".to_string(), time.median)]
        .into_iter()
        .chain(cold)
        .chain(samples.map(|(at, sample)| (format!("samples[{at}]"), *sample)));
    if time.samples.is_empty() {
        return Err(("samples".to_string(), "there is none".to_string()));
    }
    if time.unit != "s" {
        return Err(("unit".to_string(), format!("{:?} is not s", time.unit)));
    }
    for (field, value) in values {
        if !value.is_finite() || value <= 0.0 {
            return Err((field, format!("{value} is no time: seconds are above 0")));
        }
    }
    if !(time.low <= time.median && time.median <= time.high) {
        let why = format!("{} is not between low {} and high {}", time.median, time.low, time.high);
        return Err(("median".to_string(), why));
    }
    Ok(())
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
