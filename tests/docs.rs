//! What README shows is what the program says: its generated blocks are rewritten here, and in CI
//! a stale block fails.

#![cfg(feature = "cli")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use fusebench::kernels::ALL;

const REWRITE: &str = "cargo test --test docs";

fn readme() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// The text with the block between two markers replaced.
fn replaced(text: &str, name: &str, block: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("README.md has no {open}")) + open.len();
    let end = text.find(&close).unwrap_or_else(|| panic!("README.md has no {close}"));
    format!("{}{block}{}", &text[..start], &text[end..])
}

fn kernel_table() -> String {
    let mut table = String::from("| kernel | family | computes | dtypes | variants | answers |\n");
    table.push_str("|---|---|---|---|---|---|\n");
    for entry in ALL {
        let spec = entry.kernel.spec();
        let join = |names: Vec<String>| names.join(", ");
        writeln!(
            table,
            "| `{}` | {} | {} | {} | {} | {} |",
            entry.name,
            entry.family,
            spec.summary,
            join(spec.dtypes.iter().map(|dtype| dtype.name().to_owned()).collect()),
            join(spec.variants.iter().map(|variant| variant.name.to_owned()).collect()),
            join(spec.difficulties.iter().map(u8::to_string).collect()),
        )
        .expect("a string takes every line");
    }
    table
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fusebench"))
        .args(arguments)
        .env("COLUMNS", "100")
        .output()
        .expect("the program starts");
    String::from_utf8(output.stdout).expect("help is text")
}

fn help_block() -> String {
    let mut block = String::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["check", "--help"]] {
        let text = help(arguments);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let name = arguments[..arguments.len() - 1].join(" ");
        let shown = format!("fusebench {name} --help").replace("  ", " ");
        writeln!(block, "<details><summary><code>{shown}</code></summary>\n").unwrap();
        writeln!(block, "```text\n{}\n```\n\n</details>\n", lines.join("\n").trim_end()).unwrap();
    }
    block
}

fn expected() -> String {
    let text = fs::read_to_string(readme()).expect("README.md");
    let text = replaced(&text, "kernels", &kernel_table());
    replaced(&text, "help", &help_block())
}

#[test]
fn the_readme_shows_the_kernels_and_the_help_as_they_are() {
    let expected = expected();
    if fs::read_to_string(readme()).expect("README.md") == expected {
        return;
    }
    let stale = "README.md does not match the program";
    if env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        panic!("{stale}: run `{REWRITE}` and commit");
    }
    fs::write(readme(), expected).expect("README.md is writable");
    panic!("{stale}: rewritten, run `{REWRITE}` again");
}

#[test]
fn a_changed_block_would_be_noticed() {
    let text = "a\n<!-- kernels -->\nold\n<!-- end kernels -->\nb\n";
    let new = replaced(text, "kernels", "new\n");
    assert_eq!(new, "a\n<!-- kernels -->\nnew\n<!-- end kernels -->\nb\n");
    assert_ne!(new, text);
}
