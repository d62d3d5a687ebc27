//! One cell after the other: compile, verify, then time.

mod cell;
mod environment;
mod measure_cell;
mod peaks;
mod session;
mod sources;
mod timing;
mod verify;

pub use cell::{Cell, cells};
pub use environment::device as device_record;
pub use peaks::Found;
pub use session::{CellError, Effort, Session, Task};
pub use sources::Sources;
