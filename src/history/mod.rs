//! The history of results: an SQLite file that every result file can be added to, and that can be
//! made again from them.

mod add;
mod error;
mod query;
mod store;

pub use add::{Added, NewRun};
pub use error::HistoryError;
pub use query::{Point, RunInfo, Series};
pub use store::History;
