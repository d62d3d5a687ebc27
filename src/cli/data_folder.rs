//! Where a program keeps what it learned, by the conventions of each system.

use std::env::var_os;
use std::path::PathBuf;

/// The folder of this program inside the user's data folder; it need not exist yet.
pub fn data_folder() -> Option<PathBuf> {
    let absolute = |name| var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(target_os = "windows") {
        absolute("APPDATA")
    } else if cfg!(target_os = "macos") {
        absolute("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        // The XDG Base Directory Specification: relative paths count for nothing.
        absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("fusebench"))
}
