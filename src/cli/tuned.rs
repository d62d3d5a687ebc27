//! What tuning found, applied to the cells of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::data_folder::data_folder;
use super::exit::Failure;
use super::output;
use crate::record::{Environment, Tuning};
use crate::suite::{Chosen, Item, Layer, Sources, choose};

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

/// The winners that count and where they come from: the user's own file first, then what ships.
///
/// # Errors
/// `Usage` when the file cannot be read.
fn layers(path: Option<&Path>) -> Result<[(&'static str, Tuning); 2], Failure> {
    let own = match path.map(Path::to_path_buf).map_or_else(default_path, Ok) {
        // Without a data folder there is nothing of the user's to read.
        Err(_) => Tuning::default(),
        Ok(path) => Tuning::read(&path).map_err(output::failure)?,
    };
    let shipped = Tuning::parse(SHIPPED.as_bytes()).expect("tests read it");
    Ok([("tuned here", own), ("shipped for this device", shipped)])
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
    let (device, tunings) = (&environment.device, layers(path)?);
    let mut layers = Vec::new();
    for (origin, tuning) in &tunings {
        let found = tuning.of(&environment.fingerprint, &device.name, &device.backend);
        layers.extend(found.map(|found| Layer { origin, winners: &found.winners }));
    }
    let chosen = choose(items, &layers, sources);
    tell(&chosen);
    Ok(chosen)
}

fn tell(chosen: &Chosen) {
    let mut cells: BTreeMap<&str, usize> = BTreeMap::new();
    for origin in chosen.tuned.values() {
        *cells.entry(origin).or_default() += 1;
    }
    for (origin, cells) in cells {
        anstream::eprintln!(
            "fusebench: {cells} cells run the strategy that won ({origin}), without its rivals; \
             --untuned runs all"
        );
    }
    let stale = chosen.stale;
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
    use crate::kernels::ALL;
    use crate::record::Winner;

    /// Drops what is out of date, so that it passes when run twice.
    #[test]
    fn what_ships_is_of_the_shaders_as_they_are() {
        let mut shipped = Tuning::parse(SHIPPED.as_bytes()).expect("a tuning file");
        let sources = Sources::default();
        let current = |winner: &Winner| {
            let entry = ALL.iter().find(|entry| entry.name == winner.kernel);
            entry.is_some_and(|entry| {
                let known = entry.kernel.spec().variants.iter().any(|v| v.name == winner.variant);
                known && winner.shader == sources.hash_of(entry)
            })
        };
        let mut dropped = 0;
        for device in &mut shipped.devices {
            let before = device.winners.len();
            device.winners.retain(current);
            dropped += before - device.winners.len();
        }
        if dropped > 0 {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/tuned.json");
            keep(&shipped, Path::new(path)).expect("the file is ours");
            panic!("{dropped} winners of shaders that changed are dropped; see scripts/tuned");
        }
    }
}
