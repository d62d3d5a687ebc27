#![doc = include_str!("../README.md")]

pub mod accuracy;
#[cfg(feature = "cli")]
pub mod cli;
pub mod elem;
pub mod gpu;
pub mod inputs;
pub mod kernel;
pub mod kernels;
pub mod measure;
pub mod record;
pub mod reference;
pub mod report;
pub mod rng;
pub mod shader;
pub mod suite;
pub mod units;
