//! One cell after the other: compile, verify, then time.

mod cell;
mod chain;
mod dump;
mod environment;
mod fitted;
mod item;
mod lately;
mod measure_cell;
mod mutants;
mod pairs;
mod peaks;
mod pipeline_cell;
mod session;
mod sources;
mod task;
mod timing;
mod tuning;
mod verify;

pub use cell::{Cell, cells};
pub use dump::{Array, Dump};
pub use environment::device as device_record;
pub use item::{Item, items};
pub use mutants::{Attempt, trial_order, try_clean, try_mutant};
pub use pairs::{Pairs, Prepared as PreparedSide, VisitError};
pub use peaks::{Found, ceilings};
pub use pipeline_cell::{PipelineCell, pipeline_cells};
pub use session::{CellError, Session};
pub use sources::{Sources, owner};
pub use task::{Effort, Task};
pub use timing::Prepared;
pub use tuning::{Chosen, Layer, by_rule, choose, gain, variations};
