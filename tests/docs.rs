//! What README shows is what the program says: its generated blocks are rewritten here, and in CI
//! a stale block fails.

#![cfg(feature = "cli")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use fusebench::kernel::{Dtype, Preset};
use fusebench::kernels::ALL;
use fusebench::pipelines;
use fusebench::suite::{Item, items};

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

/// One line of the table of kernels or of pipelines.
struct Entry {
    name: String,
    family: &'static str,
    computes: &'static str,
    dtypes: &'static [Dtype],
    variants: Vec<&'static str>,
    answers: &'static [u8],
    /// The models that the `models` preset takes its sizes from.
    models: Vec<&'static str>,
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for item in items(Preset::Models) {
        if entries.last().is_none_or(|entry| entry.name != item.name()) {
            let (dtypes, variants) = match &item {
                Item::Kernel(cell) => {
                    let spec = cell.entry.kernel.spec();
                    (spec.dtypes, spec.variants.iter().map(|variant| variant.name).collect())
                }
                Item::Pipeline(cell) => (cell.pipeline.dtypes, cell.pipeline.strategies.to_vec()),
            };
            entries.push(Entry {
                name: item.name(),
                family: item.family(),
                computes: item.summary(),
                dtypes,
                variants,
                answers: item.difficulties(),
                models: Vec::new(),
            });
        }
        let entry = entries.last_mut().expect("just pushed");
        // `BLIP-2 Q-Former, batch 8` names the same model as `BLIP-2 Q-Former`.
        let model = item.shape().source().split(',').next().unwrap_or_default();
        if !model.is_empty() && !entry.models.contains(&model) {
            entry.models.push(model);
        }
    }
    entries
}

fn table(pipelines: bool) -> String {
    let what = if pipelines { "pipeline" } else { "kernel | family" };
    let variants = if pipelines { "strategies" } else { "variants" };
    let mut table = format!("| {what} | computes | dtypes | {variants} | answers | sizes of |\n");
    table.push_str(if pipelines {
        "|---|---|---|---|---|---|\n"
    } else {
        "|---|---|---|---|---|---|---|\n"
    });
    for entry in entries().iter().filter(|entry| (entry.family == "pipeline") == pipelines) {
        let family = if pipelines { String::new() } else { format!(" {} |", entry.family) };
        let dtypes: Vec<&str> = entry.dtypes.iter().map(|dtype| dtype.name()).collect();
        let answers: Vec<String> = entry.answers.iter().map(u8::to_string).collect();
        writeln!(
            table,
            "| `{}` |{family} {} | {} | {} | {} | {} |",
            entry.name,
            entry.computes,
            dtypes.join(", "),
            entry.variants.join(", "),
            answers.join(", "),
            entry.models.join("; "),
        )
        .expect("a string takes every line");
    }
    table
}

#[test]
fn every_kernel_and_pipeline_is_in_the_tables() {
    let names: Vec<String> = entries().into_iter().map(|entry| entry.name).collect();
    let kernels = ALL.iter().map(|entry| entry.name.to_owned());
    let pipelines = pipelines::ALL.iter().map(|pipeline| format!("pipeline_{}", pipeline.name));
    assert_eq!(names, kernels.chain(pipelines).collect::<Vec<_>>());
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
    let mut commands =
        vec![&["--help"][..], &["run", "--help"], &["check", "--help"], &["dump", "--help"]];
    commands.push(&["compare", "--help"]);
    commands.push(&["history", "changes", "--help"]);
    for arguments in commands {
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
    let text = replaced(&text, "kernels", &table(false));
    let text = replaced(&text, "pipelines", &table(true));
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
