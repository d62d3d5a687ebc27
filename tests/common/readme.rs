//! Blocks of README.md that tests write: locally a stale one is rewritten and the test fails once,
//! in CI it only fails.

use std::path::PathBuf;
use std::{env, fs};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

pub fn text() -> String {
    fs::read_to_string(path()).expect("README.md")
}

/// The text with the block between two markers replaced.
pub fn replaced(text: &str, name: &str, block: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("README.md has no {open}")) + open.len();
    let end = text.find(&close).unwrap_or_else(|| panic!("README.md has no {close}"));
    format!("{}{block}{}", &text[..start], &text[end..])
}

/// Fails unless README.md is as expected; `command` is what rewrites it.
pub fn hold_to(expected: &str, command: &str) {
    if text() == expected {
        return;
    }
    let stale = "README.md does not match the program";
    if env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        panic!("{stale}: run `{command}` and commit");
    }
    fs::write(path(), expected).expect("README.md is writable");
    panic!("{stale}: rewritten, run `{command}` again");
}
