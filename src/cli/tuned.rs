//! What tuning found, applied to the cells of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::data_folder::WINNERS;
use super::exit::Failure;
use super::output;
use crate::record::{Environment, Tuning};
use crate::suite::{Chosen, Item, Layer, Sources, choose};

/// Winners on devices that were tuned and looked at before a release.
const SHIPPED: &str = include_str!("tuned.json");

/// Writes the winners.
///
/// # Errors
/// `Usage` when the file cannot be written.
pub fn keep(tuning: &Tuning, path: &Path) -> Result<(), Failure> {
    tuning.write(path).map_err(|error| WINNERS.unwritable(path, &error))
}

/// The winners that count and where they come from: the user's own file first, then what ships.
///
/// # Errors
/// `Usage` when the file cannot be read.
fn layers(path: Option<&Path>) -> Result<[(&'static str, Tuning); 2], Failure> {
    let read = |path: PathBuf| Tuning::read(&path).map_err(output::failure);
    // Without a data folder there is nothing of the user's to read.
    let own = WINNERS.to_read(path).map_or_else(|| Ok(Tuning::default()), read)?;
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
    let chosen = choose(items, device, &layers, sources);
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

    /// Takes out winners of other shaders than these; how many.
    fn drop_stale(tuning: &mut Tuning, sources: &Sources) -> usize {
        let current = |winner: &Winner| {
            let entry = ALL.iter().find(|entry| entry.name == winner.kernel);
            entry.is_some_and(|entry| {
                let known = entry.kernel.spec().variants.iter().any(|v| v.name == winner.variant);
                known && winner.shader == sources.hash_of(entry)
            })
        };
        let winners =
            |tuning: &Tuning| tuning.devices.iter().map(|d| d.winners.len()).sum::<usize>();
        let before = winners(tuning);
        tuning.devices.iter_mut().for_each(|device| device.winners.retain(current));
        before - winners(tuning)
    }

    /// Drops what is out of date, so that it passes when run twice.
    #[test]
    fn what_ships_is_of_the_shaders_as_they_are() {
        let mut shipped = Tuning::parse(SHIPPED.as_bytes()).expect("a tuning file");
        let dropped = drop_stale(&mut shipped, &Sources::default());
        if dropped > 0 {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/tuned.json");
            keep(&shipped, Path::new(path)).expect("the file is ours");
            panic!("{dropped} winners of shaders that changed are dropped; see scripts/tuned");
        }
    }

    #[test]
    fn a_winner_of_another_shader_or_of_no_strategy_does_not_stay() {
        let sources = Sources::default();
        let softmax = ALL.iter().find(|entry| entry.name == "softmax").expect("a kernel");
        let shader = sources.hash_of(softmax);
        let mut tuning = Tuning::default();
        let cases = [("thread", &*shader, "a"), ("thread", "0", "b"), ("none", &*shader, "c")];
        for (variant, shader, class) in cases {
            let winner = serde_json::json!({
                "kernel": "softmax", "dtype": "f32", "class": class, "variant": variant,
                "shape": "r3n5", "gain": 1.0, "tried": 1, "shader": shader, "tuned": "",
            });
            let winner = serde_json::from_value(winner).expect("a winner");
            tuning.insert("aaaa-1", "GPU", "vulkan", winner);
        }
        assert_eq!(drop_stale(&mut tuning, &sources), 2);
        assert_eq!(tuning.devices[0].winners[0].class, "a");
    }
}
