//! `--kernels DIR`: shaders that replace the embedded ones.

use std::fs;
use std::path::{Path, PathBuf};

use super::exit::Failure;
use super::select::nearest;
use crate::kernels::ALL;
use crate::suite::owner;

/// Deepest folder looked into: FAMILY/NAME.wgsl.
const DEPTH: usize = 2;

/// The shaders of a folder, where one is given.
///
/// # Errors
/// As for [`read`].
pub fn of(dir: Option<&Path>) -> Result<Vec<(String, String)>, Failure> {
    dir.map(|dir| read("--kernels", dir)).transpose().map(Option::unwrap_or_default)
}

/// Reads every `FAMILY/NAME.wgsl` under `dir`, which came with `flag`.
///
/// # Errors
/// When the folder cannot be read, holds no shader, or holds one that matches no kernel.
pub fn read(flag: &str, dir: &Path) -> Result<Vec<(String, String)>, Failure> {
    let mut files = Vec::new();
    collect(flag, dir, DEPTH, &mut files)?;
    files.sort();
    if files.is_empty() {
        let dir = dir.display();
        let layout = "it needs files named FAMILY/NAME.wgsl, such as normalize/layer_norm.wgsl";
        return Err(Failure::usage(format!("{flag} {dir}: no .wgsl file in it; {layout}")));
    }
    files.iter().map(|file| one(flag, dir, file)).collect()
}

fn collect(flag: &str, dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(dir).map_err(|error| unreadable(flag, dir, &error))? {
        let path = entry.map_err(|error| unreadable(flag, dir, &error))?.path();
        if path.is_dir() && depth > 1 {
            collect(flag, &path, depth - 1, files)?;
        } else if path.extension().is_some_and(|extension| extension == "wgsl") {
            files.push(path);
        }
    }
    Ok(())
}

fn one(flag: &str, dir: &Path, file: &Path) -> Result<(String, String), Failure> {
    let relative = file.strip_prefix(dir).unwrap_or(file).with_extension("");
    let path = relative.components().map(|part| part.as_os_str().to_string_lossy());
    let path = path.collect::<Vec<_>>().join("/");
    if owner(&path).is_none() {
        let shaders = ALL.iter().flat_map(|entry| entry.shaders());
        let known: Vec<String> = shaders.map(|(path, _)| path).collect();
        let near = nearest(&path, known.iter().map(String::as_str));
        let message = format!("{flag}: {path}.wgsl matches no kernel; did you mean {near}?");
        return Err(Failure::usage(message));
    }
    let text = fs::read_to_string(file).map_err(|error| unreadable(flag, file, &error))?;
    Ok((path, text))
}

fn unreadable(flag: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{flag}: cannot read {}: {error}", path.display()))
}
