//! The flags. Their descriptions are the documentation.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::exit::{Exit, Failure};
use super::input::InputArgs;
use super::{ab, compare, devices, dump, export, list, run, selftest, tune, worker};
use crate::inputs::Distribution;
use crate::kernel::Preset;

/// How fast is this kernel on this GPU, and how right is it?
///
/// Verifies fusion kernels against a CPU reference, then times them, on any Vulkan, Metal or DX12
/// adapter. A wrong kernel gets no time. Exit codes: 0 fine, 1 a wrong result, a failed cell or a
/// regression, 2 usage, 3 no adapter, 4 nothing ran, 5 inconclusive, 130 interrupted.
#[derive(Parser, Debug)]
#[command(name = "fusebench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Args, Clone, Debug)]
pub struct Global {
    /// When to colour; a word or sign always stands beside a colour.
    #[arg(long, global = true, value_enum, default_value = "auto", env = "FUSEBENCH_COLOR")]
    pub color: Color,
    /// Show what the driver prints.
    #[arg(long, global = true, env = "FUSEBENCH_VERBOSE")]
    pub verbose: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List every adapter with the features and limits that kernels ask for.
    Devices {
        /// Print JSON.
        #[arg(long, env = "FUSEBENCH_JSON")]
        json: bool,
    },
    /// List kernels, variants, dtypes and shapes; needs no adapter.
    List {
        #[command(flatten)]
        selection: Selection,
        /// Print JSON.
        #[arg(long, env = "FUSEBENCH_JSON")]
        json: bool,
    },
    /// Verify each cell, then time it.
    Run(RunArgs),
    /// Verify only, on every input distribution; exits 1 when a cell is wrong.
    #[command(mut_arg("preset", |preset| {
        preset.default_value_if("mutants", "true", Preset::Smoke.name())
    }))]
    Check(CheckArgs),
    /// Write inputs, outputs, references and bounds of kernels as NumPy files, with a script.
    Dump(DumpArgs),
    /// Compare two versions of the kernels or of the program in one run, and say how sure it is.
    Ab(ab::AbArgs),
    /// Compare every cell with itself: how often this machine sees differences that are none.
    Selftest(selftest::SelftestArgs),
    /// Find the fastest strategy and constants for this device; later runs use them.
    Tune(tune::TuneArgs),
    /// Compare two result files: what is slower, faster, or has another error.
    Compare(compare::CompareArgs),
    /// Keep results over time and find when a cell became slower.
    #[cfg(feature = "history")]
    History(super::history::HistoryArgs),
    /// Write results in the forms that other programs read.
    Export(export::ExportArgs),
    #[command(hide = true)]
    Worker,
}

/// What to work on.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Regular expressions searched in KERNEL/VARIANT/DTYPE/SHAPE; any may match.
    #[arg(value_name = "FILTER", env = "FUSEBENCH_FILTER", value_delimiter = ' ')]
    pub filters: Vec<String>,
    /// Which shapes: small and awkward, those of published models, or scaling curves.
    #[arg(
        long,
        default_value = "models",
        env = "FUSEBENCH_PRESET",
        value_parser = PossibleValuesParser::new(Preset::ALL.map(Preset::name))
    )]
    pub preset: String,
    /// Only these precisions.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        env = "FUSEBENCH_DTYPE",
        value_parser = PossibleValuesParser::new(crate::kernel::Dtype::ALL.map(|d| d.name()))
    )]
    pub dtype: Vec<String>,
    /// Only these strategies, also those made for GPUs on a CPU driver, where `run` leaves them
    /// out otherwise.
    #[arg(long, value_name = "LIST", value_delimiter = ',', env = "FUSEBENCH_VARIANT")]
    pub variant: Vec<String>,
}

impl Selection {
    pub fn preset(&self) -> Preset {
        let named = Preset::ALL.into_iter().find(|preset| preset.name() == self.preset);
        named.expect("clap admits only the names of presets")
    }
}

/// Where and from what to run.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// An index from `devices`, a part of backend:name, or `all`; repeatable. Default: the best
    /// adapter.
    #[arg(long, short, value_name = "D", env = "FUSEBENCH_DEVICE", value_delimiter = ',')]
    pub device: Vec<String>,
    /// Shaders in DIR/FAMILY/NAME.wgsl replace the built-in ones.
    #[arg(long, value_name = "DIR", env = "FUSEBENCH_KERNELS")]
    pub kernels: Option<PathBuf>,
    /// Seed of input data, order and resampling.
    #[arg(long, value_name = "N", default_value_t = 1, env = "FUSEBENCH_SEED")]
    pub seed: u32,
    /// wgpu's run-time checks in the shader: on, or off.
    #[arg(long, value_enum, default_value = "safe", env = "FUSEBENCH_CHECKS")]
    pub checks: ChecksArg,
    /// Seconds without progress after which a worker counts as hung and is ended.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 30.0,
        env = "FUSEBENCH_PATIENCE",
        value_parser = positive_seconds
    )]
    pub patience: f64,
    /// Write the result file here; `-` is stdout. With several devices each gets its own file.
    #[arg(long, short, value_name = "FILE", env = "FUSEBENCH_OUTPUT")]
    pub output: Option<PathBuf>,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "table", env = "FUSEBENCH_FORMAT")]
    pub format: Format,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksArg {
    Safe,
    Trusted,
}

