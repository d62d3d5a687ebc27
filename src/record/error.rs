//! What can go wrong with a result file, in three lines: what, why, what to do.

use std::io;
use std::path::PathBuf;

use super::schema::FORMAT_VERSION;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot write results to {}\n{source}\n\
         choose another path with -o, or -o - for standard output", .path.display()
    )]
    Unwritable { path: PathBuf, source: io::Error },

    #[error(
        "cannot finish {}\n{source}\n\
         the rows measured so far are in {}, which every command reads", .path.display(),
        .partial.display()
    )]
    Unfinished { path: PathBuf, partial: PathBuf, source: io::Error },

    #[error(
        "cannot record {id}\n{field} is not a finite number\n\
         this is a bug in fusebench: please report it with the id and the device"
    )]
    NotFinite { id: String, field: String },

    #[error("cannot read {}\n{source}\ncheck the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },

    #[error(
        "{} is not a result file\n{why}\n\
         pass a file that `fusebench run -o FILE` or `fusebench check -o FILE` wrote",
        .path.display()
    )]
    NotAResult { path: PathBuf, why: String },

    #[error(
        "{} holds a value that no run writes\n{field}: {why}\n\
         it was changed or damaged: take another copy, or measure again with fusebench run -o FILE",
        .path.display()
    )]
    Unsound { path: PathBuf, field: String, why: String },

    #[error(
        "{} is not a comparison\n{why}\n\
         pass a file that `fusebench ab -o FILE` wrote", .path.display()
    )]
    NotAComparison { path: PathBuf, why: String },

    #[error(
        "{} has format_version {found}\nthis fusebench reads format_version {FORMAT_VERSION}\n{}",
        .path.display(), next_step(found)
    )]
    Version { path: PathBuf, found: String },

    #[error(
        "{} is not a tuning file\n{why}\nremove it and tune again: fusebench tune", .path.display()
    )]
    NotTuning { path: PathBuf, why: String },

    #[error(
        "{} does not hold the noise of cells\n{why}\n\
         remove it, or name another with --noise FILE, and measure again: fusebench selftest",
        .path.display()
    )]
    NotNoise { path: PathBuf, why: String },
}

/// There is no older format yet, so every file from elsewhere needs another program.
fn next_step(found: &str) -> &'static str {
    match found.parse::<u64>() {
        Ok(version) if version > u64::from(FORMAT_VERSION) => {
            "read it with the fusebench that wrote it, or update this one: cargo install fusebench"
        }
        _ => "measure again with this fusebench: fusebench run -o FILE",
    }
}
