//! Where results go: the result file, and stdout in the form asked for.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::{Format, Target};
use super::exit::Failure;
use crate::record::{MutantRun, PartialFile, Run, StoreError, to_json, write_atomically};
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
    open_at(target.output.as_deref(), device)
}

/// The same for a path that does not come from a [`Target`].
///
/// # Errors
/// `Usage` when the path cannot be written.
pub fn open_at(
    output: Option<&Path>,
    device: Option<&str>,
) -> Result<Option<PartialFile>, Failure> {
    let Some(path) = output.filter(|path| *path != Path::new("-")) else {
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

/// Prints what became of mutants, and writes it to the file of a device where one is asked for.
///
/// # Errors
/// `Usage` when the file cannot be written.
pub fn deliver(run: &MutantRun, target: &Target, device: Option<&str>) -> Result<(), Failure> {
    let to_stdout = target.output.as_deref() == Some(Path::new("-"));
    let format = if to_stdout { Format::Json } else { target.format };
    let text = match format {
        Format::Json => to_json(run),
        Format::Csv => report::mutants::csv(run),
        Format::Markdown => report::mutants::markdown(run),
        Format::Table => report::mutants::table(run, COLOUR, width()),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
    match target.output.as_deref().filter(|_| !to_stdout) {
        None => Ok(()),
        Some(path) => {
            let path = path_for(path, device);
            write_atomically(&path, to_json(run).as_bytes()).map_err(failure)
        }
    }
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
