//! What a supervisor and its worker process say to each other: one JSON object a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dump::DumpedCell;
use super::schema::{Device, Environment, OmittedPeak, Peak, Row, Timer};

/// Raised with every change of a message; a worker of another version is refused.
pub const PROTOCOL: u32 = 4;

/// To the worker, on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// List every adapter.
    Devices,
    /// Open a device; the first request of a suite.
    Open(Setup),
    /// Measure the ceilings of the device.
    Peaks,
    /// Do one cell.
    Cell(CellRequest),
    /// Write the arrays of one cell.
    Dump(DumpRequest),
    /// End the cell under way after its current sample.
    Stop,
}

/// What a worker keeps for its whole life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub protocol: u32,
    /// As given by the user; `None` for the best device.
    pub device: Option<String>,
    /// Replaced shaders: `FAMILY/NAME` and the WGSL text.
    pub overlay: Vec<(String, String)>,
    pub seed: u32,
    /// `safe` or `trusted`.
    pub checks: String,
    /// Ceilings measured by an earlier worker of the same run.
    pub peaks: Option<Vec<Peak>>,
}

/// One cell by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellRequest {
    pub id: String,
    pub preset: String,
    /// Override constants with other values than the variant's own.
    pub constants: Vec<(String, f64)>,
    /// Which of the kernel's mutants to put into its shader, counted from 0.
    pub mutant: Option<usize>,
    pub task: TaskRequest,
}

/// One kernel's cell and where its arrays go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DumpRequest {
    pub id: String,
    pub preset: String,
    /// Name of the input distribution.
    pub inputs: String,
    /// Folder of the whole dump; the cell gets one of its own inside.
    pub folder: PathBuf,
    /// A cell whose files would take more is skipped.
    pub limit_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TaskRequest {
    Check {
        flops: f64,
    },
    Run {
        quick: bool,
        limit_s: f64,
        /// Longest the cell may take in all before it is skipped.
        allowance_s: f64,
    },
}

/// From the worker, on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    Devices(Vec<Device>),
    Opened(Box<Environment>),
    Peaks {
        peaks: Vec<Peak>,
        omitted: Vec<OmittedPeak>,
        timer: Timer,
    },
    /// Progress: what comes next, and how long it may take.
    Alive {
        stage: String,
        expect_s: f64,
    },
    Row {
        row: Box<Row>,
        /// The device is gone and the worker with it.
        lost: bool,
    },
    /// The files of a cell are written.
    Dumped {
        cell: Box<DumpedCell>,
        /// As for a row.
        lost: bool,
    },
    /// The request cannot be done; the code is the exit code it calls for.
    Failed {
        code: u8,
        message: String,
    },
}
