//! The kernels of fusebench against what people use instead, on the same adapter and inputs.
//!
//! `scripts/peers` builds and runs this.

mod burn;
mod cases;
mod contender;
mod cpu;
mod duel;
mod inputs;
mod onnx;
mod ours;
mod outcome;
mod report;
mod verdict;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use fusebench::gpu::{Checks, Selector};
use fusebench::inputs::Distribution;
use fusebench::kernel::Work;
use fusebench::measure::{Peaks, stats};
use fusebench::record;
use fusebench::suite::{Session, Sources, ceilings};

use burn::Burn;
use cases::Case;
use contender::{Contender, Result};
use duel::{Rules, compete, ratio};
use onnx::OnnxRuntime;
use ours::Ours;
use outcome::{BURN, Entry, Figures, Outcome, PEERS};
use report::About;
use verdict::Reference;

/// Compares the kernels of fusebench with burn on the same adapter, and with ndarray and ONNX
/// Runtime on the CPU.
///
/// Prints a Markdown table of ratios with 95 % intervals. Exit codes: 0 when every answer is
/// verified and every target met, 1 otherwise, 2 usage, 3 no adapter.
#[derive(Parser)]
#[command(name = "scripts/peers")]
struct Arguments {
    /// Only operations whose KERNEL/SHAPE holds this.
    #[arg(default_value = "")]
    filter: String,
    /// The adapter: number or part of the name in `fusebench devices`.
    #[arg(short, long)]
    device: Option<String>,
    /// Rounds of samples; an operation of long runs ends after seven.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..))]
    rounds: u32,
    /// Least length of a sample in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    span_ms: f64,
    /// Of inputs and orders.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// A file for the table, or a folder, where it is named after the adapter.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err((code, error)) => {
            eprintln!("scripts/peers: {error}");
            ExitCode::from(code)
        }
    }
}

/// Whether all is right and met; otherwise the exit code with what went wrong.
fn run(arguments: &Arguments) -> std::result::Result<bool, (u8, Box<dyn std::error::Error>)> {
    let cases = cases::cases(&arguments.filter);
    if cases.is_empty() {
        let known: Vec<String> = cases::cases("").iter().map(Case::id).collect();
        let filter = &arguments.filter;
        let why = format!("no operation holds `{filter}`: there are {}", known.join(", "));
        return Err((2, why.into()));
    }
    let mut peers = Peers::open(arguments).map_err(|error| (3, error))?;
    let started = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    let mut outcomes = Vec::new();
    for case in &cases {
        eprintln!("{} …", case.id());
        match peers.compare(case) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => return Err((1, format!("{}: {error}", case.id()).into())),
        }
    }
    let about = peers.about(arguments, started);
    let text = report::markdown(&about, &outcomes);
    print!("{text}");
    for line in report::absences(&about, cases.len()) {
        eprintln!("scripts/peers: {line}");
    }
    if let Some(output) = &arguments.output {
        let name = report::file_name(&peers.session.gpu().report.name);
        let path = if output.is_dir() { output.join(name) } else { output.clone() };
        fs::write(&path, text).map_err(|e| (2, format!("{}: {e}", path.display()).into()))?;
    }
    let met = outcome::targets(&outcomes, about.emulated).iter().all(|finding| finding.met);
    Ok(met && outcome::faults(&outcomes).is_empty())
}

/// Everyone, ready.
struct Peers {
    session: Session,
    peaks: Peaks,
    burn: Burn,
    onnx: std::result::Result<(OnnxRuntime, String), String>,
    rules: Rules,
}

impl Peers {
    fn open(arguments: &Arguments) -> Result<Self> {
        let selector = arguments.device.as_deref().map_or(Selector::Best, Selector::parse);
        let (seed, interrupt) = (arguments.seed, Arc::default());
        let mut session =
            Session::open(&selector, Sources::default(), seed, Checks::Safe, interrupt)?;
        let burn = Burn::open(&session.gpu().report)?;
        let found = session.measure_peaks()?;
        let start = || -> Result<(OnnxRuntime, String)> {
            let mut onnx = OnnxRuntime::start()?;
            let version = onnx.version()?;
            Ok((onnx, version))
        };
        let onnx = start().map_err(|error| error.to_string());
        let rules = Rules { rounds: arguments.rounds, span_s: 1e-3 * arguments.span_ms, seed };
        Ok(Peers { session, peaks: ceilings(&found.peaks), burn, onnx, rules })
    }

