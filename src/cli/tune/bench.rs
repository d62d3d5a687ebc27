//! The measuring side: candidates one after the other, then the best against the rule's choice.

use std::path::Path;
use std::time::Instant;

use super::super::args::Global;
use super::super::crew::Crew;
use super::super::exit::Failure;
use super::super::progress::Progress;
use super::super::run::now;
use super::super::{interrupt, output, tuned};
use super::TuneArgs;
use super::tally::Tally;
use crate::record::{CellRequest, Environment, Row, Setup, Status, TaskRequest, Tuning, Winner};
use crate::rng;
use crate::suite::{Item, Sources, by_rule, gain, variations};

/// Sampling time of one candidate, in seconds, and the longest it may take in all.
const TRIAL_S: f64 = 0.15;
const ALLOWANCE_S: f64 = 5.0;
/// Strategies whose constants are varied: those within this factor of the fastest, at most two.
const CONTENDERS: usize = 2;
const CONTENDER_FACTOR: f64 = 1.5;
/// Rounds in which the best alternates with the rule's choice.
const ROUNDS: usize = 5;
/// Workgroups that WebGPU guarantees, where a device does not say.
const GUARANTEED_INVOCATIONS: u64 = 256;

/// The device with everything learned on it.
pub struct Bench {
    crew: Crew,
    environment: Environment,
    sources: Sources,
    /// Cells of the registry that are wrong or failed.
    faults: Vec<String>,
}

impl Bench {
    /// Opens the device and measures its ceilings, which say what a candidate may cost.
    pub fn open(setup: Setup, global: &Global, args: &TuneArgs) -> Result<Self, Failure> {
        let (mut crew, mut environment) = Crew::muster(setup, global.verbose, args.patience)?;
        crew.measure_peaks(&mut environment)?;
        Ok(Bench { crew, environment, sources: Sources::default(), faults: Vec::new() })
    }

    /// Whether the device keeps taking workers down.
    pub fn exhausted(&self) -> bool {
        self.crew.exhausted()
    }

