//! ONNX Runtime on the CPU: a Python process that takes orders (`onnx_runtime.py`).

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use fusebench::inputs::Inputs;
use fusebench::npy::{self, Kind};
use fusebench::params::Scalar;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::cases::Case;
use crate::contender::{Contender, Result};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/onnx_runtime.py");
/// Where `scripts/oracles` puts it.
const FETCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.oracles/onnxruntime");

/// The running interpreter.
pub struct OnnxRuntime {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
    folder: TempDir,
}

impl OnnxRuntime {
    /// Starts `python3`, or what FUSEBENCH_TEST_PYTHON names; fails where it cannot import
    /// `onnx` and `onnxruntime`.
    pub fn start() -> Result<Self> {
        let named = env::var_os("FUSEBENCH_TEST_PYTHON");
        let program = named.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let installed = env::var_os("PYTHONPATH").unwrap_or_default();
        let paths = [PathBuf::from(FETCHED)].into_iter().chain(env::split_paths(&installed));
        let path = env::join_paths(paths)?;
        let command = || {
            let mut command = Command::new(&program);
            command.env("PYTHONPATH", &path);
            command
        };
        let import = command().args(["-c", "import onnx, onnxruntime"]).output();
        if !import.is_ok_and(|output| output.status.success()) {
            return Err("no python3 with onnx and onnxruntime: run scripts/oracles".into());
        }
        let mut child =
            command().arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().ok_or("the process has no standard input")?;
        let replies = child.stdout.take().ok_or("the process has no standard output")?;
        let folder = tempfile::tempdir()?;
        Ok(OnnxRuntime { child, orders, replies: BufReader::new(replies), folder })
    }

    pub fn version(&mut self) -> Result<String> {
        let reply = self.order(&json!({ "version": null }))?;
        Ok(reply["version"].as_str().ok_or("no version in its reply")?.to_owned())
    }

    /// Builds the model of a case; fails where ONNX has no such operator.
    pub fn load(&mut self, case: &Case, inputs: &Inputs) -> Result<()> {
        let folder = self.folder.path().to_owned();
        for entry in fs::read_dir(&folder)? {
            fs::remove_file(entry?.path())?;
        }
        for tensor in &inputs.tensors {
            let path = folder.join(format!("{}.npy", tensor.name));
            let mut file = BufWriter::new(File::create(path)?);
            npy::write(&mut file, Kind::of(tensor.elem), tensor.dims(), &tensor.bytes())?;
            file.flush()?;
        }
        let params: Map<String, Value> = inputs
            .params
            .scalars()
            .map(|(name, value)| match value {
                Scalar::Size(size) => (name.to_owned(), json!(size)),
                Scalar::Real(real) => (name.to_owned(), json!(real)),
            })
            .collect();
        let (kernel, option) = (case.entry.name, case.shape.option());
        let order = json!({"load": kernel, "folder": folder, "option": option, "params": params});
        self.order(&order).map(drop)
    }

    fn order(&mut self, order: &Value) -> Result<Value> {
        writeln!(self.orders, "{order}")?;
        self.orders.flush()?;
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        if line.is_empty() {
            return Err("the process has ended: its messages are above".into());
        }
        let reply: Value = serde_json::from_str(&line)?;
        match reply["error"].as_str() {
            // The rest of a message of ONNX Runtime is a trace.
            Some(error) => Err(error.lines().next().unwrap_or_default().into()),
            None => Ok(reply),
        }
    }
}

impl Contender for &mut OnnxRuntime {
    fn time(&mut self, runs: u32) -> Result<f64> {
        let reply = self.order(&json!({ "run": runs }))?;
        reply["seconds"].as_f64().ok_or_else(|| "no seconds in its reply".into())
    }

    fn answer(&mut self) -> Result<Vec<Vec<f32>>> {
        let folder = self.folder.path().to_owned();
        let reply = self.order(&json!({ "answer": folder }))?;
        let count = reply["outputs"].as_u64().ok_or("no outputs in its reply")?;
        (0..count).map(|output| read(&folder.join(format!("{output}.f32")))).collect()
    }
}

fn read(path: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(path)?;
    let words = bytes.chunks_exact(4);
    Ok(words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}

impl Drop for OnnxRuntime {
    fn drop(&mut self) {
        // It would end with its input, too; nothing is lost by not waiting for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