    fn compare(&mut self, case: &Case) -> Result<Outcome> {
        let candidates = ours::candidates(&self.session, case);
        let best = ours::fastest(&mut self.session, &candidates)?;
        let (strategy, work) = (best.variant.name, best.work());
        let inputs = best.inputs(Distribution::Normal, self.rules.seed);
        let reference = Reference::new(&candidates, &inputs, self.rules.seed);

        let mut entries: [Entry; 3] = std::array::from_fn(|_| Entry::Lacks);
        let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
            Box::new(Ours::new(&self.session, best.clone(), Checks::Safe)?),
            Box::new(Ours::new(&self.session, best, Checks::Trusted)?),
        ];
        // Which of the peers each contender but the first two is.
        let mut places = Vec::new();
        let theirs = [burn::contender(&self.burn, case, &inputs), cpu::contender(case, &inputs)];
        for (place, contender) in theirs.into_iter().enumerate() {
            if let Some(contender) = contender {
                contenders.push(contender);
                places.push(place);
            }
        }
        if let Ok((onnx, _)) = &mut self.onnx {
            match onnx.load(case, &inputs) {
                Ok(()) => {
                    contenders.push(Box::new(onnx));
                    places.push(2);
                }
                Err(error) => entries[2] = Entry::Failed(error.to_string()),
            }
        }

        let mut series = compete(&mut contenders, self.rules).into_iter();
        let judge = |contender: &mut Box<dyn Contender + '_>| match contender.answer() {
            Ok(answer) => reference.fault(&answer),
            Err(error) => Some(error.to_string()),
        };
        let mut own = || series.next().unwrap_or_else(|| Err("no series".to_owned()));
        let (ours_s, unchecked_s) = (own()?, own()?);
        let ours = figures(&self.peaks, &work, &ours_s, judge(&mut contenders[0]));
        let unchecked = figures(&self.peaks, &work, &unchecked_s, judge(&mut contenders[1]));
        let mut alike = None;
        for ((series, contender), place) in series.zip(&mut contenders[2..]).zip(places) {
            entries[place] = match series {
                Err(why) => Entry::Failed(why),
                Ok(theirs_s) => {
                    let figures = figures(&self.peaks, &work, &theirs_s, judge(contender));
                    if place == BURN {
                        alike = Some(ratio(&theirs_s, &unchecked_s, self.rules.seed));
                    }
                    Entry::Ran(figures, ratio(&theirs_s, &ours_s, self.rules.seed))
                }
            };
        }
        let (kernel, shape) = (case.entry.name, case.shape.to_string());
        let outcome = Outcome { kernel, shape, strategy, ours, unchecked, alike, peers: entries };
        tell(&outcome);
        Ok(outcome)
    }

    fn about(&self, arguments: &Arguments, started: String) -> About {
        let report = &self.session.gpu().report;
        let driver = format!("{} {}", report.driver, report.driver_info);
        let lock = include_str!("../Cargo.lock");
        let of = |package| report::locked_version(lock, package).unwrap_or("of some version");
        let ours = record::this_build(Sources::default().hash());
        let mut versions = vec![
            format!("fusebench {}, commit {}", ours.version, ours.commit),
            format!("burn {}", of("burn-tensor")),
            format!("ndarray {}", of("ndarray")),
        ];
        let mut absent = Vec::new();
        match &self.onnx {
            Ok((_, version)) => versions.push(format!("ONNX Runtime {version}")),
            Err(why) => absent.push((PEERS[2], why.clone())),
        }
        About {
            device: format!("{}, {}", report.label(), driver.trim()),
            emulated: report.emulated,
            versions,
            started,
            rounds: arguments.rounds,
            span_s: self.rules.span_s,
            absent,
        }
    }
}

fn figures(peaks: &Peaks, work: &Work, seconds: &[f64], fault: Option<String>) -> Figures {
    let seconds = stats::median(seconds);
    let ideal_s = peaks.ideal_s(work, work.bytes);
    Figures { seconds, of_peak: (ideal_s > 0.0).then_some(ideal_s / seconds), fault }
}

/// One line of progress.
fn tell(outcome: &Outcome) {
    let ratios: Vec<String> = (0..PEERS.len())
        .map(|peer| match outcome.ratio(peer) {
            Some(ratio) => format!("{} {:.2}", PEERS[peer], ratio.value),
            None => format!("{} –", PEERS[peer]),
        })
        .collect();
    eprintln!("    {}: {}", outcome.strategy, ratios.join(", "));
}
