//! The comparison on stdout.

use std::path::Path;

use super::flags::{Form, PairFlags};
use crate::cli::output::{COLOUR, print, width};
use crate::record::{Comparison, to_json};
pub use crate::report::comparison::Command;
use crate::report::comparison::{markdown, table};

/// Prints a finished comparison; `command` is what a reader would type to repeat it.
pub fn show(found: &Comparison, flags: &PairFlags, command: Option<&Command>) {
    let to_stdout = flags.output.as_deref() == Some(Path::new("-"));
    let form = if to_stdout { Form::Json } else { flags.format };
    let text = match form {
        Form::Json => to_json(found),
        Form::Table => table(found, command, COLOUR, width()),
        Form::Markdown => markdown(found),
    };
    print(&format!("{}\n", text.trim_end_matches('\n')));
}
