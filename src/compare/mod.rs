//! Whether one build is faster than another, and how sure that is. Pure: no device, no clock, no
//! files.

mod block;
pub mod change_points;
pub mod control;
mod fdr;
mod jury;
pub mod noise;
mod paired;
pub mod plan;
pub mod runs;
pub mod schedule;
pub mod sessions;
mod verdict;

pub use block::{Block, Order};
pub use fdr::benjamini_hochberg;
pub use jury::{Estimate, Judgement, Jury, Trial, estimate, judge};
pub use paired::{Flips, PValues, interval, p_values, trimmed_mean};
pub use verdict::{Reason, Verdict};
