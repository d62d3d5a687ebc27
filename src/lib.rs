//! Verified-before-timed benchmarks of multimodal fusion kernels.

pub mod accuracy;
pub mod inputs;
pub mod kernel;
pub mod kernels;
pub mod record;
pub mod reference;
pub mod report;

pub mod rng;
pub mod units;
