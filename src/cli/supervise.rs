//! The supervisor's side of a worker process: start it, talk to it, notice when it dies or hangs.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::interrupt;
use crate::record::{Event, Request};

/// A worker may be silent for this many times what it announced.
const SILENCE_FACTOR: f64 = 10.0;
/// Starting a driver and measuring ceilings may take at least this long.
pub const PATIENCE_MIN_S: f64 = 30.0;
/// How often the user's Ctrl-C is looked for while a worker is busy.
const TICK: Duration = Duration::from_millis(50);
/// Lines of driver output kept for the message after a crash.
const KEPT_LINES: usize = 8;

/// A running worker process.
pub struct Worker {
    child: Child,
    requests: Option<ChildStdin>,
    events: Receiver<Event>,
    chatter: Arc<Mutex<VecDeque<String>>>,
    /// Seconds of silence after which the worker hangs.
    patience_s: f64,
}

/// Why a worker gave no answer.
#[derive(Debug)]
pub enum Loss {
    /// It ended by itself or was killed from outside.
    Died(String),
    /// It was ended because it made no progress.
    Hung(String),
}

impl Loss {
    pub fn reason(&self) -> &str {
        match self {
            Loss::Died(reason) | Loss::Hung(reason) => reason,
        }
    }
}

impl Worker {
    /// Starts this same program as a worker. `verbose` passes the driver's output through.
    pub fn start(verbose: bool) -> std::io::Result<Self> {
        Worker::of(&std::env::current_exe()?, verbose)
    }

    /// Starts a program that is a fusebench, perhaps of another build.
    pub fn of(program: &Path, verbose: bool) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        detach(&mut command);
        let mut child = command.spawn()?;
        let (sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            // A line that is no event is a driver writing to the wrong stream.
            for line in stdout.lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        let chatter = Arc::default();
        let stderr = child.stderr.take().expect("piped");
        listen_to_driver(stderr, verbose, Arc::clone(&chatter));
        let requests = child.stdin.take();
        Ok(Worker { child, requests, events, chatter, patience_s: PATIENCE_MIN_S })
    }

    /// Sets how long the worker may be silent in the middle of a cell.
    pub fn be_patient_for(&mut self, seconds: f64) {
        self.patience_s = seconds;
    }

    /// Sends a request; a worker that is gone is noticed at the next answer.
    pub fn send(&mut self, request: &Request) {
        let mut line = serde_json::to_string(request).expect("requests serialise");
        line.push('\n');
        if let Some(pipe) = &mut self.requests {
            drop(pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush()));
        }
    }

    /// The next event that is not a sign of life. `stage` hears those; Ctrl-C is passed on once.
    pub fn answer(&mut self, stage: &mut dyn FnMut(&str)) -> Result<Event, Loss> {
        let mut patience = self.patience_s;
        let mut last_sign = Instant::now();
        let mut doing = "starting".to_owned();
        let mut told = false;
        loop {
            match self.events.recv_timeout(TICK) {
                Ok(Event::Alive { stage: next, expect_s }) => {
                    last_sign = Instant::now();
                    patience = self.patience_s.max(SILENCE_FACTOR * expect_s);
                    if next != doing {
                        stage(&next);
                        doing = next;
                    }
                }
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Disconnected) => return Err(self.obituary(&doing)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interrupt::requested() && !told {
                self.send(&Request::Stop);
                told = true;
            }
            if last_sign.elapsed().as_secs_f64() > patience {
                drop(self.child.kill());
                drop(self.child.wait());
                let reason = format!("hung: no progress for {patience:.0} s while {doing}");
                return Err(Loss::Hung(reason));
            }
        }
    }

    fn obituary(&mut self, doing: &str) -> Loss {
        let how = self.child.wait().map_or_else(|error| error.to_string(), describe);
        // The reader of the driver's output may be a moment behind.
        std::thread::sleep(Duration::from_millis(20));
        let chatter = self.chatter.lock().expect("not poisoned");
        let last = chatter.back().map(|line| format!("; last output: {line}")).unwrap_or_default();
        Loss::Died(format!("the worker {how} while {doing}{last}"))
    }
}

impl Drop for Worker {
    /// Closing its input ends an idle worker; a busy one is not waited for.
    fn drop(&mut self) {
        drop(self.requests.take());
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > Duration::from_secs(1) {
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Keeps the terminal's Ctrl-C from reaching the worker, which hears of it from us.
#[cfg(unix)]
fn detach(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(windows)]
fn detach(command: &mut Command) {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    std::os::windows::process::CommandExt::creation_flags(command, CREATE_NEW_PROCESS_GROUP);
}

#[cfg(not(any(unix, windows)))]
fn detach(_command: &mut Command) {}

fn listen_to_driver(
    stderr: impl Read + Send + 'static,
    verbose: bool,
    kept: Arc<Mutex<VecDeque<String>>>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if verbose {
                anstream::eprintln!("driver: {line}");
            }
            let mut kept = kept.lock().expect("not poisoned");
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
}

#[cfg(unix)]
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(9), _) => "was killed (SIGKILL, perhaps for memory)".to_owned(),
        (Some(11), _) => "crashed (SIGSEGV)".to_owned(),
        (Some(6), _) => "aborted (SIGABRT)".to_owned(),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, code) => format!("ended with exit code {}", code.unwrap_or(-1)),
    }
}

#[cfg(not(unix))]
fn describe(status: ExitStatus) -> String {
    format!("ended with {status}")
}
