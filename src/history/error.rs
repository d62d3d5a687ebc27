//! What can go wrong with the history, in three lines: what, why, what to do.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(
        "there is no history at {}\nnothing was added to it yet\n\
         add results with: fusebench history add FILE…", .path.display()
    )]
    Missing { path: PathBuf },

    #[error(
        "cannot open the history {}\n{why}\n\
         choose another file with --store FILE or FUSEBENCH_STORE", .path.display()
    )]
    Unopenable { path: PathBuf, why: String },

    #[error(
        "{} is no history of fusebench\n{why}\n\
         choose another file with --store FILE or FUSEBENCH_STORE; it was left as it is",
        .path.display()
    )]
    Foreign { path: PathBuf, why: String },

    #[error(
        "the history {} has version {found}\nthis fusebench knows versions up to {known}\n\
         use the newer fusebench, or another file with --store FILE; it was left as it is",
        .path.display()
    )]
    Newer { path: PathBuf, found: i64, known: usize },

    #[error(
        "the history {} is in use\nanother program kept it locked for {seconds:.0} s\n\
         nothing was changed: try again when it is done", .path.display()
    )]
    Busy { path: PathBuf, seconds: f64 },

    #[error(
        "cannot write the history {}\n{why}\n\
         nothing was changed: make it writable, or choose another file with --store FILE",
        .path.display()
    )]
    ReadOnly { path: PathBuf, why: String },

    #[error(
        "cannot write the history {}\n{why}\n\
         nothing was changed: free some space, and add the files again", .path.display()
    )]
    Full { path: PathBuf, why: String },

    #[error(
        "the history {} is damaged\n{why}\n\
         move it away and make it again: fusebench history rebuild FILE…", .path.display()
    )]
    Damaged { path: PathBuf, why: String },

    #[error(
        "the history {} did not answer\n{why}\n\
         this may be a bug in fusebench: please report it", .path.display()
    )]
    Other { path: PathBuf, why: String },

    #[error(
        "{missing} of the {stored} runs in {} are not in the files given\nthe first: {first}\n\
         give their files too, or --force to drop those runs", .path.display()
    )]
    WouldDrop { path: PathBuf, missing: usize, stored: usize, first: String },
}

impl HistoryError {
    /// What SQLite's error means to the user; `busy_s` is how long it waited for a lock.
    pub(super) fn of(path: &Path, error: &rusqlite::Error, busy_s: f64) -> HistoryError {
        let (path, why) = (path.to_path_buf(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                HistoryError::Busy { path, seconds: busy_s }
            }
            Some(ErrorCode::ReadOnly) => HistoryError::ReadOnly { path, why },
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
                HistoryError::Full { path, why }
            }
            Some(ErrorCode::NotADatabase) => HistoryError::Foreign { path, why },
            Some(ErrorCode::DatabaseCorrupt) => HistoryError::Damaged { path, why },
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                HistoryError::Unopenable { path, why }
            }
            _ => HistoryError::Other { path, why },
        }
    }
}
