//! What a wrong result broke: a gate, or a rule that needs no reference.

use super::gates::Gate;

/// A rule that every output is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Gate(Gate),
    /// Nothing is written past the end of an output.
    GuardBand,
    /// Every element is written, with a finite number.
    Written,
}

impl Rule {
    /// As it stands in result files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Gate(gate) => gate.name(),
            Rule::GuardBand => "guard band",
            Rule::Written => "never written",
        }
    }
}

/// The first rule that a result breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub rule: Rule,
    /// Observed over allowed, for G0 the number of differing elements; `None` where the rule is
    /// kept or broken and nothing in between.
    pub worst: Option<f64>,
    pub why: String,
}
