//! Runs for people and for other programs: one file per form, over shared words and columns.

pub mod csv;
mod grid;
mod header;
pub mod json;
pub mod layout;
pub mod markdown;
pub mod mutants;
mod notes;
mod scaling;
pub mod terminal;
