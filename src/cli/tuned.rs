//! What tuning found, applied to the cells of a run.

use std::path::{Path, PathBuf};

use super::data_folder::data_folder;
use super::exit::Failure;
use super::output;
use crate::record::{Environment, Tuning};
use crate::suite::{Chosen, Item, Sources, choose};

/// Winners on devices that were tuned and looked at before a release.
const SHIPPED: &str = include_str!("tuned.json");

/// Where winners are kept when no flag says.
///
/// # Errors
/// `Usage` when the user has no data folder.
pub fn default_path() -> Result<PathBuf, Failure> {
    let advice = "there is no data folder for this user; pass --tuning FILE";
    data_folder().map(|dir| dir.join("tuning.json")).ok_or_else(|| Failure::usage(advice))
}

/// Writes the winners.
///
/// # Errors
/// `Usage` when the file cannot be written.
pub fn keep(tuning: &Tuning, path: &Path) -> Result<(), Failure> {
    tuning.write(path).map_err(|error| unwritable(path, &error))
}

/// A tuning file that cannot be written, and what to do.
pub fn unwritable(path: &Path, error: &dyn std::error::Error) -> Failure {
    let (path, why) = (path.display(), error.source().unwrap_or(error));
    let advice = "choose another path with --tuning FILE";
    Failure::usage(format!("cannot keep winners in {path}\n{why}\n{advice}"))
}

/// The winners that count on a device, and where they come from: the user's own file first, then
/// what ships.
///
/// # Errors
/// `Usage` when the file cannot be read.
fn winners(path: Option<&Path>) -> Result<[(Tuning, &'static str); 2], Failure> {
    let own = match path.map(Path::to_path_buf).map_or_else(default_path, Ok) {
        // Without a data folder there is nothing of the user's to read.
        Err(_) => Tuning::default(),
        Ok(path) => Tuning::read(&path).map_err(output::failure)?,
    };
    let shipped = Tuning::parse(SHIPPED.as_bytes()).expect("tests read it");
    Ok([(own, "tuned here"), (shipped, "shipped for this device")])
}

/// Leaves of each tuned kernel only the winner, and says so.
///
/// # Errors
/// `Usage` when the tuning file cannot be read.
pub fn apply(
    items: Vec<Item>,
    environment: &Environment,
    sources: &Sources,
    path: Option<&Path>,
) -> Result<Chosen, Failure> {
    let device = &environment.device;
    for (tuning, origin) in winners(path)? {
        let found = tuning.of(&environment.fingerprint, &device.name, &device.backend);
        let Some(found) = found else { continue };
        let chosen = choose(items, found, sources);
        tell(&chosen, origin);
        return Ok(chosen);
    }
    Ok(Chosen { items, ..Chosen::default() })
}

fn tell(chosen: &Chosen, origin: &str) {
    let (tuned, stale) = (chosen.tuned.len(), chosen.stale);
    if tuned > 0 {
        anstream::eprintln!(
            "fusebench: {tuned} cells run the strategy that won ({origin}), without its rivals; \
             --untuned runs all"
        );
    }
    if stale > 0 {
        anstream::eprintln!(
            "fusebench: {stale} winners are of shaders that changed and count for nothing; \
             `fusebench tune` renews them"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_a_tuning_file() {
        assert!(Tuning::parse(SHIPPED.as_bytes()).is_ok());
    }
}
