//! How a result is known to be right: the error-tracking scalar, the gates, sampled verification.
//! Pure: no device, no files, no clock.

mod fault;
pub mod functions;
mod gates;
pub mod privacy;
mod reduction;
mod sampled;
mod scalar;
mod tracked;

pub use fault::{Fault, Rule};
pub use gates::{
    Gate, GateResult, Judgement, Metrics, Noise, RMS_LIMIT, compression_gate, judge, measure,
};
pub use sampled::choose_rows;
pub use scalar::Scalar;
pub use tracked::{F16_MAX, Tracked, UNIT_F16, UNIT_F32};
