//! What is written down: the only serialisable types of the crate, and the files that hold them.

mod comparison;
#[cfg(test)]
pub(crate) mod comparison_fixture;
mod dump;
mod error;
mod fingerprint;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod keys_tests;
mod messages;
mod mutants;
mod noise;
mod read;
mod read_comparison;
mod schema;
mod store;
mod tuning;
mod verdict;

pub use comparison::*;
pub use dump::*;
pub use error::StoreError;
pub use fingerprint::{Difference, Unlike, fingerprint, fnv1a, this_build};
pub use messages::*;
pub use mutants::*;
pub use noise::*;
pub use read::{MAX_FILE_BYTES, parse, read, read_bytes};
pub use read_comparison::{is_comparison, parse_comparison, read_comparison};
pub use schema::*;
pub use store::{PartialFile, check_finite, to_json, write_atomically};
pub use tuning::*;
