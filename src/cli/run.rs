//! `fusebench run` and `fusebench check`.

use std::path::Path;
use std::time::Instant;

use super::args::{CheckArgs, Global, RunArgs, Selection, Target};
use super::budget::Budget;
use super::crew::Crew;
use super::exit::{Exit, Failure};
use super::input::InputArgs;
use super::progress::Progress;
use super::supervise::Worker;
use super::{arguments, interrupt, mutants, order, output, overlay, select, tuned};
use crate::kernel::Suits;
use crate::record::{
    CellRequest, Device, Environment, Event, FORMAT_VERSION, PROTOCOL, PartialFile, Request, Row,
    Run, Setup, Status, StoreError, TaskRequest,
};
use crate::suite::{Chosen, Item, Sources, by_rule};

/// Reference operations that `check` spends on each distribution of a cell: a fifth of a second on
/// two cores, and enough for every row of every smoke shape.
pub const CHECK_FLOPS: f64 = 5e7;

/// What is done with every cell.
#[derive(Clone, Copy)]
enum Mode {
    Check { flops: f64 },
    Run { quick: bool, budget: Budget },
}

/// A command with its cells chosen and its overlay read.
struct Job<'a> {
    selection: &'a Selection,
    target: &'a Target,
    input: &'a InputArgs,
    global: &'a Global,
    mode: Mode,
    /// Leave the rivals of tuned strategies out: those in this file, or in the usual one.
    tuning: Option<Option<&'a Path>>,
    /// Only one cell of each kernel.
    taste: bool,
    cells: Vec<Item>,
    overlay: Vec<(String, String)>,
    arguments: Vec<String>,
    started: Instant,
}

/// Verifies, then times.
pub fn run(args: &RunArgs, global: &Global) -> Result<Exit, Failure> {
    let budget = Budget::new(args.quick, args.max_time);
    let wanted = !args.untuned && args.selection.variant.is_empty();
    let job = Job {
        selection: &args.selection,
        target: &args.target,
        input: &args.input,
        global,
        mode: Mode::Run { quick: args.quick, budget },
        tuning: wanted.then_some(args.tuning.as_deref()),
        taste: args.quick && args.input.is_empty() && args.selection.filters.is_empty(),
        cells: args.input.fit(select::select(&args.selection)?)?,
        overlay: overlay::of(args.target.kernels.as_deref())?,
        arguments: arguments::of_run(args),
        started: Instant::now(),
    };
    job.on_devices()
}

/// Verifies only.
pub fn check(args: &CheckArgs, global: &Global) -> Result<Exit, Failure> {
    if args.mutants {
        return mutants::mutants(args, global);
    }
    let flops = if args.full { f64::INFINITY } else { CHECK_FLOPS };
    let job = Job {
        selection: &args.selection,
        target: &args.target,
        input: &args.input,
        global,
        mode: Mode::Check { flops },
        tuning: None,
        taste: false,
        cells: args.input.fit(select::select(&args.selection)?)?,
        overlay: overlay::of(args.target.kernels.as_deref())?,
        arguments: arguments::of_check(args),
        started: Instant::now(),
    };
    job.on_devices()
}

/// The taste that `--quick` gives: of each kernel its first shape and precision, under the
/// strategy that the rules choose.
pub fn first_shapes(cells: &[Item], device: &Device) -> Vec<Item> {
    let taste = |group: &[Item]| {
        let first = &group[0];
        let same = |item: &&Item| item.shape() == first.shape() && item.dtype() == first.dtype();
        let alike: Vec<Item> = group.iter().filter(same).cloned().collect();
        by_rule(&alike, device).unwrap_or(first).clone()
    };
    cells.chunk_by(|a, b| a.name() == b.name()).map(taste).collect()
}

/// The selectors to run on, one device each; `None` is the best one.
pub fn devices(target: &Target, global: &Global) -> Result<Vec<Option<String>>, Failure> {
    if target.device.is_empty() {
        return Ok(vec![None]);
    }
    if !target.device.iter().any(|device| device == "all") {
        return Ok(target.device.iter().cloned().map(Some).collect());
    }
    let failure = |why: String| Failure::environment(format!("cannot list adapters: {why}"));
    let mut worker = Worker::start(global.verbose).map_err(|error| failure(error.to_string()))?;
    worker.send(&Request::Devices);
    match worker.answer(&mut |_| {}) {
        Ok(Event::Devices(found)) if found.is_empty() => {
            Err(failure(crate::gpu::GpuError::NoAdapter.to_string()))
        }
        Ok(Event::Devices(found)) => Ok((0..found.len()).map(|i| Some(i.to_string())).collect()),
        Ok(other) => Err(failure(format!("unexpected answer {other:?}"))),
        Err(loss) => Err(failure(loss.reason().to_owned())),
    }
}

