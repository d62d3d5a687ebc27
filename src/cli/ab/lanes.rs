//! The workers of a comparison: one for shaders, three for programs (base, head, and the base once
//! more for the control arm), of which only one is ever busy.

use std::collections::BTreeMap;

use super::contest::{Ready, Settled};
use super::flags::PairFlags;
use super::sides::Source;
use crate::cli::args::Global;
use crate::cli::crew::Crew;
use crate::cli::exit::Failure;
use crate::compare::plan::Injection;
use crate::compare::{Block, Order};
use crate::record::{
    Environment, Event, PROTOCOL, Request, Sample, SampleTime, Setup, Side, SideRequest, Status,
    Timer, VisitRequest,
};

/// Reference operations spent on each distribution of a side.
const FLOPS: f64 = 5e6;

pub struct Lanes<'a> {
    crews: Vec<Crew>,
    flags: &'a PairFlags,
    /// What the workers keep, and of which generation.
    kept: BTreeMap<(String, Side), u32>,
    pub environments: Vec<Environment>,
    pub timer: Timer,
    /// Seconds of one dispatch of the canary.
    pub canary_s: f64,
    /// What the buffers of all cells may take.
    pub residency_bytes: u64,
}

impl<'a> Lanes<'a> {
    /// Starts the workers.
    ///
    /// # Errors
    /// `Usage` for a program that does not speak to this one, else as for `run`.
    pub fn open(
        flags: &'a PairFlags,
        global: &Global,
        base: &Source,
        head: &Source,
    ) -> Result<Self, Failure> {
        let programs = match (base, head) {
            (Source::Binary(base), Source::Binary(head)) => {
                vec![Some(base.clone()), Some(head.clone()), Some(base.clone())]
            }
            _ => vec![None],
        };
        let overlay = |source: &Source| match source {
            Source::Shaders { overlay, .. } => overlay.clone(),
            Source::Binary(_) => Vec::new(),
        };
        let (mut crews, mut environments) = (Vec::new(), Vec::new());
        for program in programs {
            let setup = Setup {
                protocol: PROTOCOL,
                device: flags.device.clone(),
                overlay: overlay(base),
                head: overlay(head),
                seed: flags.seed,
                checks: flags.checks.name().to_owned(),
                peaks: Some(Vec::new()),
                inputs: Vec::new(),
                allow_nonfinite: false,
            };
            let other = program.is_some();
            let opened = Crew::muster_of(program.clone(), setup, global.verbose, flags.patience);
            let (crew, environment) = opened.map_err(|failure| {
                let name = program.unwrap_or_default();
                let message = format!("{}: {}", name.display(), failure.message);
                // A driver that fails here would fail in this program too.
                if other { Failure::usage(message) } else { failure }
            })?;
            crews.push(crew);
            environments.push(environment);
        }
        let mut lanes = Lanes {
            crews,
            flags,
            kept: BTreeMap::new(),
            environments,
            timer: Timer::default(),
            canary_s: 0.0,
            residency_bytes: 0,
        };
        lanes.calibrate()?;
        Ok(lanes)
    }

    fn calibrate(&mut self) -> Result<(), Failure> {
        for crew in &mut self.crews {
            match crew.ask(Request::Calibrate, &mut |_| {}) {
                Ok(Event::Calibrated { timer, canary_s, residency_bytes }) => {
                    (self.timer, self.canary_s) = (timer, canary_s);
                    self.residency_bytes = residency_bytes;
                }
                Ok(other) => {
                    return Err(Failure::environment(format!("unexpected answer {other:?}")));
                }
                Err(reason) => return Err(Failure::environment(reason)),
            }
        }
        Ok(())
    }

    fn lane(&self, side: Side) -> usize {
        if self.crews.len() == 1 { 0 } else { side as usize }
    }

    /// Whether the device keeps taking workers down.
    pub fn exhausted(&self) -> bool {
        self.crews.iter().any(Crew::exhausted)
    }

    /// Forgets a cell's buffers.
    pub fn release(&mut self, id: &str) {
        for crew in &mut self.crews {
            crew.tell(&Request::Release { id: id.to_owned() });
        }
        self.kept.retain(|(kept, _), _| kept != id);
    }

