//! What of fusebench reads files and writes them again, under the names it has there.
//!
//! The sources are taken in by path: as a dependency they would bring wgpu along, and instrumenting
//! that for every run costs minutes. A file that fusebench adds to these modules may therefore need
//! a line here or in `Cargo.toml`, and nothing else.

#[path = "../../src/compare/mod.rs"]
pub mod compare;
#[path = "../../src/record/mod.rs"]
pub mod record;
#[path = "../../src/report/mod.rs"]
pub mod report;
#[path = "../../src/units.rs"]
pub mod units;