/// Of several devices the gravest outcome counts; one that ran outweighs one where nothing did.
pub fn worst(exits: &[Exit]) -> Exit {
    let ran = exits.iter().any(|exit| *exit != Exit::Nothing);
    Exit::gravest(exits.iter().copied().filter(|exit| !ran || *exit != Exit::Nothing))
}

impl Job<'_> {
    fn on_devices(&self) -> Result<Exit, Failure> {
        interrupt::listen();
        let devices = devices(self.target, self.global)?;
        let several = devices.len() > 1;
        let mut exits = Vec::new();
        for device in devices {
            let name = device.as_deref().filter(|_| several);
            exits.push(self.on_device(device.clone(), output::open(self.target, name)?)?);
            if interrupt::requested() {
                break;
            }
        }
        Ok(worst(&exits))
    }

    /// The cells for a device: the winners of tuning, and of those the taste that was asked for.
    fn chosen(&self, environment: &Environment) -> Result<Chosen, Failure> {
        let mut chosen = Chosen { items: self.cells.clone(), ..Chosen::default() };
        if let Some(path) = self.tuning {
            let mut sources = Sources::default();
            for (path, text) in &self.overlay {
                sources.replace(path, text.clone());
            }
            chosen = tuned::apply(chosen.items, environment, &sources, path)?;
        }
        if self.taste {
            chosen.items = first_shapes(&chosen.items, &environment.device);
        }
        Ok(chosen)
    }

    fn on_device(
        &self,
        device: Option<String>,
        mut file: Option<PartialFile>,
    ) -> Result<Exit, Failure> {
        let setup = Setup {
            protocol: PROTOCOL,
            device,
            overlay: self.overlay.clone(),
            head: Vec::new(),
            seed: self.target.seed,
            checks: self.target.checks.name().to_owned(),
            peaks: None,
            inputs: self.input.files(),
            allow_nonfinite: self.input.allow_nonfinite,
        };
        let (mut crew, mut environment) =
            Crew::muster(setup, self.global.verbose, self.target.patience)?;
        environment.started = now();
        environment.arguments = self.arguments.clone();
        environment.preset = self.selection.preset.clone();
        let chosen = self.chosen(&environment)?;
        if let Mode::Run { .. } = self.mode {
            crew.measure_peaks(&mut environment)?;
        }
        let complete = false;
        let mut run = Run { format_version: FORMAT_VERSION, complete, environment, rows: vec![] };
        if let Some(file) = &mut file {
            file.header(&run).map_err(output::failure)?;
        }
        let written = self.work(&chosen, &mut crew, &mut run, file.as_mut());
        let exhausted = crew.exhausted();
        drop(crew);
        run.complete = written.is_ok() && !interrupt::requested() && !exhausted;
        run.environment.finished = Some(now());
        output::show(&run, self.target, matches!(self.mode, Mode::Run { .. }));
        explain(&run);
        written.map_err(output::failure)?;
        if let Some(file) = file {
            file.finish(&run).map_err(output::failure)?;
        }
        Ok(outcome(&run, exhausted))
    }

    /// Does every cell; rows end up in the order of selection.
    ///
    /// # Errors
    /// When a row cannot be written; the rows so far are in `run`.
    fn work(
        &self,
        chosen: &Chosen,
        crew: &mut Crew,
        run: &mut Run,
        mut file: Option<&mut PartialFile>,
    ) -> Result<(), StoreError> {
        let mut written = Ok(());
        let order = self.order(&chosen.items, run.environment.device.emulated);
        let progress = Progress::new(order.len());
        let mut rows: Vec<(usize, Row)> = Vec::new();
        for (done, &position) in order.iter().enumerate() {
            if interrupt::requested() || crew.exhausted() {
                break;
            }
            let cell = &chosen.items[position];
            let id = cell.id();
            progress.at(&id, "starting");
            let mut row = match self.task(order.len() - done) {
                Err(reason) => cell.row(Status::Skipped, Some(reason), self.target.checks.name()),
                Ok(task) => {
                    let request = CellRequest {
                        id: id.clone(),
                        preset: cell.preset().name().to_owned(),
                        fitted_from: cell.fitted_from(),
                        constants: cell.constants(),
                        mutant: None,
                        task,
                    };
                    crew.work(cell, request, &mut |stage| progress.at(&id, stage))
                }
            };
            progress.done();
            row.tuned = chosen.tuned.contains_key(&id);
            if row.status == Status::Skipped && interrupt::requested() {
                break;
            }
            if let Some(file) = file.as_deref_mut() {
                written = file.row(&row);
            }
            rows.push((position, row));
            if written.is_err() {
                break;
            }
        }
        rows.sort_by_key(|(position, _)| *position);
        run.rows = rows.into_iter().map(|(_, row)| row).collect();
        written
    }

    /// Positions of the cells to do; those to be timed are shuffled within each round of shapes.
    /// Strategies made for GPUs are timed on a CPU driver only when asked for by name.
    fn order(&self, cells: &[Item], emulated: bool) -> Vec<usize> {
        let timed = matches!(self.mode, Mode::Run { .. });
        let only_suited = timed && emulated && self.selection.variant.is_empty();
        let mut order: Vec<usize> = (0..cells.len())
            .filter(|&position| !only_suited || cells[position].suits() != Suits::Gpu)
            .collect();
        let left_out = cells.len() - order.len();
        if left_out > 0 {
            anstream::eprintln!(
                "fusebench: {left_out} cells with strategies made for GPUs are left out on this \
                 CPU driver; --variant runs them"
            );
        }
        if !timed {
            // Shapes of one shader in a row, so that it is compiled once.
            order.sort_by_cached_key(|&position| {
                let cell = &cells[position];
                (cell.name(), cell.variant(), cell.dtype().name())
            });
            return order;
        }
        order::timed(cells, order, self.target.seed)
    }

    /// What the worker is asked to do with the next cell, or why it is not asked at all.
    fn task(&self, cells_left: usize) -> Result<TaskRequest, String> {
        let (quick, budget) = match self.mode {
            Mode::Check { flops } => return Ok(TaskRequest::Check { flops: flops.min(f64::MAX) }),
            Mode::Run { quick, budget } => (quick, budget),
        };
        let used = self.started.elapsed().as_secs_f64();
        let Some(share) = budget.share(used, cells_left) else {
            let total = budget.run_s();
            return Err(format!("run budget: {total:.0} s are used up; see --max-time"));
        };
        let allowance_s = share.allowance_s.min(f64::MAX);
        Ok(TaskRequest::Run { quick, limit_s: share.limit_s, allowance_s })
    }
}

