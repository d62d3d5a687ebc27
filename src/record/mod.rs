//! What is written down: the only serialisable types of the crate, and the files that hold them.

mod schema;
mod store;

pub use schema::*;
pub use store::{PartialFile, StoreError, read, write_atomically};
