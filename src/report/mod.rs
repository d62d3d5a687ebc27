//! Runs for people and for other programs: one file per form, over shared words and columns.

#[cfg(feature = "history")]
pub mod changes;
pub mod csv;
mod grid;
mod header;
#[cfg(feature = "history")]
pub mod history;
pub mod json;
pub mod layout;
pub mod markdown;
pub mod mutants;
mod notes;
mod scaling;
pub mod sessions;
pub mod terminal;
