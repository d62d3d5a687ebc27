//! What a supervisor and its worker process say to each other: one JSON object a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dump::DumpedCell;
use super::schema::{Device, Environment, OmittedPeak, Peak, Row, Timer};

/// Raised with every change of a message; a worker of another version is refused.
pub const PROTOCOL: u32 = 6;

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
    /// Calibrate clock and canary, for a comparison that measures no ceilings.
    Calibrate,
    /// Verify one side of a cell and keep it ready.
    Side(SideRequest),
    /// Time a few samples of what is kept.
    Visit(VisitRequest),
    /// Forget every side of a cell.
    Release { id: String },
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
    /// The same of the head in a comparison of shaders.
    #[serde(default)]
    pub head: Vec<(String, String)>,
    pub seed: u32,
    /// `safe` or `trusted`.
    pub checks: String,
    /// Ceilings measured by an earlier worker of the same run.
    pub peaks: Option<Vec<Peak>>,
    /// Tensors that every cell takes from files.
    pub inputs: Vec<InputFile>,
    /// Their values need not be finite.
    pub allow_nonfinite: bool,
}

/// A tensor that the worker reads by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InputFile {
    pub name: String,
    pub path: PathBuf,
    /// In a file that holds several.
    pub tensor: Option<String>,
}

/// One cell by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellRequest {
    pub id: String,
    pub preset: String,
    /// The cell of the preset whose shape the tensors from files replaced.
    pub fitted_from: Option<String>,
    /// Override constants with other values than the variant's own.
    pub constants: Vec<(String, f64)>,
    /// Which of the kernel's mutants to put into its shader, counted from 0.
    pub mutant: Option<usize>,
    pub task: TaskRequest,
}

/// Which side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    Base,
    Head,
    /// The base once more.
    Control,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Base => "base",
            Side::Head => "head",
            Side::Control => "control",
        }
    }
}

/// One side of a cell, to be verified and kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SideRequest {
    pub id: String,
    pub preset: String,
    pub side: Side,
    /// Reference operations for each distribution.
    pub flops: f64,
    /// Length of the readings that tell how long a dispatch takes.
    pub span_s: f64,
}

/// Samples of one cell, in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VisitRequest {
    pub id: String,
    /// New buffers first, after a look at what the old ones hold.
    pub rebuild: bool,
    pub samples: Vec<Sample>,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub side: Side,
    /// Dispatches, those injected on purpose included.
    pub dispatches: u32,
    /// Dispatches of the canary injected behind them.
    pub canaries: u32,
}

/// What the clocks said of a sample, in seconds of the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleTime {
    /// `None` when the clock gave no possible time.
    pub seconds: Option<f64>,
    /// The canary behind it, where the device's clock is watched.
    pub canary_s: Option<f64>,
}

/// One kernel's cell and where its arrays go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DumpRequest {
    pub id: String,
    pub preset: String,
    /// As for a [`CellRequest`].
    pub fitted_from: Option<String>,
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
    /// Clock and canary are known: the timer, and the seconds of one dispatch of the canary.
    Calibrated {
        timer: Timer,
        canary_s: f64,
        /// What the buffers of all cells together may take.
        residency_bytes: u64,
    },
    /// A side is verified and kept, or the row says why not.
    Side {
        row: Box<Row>,
        /// Seconds of one dispatch.
        dispatch_s: Option<f64>,
        /// Hash of the shader and constants as run.
        hash: String,
        lost: bool,
    },
    Visited {
        times: Vec<SampleTime>,
        /// An output changed while it was timed: which side's, and how.
        wrong: Option<(Side, String)>,
    },
    /// A visit failed.
    VisitFailed {
        side: Option<Side>,
        reason: String,
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
