//! Where a program keeps what it learned, by the conventions of each system.

use std::env::var_os;
use std::path::{Path, PathBuf};

use super::exit::Failure;

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

/// A kind of file that is kept for later runs, in the data folder unless a flag names another.
pub struct Kept {
    /// As in "cannot keep … in FILE".
    what: &'static str,
    name: &'static str,
    flag: &'static str,
}

pub const WINNERS: Kept = Kept { what: "winners", name: "tuning.json", flag: "--tuning" };
pub const NOISE: Kept = Kept { what: "the noise of cells", name: "noise.json", flag: "--noise" };

impl Kept {
    /// The file that was named, or the one in the data folder if the user has such a folder.
    pub fn path(&self, named: Option<&Path>) -> Option<PathBuf> {
        named.map(Path::to_path_buf).or_else(|| data_folder().map(|folder| folder.join(self.name)))
    }

    /// The same to read, where a name that leads nowhere may be a slip.
    pub fn to_read(&self, named: Option<&Path>) -> Option<PathBuf> {
        if let Some(path) = named.filter(|path| !path.exists()) {
            let (what, path) = (self.what, path.display());
            anstream::eprintln!("fusebench: {path} is not there: nothing is known of {what}");
        }
        self.path(named)
    }

    /// Makes the folder that the file is to be in.
    ///
    /// # Errors
    /// `Usage` when that cannot be done.
    pub fn make_folder(&self, path: &Path) -> Result<(), Failure> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let made = folder.map_or(Ok(()), std::fs::create_dir_all);
        made.map_err(|error| self.unwritable(path, &error))
    }

    /// What is wrong with a file that cannot be written, and what to do.
    pub fn unwritable(&self, path: &Path, error: &dyn std::error::Error) -> Failure {
        let Kept { what, flag, .. } = self;
        let (path, why) = (path.display(), error.source().unwrap_or(error));
        let advice = format!("choose another path with {flag} FILE");
        Failure::usage(format!("cannot keep {what} in {path}\n{why}\n{advice}"))
    }

    /// Why there is no file, and what to do.
    pub fn homeless(&self) -> String {
        format!("there is no data folder for this user; pass {} FILE", self.flag)
    }
}
