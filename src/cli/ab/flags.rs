//! The flags that `ab` and `selftest` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::AbArgs;
use crate::cli::args::{ChecksArg, Selection, positive_seconds};
use crate::cli::arguments::{flag, option, selected};
use crate::compare::noise;
use crate::compare::plan::{FLOOR, QUICK_SAMPLE_S, SAMPLE_S};

/// What to compare and how.
#[derive(Args, Clone, Debug)]
pub struct PairFlags {
    #[command(flatten)]
    pub selection: Selection,
    /// An index from `devices`, or a part of backend:name. Default: the best adapter.
    #[arg(long, short, value_name = "D", env = "FUSEBENCH_DEVICE")]
    pub device: Option<String>,
    /// Samples of 5 ms instead of 20, and without a FILTER one cell of each kernel.
    #[arg(long, env = "FUSEBENCH_QUICK")]
    pub quick: bool,
    /// Most seconds that the pairs of one cell may take; longer cells are skipped.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 60.0,
        env = "FUSEBENCH_MAX_TIME",
        value_parser = positive_seconds
    )]
    pub max_time: f64,
    /// Smallest change worth a verdict, in per cent, whatever is known of a cell's noise. Default:
    /// 1, or twice the noise that `selftest` found for the cell.
    #[arg(long, value_name = "PERCENT", env = "FUSEBENCH_FLOOR", value_parser = percent)]
    pub floor: Option<f64>,
    /// The noise of cells, written by `selftest`. Default: noise.json in the user's data folder.
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_NOISE")]
    pub noise: Option<PathBuf>,
    /// Slow the head down by so many per cent, to see whether that is found.
    #[arg(long, value_name = "PERCENT", env = "FUSEBENCH_INJECT", value_parser = percent)]
    pub inject: Option<f64>,
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
    /// Write the comparison here; `-` is stdout.
    #[arg(long, short, value_name = "FILE", env = "FUSEBENCH_OUTPUT")]
    pub output: Option<PathBuf>,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "table", env = "FUSEBENCH_FORMAT")]
    pub format: Form,
}

/// Forms of a comparison.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Table,
    Json,
    /// The summary for a pull request.
    Markdown,
}

impl PairFlags {
    /// Length of a sample in seconds.
    pub fn sample_s(&self) -> f64 {
        if self.quick { QUICK_SAMPLE_S } else { SAMPLE_S }
    }

    /// Smallest change worth a verdict of a cell of this noise, as a fraction.
    pub fn floor(&self, noise: Option<f64>) -> f64 {
        let learnt = || FLOOR.max(noise.map_or(0.0, noise::floor));
        self.floor.map_or_else(learnt, |percent| percent / 100.0)
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 400.0 => Ok(percent),
        _ => Err("give a number of per cent above 0 and up to 400, such as 5".to_owned()),
    }
}

pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 to 1, such as 0.2".to_owned()),
    }
}

/// The command line as recorded.
pub fn of_ab(args: &AbArgs) -> Vec<String> {
    let mut list = vec!["ab".to_owned()];
    common(&mut list, &args.flags);
    option(&mut list, "--control", Some(args.control.to_string()));
    let names = args.fail_on.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
    option(&mut list, "--fail-on", Some(names.join(",")));
    option(&mut list, "--confirm", args.confirm.as_ref().map(|_| "PATH".to_owned()));
    flag(&mut list, "--allow-unlike", args.allow_unlike);
    list
}

pub fn of_selftest(flags: &PairFlags) -> Vec<String> {
    let mut list = vec!["selftest".to_owned()];
    common(&mut list, flags);
    list
}

fn common(list: &mut Vec<String>, flags: &PairFlags) {
    selected(list, &flags.selection);
    option(list, "--device", flags.device.clone());
    flag(list, "--quick", flags.quick);
    option(list, "--max-time", Some(flags.max_time.to_string()));
    option(list, "--floor", flags.floor.map(|percent| percent.to_string()));
    option(list, "--noise", flags.noise.as_ref().map(|_| "PATH".to_owned()));
    option(list, "--inject", flags.inject.map(|percent| percent.to_string()));
    option(list, "--seed", Some(flags.seed.to_string()));
    option(list, "--checks", Some(flags.checks.name().to_owned()));
    option(list, "--output", flags.output.as_ref().map(|_| "PATH".to_owned()));
}
