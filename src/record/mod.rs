//! What is written down: the only serialisable types of the crate, and the files that hold them.

mod fingerprint;
mod messages;
mod schema;
mod store;

pub use fingerprint::{fingerprint, fnv1a, this_build};
pub use messages::*;
pub use schema::*;
pub use store::{PartialFile, StoreError, read, write_atomically};
