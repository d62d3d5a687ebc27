//! The hidden worker: cells in, rows out, one JSON object a line. A driver that crashes takes this
//! process down and nothing else.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::catalogue::Catalogue;
use super::exit::Exit;
use super::{dump, input, pairs};
use crate::given::UserTensors;
use crate::gpu::{Checks, GpuError, Selector, enumerate};
use crate::record::{
    CellRequest, DumpRequest, Event, PROTOCOL, Request, Setup, TaskRequest, check_finite,
};
use crate::suite::{
    Attempt, Cell, Effort, Found, Item, Pairs, Session, Sources, Task, device_record,
};

/// Serves requests until standard input ends.
pub fn serve() -> Exit {
    die_of_faults();
    let interrupt = Arc::new(AtomicBool::new(false));
    let requests = listen(Arc::clone(&interrupt));
    let (mut session, mut tensors) = (None, UserTensors::default());
    let mut pairs = Pairs::default();
    let mut catalogue = Catalogue::default();
    for request in requests {
        let keep_going = match request {
            Request::Devices => {
                let devices = enumerate().iter().map(device_record).collect();
                send(&Event::Devices(devices))
            }
            Request::Open(setup) => match open(&setup, &interrupt) {
                Ok((opened, given)) => {
                    tensors = given;
                    pairs = Pairs::new(sources(&setup.head));
                    let sent = send(&Event::Opened(Box::new(opened.environment())));
                    session = Some(opened);
                    sent
                }
                Err(failure) => send(&failure),
            },
            Request::Peaks => session.as_mut().is_some_and(measure_peaks),
            Request::Cell(cell) => {
                let (listed, preset) = (cell.fitted_from.as_deref(), &cell.preset);
                let item = catalogue.fitted(&cell.id, listed, preset, &tensors);
                session.as_mut().is_some_and(|session| work(session, item, &cell))
            }
            Request::Dump(dump) => {
                let (listed, preset) = (dump.fitted_from.as_deref(), &dump.preset);
                let item = catalogue.fitted(&dump.id, listed, preset, &tensors);
                session.as_mut().is_some_and(|session| write(session, item, &dump))
            }
            Request::Calibrate => session.as_mut().is_some_and(calibrate),
            Request::Side(side) => {
                let item = catalogue.find(&side.id, &side.preset);
                session.as_mut().is_some_and(|open| pairs::side(open, &mut pairs, item, &side))
            }
            Request::Visit(visit) => {
                session.as_ref().is_some_and(|session| pairs::visit(session, &mut pairs, &visit))
            }
            Request::Release { id } => {
                pairs.release(&id);
                true
            }
            Request::Stop => true,
        };
        if !keep_going {
            return Exit::Environment;
        }
    }
    Exit::Fine
}

/// Rust's own handler for memory faults swallows the first one that comes from outside.
fn die_of_faults() {
    #[cfg(unix)]
    // SAFETY: called before any other thread exists; the default disposition needs no handler.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

/// Reads requests on a thread of its own, so that `Stop` is heard in the middle of a cell and the
/// end of the supervisor ends the worker even while a driver hangs.
fn listen(interrupt: Arc<AtomicBool>) -> Receiver<Request> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Request::Stop) => interrupt.store(true, Ordering::Relaxed),
                Ok(request) => drop(sender.send(request)),
                Err(error) => {
                    send(&Event::Failed { code: 2, message: format!("bad request: {error}") });
                }
            }
        }
        drop(sender);
        // The main thread may be inside a driver that never returns.
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::process::exit(0);
    });
    receiver
}

