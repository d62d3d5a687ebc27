//! Where results go: the result file, and stdout in the form asked for.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::{Format, Target};
use super::exit::Failure;
use crate::record::{PartialFile, Run, StoreError, to_json};
use crate::report;

/// Always: the stream takes the colours out where they do not belong.
pub const COLOUR: bool = true;

/// Writes results to stdout; a reader that left early is no failure.
pub fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Opens the result file of a device before anything is measured.
///
/// # Errors
/// `Usage` when the path cannot be written.
pub fn open(target: &Target, device: Option<&str>) -> Result<Option<PartialFile>, Failure> {
    let Some(path) = target.output.as_deref().filter(|path| *path != Path::new("-")) else {
        return Ok(None);
    };
    PartialFile::create(&path_for(path, device)).map(Some).map_err(failure)
}

/// `out.json` becomes `out-DEVICE.json` where several devices run.
fn path_for(path: &Path, device: Option<&str>) -> PathBuf {
    let Some(device) = device else { return path.to_path_buf() };
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let slug: String = device.chars().map(legal).collect();
    let part =
        |text: Option<&std::ffi::OsStr>| text.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let dot = if extension.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}-{slug}{dot}{extension}"))
}

/// A result file that cannot be written.
pub fn failure(error: StoreError) -> Failure {
    Failure::usage(error.to_string())
}

/// Prints a finished run.
pub fn show(run: &Run, target: &Target, timed: bool) {
    let to_stdout = target.output.as_deref() == Some(Path::new("-"));
    let format = if to_stdout { Format::Json } else { target.format };
    let text = match format {
        Format::Json => to_json(run),
        Format::Csv => report::csv::table(run),
        Format::Markdown => report::markdown::table(run),
        Format::Table if timed => report::terminal::table(run, COLOUR, width()),
        Format::Table => report::terminal::checks(run, COLOUR, width()),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
}

/// Columns of the terminal, 100 where there is none.
pub fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0).max(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_devices_get_a_file_each() {
        let path = |device| path_for(Path::new("out/run.json"), device);
        assert_eq!(path(None), Path::new("out/run.json"));
        assert_eq!(path(Some("vulkan:llvm")), Path::new("out/run-vulkan-llvm.json"));
        assert_eq!(path_for(Path::new("run"), Some("0")), Path::new("run-0"));
    }
}
