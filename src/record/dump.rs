//! The manifest of a dump: which array is in which file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schema::{Device, Row, Tool};

/// What `format` says in every manifest.
pub const DUMP_FORMAT: &str = "fusebench-dump";
/// The version of the manifest that this build writes.
pub const DUMP_VERSION: u32 = 1;

/// `manifest.json` of a dump on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub format_version: u32,
    /// False when the dump was interrupted or its worker was lost.
    pub complete: bool,
    pub fusebench: Tool,
    pub device: Device,
    /// The command line, every path replaced by `PATH`.
    pub arguments: Vec<String>,
    pub preset: String,
    pub seed: u32,
    /// Distribution of the input data.
    pub inputs: String,
    pub cells: Vec<DumpedCell>,
}

/// One cell: its row as `check` gives it, over all output rows and this distribution only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpedCell {
    #[serde(flatten)]
    pub row: Row,
    /// The uniform parameters of the shader.
    pub params: BTreeMap<String, Param>,
    /// Empty when the cell did not run.
    pub files: Vec<DumpedFile>,
}

/// A scalar that the shader is given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Param {
    Size(u32),
    /// An f32, written without loss.
    Real(f64),
}

/// One `.npy` file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpedFile {
    /// Of the buffer in the shader; a reference and a bound have that of their output.
    pub name: String,
    pub role: Role,
    /// How the device stores it: `f32`, `f16`, `u32`, `i32`, `i8`, `i4` or `u2`.
    pub stored_as: String,
    /// Relative to the manifest, with `/`.
    pub path: String,
    /// NumPy's name of the type: `<f4`.
    pub dtype: String,
    pub shape: Vec<u64>,
}

/// What an array is to the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Uploaded.
    Input,
    /// What compressed inputs were made from; never uploaded.
    Original,
    /// Read back from the device.
    Output,
    /// The exact answer in f64.
    Reference,
    /// Largest error of the output that the WGSL specification allows; infinite where it allows
    /// any value.
    Bound,
}
