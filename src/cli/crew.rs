//! One worker after the other on one device: a cell that takes its worker down costs one row.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::supervise::{Loss, Worker};
use crate::record::{
    CellRequest, DumpRequest, DumpedCell, Environment, Event, Request, Row, Setup, Status,
};
use crate::suite::Item;

/// Workers lost in a row before the device is given up.
const MAX_LOSSES: u32 = 3;

/// The workers of one device.
pub struct Crew {
    setup: Setup,
    /// Another build to run as worker.
    program: Option<PathBuf>,
    verbose: bool,
    patience_s: f64,
    worker: Option<Worker>,
    losses: u32,
    /// How many workers there were.
    recruits: u32,
    /// Kernels whose shader hung, with the cell that showed it.
    hung: Vec<(String, String)>,
}

impl Crew {
    /// Starts the first worker and learns what the device is.
    pub fn muster(
        setup: Setup,
        verbose: bool,
        patience_s: f64,
    ) -> Result<(Self, Environment), Failure> {
        Crew::muster_of(None, setup, verbose, patience_s)
    }

    /// The same with workers of another build.
    pub fn muster_of(
        program: Option<PathBuf>,
        setup: Setup,
        verbose: bool,
        patience_s: f64,
    ) -> Result<(Self, Environment), Failure> {
        let mut crew = Crew {
            setup,
            program,
            verbose,
            patience_s,
            worker: None,
            losses: 0,
            recruits: 0,
            hung: Vec::new(),
        };
        let environment = crew.recruit()?;
        Ok((crew, environment))
    }

    fn recruit(&mut self) -> Result<Environment, Failure> {
        let failure = |reason: String| Failure::environment(format!("no worker: {reason}"));
        let started = match &self.program {
            None => Worker::start(self.verbose),
            Some(program) => Worker::of(program, self.verbose),
        };
        let mut worker = started.map_err(|error| failure(error.to_string()))?;
        worker.send(&Request::Open(self.setup.clone()));
        match worker.answer(&mut |_| {}) {
            Ok(Event::Opened(environment)) => {
                self.worker = Some(worker);
                self.recruits += 1;
                Ok(*environment)
            }
            Ok(Event::Failed { code, message }) => {
                let exit = if code == 2 { Exit::Usage } else { Exit::Environment };
                Err(Failure { exit, message })
            }
            Ok(other) => Err(failure(format!("unexpected answer {other:?}"))),
            Err(loss) => Err(failure(loss.reason().to_owned())),
        }
    }

