//! What is compared: `--base` and `--head` as shaders or as a program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cli::exit::Failure;
use crate::cli::overlay;
use crate::record::SideRecord;
use crate::suite::{Item, Sources, owner};

/// Where a repository keeps its shaders.
const FOLDER: &str = "kernels/";

/// One side.
#[derive(Clone, Debug)]
pub enum Source {
    Shaders {
        record: SideRecord,
        /// `FAMILY/NAME` and the WGSL text.
        overlay: Vec<(String, String)>,
        /// The kernels this side has, `FAMILY/NAME`; all of the program's where none is named.
        kernels: Option<BTreeSet<String>>,
    },
    Binary(PathBuf),
}

impl Source {
    /// The shaders of this program.
    pub fn builtin() -> Self {
        shaders("builtin", None, Vec::new(), None)
    }

    /// Whether this side has the kernel, or a kernel of the pipeline: its other stages run the
    /// shaders of this program.
    pub fn has(&self, item: &Item) -> bool {
        match self {
            Source::Shaders { kernels: Some(kernels), .. } => {
                item.kernels().iter().any(|path| kernels.contains(path))
            }
            _ => true,
        }
    }
}

fn shaders(
    kind: &str,
    commit: Option<String>,
    overlay: Vec<(String, String)>,
    kernels: Option<BTreeSet<String>>,
) -> Source {
    let mut sources = Sources::default();
    overlay.iter().for_each(|(path, text)| sources.replace(path, text.clone()));
    let record = SideRecord { kind: kind.to_owned(), commit, kernels_hash: sources.hash() };
    Source::Shaders { record, overlay, kernels }
}

/// What `text`, given with `flag`, names: `builtin`, else a folder, a file, or a git revision.
///
/// # Errors
/// `Usage` for a folder without kernels and a name that is nothing of all that.
pub fn resolve(flag: &str, text: &str) -> Result<Source, Failure> {
    let path = Path::new(text);
    if text == "builtin" {
        Ok(Source::builtin())
    } else if path.is_dir() {
        let overlay = overlay::read(flag, path)?;
        let kernels = owners(&overlay);
        Ok(shaders("folder", None, overlay, Some(kernels)))
    } else if path.is_file() {
        let absolute = path.canonicalize();
        let unreadable = |error| Failure::usage(format!("{flag} {text}: {error}"));
        absolute.map(Source::Binary).map_err(unreadable)
    } else {
        revision(flag, text)
    }
}

/// Both shaders or both programs, or there is nothing to hold equal.
///
/// # Errors
/// `Usage` for one of each.
pub fn alike(base: Source, head: Source) -> Result<(Source, Source), Failure> {
    let binary = |source: &Source| matches!(source, Source::Binary(_));
    if binary(&base) == binary(&head) {
        return Ok((base, head));
    }
    let (one, other) = if binary(&base) { ("--base", "--head") } else { ("--head", "--base") };
    let message = format!("{one} is a program and {other} is not: compare two fusebench binaries");
    Err(Failure::usage(format!("{message}, or two of folders, revisions and `builtin`")))
}

/// The shaders of a git revision of the repository round the working folder.
fn revision(flag: &str, text: &str) -> Result<Source, Failure> {
    let unknown = |why: &str| {
        let tried = "no folder, no file and no git revision";
        Failure::usage(format!("{flag} {text}: {tried}: {why}"))
    };
    let commit = format!("{text}^{{commit}}");
    let found = git(&["rev-parse", "--verify", "--end-of-options", &commit]);
    let commit = found.map_err(|why| unknown(&why))?.trim().to_owned();
    let listing = git(&["ls-tree", "-r", "--name-only", "--full-tree", &commit, "--", FOLDER]);
    let listing = listing.map_err(|why| unknown(&why))?;
    let shader = |line: &str| Some(line.strip_prefix(FOLDER)?.strip_suffix(".wgsl")?.to_owned());
    let paths: Vec<String> = listing.lines().filter_map(shader).collect();
    if paths.is_empty() {
        let message = format!("{flag} {text}: this revision has no shader under {FOLDER}");
        return Err(Failure::usage(message));
    }
    let (known, foreign): (Vec<String>, Vec<String>) =
        paths.into_iter().partition(|path| owner(path).is_some());
    if !foreign.is_empty() {
        let names = foreign.join(", ");
        anstream::eprintln!("fusebench: {flag} {text}: left out, not in this program: {names}");
    }
    let mut overlay = Vec::new();
    for path in known {
        let file = format!("{commit}:{FOLDER}{path}.wgsl");
        overlay.push((path, git(&["show", &file]).map_err(|why| unknown(&why))?));
    }
    let kernels = owners(&overlay);
    let short = commit.chars().take(12).collect();
    Ok(shaders("revision", Some(short), overlay, Some(kernels)))
}

/// `FAMILY/NAME` of the kernels whose shaders these are.
fn owners(overlay: &[(String, String)]) -> BTreeSet<String> {
    overlay.iter().filter_map(|(path, _)| Some(owner(path)?.path())).collect()
}

/// What git prints, or the first line of why it does not.
fn git(arguments: &[&str]) -> Result<String, String> {
    let ran = Command::new("git").args(arguments).output();
    let Output { status, stdout, stderr } = ran.map_err(|error| format!("git: {error}"))?;
    if status.success() {
        return String::from_utf8(stdout).map_err(|_| "a shader is not UTF-8".to_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(format!("git says {}", said.lines().next().unwrap_or("nothing")))
}
