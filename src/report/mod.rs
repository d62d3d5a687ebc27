//! Runs for people and for other programs: one file per form, over shared words and columns.

mod axes;
pub mod csv;
mod evidence;
mod grid;
mod header;
pub mod json;
pub mod layout;
pub mod markdown;
pub mod mutants;
mod notes;
mod scaling;
mod stages;
pub mod terminal;
mod trade;
