//! Exit codes, as the contract has them.

use std::process::{ExitCode, Termination};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that ran is fine.
    Fine,
    /// A wrong result or a cell that failed.
    Finding,
    /// Usage, configuration, or an input file that cannot be read.
    Usage,
    /// No adapter, or the device cannot be brought back.
    Environment,
    /// Nothing ran, or what was asked for is incomplete.
    Nothing,
    /// Nothing proven either way, where the user wants to hear of that.
    Inconclusive,
    /// Interrupted; the file written so far is valid.
    Interrupted,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Finding => 1,
            Exit::Usage => 2,
            Exit::Environment => 3,
            Exit::Nothing => 4,
            Exit::Inconclusive => 5,
            Exit::Interrupted => 130,
        }
    }

    /// The one that is reported where several apply: a proven finding is not hidden by something
    /// missing.
    pub fn gravest(exits: impl IntoIterator<Item = Exit>) -> Exit {
        exits.into_iter().min_by_key(|exit| exit.rank()).unwrap_or(Exit::Fine)
    }

    fn rank(self) -> u8 {
        match self {
            Exit::Interrupted => 0,
            Exit::Usage => 1,
            Exit::Finding => 2,
            Exit::Environment => 3,
            Exit::Nothing => 4,
            Exit::Inconclusive => 5,
            Exit::Fine => 6,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.code().into()
    }
}

/// A command that could not do its work: the exit code and the message for the user.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Usage, message: message.into() }
    }

    pub fn nothing(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Nothing, message: message.into() }
    }

    pub fn environment(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Environment, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_has_the_contracts_code() {
        for (exit, code) in [
            (Exit::Fine, 0),
            (Exit::Finding, 1),
            (Exit::Usage, 2),
            (Exit::Environment, 3),
            (Exit::Nothing, 4),
            (Exit::Inconclusive, 5),
            (Exit::Interrupted, 130),
        ] {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn the_first_of_130_2_1_3_4_5_wins() {
        let order = [
            Exit::Interrupted,
            Exit::Usage,
            Exit::Finding,
            Exit::Environment,
            Exit::Nothing,
            Exit::Inconclusive,
            Exit::Fine,
        ];
        for (at, &exit) in order.iter().enumerate() {
            for &milder in &order[at..] {
                assert_eq!(Exit::gravest([milder, exit]), exit, "{exit:?} before {milder:?}");
            }
        }
        assert_eq!(Exit::gravest([]), Exit::Fine);
    }
}