    /// Verifies one side of a cell and keeps it.
    ///
    /// # Errors
    /// How its worker was lost.
    pub fn prepare(&mut self, id: &str, side: Side) -> Result<Ready, String> {
        let request = SideRequest {
            id: id.to_owned(),
            preset: self.flags.selection.preset().name().to_owned(),
            side,
            flops: FLOPS,
            span_s: self.flags.sample_s(),
        };
        let lane = self.lane(side);
        let crew = &mut self.crews[lane];
        match crew.ask(Request::Side(request), &mut |_| {})? {
            Event::Side { row, dispatch_s, hash, .. } => {
                if let (Status::Ok, Some(generation)) = (row.status, crew.generation()) {
                    self.kept.insert((id.to_owned(), side), generation);
                }
                Ok(Ready { row: *row, dispatch_s, hash })
            }
            Event::Failed { message, .. } => Err(message),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    /// Prepares what a lost worker took with it, or what was released for want of memory.
    fn ensure(&mut self, id: &str, side: Side) -> Result<(), Settled> {
        let kept = self.kept.get(&(id.to_owned(), side)).copied();
        if kept.is_some() && kept == self.crews[self.lane(side)].generation() {
            return Ok(());
        }
        let ready = self.prepare(id, side).map_err(|reason| blame(side, reason))?;
        match ready.row.status {
            Status::Ok => Ok(()),
            status if side == Side::Head => {
                Err(Settled::head(status, ready.row.reason.unwrap_or_default()))
            }
            _ => Err(blame(side, ready.row.reason.unwrap_or_default())),
        }
    }

    /// One block of two pairs, base against `side`.
    ///
    /// # Errors
    /// What it says about the cell when it could not be measured to the end.
    pub fn block(
        &mut self,
        id: &str,
        side: Side,
        order: Order,
        plan: &Injection,
        rebuild: bool,
    ) -> Result<Block, Settled> {
        self.ensure(id, Side::Base)?;
        self.ensure(id, side)?;
        let samples = order.heads().map(|head| Sample {
            side: if head { side } else { Side::Base },
            dispatches: plan.batch + if head && side == Side::Head { plan.dispatches } else { 0 },
            canaries: if head && side == Side::Head { plan.canaries } else { 0 },
        });
        let mut times = Vec::new();
        if self.crews.len() == 1 {
            times = self.visit(id, 0, samples.to_vec(), rebuild)?;
        } else {
            let mut rebuilt = [!rebuild; 3];
            for sample in samples {
                let lane = self.lane(sample.side);
                let first = !std::mem::replace(&mut rebuilt[lane], true);
                times.extend(self.visit(id, lane, vec![sample], first)?);
            }
        }
        Ok(block(order, plan, &times))
    }

    fn visit(
        &mut self,
        id: &str,
        lane: usize,
        samples: Vec<Sample>,
        rebuild: bool,
    ) -> Result<Vec<SampleTime>, Settled> {
        let fallback = samples[0].side;
        let request = VisitRequest { id: id.to_owned(), rebuild, samples };
        let crew = &mut self.crews[lane];
        match crew.ask(Request::Visit(request), &mut |_| {}) {
            Ok(Event::Visited { wrong: Some((side, why)), .. }) => Err(match side {
                Side::Head => Settled::head(Status::Wrong, why),
                Side::Base | Side::Control => Settled::base(why),
            }),
            Ok(Event::Visited { times, .. }) => Ok(times),
            Ok(Event::VisitFailed { side, reason, .. }) => {
                Err(blame(side.unwrap_or(fallback), reason))
            }
            Ok(other) => Err(blame(fallback, format!("unexpected answer {other:?}"))),
            Err(reason) => {
                // The last sign of life names the side.
                let head = reason.contains("timing head");
                Err(blame(if head { Side::Head } else { fallback }, reason))
            }
        }
    }
}

fn blame(side: Side, reason: String) -> Settled {
    match side {
        Side::Head => Settled::head(Status::Error, reason),
        Side::Base | Side::Control => Settled::base(reason),
    }
}

/// Times of one dispatch each, what was injected counted as part of the head's.
fn block(order: Order, plan: &Injection, times: &[SampleTime]) -> Block {
    let batch = f64::from(plan.batch);
    let seconds = std::array::from_fn(|i| {
        times.get(i).and_then(|time| time.seconds).map_or(f64::NAN, |s| s / batch)
    });
    let canary = |i: usize| times.get(i).and_then(|time| time.canary_s);
    let watched = (0..4).all(|i| canary(i).is_some());
    let canary_s = watched.then(|| std::array::from_fn(|i| canary(i).unwrap_or(f64::NAN)));
    Block { order, seconds, canary_s }
}
