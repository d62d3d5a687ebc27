//! Two builds of the program: what cells each has.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

use super::flags::PairFlags;
use crate::cli::exit::Failure;

/// A program that lists its cells takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// More text than any list of cells.
const LONGEST_LIST_BYTES: u64 = 256 << 20;

/// A cell as `fusebench list --json` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub id: String,
    pub family: String,
    pub kernel: String,
    pub variant: String,
    pub dtype: String,
}

/// The cells of a program in the preset.
///
/// # Errors
/// `Usage` for a program that is no fusebench.
pub fn list(flag: &str, program: &Path, flags: &PairFlags) -> Result<Vec<Listed>, Failure> {
    let foreign = |why: String| {
        let name = program.display();
        Failure::usage(format!("{flag} {name}: this is no fusebench binary: {why}"))
    };
    let preset = flags.selection.preset().name();
    let mut child = Command::new(program)
        .args(["list", "--json", "--preset", preset])
        .env_remove("FUSEBENCH_FILTER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| foreign(error.to_string()))?;
    let stdout = child.stdout.take().expect("piped");
    let (sender, text) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        drop(stdout.take(LONGEST_LIST_BYTES).read_to_end(&mut text));
        drop(sender.send(text));
    });
    let text = text.recv_timeout(PATIENCE);
    // It has said all it had to say, or will not.
    drop(child.kill());
    drop(child.wait());
    let text = text.map_err(|_| foreign("`list --json` does not end".to_owned()))?;
    parse(&text).ok_or_else(|| foreign("`list --json` lists no cells".to_owned()))
}

fn parse(text: &[u8]) -> Option<Vec<Listed>> {
    let cells: Vec<Value> = serde_json::from_slice(text).ok()?;
    cells
        .iter()
        .map(|cell| {
            let field = |name: &str| cell[name].as_str().map(str::to_owned);
            Some(Listed {
                id: field("id")?,
                family: field("family")?,
                kernel: field("kernel")?,
                variant: field("variant")?,
                dtype: field("dtype")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_whole_cells_is_one() {
        let cell = r#"{"id": "k/v/f32/n1", "family": "f", "kernel": "k", "variant": "v",
                       "dtype": "f32"}"#;
        let cells = parse(format!("[{cell}]").as_bytes()).unwrap();
        assert_eq!((cells.len(), cells[0].id.as_str()), (1, "k/v/f32/n1"));
        assert_eq!(parse(cell.as_bytes()), None);
        assert_eq!(parse(b"[{\"id\": \"k\"}]"), None);
        assert_eq!(parse(b""), None);
    }
}
