//! What `selftest` learnt of each cell's noise, kept for `ab` and `compare`.

use std::path::{Path, PathBuf};

use super::data_folder::NOISE;
use super::exit::Failure;
use super::output;
use crate::record::{CellNoise, Comparison, Noise};

/// What is known of cells; nothing where there is no file.
///
/// # Errors
/// `Usage` when the file cannot be read.
pub fn read(named: Option<&Path>) -> Result<Noise, Failure> {
    let read = |path: PathBuf| Noise::read(&path).map_err(output::failure);
    // Without a data folder there is nothing of the user's to read.
    NOISE.to_read(named).map_or_else(|| Ok(Noise::default()), read)
}

/// Where noise is kept that is yet to be measured.
pub struct Keeper(Option<PathBuf>);

impl Keeper {
    /// Finds a path that nobody can write to before anything is measured.
    ///
    /// # Errors
    /// `Usage` for such a path, or one that holds something else.
    pub fn open(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = NOISE.path(named) else { return Ok(Keeper(None)) };
        let known = Noise::read(&path).map_err(output::failure)?;
        NOISE.make_folder(&path)?;
        known.write(&path).map_err(|error| NOISE.unwritable(&path, &error))?;
        Ok(Keeper(Some(path)))
    }

    /// Adds the noise of a selftest to what the file holds by now, and says where it went.
    ///
    /// # Errors
    /// `Usage` when the file cannot be written.
    pub fn keep(&self, found: &Comparison) -> Result<(), Failure> {
        let Some(path) = &self.0 else {
            let why = NOISE.homeless();
            anstream::eprintln!("fusebench: the noise of cells is not kept: {why}");
            return Ok(());
        };
        let cells: Vec<CellNoise> = measured(found);
        if cells.is_empty() {
            return Ok(());
        }
        let n = cells.len();
        let mut known = Noise::read(path).map_err(output::failure)?;
        let fingerprint = &found.environment.fingerprint;
        cells.into_iter().for_each(|cell| known.insert(fingerprint, cell));
        known.write(path).map_err(|error| NOISE.unwritable(path, &error))?;
        let plural = if n == 1 { "" } else { "s" };
        anstream::eprintln!(
            "fusebench: kept the noise of {n} cell{plural} in {}: floor of ab and compare",
            path.display()
        );
        Ok(())
    }
}

fn measured(found: &Comparison) -> Vec<CellNoise> {
    let environment = &found.environment;
    let measured = environment.finished.as_ref().unwrap_or(&environment.started);
    let cell = |row: &crate::record::ComparedRow| {
        Some(CellNoise {
            id: row.id.clone(),
            checks: row.checks.clone(),
            sample_s: found.protocol.sample_s,
            noise: row.noise?,
            measured: measured.clone(),
        })
    };
    found.rows.iter().filter_map(cell).collect()
}
