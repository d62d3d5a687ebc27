//! The command line: what the binary does, and nothing a library user needs.

mod ab;
mod again;
mod args;
mod arguments;
mod budget;
mod catalogue;
mod compare;
mod confirm;
mod crew;
mod data_folder;
mod devices;
mod dump;
mod dump_files;
mod exit;
mod export;
mod fail_on;
#[cfg(feature = "history")]
mod history;
mod input;
mod interrupt;
mod known;
mod list;
mod mutants;
mod noise;
mod order;
mod output;
mod overlay;
mod pairs;
mod progress;
mod run;
mod select;
mod selftest;
mod sessions;
mod strength;
mod supervise;
mod tune;
mod tuned;
mod worker;

pub use args::main;
pub use exit::Exit;
