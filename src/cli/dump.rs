//! `fusebench dump`: what verification sees, as files for NumPy.

use super::args::{DumpArgs, Global};
use super::crew::Crew;
use super::dump_files::{self, Folder, MANIFEST, SCRIPT};
use super::exit::{Exit, Failure};
use super::progress::Progress;
use super::run::{explain, now, outcome};
use super::{arguments, interrupt, output, overlay, select};
use crate::gpu::Checks;
use crate::inputs::Distribution;
use crate::record::{
    DUMP_FORMAT, DUMP_VERSION, DumpRequest, DumpedCell, Environment, FORMAT_VERSION, Manifest,
    PROTOCOL, Run, Setup, Status, check_finite,
};
use crate::report;
use crate::suite::{Cell, Dump, Item, Session};

/// Files of one cell that are written without `--force`, in bytes: 1,500 rows of 1,280 fit.
const LIMIT_BYTES: u64 = 64_000_000;

/// Runs the selected kernels and writes their arrays.
pub fn dump(args: &DumpArgs, global: &Global) -> Result<Exit, Failure> {
    let items = kernels(args)?;
    let overlay = overlay::of(args.kernels.as_deref())?;
    if args.device.as_deref() == Some("all") {
        let message =
            "--device all: a dump holds the outputs of one device; see `fusebench devices`";
        return Err(Failure::usage(message));
    }
    let folder = Folder::open(&args.output, args.force)?;
    interrupt::listen();
    let setup = Setup {
        protocol: PROTOCOL,
        device: args.device.clone(),
        overlay,
        head: Vec::new(),
        seed: args.seed,
        checks: Checks::Safe.name().to_owned(),
        peaks: None,
        inputs: args.input.files(),
        allow_nonfinite: args.input.allow_nonfinite,
    };
    let mustered = Crew::muster(setup, global.verbose, args.patience);
    let (crew, environment) = mustered.inspect_err(|_| folder.abandon())?;
    folder.begin()?;
    let mut job = Job { args, crew, folder, cells: Vec::new() };
    let lost = job.cells(&items);
    job.close(environment, lost)
}

/// The selected kernels; pipelines are left out, and a selection of nothing else is refused.
fn kernels(args: &DumpArgs) -> Result<Vec<Item>, Failure> {
    let selected = args.input.fit(select::select(&args.selection)?)?;
    let (kernels, pipelines): (Vec<Item>, Vec<Item>) =
        selected.into_iter().partition(|item| matches!(item, Item::Kernel(_)));
    let Some(pipeline) = pipelines.first() else { return Ok(kernels) };
    let advice = "a dump holds the inputs and outputs of kernels; dump the kernels it is made of, \
                  which `fusebench check -o FILE` lists as its stages";
    if kernels.is_empty() {
        return Err(Failure::usage(format!("{} is a pipeline: {advice}", pipeline.id())));
    }
    let (count, id) = (pipelines.len(), pipeline.id());
    anstream::eprintln!("fusebench: {count} pipelines are left out, such as {id}: {advice}");
    Ok(kernels)
}

struct Job<'a> {
    args: &'a DumpArgs,
    crew: Crew,
    folder: Folder,
    cells: Vec<DumpedCell>,
}

impl Job<'_> {
    /// Does every cell in order; what ended it early, if anything did.
    fn cells(&mut self, items: &[Item]) -> Option<Failure> {
        let progress = Progress::new(items.len());
        for item in items {
            if interrupt::requested() {
                break;
            }
            let id = item.id();
            let request = DumpRequest {
                id: id.clone(),
                preset: item.preset().name().to_owned(),
                fitted_from: item.fitted_from(),
                inputs: distribution(self.args),
                folder: self.folder.path.clone(),
                limit_bytes: if self.args.force { u64::MAX } else { LIMIT_BYTES },
            };
            let (cell, lost) = match self.crew.dump(request, &mut |stage| progress.at(&id, stage)) {
                Ok(done) => done,
                Err(Failure { exit, message }) => {
                    let row = item.row(Status::Error, Some(message.clone()), Checks::Safe.name());
                    let (params, files) = Default::default();
                    self.cells.push(DumpedCell { row, params, files });
                    return Some(Failure { exit, message: format!("{id}: {message}") });
                }
            };
            progress.done();
            let reason = cell.row.reason.clone().unwrap_or_default();
            self.cells.push(cell);
            if lost {
                return Some(Failure::environment(format!("{id}: {reason}")));
            }
        }
        None
    }

    /// Writes the manifest, prints the verdicts, and says what to do next.
    fn close(self, environment: Environment, failure: Option<Failure>) -> Result<Exit, Failure> {
        let Job { args, folder, cells, crew } = self;
        drop(crew);
        let complete = failure.is_none() && !interrupt::requested();
        let files: usize = cells.iter().map(|cell| cell.files.len()).sum();
        let mut run = Run { format_version: FORMAT_VERSION, complete, environment, rows: vec![] };
        run.environment.arguments = arguments::of_dump(args);
        run.environment.preset = args.selection.preset.clone();
        run.environment.started = now();
        run.rows = cells.iter().map(|cell| cell.row.clone()).collect();
        if files == 0 {
            folder.abandon();
        } else {
            run.rows.iter().try_for_each(check_finite).map_err(output::failure)?;
            folder.finish(&manifest(args, &run, cells))?;
        }
        if !run.rows.is_empty() {
            output::print(&report::terminal::checks(&run, output::COLOUR, output::width()));
            explain(&run);
        }
        if files > 0 {
            let path = folder.path.display();
            let script = folder.path.join(SCRIPT);
            output::print(&format!(
                "\n{files} arrays and {MANIFEST} are in {path}; to compare them with NumPy:\n    \
                 python3 {}\n",
                script.display()
            ));
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(outcome(&run, false)),
        }
    }
}

/// The name of what the inputs are.
fn distribution(args: &DumpArgs) -> String {
    match args.input.is_empty() {
        true => args.inputs.clone(),
        false => Distribution::User.name().to_owned(),
    }
}

fn manifest(args: &DumpArgs, run: &Run, cells: Vec<DumpedCell>) -> Manifest {
    let environment = &run.environment;
    Manifest {
        format: DUMP_FORMAT.to_owned(),
        format_version: DUMP_VERSION,
        complete: run.complete,
        fusebench: environment.fusebench.clone(),
        device: environment.device.clone(),
        arguments: environment.arguments.clone(),
        preset: environment.preset.clone(),
        seed: args.seed,
        inputs: distribution(args),
        cells,
    }
}

/// The worker's side: runs one cell and writes its arrays. The flag says that the device is lost.
///
/// # Errors
/// When a file cannot be written.
pub fn write_cell(
    session: &Session,
    cell: &Cell,
    request: &DumpRequest,
    alive: &mut dyn FnMut(&'static str, f64),
) -> Result<(DumpedCell, bool), String> {
    let distribution = match cell.given {
        Some(_) => Distribution::User,
        None => Distribution::parse(&request.inputs)
            .ok_or_else(|| format!("no inputs {}", request.inputs))?,
    };
    let Dump { row, params, arrays, lost } =
        session.dump(cell, distribution, request.limit_bytes, alive);
    let files = dump_files::write(&request.folder, &request.id, &arrays)
        .map_err(|error| format!("cannot write to {}: {error}", request.folder.display()))?;
    let params = params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok((DumpedCell { row, params, files }, lost))
}
