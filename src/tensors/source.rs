//! `NAME=FILE[:TENSOR]`: which file a tensor is in, and reading it.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use crate::given::FileTensor;

const NPY: &str = ".npy";
const SAFETENSORS: &str = ".safetensors";

/// One `--input`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Of the input in the kernel.
    pub name: String,
    pub path: PathBuf,
    /// Which tensor of a file that holds several.
    pub tensor: Option<String>,
}

/// What is wrong with a file: the field, the problem, and what to do. Names neither the file nor
/// its values, so that it may be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}\n{next}")]
pub struct Unreadable {
    pub field: String,
    pub problem: String,
    pub next: String,
}

impl Unreadable {
    pub fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Unreadable { field: field.into(), problem: problem.into(), next: next.into() }
    }

    pub(super) fn io(field: &str, error: &io::Error) -> Self {
        Unreadable::new(field, error.to_string(), "check the path and its permissions")
    }
}

impl Source {
    /// # Errors
    /// What is missing, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` names no input: write NAME=FILE[:TENSOR], such as w=model.npy")
        })?;
        if name.is_empty() || file.is_empty() {
            return Err(format!("`{text}`: write NAME=FILE[:TENSOR], such as w=model.npy"));
        }
        let (path, tensor) = split(file)?;
        Ok(Source { name: name.to_owned(), path: path.into(), tensor: tensor.map(str::to_owned) })
    }

    /// Reads the tensor.
    ///
    /// # Errors
    /// When the file cannot be read or is not what its name says.
    pub fn read(&self) -> Result<FileTensor, Unreadable> {
        let unreadable = |error: io::Error| Unreadable::io("file", &error);
        // A named pipe would wait for its writer.
        let found = std::fs::metadata(&self.path).map_err(unreadable)?;
        if !found.is_file() {
            let next = "give the path of a .npy or .safetensors file";
            return Err(Unreadable::new("file", "it is no regular file", next));
        }
        let file = File::open(&self.path).map_err(unreadable)?;
        // The size of what was opened, which is what sizes in the file are held against.
        let len = file.metadata().map_err(unreadable)?.len();
        let mut reader = BufReader::new(file);
        if self.path.to_string_lossy().ends_with(NPY) {
            super::read_npy(&mut reader, len)
        } else {
            super::read_safetensors(&mut reader, len, self.tensor.as_deref())
        }
    }
}

/// The path and the name of the tensor.
fn split(file: &str) -> Result<(&str, Option<&str>), String> {
    if file.ends_with(NPY) || file.ends_with(SAFETENSORS) {
        return Ok((file, None));
    }
    if let Some((before, tensor)) = file.split_once(".safetensors:") {
        let path = &file[..before.len() + SAFETENSORS.len()];
        return match tensor {
            "" => Err(format!("`{file}` ends with a colon: name the tensor behind it")),
            _ => Ok((path, Some(tensor))),
        };
    }
    if file.contains(".npy:") {
        return Err(format!("`{file}`: a .npy file holds one array, leave `:TENSOR` out"));
    }
    Err(format!("`{file}` is neither .npy nor .safetensors: numpy.save writes the former"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_name_a_file_and_perhaps_a_tensor() {
        let parse = |text: &str| Source::parse(text).expect("well formed");
        let plain = parse("x=some/dir=1/a.npy");
        assert_eq!((plain.name.as_str(), plain.tensor), ("x", None));
        assert_eq!(plain.path, PathBuf::from("some/dir=1/a.npy"));
        let named = parse("w=C:\\m.safetensors:layer.0:weight");
        assert_eq!(named.path, PathBuf::from("C:\\m.safetensors"));
        assert_eq!(named.tensor.as_deref(), Some("layer.0:weight"));
        assert_eq!(parse("w=m.safetensors").tensor, None);
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, says) in [
            ("a.npy", "names no input"),
            ("=a.npy", "NAME=FILE"),
            ("x=", "NAME=FILE"),
            ("x=a.npy:t", "holds one array"),
            ("x=m.safetensors:", "name the tensor"),
            ("x=a.npz", "neither .npy nor .safetensors"),
        ] {
            let why = Source::parse(text).expect_err(text);
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("a.npy");
        std::fs::create_dir(&folder).expect("a folder");
        let source = |path: &str| Source::parse(&format!("x={path}")).expect("well formed");
        let why = source(folder.to_str().expect("UTF-8")).read().expect_err("a folder");
        assert_eq!(why.problem, "it is no regular file");
        let why = source("no/such/file.safetensors").read().expect_err("nothing");
        assert_eq!(why.field, "file");
    }
}