    /// Measures the ceilings and writes them into the environment; a driver that cannot do it
    /// leaves the rates without a fraction.
    pub fn measure_peaks(&mut self, environment: &mut Environment) -> Result<(), Failure> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        worker.send(&Request::Peaks);
        match worker.answer(&mut |_| {}) {
            Ok(Event::Peaks { peaks, omitted, timer }) => {
                self.setup.peaks = Some(peaks.clone());
                environment.peaks = peaks;
                environment.peaks_omitted = omitted;
                environment.timer = timer;
                Ok(())
            }
            Ok(Event::Failed { message, .. }) => self.without_peaks(&message),
            Ok(other) => self.without_peaks(&format!("unexpected answer {other:?}")),
            Err(loss) => self.without_peaks(loss.reason()),
        }
    }

    fn without_peaks(&mut self, reason: &str) -> Result<(), Failure> {
        anstream::eprintln!("fusebench: no ceilings, rates have no percentage: {reason}");
        self.setup.peaks = Some(Vec::new());
        self.worker = None;
        self.recruit().map(|_| ())
    }

    /// Does one cell, whatever happens to the worker.
    pub fn work(&mut self, item: &Item, request: CellRequest, stage: &mut dyn FnMut(&str)) -> Row {
        let checks = self.setup.checks.clone();
        let failed = |reason: String| item.row(Status::Error, Some(reason), &checks);
        if let Some((_, id)) = self.hung.iter().find(|(kernel, _)| *kernel == item.name()) {
            return failed(format!("not run: this shader hung in {id}"));
        }
        if self.worker.is_none()
            && let Err(failure) = self.recruit()
        {
            self.losses += 1;
            return failed(failure.message);
        }
        let worker = self.worker.as_mut().expect("just recruited");
        worker.be_patient_for(self.patience_s);
        worker.send(&Request::Cell(request));
        let (row, lost) = match worker.answer(stage) {
            Ok(Event::Row { row, lost }) => (*row, lost),
            Ok(Event::Failed { message, .. }) => (failed(message), false),
            Ok(other) => (failed(format!("unexpected answer {other:?}")), true),
            Err(loss) => {
                let row = failed(loss.reason().to_owned());
                if matches!(loss, Loss::Hung(_)) {
                    self.hung.push((item.name(), item.id()));
                }
                (row, true)
            }
        };
        self.losses = if lost { self.losses + 1 } else { 0 };
        if lost {
            self.worker = None;
        }
        row
    }

    /// Writes the arrays of one cell; the flag says that the device is lost. Nothing goes on after
    /// a failure.
    ///
    /// # Errors
    /// `Environment` when the worker is lost, `Usage` when a file cannot be written.
    pub fn dump(
        &mut self,
        request: DumpRequest,
        stage: &mut dyn FnMut(&str),
    ) -> Result<(DumpedCell, bool), Failure> {
        let lost = |reason: &str| Failure::environment(reason.to_owned());
        let worker = self.worker.as_mut().ok_or_else(|| lost("the worker is gone"))?;
        worker.be_patient_for(self.patience_s);
        worker.send(&Request::Dump(request));
        match worker.answer(stage) {
            Ok(Event::Dumped { cell, lost }) => Ok((*cell, lost)),
            Ok(Event::Failed { message, .. }) => Err(Failure::usage(message)),
            Ok(other) => Err(lost(&format!("unexpected answer {other:?}"))),
            Err(loss) => Err(lost(loss.reason())),
        }
    }

    /// Asks for something whose answer the caller knows to read.
    ///
    /// # Errors
    /// How the worker was lost; the next request goes to a new one.
    pub fn ask(&mut self, request: Request, stage: &mut dyn FnMut(&str)) -> Result<Event, String> {
        if self.worker.is_none()
            && let Err(failure) = self.recruit()
        {
            self.losses += 1;
            return Err(failure.message);
        }
        let worker = self.worker.as_mut().expect("just recruited");
        worker.be_patient_for(self.patience_s);
        worker.send(&request);
        let answer = worker.answer(stage);
        // The worker may say itself that its device is gone.
        let lost = match &answer {
            Ok(Event::Side { lost, .. } | Event::VisitFailed { lost, .. }) => *lost,
            Ok(_) => false,
            Err(_) => true,
        };
        self.losses = if lost { self.losses + 1 } else { 0 };
        if lost {
            self.worker = None;
        }
        answer.map_err(|loss| loss.reason().to_owned())
    }

    /// Sends what has no answer.
    pub fn tell(&mut self, request: &Request) {
        if let Some(worker) = &mut self.worker {
            worker.send(request);
        }
    }

    /// Changes whenever what a worker keeps is lost.
    pub fn generation(&self) -> Option<u32> {
        self.worker.as_ref().map(|_| self.recruits)
    }

    /// Whether the last cell took its worker down.
    pub fn lost(&self) -> bool {
        self.losses > 0
    }

    /// Holds losses against a fault that was put in, not against the device or the kernel.
    ///
    /// # Errors
    /// When the device takes no new worker: then the loss is its own.
    pub fn forgive(&mut self) -> Result<(), Failure> {
        self.hung.clear();
        if self.worker.is_none() {
            self.recruit()?;
        }
        self.losses = 0;
        Ok(())
    }

    /// Whether the device keeps taking workers down.
    pub fn exhausted(&self) -> bool {
        self.losses >= MAX_LOSSES
    }
}