impl ChecksArg {
    pub fn name(self) -> &'static str {
        match self {
            ChecksArg::Safe => "safe",
            ChecksArg::Trusted => "trusted",
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Csv,
    Markdown,
}

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub input: InputArgs,
    /// A taste in 15 seconds: short samples, and without a FILTER one cell of each kernel.
    #[arg(long, env = "FUSEBENCH_QUICK")]
    pub quick: bool,
    /// Seconds per cell; lifts the limit of two minutes on the whole run.
    #[arg(
        long,
        value_name = "S",
        env = "FUSEBENCH_MAX_TIME",
        allow_negative_numbers = true,
        value_parser = positive_seconds
    )]
    pub max_time: Option<f64>,
    /// Run every strategy that suits the device, also where `tune` has found the fastest.
    #[arg(long, env = "FUSEBENCH_UNTUNED")]
    pub untuned: bool,
    /// Winners found by `tune`. Default: tuning.json in the user's data folder.
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_TUNING")]
    pub tuning: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub input: InputArgs,
    /// Verify every output row of large shapes too, and shapes beyond the budget of a CPU driver.
    #[arg(long, env = "FUSEBENCH_FULL")]
    pub full: bool,
    /// Put small faults into the shaders of the selected kernels, at --preset smoke if none is
    /// named, and show which gate catches each; exits 1 when one goes unnoticed.
    #[arg(long, env = "FUSEBENCH_MUTANTS", conflicts_with = "inputs_from")]
    pub mutants: bool,
}

/// Every array goes to DIR/ID/NAME.npy, the slashes of the id as hyphens; DIR/manifest.json says
/// what is in it, and DIR/check.py compares outputs with references, with NumPy and nothing else.
/// Verification covers every output row. Exits 1 when a cell is wrong; its files are written all
/// the same.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("filters", |filters| filters.required(true)))]
pub struct DumpArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub input: InputArgs,
    /// Folder to write to; made where there is none, refused where it holds anything.
    #[arg(long, short, value_name = "DIR", env = "FUSEBENCH_OUTPUT")]
    pub output: PathBuf,
    /// Distribution of the input data; `check` names the one on which a kernel is wrong.
    #[arg(
        long,
        value_name = "DISTRIBUTION",
        default_value = "normal",
        env = "FUSEBENCH_INPUTS",
        conflicts_with = "inputs_from",
        value_parser = PossibleValuesParser::new(Distribution::ALL.map(Distribution::name))
    )]
    pub inputs: String,
    /// An index from `devices`, or a part of backend:name. Default: the best adapter.
    #[arg(long, short, value_name = "D", env = "FUSEBENCH_DEVICE")]
    pub device: Option<String>,
    /// Shaders in DIR/FAMILY/NAME.wgsl replace the built-in ones.
    #[arg(long, value_name = "DIR", env = "FUSEBENCH_KERNELS")]
    pub kernels: Option<PathBuf>,
    /// Seed of input data.
    #[arg(long, value_name = "N", default_value_t = 1, env = "FUSEBENCH_SEED")]
    pub seed: u32,
    /// Seconds without progress after which the worker counts as hung and is ended.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 30.0,
        env = "FUSEBENCH_PATIENCE",
        value_parser = positive_seconds
    )]
    pub patience: f64,
    /// Write into a folder that holds something, and cells whose files take more than 64 MB.
    #[arg(long, env = "FUSEBENCH_FORCE")]
    pub force: bool,
}

pub fn positive_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ => Err("give a number of seconds above 0, such as 10 or 0.5".to_owned()),
    }
}

/// Parses the command line and does what it says.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; a broken pipe behind them is no failure.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine };
        }
    };
    cli.global.apply();
    let outcome = match cli.command {
        Command::Devices { json } => devices::devices(json, &cli.global),
        Command::List { selection, json } => list::list(&selection, json),
        Command::Run(args) => run::run(&args, &cli.global),
        Command::Check(args) => run::check(&args, &cli.global),
        Command::Dump(args) => dump::dump(&args, &cli.global),
        Command::Ab(args) => ab::ab(&args, &cli.global),
        Command::Selftest(args) => selftest::selftest(&args, &cli.global),
        Command::Tune(args) => tune::tune(&args, &cli.global),
        Command::Compare(args) => compare::compare(&args),
        #[cfg(feature = "history")]
        Command::History(args) => super::history::history(&args),
        Command::Export(args) => export::export(&args),
        Command::Worker => return worker::serve(),
    };
    match outcome {
        Ok(exit) => exit,
        Err(Failure { exit, message }) => {
            anstream::eprintln!("fusebench: {message}");
            exit
        }
    }
}

impl Global {
    /// `--color` wins over the environment, which anstream reads itself.
    fn apply(&self) {
        match self.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        fn walk(command: &clap::Command, without: &mut Vec<String>) {
            for argument in command.get_arguments() {
                let named = argument
                    .get_env()
                    .is_some_and(|name| name.to_string_lossy().starts_with("FUSEBENCH_"));
                let own = ["help", "version"].contains(&argument.get_id().as_str());
                if !named && !own {
                    without.push(format!("{} {}", command.get_name(), argument.get_id()));
                }
            }
            command.get_subcommands().for_each(|sub| walk(sub, without));
        }
        let mut without = Vec::new();
        walk(&Cli::command(), &mut without);
        assert_eq!(without, [""; 0]);
    }
}
