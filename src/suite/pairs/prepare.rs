//! Both sides of a cell made ready: compiled, verified, and timed roughly.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Kept, Pairs, Prepared, Ready, same, stage, steps};
use crate::gpu::{Program, Step};
use crate::inputs::Distribution;
use crate::measure::{possible_s, stats};
use crate::record::{Row, Side, SideRequest, Status, fnv1a};
use crate::suite::cell::Cell;
use crate::suite::chain::Chain;
use crate::suite::item::Item;
use crate::suite::pipeline_cell::Ran;
use crate::suite::session::{CellError, Session};
use crate::suite::task::within_emulation;
use crate::suite::timing;
use crate::suite::verify::{Checked, Scope, verify};

/// Readings of which a dispatch's time is the median, once they are long enough.
const READINGS: usize = 3;
/// Most growth of the batch from one reading to the next.
const GROWTH: f64 = 8.0;
const MAX_BATCH: u32 = 1_000;

impl Session {
    /// Verifies one side of a cell, keeps it, and says how long a dispatch takes.
    pub fn prepare_side(
        &mut self,
        pairs: &mut Pairs,
        item: &Item,
        request: &SideRequest,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Prepared {
        let mut row = item.row(Status::Ok, None, self.checks().name());
        match self.try_side(pairs, item, request, &mut row, alive) {
            Ok((dispatch_s, hash)) => {
                Prepared { row, dispatch_s: Some(dispatch_s), hash, lost: false }
            }
            Err(error) => {
                row.status = error.status;
                row.reason = Some(error.reason);
                Prepared { row, dispatch_s: None, hash: String::new(), lost: error.fatal }
            }
        }
    }

    fn try_side(
        &mut self,
        pairs: &mut Pairs,
        item: &Item,
        request: &SideRequest,
        row: &mut Row,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<(f64, String), CellError> {
        self.refuse_side(item)?;
        if self.canary.is_none() {
            self.calibrate()?;
        }
        alive(stage("compiling", request.side), 0.0);
        let chain = self.drawn_chain(item)?;
        let head = request.side == Side::Head;
        let texts = chain.texts(if head { &pairs.head } else { &self.sources });
        let hash = hash(&texts, &chain);
        let programs = chain.compile(&self.gpu, &texts, self.checks())?;
        alive(stage("verifying", request.side), 0.0);
        let known = pairs
            .kept
            .get(&request.id)
            .and_then(|kept| Some((kept, kept.sides.values().find(|ready| ready.texts == texts)?)));
        let outputs = match known {
            // The same shader again need not be held to the reference, only to the first answer.
            Some((kept, ready)) => {
                row.accuracy.clone_from(&ready.row.accuracy);
                row.device_bytes = ready.row.device_bytes;
                let steps = steps(&programs, &kept.sets);
                self.gpu.run(&steps)?;
                let outputs = self.read_all(&steps)?;
                same(&outputs, &ready.outputs)?;
                outputs
            }
            None => {
                let ran = self.verified_side(item, chain, programs.clone(), request, row, alive)?;
                let sets = ran.prepared.0.into_iter().map(|step| step.set).collect();
                let (chain, sides) = (ran.chain, BTreeMap::new());
                let kept = Kept { chain, sets, sides, last: None, rebuilds: 0 };
                pairs.kept.entry(request.id.clone()).or_insert(kept);
                ran.outputs
            }
        };
        let kept = pairs.kept.get_mut(&request.id).expect("just inserted");
        kept.sides.insert(request.side, Ready { programs, texts, outputs, row: row.clone() });
        kept.last = None;
        Ok((self.dispatch_s(kept, request, alive)?, hash))
    }

    /// What keeps a cell from being compared at all.
    fn refuse_side(&self, item: &Item) -> Result<(), CellError> {
        match item {
            Item::Kernel(cell) => {
                if let Some(reason) = self.unsupported(cell) {
                    return Err(CellError::new(Status::Unsupported, reason));
                }
                if cell.is_empty() {
                    let reason = "nothing to time: the output is empty".to_owned();
                    return Err(CellError::new(Status::Skipped, reason));
                }
                if self.gpu.report.emulated {
                    within_emulation(&cell.work(), cell.variant.suits)?;
                }
            }
            Item::Pipeline(cell) if self.gpu.report.emulated => cell.within_emulation()?,
            Item::Pipeline(_) => {}
        }
        Ok(())
    }

    fn drawn_chain(&self, item: &Item) -> Result<Chain, CellError> {
        match item {
            Item::Kernel(cell) => {
                let inputs = cell.inputs(Distribution::Normal, self.seed);
                Ok(Chain::alone(cell.clone(), inputs))
            }
            Item::Pipeline(cell) => Chain::new(self, cell, cell.dtype),
        }
    }

    /// Holds every stage to its reference; the row gets the error and the memory it took.
    fn verified_side(
        &self,
        item: &Item,
        mut chain: Chain,
        programs: Vec<Program>,
        request: &SideRequest,
        row: &mut Row,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<Ran, CellError> {
        let cell = match item {
            Item::Kernel(cell) => cell,
            Item::Pipeline(cell) => {
                let ran = self.run_chain(chain, programs)?;
                row.device_bytes = Some(ran.prepared.bytes());
                self.judge_chain(cell, request.flops, &ran, row)?;
                return Ok(ran);
            }
        };
        let distributions = cell.timed_distributions();
        let scope = Scope { distributions, flops: request.flops, seed: self.seed };
        let mut verifying = |_, expect_s| alive(stage("verifying", request.side), expect_s);
        let inputs = Arc::new(chain.inputs.remove(0));
        let verdict = verify(&self.gpu, &programs[0], cell, &scope, inputs, &mut verifying)?;
        row.accuracy = Some(verdict.accuracy);
        row.device_bytes = Some(verdict.first.set.bytes);
        if let Some(failure) = verdict.failure {
            return Err(failure.into());
        }
        let Checked { inputs, set, outputs } = verdict.first;
        let prepared = timing::Prepared(vec![Step { program: programs[0].clone(), set }]);
        let chain = Chain::alone(cell.clone(), Arc::unwrap_or_clone(inputs));
        Ok(Ran { chain, programs, prepared, outputs: vec![outputs] })
    }

    /// Seconds of one dispatch, from readings that were lengthened to the span.
    fn dispatch_s(
        &self,
        kept: &Kept,
        request: &SideRequest,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<f64, CellError> {
        let steps = kept.steps(request.side);
        let (mut batch, mut times_s) = (1_u32, Vec::new());
        while times_s.len() < READINGS {
            alive(stage("timing", request.side), 0.0);
            let reading = self.clocks.time(&self.gpu, &steps, batch)?;
            let seconds = possible_s(&reading).unwrap_or(reading.wall_s).max(1e-9);
            let dispatch_s = seconds / f64::from(batch);
            if seconds >= 0.5 * request.span_s || batch == MAX_BATCH {
                times_s.push(dispatch_s);
            } else {
                let most = (GROWTH * f64::from(batch)).min(f64::from(MAX_BATCH));
                let wanted = (request.span_s / dispatch_s).ceil().min(most);
                batch = (wanted as u32).max(batch + 1).min(MAX_BATCH);
            }
        }
        Ok(stats::median(&times_s))
    }
}

/// What tells two programs apart: the texts as compiled and every constant.
fn hash(texts: &[String], chain: &Chain) -> String {
    let stage = |(text, cell): (&String, &Cell)| {
        let launch = cell.launch();
        let shaped: Vec<String> = launch
            .dispatches
            .iter()
            .map(|dispatch| {
                format!("{} {:?} {:?}", dispatch.entry, dispatch.grid, dispatch.constants)
            })
            .collect();
        format!("{text}\0{:?}\0{}", cell.variant.constants, shaped.join("\0"))
    };
    let all: Vec<String> = texts.iter().zip(&chain.cells).map(stage).collect();
    format!("{:032x}", fnv1a(all.join("\0\0").as_bytes()))
}
