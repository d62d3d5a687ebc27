//! Whether one build is faster than another, and how sure that is. Pure: no device, no clock, no
//! files.

pub mod change_points;
pub mod runs;
pub mod sessions;
mod verdict;

pub use verdict::{Reason, Verdict};
