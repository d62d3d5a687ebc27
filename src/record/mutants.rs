//! What `check --mutants` finds: which rule catches each small fault put into the shaders.

use serde::{Deserialize, Serialize};

use super::schema::{Environment, FailedBy, GateRecord};

/// The mutants of some kernels on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MutantRun {
    pub format_version: u32,
    /// False for good after an interrupt.
    pub complete: bool,
    pub environment: Environment,
    /// Each kernel without a fault, in the order of the registry.
    pub kernels: Vec<CleanRecord>,
    pub mutants: Vec<MutantRecord>,
}

/// A kernel as it is: only where it passes does a killed mutant prove anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CleanRecord {
    pub kernel: String,
    pub family: String,
    /// Cells of the preset that pass.
    pub passed: u32,
    /// Cells that this device cannot do.
    pub unsupported: u32,
    /// Per gate the worst over all those cells and their distributions, above 1 failing; for G0
    /// the number of differing elements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateRecord>,
    /// The first cell that fails, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One fault in the shader of one kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MutantRecord {
    pub kernel: String,
    pub fault: String,
    /// Why no output can show the fault, where it is declared to compute the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equivalent: Option<String>,
    pub outcome: Outcome,
    /// Why there is no verdict, for `broken` and `untried`; how a worker was lost, for `killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Cells that ran, the one that ended it included.
    pub cells: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_by: Option<FailedBy>,
    /// Cell that killed it, `KERNEL/VARIANT/DTYPE/SHAPE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// Whether no other rule failed on that cell with that data or with the data before.
    pub alone: bool,
}

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Killed,
    Survived,
    /// It does not compile, or its text is not in the shader: it says nothing about verification.
    Broken,
    /// The kernel fails without a fault, or no cell of it runs on this device.
    Untried,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Killed => "killed",
            Outcome::Survived => "survived",
            Outcome::Broken => "broken",
            Outcome::Untried => "untried",
        }
    }
}

impl CleanRecord {
    /// Keeps of each gate the larger of what is known and what another cell shows.
    pub fn worsen(&mut self, gates: Vec<GateRecord>) {
        for gate in gates {
            match self.gates.iter_mut().find(|known| known.gate == gate.gate) {
                Some(known) if known.worst >= gate.worst => {}
                Some(known) => *known = gate,
                None => self.gates.push(gate),
            }
        }
    }

    /// The worst of one gate, where it applied anywhere.
    pub fn worst(&self, gate: &str) -> Option<f64> {
        self.gates.iter().find(|known| known.gate == gate).map(|known| known.worst)
    }
}

impl MutantRecord {
    /// Whether it speaks against the verification or against the list of mutants: a survivor, a
    /// killed one that is declared equivalent, or one that cannot run.
    pub fn is_finding(&self) -> bool {
        match self.outcome {
            Outcome::Killed => self.equivalent.is_some(),
            Outcome::Survived => self.equivalent.is_none(),
            Outcome::Broken => true,
            Outcome::Untried => false,
        }
    }
}

impl MutantRun {
    /// Whether any mutant or any kernel as it is gives cause to look.
    pub fn has_finding(&self) -> bool {
        self.mutants.iter().any(MutantRecord::is_finding)
            || self.kernels.iter().any(|kernel| kernel.failure.is_some())
    }
}
