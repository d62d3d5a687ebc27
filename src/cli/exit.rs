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
    /// Nothing ran.
    Nothing,
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
            Exit::Interrupted => 130,
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
