//! The noise file: how far each cell is from itself on each fingerprint, as `selftest` found it.
//! Small, kept in the user's data folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::read::read_if_there;
use super::store::{to_json, write_atomically};
use crate::compare::noise::MOST;

/// The version this build writes, and the only one it reads: noise can be measured anew.
pub const NOISE_VERSION: u32 = 1;

/// The noise of cells on every fingerprint that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    pub noise_version: u32,
    pub fingerprints: Vec<FingerprintNoise>,
}

/// The noise of cells on one fingerprint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FingerprintNoise {
    /// DEVICE-ENV.
    pub fingerprint: String,
    pub cells: Vec<CellNoise>,
}

/// The noise of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellNoise {
    /// `KERNEL/VARIANT/DTYPE/SHAPE`.
    pub id: String,
    /// `safe` or `trusted`.
    pub checks: String,
    /// Length of a sample in seconds: shorter ones are noisier.
    pub sample_s: f64,
    /// 95th percentile of |log ratio| of the cell against itself.
    pub noise: f64,
    /// RFC 3339, UTC.
    pub measured: String,
}

impl Default for Noise {
    fn default() -> Self {
        Noise { noise_version: NOISE_VERSION, fingerprints: Vec::new() }
    }
}

impl Noise {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read, holds no noise, or is one of another version.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let Some(bytes) = read_if_there(path)? else { return Ok(Self::default()) };
        Self::parse(&bytes).map_err(|why| StoreError::NotNoise { path: path.to_path_buf(), why })
    }

    /// What a file holds, or why it is no noise file of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            noise_version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version.noise_version != NOISE_VERSION {
            let found = version.noise_version;
            return Err(format!("its noise_version is {found}, not {NOISE_VERSION}"));
        }
        let found: Noise = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let cells = found.fingerprints.iter().flat_map(|one| &one.cells);
        match cells.into_iter().find(|cell| !(0.0..=MOST).contains(&cell.noise)) {
            Some(cell) => {
                let (id, noise) = (cell.id.escape_debug(), cell.noise);
                Err(format!("the noise of {id} is {noise}, which is not from 0 to {MOST}"))
            }
            None => Ok(found),
        }
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        write_atomically(path, to_json(self).as_bytes())
    }

    /// The noise of a cell on a fingerprint: of samples of `sample_s` seconds or, where those are
    /// unknown, of the next shorter ones.
    pub fn of(&self, fingerprint: &str, id: &str, checks: &str, sample_s: f64) -> Option<f64> {
        let here = self.fingerprints.iter().find(|one| one.fingerprint == fingerprint)?;
        let fits =
            |cell: &&CellNoise| cell.id == id && cell.checks == checks && cell.sample_s <= sample_s;
        let longest = here.cells.iter().filter(fits);
        longest.max_by(|a, b| a.sample_s.total_cmp(&b.sample_s)).map(|cell| cell.noise)
    }

    /// Puts a cell in the place of what an earlier measurement of the same kind said.
    pub fn insert(&mut self, fingerprint: &str, cell: CellNoise) {
        let at = self.fingerprints.iter().position(|one| one.fingerprint == fingerprint);
        let at = at.unwrap_or_else(|| {
            let fingerprint = fingerprint.to_owned();
            self.fingerprints.push(FingerprintNoise { fingerprint, cells: Vec::new() });
            self.fingerprints.len() - 1
        });
        let cells = &mut self.fingerprints[at].cells;
        let key = |c: &CellNoise| (c.id.clone(), c.checks.clone(), c.sample_s.to_bits());
        cells.retain(|known| key(known) != key(&cell));
        cells.push(cell);
        cells.sort_by_key(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(noise: f64, sample_s: f64) -> CellNoise {
        CellNoise {
            id: "softmax/thread/f32/r3n5".to_owned(),
            checks: "safe".to_owned(),
            sample_s,
            noise,
            measured: "2026-11-24T00:00:00Z".to_owned(),
        }
    }

    fn of(found: &Noise, fingerprint: &str, sample_s: f64) -> Option<f64> {
        found.of(fingerprint, "softmax/thread/f32/r3n5", "safe", sample_s)
    }

    #[test]
    fn a_cell_replaces_what_was_known_of_it_on_its_own_fingerprint_alone() {
        let mut found = Noise::default();
        found.insert("aaaa-1", cell(0.1, 0.02));
        found.insert("aaaa-2", cell(0.2, 0.02));
        found.insert("aaaa-1", cell(0.3, 0.02));
        assert_eq!(of(&found, "aaaa-1", 0.02), Some(0.3));
        assert_eq!(of(&found, "aaaa-2", 0.02), Some(0.2));
        assert_eq!(of(&found, "aaaa-3", 0.02), None);
        assert_eq!(found.of("aaaa-1", "softmax/thread/f32/r3n5", "trusted", 0.02), None);
        assert_eq!(found.of("aaaa-1", "softmax/thread/f32/r3n6", "safe", 0.02), None);
    }

    #[test]
    fn samples_as_long_count_before_shorter_ones_and_longer_ones_never() {
        let mut found = Noise::default();
        found.insert("aaaa-1", cell(0.1, 0.02));
        assert_eq!(of(&found, "aaaa-1", 0.005), None);
        found.insert("aaaa-1", cell(0.4, 0.005));
        assert_eq!(of(&found, "aaaa-1", 0.005), Some(0.4));
        assert_eq!(of(&found, "aaaa-1", 0.02), Some(0.1));
        assert_eq!(of(&found, "aaaa-1", 0.01), Some(0.4));
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("noise.json");
        assert_eq!(Noise::read(&path).expect("nothing yet"), Noise::default());
        let mut found = Noise::default();
        found.insert("aaaa-1", cell(0.1, 0.02));
        found.write(&path).expect("written");
        assert_eq!(Noise::read(&path).expect("read"), found);
        let absurd = to_json(&found).replace("0.1,", "1e9,");
        for (text, word) in [
            (r#"{"noise_version": 2}"#, "not 1"),
            (r#"{"noise_version": 1}"#, "fingerprints"),
            (r#"{"tuning_version": 1, "devices": []}"#, "noise_version"),
            ("{", "EOF"),
            ("[]", "invalid"),
            (absurd.as_str(), "not from 0 to 5"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = Noise::read(&path).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("noise.json"), "{error}");
        }
        let folder = Noise::read(dir.path()).expect_err("a folder").to_string();
        assert!(folder.contains("cannot read"), "{folder}");
    }
}
