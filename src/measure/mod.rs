//! How a time comes about: the measuring protocol, its statistics and the ceilings it is held to.
//! Pure: no device, no clock, no files; what is timed comes through [`Target`].

pub mod canary;
pub mod plan;
mod protocol;
pub mod roofline;
mod scaling;
mod series;
pub mod stats;
mod stop;
mod summary;
mod target;
mod timing;
mod warm_up;

pub use plan::Plan;
pub use protocol::measure;
pub use roofline::{
    Bound, PROBE_REPEATS, Part, Peaks, Rates, Score, agreed, growth, launch_overhead, rates, score,
};
pub use scaling::{Scaling, scaling};
pub use series::device_s as possible_s;
pub use target::{Clocked, Context, Reading, Target};
pub use timing::{Stopped, StoppedBy, TimerKind, Timing};
