//! A comparison for people: worst first, every doubt with what to do about it.

mod markdown;
mod terminal;
mod words;

pub use markdown::markdown;
pub use terminal::table;
pub use words::Command;
pub(super) use words::{change, interval, sentence};

#[cfg(test)]
mod tests;
