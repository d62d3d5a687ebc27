//! What became of the classes of shapes, and how it is told.

use std::path::Path;

use super::super::exit::Exit;
use super::super::{interrupt, output};
use super::Format;
use super::bench::Bench;
use crate::record::{Winner, to_json};

/// What became of the groups.
#[derive(Default)]
pub struct Tally {
    pub won: Vec<Winner>,
    /// Tuned before.
    pub known: usize,
    /// No strategy can be timed here.
    pub unable: usize,
    /// Not begun, or interrupted.
    pub left: usize,
}

impl Tally {
    /// Prints the winners.
    pub fn show(&self, format: Format) {
        match format {
            Format::Json => output::print(&to_json(&self.won)),
            Format::Table => output::print(&self.table()),
        }
    }

    /// Says on stderr how it ended.
    pub fn close(&self, bench: &Bench, path: &Path) -> Exit {
        let Tally { won, known, unable, left } = self;
        let (won, all) = (won.len(), won.len() + known + unable + left);
        anstream::eprintln!(
            "fusebench: {all} classes of shapes: {won} tuned, {known} tuned before, {unable} not \
             to be timed here, {left} left; winners are in {}",
            path.display()
        );
        if *left > 0 && !interrupt::requested() {
            anstream::eprintln!("fusebench: the same command goes on with those left");
        }
        bench.faults().iter().for_each(|fault| anstream::eprintln!("fusebench: {fault}"));
        if interrupt::requested() {
            Exit::Interrupted
        } else if bench.exhausted() {
            Exit::Environment
        } else if !bench.faults().is_empty() {
            Exit::Finding
        } else if won + known > 0 {
            Exit::Fine
        } else {
            Exit::Nothing
        }
    }

    fn table(&self) -> String {
        let mut rows: Vec<[String; 6]> =
            vec![["kernel", "dtype", "class", "winner", "gain", "tried"].map(str::to_owned)];
        let mut won: Vec<&Winner> = self.won.iter().collect();
        won.sort_by_key(|w| (&w.kernel, &w.dtype, &w.class));
        for winner in won {
            let constants = winner.constants.iter().map(|(name, value)| format!(" {name}={value}"));
            rows.push([
                winner.kernel.clone(),
                match &winner.float {
                    Some(float) => format!("{} with {float}", winner.dtype),
                    None => winner.dtype.clone(),
                },
                winner.class.clone(),
                format!("{}{}", winner.variant, constants.collect::<String>()),
                if winner.gain > 1.0 { format!("{:.2}×", winner.gain) } else { "rule".to_owned() },
                winner.tried.to_string(),
            ]);
        }
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let line = |row: &[String; 6]| {
            let cells = row.iter().zip(widths).map(|(text, width)| format!("{text:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(|row| line(row) + "\n").collect()
    }
}