/// Writes one event; false when nobody reads any more.
pub(super) fn send(event: &Event) -> bool {
    let mut line = serde_json::to_string(event).expect("events serialise");
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Opens the device and reads the tensors from files.
fn open(setup: &Setup, interrupt: &Arc<AtomicBool>) -> Result<(Session, UserTensors), Event> {
    if setup.protocol != PROTOCOL {
        let versions = format!("speaks protocol {PROTOCOL}, not {}", setup.protocol);
        return Err(failed(&GpuError::Request(format!("this worker {versions}"))));
    }
    let tensors = input::read_again(&setup.inputs, setup.allow_nonfinite)
        .map_err(|message| Event::Failed { code: Exit::Usage.code(), message })?;
    let selector = setup.device.as_deref().map_or(Selector::Best, Selector::parse);
    let sources = sources(&setup.overlay);
    let checks = if setup.checks == "trusted" { Checks::Trusted } else { Checks::Safe };
    let session = Session::open(&selector, sources, setup.seed, checks, interrupt.clone());
    let mut session = session.map_err(|error| failed(&error))?;
    if let Some(peaks) = &setup.peaks {
        session.use_peaks(peaks);
    }
    Ok((session, tensors))
}

fn sources(overlay: &[(String, String)]) -> Sources {
    let mut sources = Sources::default();
    for (path, text) in overlay {
        sources.replace(path, text.clone());
    }
    sources
}

fn calibrate(session: &mut Session) -> bool {
    match session.calibrated() {
        Ok(canary_s) => send(&Event::Calibrated {
            timer: session.timer(),
            canary_s,
            residency_bytes: session.residency_bytes(),
        }),
        Err(error) => {
            send(&failed(&error));
            false
        }
    }
}

fn failed(error: &GpuError) -> Event {
    let exit = match error {
        GpuError::UnknownDevice { .. } => Exit::Usage,
        _ => Exit::Environment,
    };
    Event::Failed { code: exit.code(), message: error.to_string() }
}

fn measure_peaks(session: &mut Session) -> bool {
    match session.measure_peaks() {
        Ok(Found { peaks, omitted }) => {
            send(&Event::Peaks { peaks, omitted, timer: session.timer() })
        }
        Err(error) => {
            send(&failed(&error));
            false
        }
    }
}

/// Does one cell; false when the device is lost and a fresh worker has to go on.
fn work(session: &mut Session, found: Result<Item, String>, request: &CellRequest) -> bool {
    let unknown = || format!("{} has no such constants", request.id);
    let found = found.and_then(|item| item.with_constants(&request.constants).ok_or_else(unknown));
    let item = match found {
        Ok(item) => item,
        Err(message) => return send(&Event::Failed { code: 2, message }),
    };
    let task = match request.task {
        TaskRequest::Check { flops } => Task::Check { flops },
        TaskRequest::Run { quick, limit_s, allowance_s } => {
            let effort = if quick { Effort::Quick } else { Effort::Standard };
            Task::Run { effort, limit_s, allowance_s }
        }
    };
    // For tests, `ID#N` names a cell with its mutant N.
    let suffix = request.mutant.map_or(String::new(), |index| format!("#{index}"));
    lose_device(session, &format!("{}{suffix}", request.id));
    let done = match (request.mutant, &item) {
        (None, _) => {
            let (row, lost) = session.run(&item, &task, &mut alive);
            Ok(Attempt { row, lost })
        }
        (Some(index), Item::Kernel(cell)) => mutated(session, cell, index, &task, &mut alive),
        (Some(_), Item::Pipeline(_)) => Err("a pipeline has no shader of its own".to_owned()),
    };
    let Attempt { row, lost } = match done {
        // JSON has no word for it, and the supervisor would wait for a row it can read.
        Ok(Attempt { row, .. }) if check_finite(&row).is_err() => {
            let message = "a figure of the row is not finite".to_owned();
            return send(&Event::Failed { code: 1, message });
        }
        Ok(attempt) => attempt,
        Err(message) => return send(&Event::Failed { code: 1, message }),
    };
    send(&Event::Row { row: Box::new(row), lost }) && !lost
}

fn mutated(
    session: &mut Session,
    cell: &Cell,
    index: usize,
    task: &Task,
    alive: &mut dyn FnMut(&'static str, f64),
) -> Result<Attempt, String> {
    let mutants = cell.entry.kernel.spec().mutants;
    let mutant = mutants.get(index).ok_or_else(|| format!("there is no mutant {index}"))?;
    let absent = || format!("its text is not in the shader: `{}`", mutant.text);
    session.run_mutant(cell, mutant, task, alive).ok_or_else(absent)
}

/// Dumps one cell; false when the device is lost.
fn write(session: &Session, found: Result<Item, String>, request: &DumpRequest) -> bool {
    let cell = match found {
        Ok(Item::Kernel(cell)) => cell,
        Ok(Item::Pipeline(_)) => {
            let message = format!("{} is a pipeline", request.id);
            return send(&Event::Failed { code: 2, message });
        }
        Err(message) => return send(&Event::Failed { code: 2, message }),
    };
    lose_device(session, &request.id);
    match dump::write_cell(session, &cell, request, &mut alive) {
        Ok((cell, lost)) => send(&Event::Dumped { cell: Box::new(cell), lost }) && !lost,
        Err(message) => send(&Event::Failed { code: 2, message }),
    }
}

pub(super) fn alive(stage: &'static str, expect_s: f64) {
    send(&Event::Alive { stage: stage.to_owned(), expect_s });
}

/// For tests: no driver loses its device on demand.
pub(super) fn lose_device(session: &Session, id: &str) {
    if std::env::var("FUSEBENCH_TEST_LOSE_DEVICE").is_ok_and(|chosen| chosen == id) {
        session.gpu().abandon();
    }
}
