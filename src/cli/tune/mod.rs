//! `fusebench tune`: which strategy and which constants win on this device.

mod bench;
mod tally;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{Global, Selection, positive_seconds};
use super::data_folder::WINNERS;
use super::exit::{Exit, Failure};
use super::{interrupt, output, select, tuned};
use crate::kernel::Dtype;
use crate::record::{PROTOCOL, Setup, Tuning};
use crate::suite::Item;
use bench::Bench;

/// Times every strategy that suits the device, and the fastest ones with other workgroup sizes,
/// verified like every cell; the winner has to beat the strategy that the rules choose in five
/// alternating rounds out of five. Later runs use it and say so. Shapes whose sizes have the same
/// powers of four are one class, tuned once. What is tuned already is left alone, so a run that
/// was interrupted or out of time goes on where it stopped.
#[derive(Args, Clone, Debug)]
pub struct TuneArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// An index from `devices`, or a part of backend:name. Default: the best adapter.
    #[arg(long, short, value_name = "D", env = "FUSEBENCH_DEVICE")]
    pub device: Option<String>,
    /// Seconds after which no further kernel is begun.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 300.0,
        env = "FUSEBENCH_BUDGET",
        value_parser = positive_seconds
    )]
    pub budget: f64,
    /// Tune again what is tuned already.
    #[arg(long, env = "FUSEBENCH_AGAIN")]
    pub again: bool,
    /// Keep the winners here. Default: tuning.json in the user's data folder.
    #[arg(long, value_name = "FILE", env = "FUSEBENCH_TUNING")]
    pub tuning: Option<PathBuf>,
    /// Seed of input data and order.
    #[arg(long, value_name = "N", default_value_t = 1, env = "FUSEBENCH_SEED")]
    pub seed: u32,
    /// Seconds without progress after which a worker counts as hung and is ended.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 30.0,
        env = "FUSEBENCH_PATIENCE",
        value_parser = positive_seconds
    )]
    pub patience: f64,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value = "table", env = "FUSEBENCH_FORMAT")]
    pub format: Format,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
}

/// Tunes what is selected.
pub fn tune(args: &TuneArgs, global: &Global) -> Result<Exit, Failure> {
    let items = select::select(&args.selection)?;
    let groups = classes(items);
    if groups.is_empty() {
        let reason = "nothing to tune: pipelines run the strategies of their stages";
        return Err(Failure::nothing(reason));
    }
    let path = WINNERS.path(args.tuning.as_deref());
    let path = path.ok_or_else(|| Failure::usage(WINNERS.homeless()))?;
    let tuning = Tuning::read(&path).map_err(output::failure)?;
    WINNERS.make_folder(&path)?;
    // A path nobody can write to is found before measuring.
    tuned::keep(&tuning, &path)?;
    interrupt::listen();
    let setup = Setup {
        protocol: PROTOCOL,
        device: args.device.clone(),
        overlay: Vec::new(),
        head: Vec::new(),
        seed: args.seed,
        checks: "safe".to_owned(),
        peaks: None,
        inputs: Vec::new(),
        allow_nonfinite: false,
    };
    let mut bench = Bench::open(setup, global, args)?;
    let tally = bench.all(args, &groups, &path)?;
    tally.show(args.format);
    Ok(tally.close(&bench, &path))
}

/// The strategies of one kernel at one precision on the first shape of each class, apart by what
/// they store.
fn classes(items: Vec<Item>) -> Vec<Vec<Item>> {
    type Class = (String, Dtype, Option<&'static str>, String);
    let mut groups: Vec<(Class, Vec<Item>)> = Vec::new();
    for item in items {
        let Item::Kernel(cell) = &item else { continue };
        let key = (item.name(), item.dtype(), item.float(), cell.shape.class());
        match groups.iter_mut().find(|(known, _)| *known == key) {
            None => groups.push((key, vec![item])),
            Some((_, group)) if group[0].shape() == item.shape() => group.push(item),
            // Another shape of a class that has one.
            Some(_) => {}
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}
