//! How a time comes about: the measuring protocol, its statistics and the ceilings it is held to.
//! Pure: no device, no clock, no files; what is timed comes through a trait.

pub mod plan;
mod roofline;
pub mod stats;

pub use plan::Plan;
pub use roofline::{
    Bound, PROBE_AGREEMENT, PROBE_REPEATS, Peaks, Rates, Score, agreed, launch_overhead, rates,
    score,
};
