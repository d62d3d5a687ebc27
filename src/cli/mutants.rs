//! `fusebench check --mutants`: faults put into the shaders on purpose, and what catches each.

use super::args::{CheckArgs, Global};
use super::crew::Crew;
use super::exit::{Exit, Failure};
use super::progress::Progress;
use super::run::{CHECK_FLOPS, devices, now, worst};
use super::{arguments, interrupt, output, overlay, select};
use crate::kernel::{Entry, Preset};
use crate::record::{
    CellRequest, Environment, FORMAT_VERSION, MutantRun, Outcome, PROTOCOL, Setup, TaskRequest,
};
use crate::suite::{Attempt, Cell, Item, trial_order, try_clean, try_mutant};

/// The kernels chosen, and how to run their cells.
struct Job<'a> {
    args: &'a CheckArgs,
    global: &'a Global,
    kernels: Vec<&'static Entry>,
    overlay: Vec<(String, String)>,
}

/// Tries every mutant of the kernels that the selection names.
pub fn mutants(args: &CheckArgs, global: &Global) -> Result<Exit, Failure> {
    let kernels = kernels(&select::select(&args.selection)?)?;
    let target = &args.target;
    let overlay = overlay::of(target.kernels.as_deref())?;
    let job = Job { args, global, kernels, overlay };
    interrupt::listen();
    let devices = devices(target, global)?;
    let several = devices.len() > 1;
    let mut exits = Vec::new();
    for device in devices {
        let name = device.as_deref().filter(|_| several);
        // A file that cannot be written is found before anything runs.
        drop(output::open(target, name)?);
        let run = job.on_device(device.clone())?;
        output::deliver(&run, target, name)?;
        exits.push(outcome(&run));
        if interrupt::requested() {
            break;
        }
    }
    Ok(worst(&exits))
}

/// A kernel is taken whole: a fault may lie in any variant, and one that is not looked for in the
/// variant it lies in would pass for a survivor.
fn kernels(items: &[Item]) -> Result<Vec<&'static Entry>, Failure> {
    let mut kernels: Vec<&'static Entry> = items
        .iter()
        .filter_map(|item| match item {
            Item::Kernel(cell) => Some(cell.entry),
            Item::Pipeline(_) => None,
        })
        .collect();
    kernels.dedup_by_key(|entry| entry.path());
    if kernels.is_empty() {
        let why = "only pipelines are selected: mutants belong to kernels, see `fusebench list`";
        return Err(Failure::nothing(why));
    }
    Ok(kernels)
}

fn outcome(run: &MutantRun) -> Exit {
    let all_untried = run.mutants.iter().all(|mutant| mutant.outcome == Outcome::Untried);
    if interrupt::requested() {
        Exit::Interrupted
    } else if run.has_finding() {
        Exit::Finding
    } else if all_untried {
        anstream::eprintln!("fusebench: nothing ran: no cell of these kernels runs on this device");
        Exit::Nothing
    } else {
        Exit::Fine
    }
}

impl Job<'_> {
    fn on_device(&self, device: Option<String>) -> Result<MutantRun, Failure> {
        let target = &self.args.target;
        let setup = Setup {
            protocol: PROTOCOL,
            device,
            overlay: self.overlay.clone(),
            head: Vec::new(),
            seed: target.seed,
            checks: target.checks.name().to_owned(),
            peaks: None,
            inputs: Vec::new(),
            allow_nonfinite: false,
        };
        let (mut crew, environment) = Crew::muster(setup, self.global.verbose, target.patience)?;
        let environment = Environment {
            started: now(),
            arguments: arguments::of_check(self.args),
            preset: self.args.selection.preset.clone(),
            ..environment
        };
        let mut run = MutantRun {
            format_version: FORMAT_VERSION,
            complete: false,
            environment,
            kernels: Vec::new(),
            mutants: Vec::new(),
        };
        let all = self.kernels.iter().map(|entry| entry.kernel.spec().mutants.len()).sum();
        let progress = Progress::new(all);
        run.complete = true;
        for &entry in &self.kernels {
            if self.kernel(entry, &mut crew, &mut run, &progress)?.is_none() {
                run.complete = false;
                break;
            }
        }
        drop(progress);
        run.environment.finished = Some(now());
        Ok(run)
    }

    /// One kernel as it is, then with each of its faults; `None` after Ctrl-C.
    fn kernel(
        &self,
        entry: &'static Entry,
        crew: &mut Crew,
        run: &mut MutantRun,
        progress: &Progress,
    ) -> Result<Option<()>, Failure> {
        let cells = trial_order(entry, self.preset());
        let mut device_lost = None;
        progress.at(entry.name, "without a fault");
        let clean =
            try_clean(entry, &cells, &mut |cell| self.attempt(crew, cell, None, &mut device_lost));
        device_lost.take().map_or(Ok(()), Err)?;
        let Some(clean) = clean else { return Ok(None) };
        for (index, mutant) in entry.kernel.spec().mutants.iter().enumerate() {
            progress.at(&format!("{}: {}", entry.name, mutant.fault), "trying");
            let record = try_mutant(mutant, &clean, &cells, &mut |cell| {
                self.attempt(crew, cell, Some(index), &mut device_lost)
            });
            device_lost.take().map_or(Ok(()), Err)?;
            let Some(record) = record else {
                run.kernels.push(clean);
                return Ok(None);
            };
            run.mutants.push(record);
            progress.done();
        }
        run.kernels.push(clean);
        Ok(Some(()))
    }

    /// One cell in the worker; `None` after Ctrl-C and where the device takes no new worker.
    fn attempt(
        &self,
        crew: &mut Crew,
        cell: &Cell,
        mutant: Option<usize>,
        device_lost: &mut Option<Failure>,
    ) -> Option<Attempt> {
        if interrupt::requested() {
            return None;
        }
        let flops = if self.args.full { f64::MAX } else { CHECK_FLOPS };
        let preset = cell.preset.name().to_owned();
        let task = TaskRequest::Check { flops };
        let (constants, fitted_from) = (Vec::new(), None);
        let id = cell.id();
        let request = CellRequest { id, preset, fitted_from, constants, mutant, task };
        let row = crew.work(&cell.clone().into(), request, &mut |_| {});
        let lost = crew.lost();
        if lost && let Err(failure) = crew.forgive() {
            *device_lost = Some(failure);
            return None;
        }
        (!interrupt::requested()).then_some(Attempt { row, lost })
    }

    fn preset(&self) -> Preset {
        self.args.selection.preset()
    }
}
