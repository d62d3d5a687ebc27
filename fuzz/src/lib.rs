//! What of fusebench reads files and writes them again, under the names it has there.
//!
//! The sources are taken in by path: everything but the kernels and what runs them. As a dependency
//! they would bring wgpu along, and instrumenting that for every run costs minutes. A module that
//! these come to need is one more line here.

#[path = "../../src/accuracy/mod.rs"]
pub mod accuracy;
#[path = "../../src/compare/mod.rs"]
pub mod compare;
#[path = "../../src/distribution.rs"]
pub mod distribution;
#[path = "../../src/elem.rs"]
pub mod elem;
#[path = "../../src/given.rs"]
pub mod given;
#[path = "../../src/inputs.rs"]
pub mod inputs;
#[path = "../../src/kernel.rs"]
pub mod kernel;
#[path = "../../src/launch.rs"]
pub mod launch;
#[path = "../../src/measure/mod.rs"]
pub mod measure;
#[path = "../../src/nearest.rs"]
pub mod nearest;
#[path = "../../src/npy.rs"]
pub mod npy;
#[path = "../../src/operands.rs"]
pub mod operands;
#[path = "../../src/params.rs"]
pub mod params;
#[path = "../../src/record/mod.rs"]
pub mod record;
#[path = "../../src/reference.rs"]
pub mod reference;
#[path = "../../src/report/mod.rs"]
pub mod report;
#[path = "../../src/rng.rs"]
pub mod rng;
#[path = "../../src/shader.rs"]
pub mod shader;
#[path = "../../src/shape.rs"]
pub mod shape;
#[path = "../../src/tensors/mod.rs"]
pub mod tensors;
#[path = "../../src/units.rs"]
pub mod units;
