//! Which verdicts make a command fail.

use clap::ValueEnum;

/// What counts against the head.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    Wrong,
    Slower,
    Unclear,
    AccuracyChange,
    /// Nothing of these.
    None,
}

impl FailOn {
    /// Whether `list` asks for `what`; `none` silences all.
    pub fn asks(list: &[FailOn], what: FailOn) -> bool {
        !list.contains(&FailOn::None) && list.contains(&what)
    }
}