/// The present to the second, RFC 3339.
pub fn now() -> String {
    let second = jiff::Unit::Second;
    jiff::Timestamp::now().round(second).expect("a second divides the day").to_string()
}

/// Failed cells in full on stderr: the table has room for one line only.
pub fn explain(run: &Run) {
    let failed = run.rows.iter().filter(|row| row.status == Status::Error);
    let mut told: Vec<&str> = Vec::new();
    for row in failed {
        let Some(reason) = row.reason.as_deref().filter(|reason| reason.contains('\n')) else {
            continue;
        };
        if !told.contains(&reason) {
            anstream::eprintln!("\n{}: {reason}", row.id);
            told.push(reason);
        }
    }
}

/// The exit code of a finished run, with a word on stderr where its rows do not say it.
pub fn outcome(run: &Run, exhausted: bool) -> Exit {
    let any = |statuses: &[Status]| run.rows.iter().any(|row| statuses.contains(&row.status));
    if interrupt::requested() {
        Exit::Interrupted
    } else if exhausted {
        anstream::eprintln!("fusebench: three workers in a row were lost: the device is given up");
        Exit::Environment
    } else if any(&[Status::Wrong, Status::Error]) {
        Exit::Finding
    } else if any(&[Status::Ok]) {
        Exit::Fine
    } else {
        anstream::eprintln!("fusebench: nothing ran: every cell was skipped or is unsupported");
        Exit::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Preset;
    use crate::shader::SUBGROUP_OF_8;
    use crate::suite::{Cell, items};

    #[test]
    fn a_taste_has_every_kernel_once_by_a_strategy_that_does_its_shape() {
        let all = items(Preset::Models);
        let mut names: Vec<String> = all.iter().map(Item::name).collect();
        names.dedup();
        let features = [SUBGROUP_OF_8, "subgroup", "shader-f16"].map(str::to_owned);
        for (emulated, known) in [(true, 3), (true, 0), (false, 3), (false, 0)] {
            let features = features[..known].to_vec();
            let device = Device { emulated, features, ..Device::default() };
            let taste = first_shapes(&all, &device);
            assert_eq!(taste.iter().map(Item::name).collect::<Vec<_>>(), names);
            for item in &taste {
                let Item::Kernel(cell) = item else { continue };
                let has = |feature: &str| device.features.iter().any(|known| known == feature);
                let can = |variant| Cell { variant, ..cell.clone() }.unfit(has).is_none();
                let hopeless = !cell.entry.kernel.spec().variants.iter().any(can);
                assert!(can(cell.variant) || hopeless, "{}", item.id());
            }
        }
    }
}
