//! The result file itself, on standard output.

use crate::record::{Run, to_json};

/// Exactly what `-o FILE` would hold.
pub fn text(run: &Run) -> String {
    to_json(run)
}
