//! The folder of a dump: refused or made, filled, and described.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::exit::Failure;
use crate::npy;
use crate::record::{DumpedFile, Manifest, Role, write_atomically};
use crate::suite::Array;

pub const MANIFEST: &str = "manifest.json";
pub const SCRIPT: &str = "check.py";
/// What the script in every dump says.
const SCRIPT_TEXT: &str = include_str!("check.py");

/// A folder that can be written to.
pub struct Folder {
    pub path: PathBuf,
    /// Whether it was not there before.
    made: bool,
}

impl Folder {
    /// Makes the folder, or takes one that is there: an empty one, or with `force` any.
    ///
    /// # Errors
    /// `Usage` when it holds something or cannot be written to, found by writing to it.
    pub fn open(path: &Path, force: bool) -> Result<Self, Failure> {
        if path.to_str().is_none_or(|text| text == "-" || text.is_empty()) {
            let message = format!("cannot dump to `{}`", path.display());
            return Err(Failure::usage(format!(
                "{message}\na dump is a folder of files, with a name in UTF-8\n\
                 give a folder with -o, such as -o dump"
            )));
        }
        let unwritable = |error: io::Error| {
            let path = path.display();
            Failure::usage(format!("cannot dump to {path}\n{error}\nchoose another folder with -o"))
        };
        let made = match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() && !force {
                    return Err(occupied(path));
                }
                false
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(unwritable)?;
                true
            }
            Err(error) => return Err(unwritable(error)),
        };
        let folder = Folder { path: path.to_path_buf(), made };
        let probe = path.join(".fusebench-probe");
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).map_err(unwritable)?;
        Ok(folder)
    }

    /// Takes back what [`Folder::open`] did, where nothing was dumped.
    pub fn abandon(&self) {
        if self.made {
            // Only an empty folder is removed.
            drop(fs::remove_dir(&self.path));
        }
    }

    /// Removes the manifest of an older dump, which would describe files about to change.
    pub fn begin(&self) -> Result<(), Failure> {
        match fs::remove_file(self.path.join(MANIFEST)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let path = self.path.display();
                Err(Failure::usage(format!("cannot replace {MANIFEST} in {path}\n{error}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes the script and the manifest, the last files of a dump.
    pub fn finish(&self, manifest: &Manifest) -> Result<(), Failure> {
        let script = write_atomically(&self.path.join(SCRIPT), SCRIPT_TEXT.as_bytes());
        script.map_err(|error| Failure::usage(error.to_string()))?;
        let mut text = serde_json::to_string_pretty(manifest).expect("keys are strings");
        text.push('\n');
        let written = write_atomically(&self.path.join(MANIFEST), text.as_bytes());
        written.map_err(|error| Failure::usage(error.to_string()))
    }
}

fn occupied(path: &Path) -> Failure {
    let path = path.display();
    Failure::usage(format!(
        "{path} is not empty\na dump never overwrites what it finds\n\
         choose another folder with -o, or write into this one with --force"
    ))
}

/// Name of the folder of one cell inside the dump.
pub fn cell_folder(id: &str) -> String {
    id.replace('/', "-")
}

/// Writes the arrays of a cell under `folder` and describes each file.
pub fn write(folder: &Path, id: &str, arrays: &[Array]) -> io::Result<Vec<DumpedFile>> {
    let inside = cell_folder(id);
    if !arrays.is_empty() {
        fs::create_dir_all(folder.join(&inside))?;
    }
    let one = |array: &Array| {
        // A name in a shader holds no hyphen, so that the ends collide with no other name.
        let end = match array.role {
            Role::Input | Role::Original | Role::Output => "",
            Role::Reference => "-reference",
            Role::Bound => "-bound",
        };
        let path = format!("{inside}/{}{end}.npy", array.name);
        let mut out = BufWriter::new(File::create(folder.join(&path))?);
        npy::write(&mut out, array.kind, &array.shape, &array.bytes)?;
        out.flush()?;
        Ok(DumpedFile {
            name: array.name.to_owned(),
            role: array.role,
            stored_as: array.stored_as.to_owned(),
            path,
            dtype: array.kind.descr().to_owned(),
            shape: array.shape.iter().map(|&size| size as u64).collect(),
        })
    };
    arrays.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::inputs::{Distribution, Scalar};
    use crate::kernel::Preset;
    use crate::suite::cells;

    #[test]
    fn no_two_cells_share_a_folder_and_no_two_arrays_a_file() {
        for preset in Preset::ALL {
            let mut seen = HashSet::new();
            for cell in cells(preset) {
                // Some file systems do not tell capitals from small letters.
                assert!(seen.insert(cell_folder(&cell.id()).to_lowercase()), "{}", cell.id());
            }
        }
        for cell in cells(Preset::Smoke).into_iter().filter(|cell| cell.work().bytes < 1e5) {
            let inputs = cell.inputs(Distribution::Normal, 1);
            let launch = cell.launch();
            let tensors = inputs.tensors.iter().chain(&inputs.originals).map(|t| t.name);
            let mut seen = HashSet::new();
            for name in tensors.chain(launch.outputs.iter().map(|output| output.name)) {
                assert!(!name.contains('-'), "{name}");
                assert!(seen.insert(name.to_lowercase()), "{name} twice in {}", cell.id());
            }
            for (name, scalar) in inputs.params.scalars() {
                let finite = !matches!(scalar, Scalar::Real(value) if !value.is_finite());
                assert!(finite, "{name} of {} has no place in JSON", cell.id());
            }
        }
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new/dump");
        Folder::open(&path, false).expect("made").abandon();
        assert!(!path.exists(), "an abandoned dump leaves nothing");
        Folder::open(dir.path(), false).map(drop).expect_err("`new` is in it");
        fs::write(dir.path().join("mine"), "precious").expect("a file");
        let folder = Folder::open(dir.path(), true).expect("forced");
        folder.abandon();
        assert_eq!(fs::read_to_string(dir.path().join("mine")).expect("kept"), "precious");
    }

    #[test]
    fn a_path_that_is_no_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("a file");
        for path in [file.as_path(), &file.join("inside"), Path::new("-")] {
            let failure = Folder::open(path, true).map(drop).expect_err("no folder");
            assert!(failure.message.contains("cannot dump to"), "{}", failure.message);
        }
    }
}
