//! The tuning file: which strategy wins where, per device. Small, kept in the user's data folder
//! and shipped for devices that are known.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::read::read_if_there;
use super::store::{to_json, write_atomically};

/// The version this build writes, and the only one it reads: a tuning file can be made anew.
pub const TUNING_VERSION: u32 = 1;

/// Winners on every device that was tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    pub tuning_version: u32,
    pub devices: Vec<TunedDevice>,
}

/// Winners on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunedDevice {
    /// The first half of the fingerprint, or empty for every device of this name.
    pub fingerprint: String,
    /// Name of the adapter.
    pub name: String,
    pub backend: String,
    pub winners: Vec<Winner>,
}

/// The fastest verified strategy for one kernel, precision and class of shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Winner {
    pub kernel: String,
    pub dtype: String,
    /// How the floating-point side of i8 and i4 is stored, which other precisions say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float: Option<String>,
    /// Sizes rounded down to powers of four.
    pub class: String,
    pub variant: String,
    /// Override constants that are not the variant's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, f64>,
    /// The shape it was measured on.
    pub shape: String,
    /// Time of the strategy that the rules choose, over this one's; 1 when they agree.
    pub gain: f64,
    /// Strategies and constants tried, the rules' choice among them.
    pub tried: u32,
    /// Hash of the shader's text: a winner among other shaders is out of date.
    pub shader: String,
    /// RFC 3339, UTC.
    pub tuned: String,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { tuning_version: TUNING_VERSION, devices: Vec::new() }
    }
}

impl Tuning {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read, is no tuning file, or is one of another version.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let Some(bytes) = read_if_there(path)? else { return Ok(Self::default()) };
        Self::parse(&bytes).map_err(|why| StoreError::NotTuning { path: path.to_path_buf(), why })
    }

    /// What a file holds, or why it is no tuning file of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            tuning_version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version.tuning_version != TUNING_VERSION {
            let found = version.tuning_version;
            return Err(format!("its tuning_version is {found}, not {TUNING_VERSION}"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        write_atomically(path, to_json(self).as_bytes())
    }

    /// The winners on a device: its own before those of every device of its name.
    pub fn of(&self, fingerprint: &str, name: &str, backend: &str) -> Option<&TunedDevice> {
        let half = device_half(fingerprint);
        let own = self.devices.iter().find(|device| device.fingerprint == half);
        own.or_else(|| {
            let named = |device: &&TunedDevice| {
                let like = !device.name.is_empty() && name.starts_with(&device.name);
                device.fingerprint.is_empty() && like && device.backend == backend
            };
            self.devices.iter().find(named)
        })
    }

    /// Puts a winner in the place of an earlier one on the same device.
    pub fn insert(&mut self, fingerprint: &str, name: &str, backend: &str, winner: Winner) {
        let half = device_half(fingerprint);
        let position = self.devices.iter().position(|device| device.fingerprint == half);
        let position = position.unwrap_or_else(|| {
            self.devices.push(TunedDevice {
                fingerprint: half.to_owned(),
                name: name.to_owned(),
                backend: backend.to_owned(),
                winners: Vec::new(),
            });
            self.devices.len() - 1
        });
        let winners = &mut self.devices[position].winners;
        let key =
            |w: &Winner| (w.kernel.clone(), w.dtype.clone(), w.float.clone(), w.class.clone());
        winners.retain(|known| key(known) != key(&winner));
        winners.push(winner);
        winners.sort_by_key(key);
    }
}

/// The half of a fingerprint that says which device it is.
fn device_half(fingerprint: &str) -> &str {
    fingerprint.split('-').next().unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(variant: &str) -> Winner {
        Winner {
            kernel: "softmax".to_owned(),
            dtype: "f32".to_owned(),
            float: None,
            class: "r256n256".to_owned(),
            variant: variant.to_owned(),
            constants: BTreeMap::from([("WG".to_owned(), 16.0)]),
            shape: "r384n257".to_owned(),
            gain: 1.5,
            tried: 7,
            shader: "0".to_owned(),
            tuned: "2026-11-24T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn a_winner_replaces_the_one_before_it_on_its_own_device_alone() {
        let mut tuning = Tuning::default();
        tuning.insert("aaaa-1", "GPU A", "vulkan", winner("thread"));
        tuning.insert("bbbb-1", "GPU B", "vulkan", winner("thread"));
        tuning.insert("aaaa-2", "GPU A", "vulkan", winner("subgroup"));
        let of = |print: &str| tuning.of(print, "", "vulkan").expect("tuned").winners.clone();
        assert_eq!(of("aaaa-3"), [winner("subgroup")]);
        assert_eq!(of("bbbb-3"), [winner("thread")]);
        assert_eq!(tuning.of("cccc-1", "GPU A", "vulkan"), None);
    }

    #[test]
    fn a_device_of_a_known_name_takes_what_ships_for_it_unless_it_was_tuned_itself() {
        let mut tuning = Tuning::default();
        tuning.insert("", "llvmpipe", "vulkan", winner("thread"));
        let name = "llvmpipe (LLVM 15.0.6, 256 bits)";
        assert!(tuning.of("aaaa-1", name, "vulkan").is_some());
        assert!(tuning.of("aaaa-1", name, "gl").is_none());
        tuning.insert("aaaa-1", name, "vulkan", winner("subgroup"));
        let own = tuning.of("aaaa-1", name, "vulkan").expect("tuned");
        assert_eq!(own.winners[0].variant, "subgroup");
    }

    #[test]
    fn what_is_written_is_read_back_and_another_version_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tuning.json");
        assert_eq!(Tuning::read(&path).expect("nothing yet"), Tuning::default());
        let mut tuning = Tuning::default();
        tuning.insert("aaaa-1", "GPU A", "vulkan", winner("thread"));
        tuning.write(&path).expect("written");
        assert_eq!(Tuning::read(&path).expect("read"), tuning);
        for (text, word) in [
            (r#"{"tuning_version": 2}"#, "not 1"),
            (r#"{"tuning_version": 1}"#, "devices"),
            ("{", "EOF"),
            ("[]", "invalid"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = Tuning::read(&path).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("tuning.json"), "{error}");
        }
    }
}
