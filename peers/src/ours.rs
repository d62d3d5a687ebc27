//! fusebench's own side: the fastest strategy that suits the device.

use std::time::Instant;

use fusebench::gpu::Checks;
use fusebench::record::Status;
use fusebench::suite::{Cell, Effort, Item, Prepared, Session, Task};

use crate::cases::Case;
use crate::contender::{Contender, Result};

/// What the quick timing of a strategy may take. It is verified before, on random values and on
/// integers, by all the gates.
const TASK: Task = Task::Run { effort: Effort::Quick, limit_s: 0.3, allowance_s: 600.0 };

/// The case by every strategy that the device can run and that was made for devices of its kind.
pub fn candidates(session: &Session, case: &Case) -> Vec<Cell> {
    let emulated = session.gpu().report.emulated;
    let suits = |cell: &Cell| {
        let gpu_only = cell.variant.suits == fusebench::kernel::Suits::Gpu;
        session.supports(cell) && !(emulated && gpu_only)
    };
    case.cells().into_iter().filter(suits).collect()
}

/// The fastest of the candidates that are right.
pub fn fastest(session: &mut Session, candidates: &[Cell]) -> Result<Cell> {
    let mut best: Option<(f64, &Cell)> = None;
    for cell in candidates {
        let (row, _device_lost) = session.run(&Item::Kernel(cell.clone()), &TASK, &mut |_, _| {});
        let reason = || format!("{}: {}", cell.id(), row.reason.clone().unwrap_or_default());
        match (row.status, &row.time) {
            (Status::Ok, Some(time)) if best.is_none_or(|(median, _)| time.median < median) => {
                best = Some((time.median, cell));
            }
            // A wrong kernel of ours is a finding, however fast the others are.
            (Status::Wrong | Status::Error, _) => return Err(reason().into()),
            _ => {}
        }
    }
    let found = best.map(|(_, cell)| cell.clone());
    found.ok_or_else(|| "no strategy runs here".into())
}

/// One strategy, compiled, with its inputs uploaded.
pub struct Ours<'a> {
    session: &'a Session,
    cell: Cell,
    prepared: Prepared,
}

impl<'a> Ours<'a> {
    pub fn new(session: &'a Session, cell: Cell, checks: Checks) -> Result<Self> {
        let prepared = session.prepare_with(&cell, checks)?;
        Ok(Ours { session, cell, prepared })
    }
}

impl Contender for Ours<'_> {
    fn time(&mut self, runs: u32) -> Result<f64> {
        let started = Instant::now();
        self.session.time(&self.prepared, runs)?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn answer(&mut self) -> Result<Vec<Vec<f32>>> {
        let outputs = self.session.gpu().read(&self.prepared.0[0].set)?;
        let buffers = self.cell.launch().outputs;
        let values = outputs.iter().zip(&buffers).map(|(output, buffer)| {
            let values = buffer.elem.decode(&output.bytes, buffer.len());
            values.into_iter().map(|value| value as f32).collect()
        });
        Ok(values.collect())
    }
}