    /// Strategies as listed that are wrong or failed, each once.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Tunes the groups in an order shuffled by the seed, keeping each winner at once.
    pub fn all(
        &mut self,
        args: &TuneArgs,
        groups: &[Vec<Item>],
        path: &Path,
    ) -> Result<Tally, Failure> {
        let started = Instant::now();
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|&position| rng::word(args.seed, 0x7e57, position as u32));
        let progress = Progress::new(order.len());
        let mut tally = Tally::default();
        for position in order {
            let group = &groups[position];
            progress.at(&group[0].id(), "tuning");
            if interrupt::requested() || self.crew.exhausted() {
                tally.left += 1;
            } else if !args.again && self.is_known(path, &group[0])? {
                tally.known += 1;
            } else if started.elapsed().as_secs_f64() > args.budget {
                tally.left += 1;
            } else {
                match self.winner(group, args.selection.variant.is_empty()) {
                    // What an interrupt cut short is no result.
                    _ if interrupt::requested() => tally.left += 1,
                    None => tally.unable += 1,
                    Some(winner) => {
                        self.keep(path, &winner)?;
                        tally.won.push(winner);
                    }
                }
            }
            progress.done();
        }
        Ok(tally)
    }

    /// Whether there is a winner among the present shaders.
    fn is_known(&self, path: &Path, item: &Item) -> Result<bool, Failure> {
        let Item::Kernel(cell) = item else { return Ok(false) };
        let tuning = Tuning::read(path).map_err(output::failure)?;
        let half = self.environment.fingerprint.split('-').next();
        let own = tuning.devices.iter().find(|device| Some(device.fingerprint.as_str()) == half);
        let (class, shader) = (cell.shape.class(), self.sources.hash_of(cell.entry));
        Ok(own.is_some_and(|device| {
            device.winners.iter().any(|winner| {
                winner.kernel == item.name()
                    && winner.dtype == item.dtype().name()
                    && winner.float.as_deref() == item.float()
                    && (&winner.class, &winner.shader) == (&class, &shader)
            })
        }))
    }

    /// Adds to what the file holds by now: another process may tune another device.
    fn keep(&self, path: &Path, winner: &Winner) -> Result<(), Failure> {
        let mut tuning = Tuning::read(path).map_err(output::failure)?;
        let device = &self.environment.device;
        let fingerprint = &self.environment.fingerprint;
        tuning.insert(fingerprint, &device.name, &device.backend, winner.clone());
        tuned::keep(&tuning, path)
    }

    /// Strategies first, then other constants for the fastest of them, then the best against the
    /// rule's choice. `None` when no strategy could be timed.
    fn winner(&mut self, group: &[Item], only_suited: bool) -> Option<Winner> {
        let device = &self.environment.device;
        let (emulated, limits) = (device.emulated, &device.limits);
        let rule = by_rule(group, device)?.clone();
        let most = limits
            .get("maxComputeInvocationsPerWorkgroup")
            .copied()
            .unwrap_or(GUARANTEED_INVOCATIONS);
        let mut tried: Vec<(f64, Item)> = Vec::new();
        for item in group {
            if only_suited && emulated && !item.suits().fits(emulated) {
                continue;
            }
            if let Some(seconds) = self.time(item) {
                tried.push((seconds, item.clone()));
            }
        }
        let by_time = |a: &(f64, Item), b: &(f64, Item)| a.0.total_cmp(&b.0);
        tried.sort_by(by_time);
        let fastest = tried.first()?.0;
        let close = |(seconds, _): &&(f64, Item)| *seconds <= fastest * CONTENDER_FACTOR;
        let contenders: Vec<Item> =
            tried.iter().filter(close).take(CONTENDERS).map(|(_, item)| item.clone()).collect();
        for item in contenders.iter().flat_map(|item| variations(item, most)) {
            if let Some(seconds) = self.time(&item) {
                tried.push((seconds, item));
            }
        }
        tried.sort_by(by_time);
        let best = &tried.first()?.1;
        let known_rule = tried.iter().any(|(_, item)| is_same(item, &rule));
        let (item, gain) = match known_rule.then(|| self.duel(&rule, best)) {
            // The rule's choice does not run here at all.
            None => (best, 1.0),
            Some(Some(gain)) => (best, gain),
            Some(None) => (&rule, 1.0),
        };
        let Item::Kernel(cell) = item else { return None };
        Some(Winner {
            kernel: item.name(),
            dtype: item.dtype().name().to_owned(),
            float: item.float().map(str::to_owned),
            class: cell.shape.class(),
            variant: item.variant().to_owned(),
            constants: item.constants().into_iter().collect(),
            shape: cell.shape.to_string(),
            gain,
            tried: tried.len() as u32,
            shader: self.sources.hash_of(cell.entry),
            tuned: now(),
        })
    }

    /// Alternating rounds of the rule's choice and the best; the gain when the best wins them.
    fn duel(&mut self, rule: &Item, best: &Item) -> Option<f64> {
        if is_same(rule, best) {
            return None;
        }
        let (mut rule_s, mut best_s) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let (first, second) = if round % 2 == 0 { (rule, best) } else { (best, rule) };
            let (a, b) = (self.time(first)?, self.time(second)?);
            let (of_rule, of_best) = if round % 2 == 0 { (a, b) } else { (b, a) };
            rule_s.push(of_rule);
            best_s.push(of_best);
        }
        gain(&rule_s, &best_s)
    }

    /// The median of a verified candidate in seconds.
    fn time(&mut self, item: &Item) -> Option<f64> {
        if interrupt::requested() {
            return None;
        }
        let task = TaskRequest::Run { quick: true, limit_s: TRIAL_S, allowance_s: ALLOWANCE_S };
        let request = CellRequest {
            id: item.id(),
            preset: item.preset().name().to_owned(),
            fitted_from: None,
            constants: item.constants(),
            mutant: None,
            task,
        };
        let row = self.crew.work(item, request, &mut |_| {});
        if matches!(row.status, Status::Wrong | Status::Error) {
            self.note_fault(item, &row);
        }
        row.time.map(|time| time.median)
    }

    /// Constants that a kernel cannot work with are no fault of it, a strategy as listed is.
    fn note_fault(&mut self, item: &Item, row: &Row) {
        if item.constants().is_empty() {
            let reason = row.reason.as_deref().unwrap_or_default();
            let fault = format!("{}: {}: {reason}", row.id, row.status.name());
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        } else {
            drop(self.crew.forgive());
        }
    }
}

fn is_same(a: &Item, b: &Item) -> bool {
    a.variant() == b.variant() && a.constants() == b.constants()
}
