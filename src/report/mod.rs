//! Runs for people and for other programs: one file per form, over shared words and columns.

mod axes;
#[cfg(feature = "history")]
pub mod changes;
pub mod comment;
pub mod comparison;
pub mod csv;
mod evidence;
pub mod export;
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
mod stages;
pub mod terminal;
mod trade;
mod user;
