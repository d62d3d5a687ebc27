//! What README shows is what the program says: its generated blocks are rewritten here, and in CI
//! a stale block fails.

#![cfg(feature = "cli")]

#[path = "common/readme.rs"]
mod readme;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use fusebench::kernel::{Dtype, Preset};
use fusebench::kernels::ALL;
use fusebench::pipelines;
use fusebench::suite::{Item, items};

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
    commands.push(&["export", "--help"]);
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

/// The tables of a file under results/ that a script wrote.
fn measured(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("results/{file}: {error}"));
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 2, "results/{file} holds no table");
    rows.join("\n") + "\n"
}

fn expected() -> String {
    let text = readme::text();
    let text = readme::replaced(&text, "verdicts", &measured("verdicts.md"));
    let text = readme::replaced(&text, "kernels", &table(false));
    let text = readme::replaced(&text, "pipelines", &table(true));
    readme::replaced(&text, "help", &help_block())
}

#[test]
fn the_readme_shows_the_kernels_and_the_help_as_they_are() {
    readme::hold_to(&expected(), "cargo test --test docs");
}

#[test]
fn a_changed_block_would_be_noticed() {
    let text = "a\n<!-- kernels -->\nold\n<!-- end kernels -->\nb\n";
    let new = readme::replaced(text, "kernels", "new\n");
    assert_eq!(new, "a\n<!-- kernels -->\nnew\n<!-- end kernels -->\nb\n");
    assert_ne!(new, text);
}

/// Kernel, RMS, bound, mutants caught, and the nearest of them, for each line of the first table.
fn margins(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    let fields = |line: &str| line.split('|').map(|field| field.trim().to_owned()).collect();
    lines.map(fields).collect()
}

/// Whether a table of margins holds every kernel with room to its bounds and all mutants caught.
fn check_margins(text: &str) -> Result<(), String> {
    let lines = margins(text);
    let names: Vec<String> = lines.iter().map(|line| line[1].clone()).collect();
    let known: Vec<String> = ALL.iter().map(|entry| format!("`{}`", entry.name)).collect();
    if names != known {
        let missing: Vec<&String> = known.iter().filter(|name| !names.contains(name)).collect();
        return Err(format!(
            "not the kernels of the registry in their order; missing: {missing:?}"
        ));
    }
    for line in &lines {
        let within = |text: &str, limit| match text.trim_start_matches('<').parse::<f64>() {
            Ok(ratio) => ratio <= limit,
            Err(_) => ["exact", "–"].contains(&text),
        };
        let [_, name, rms, bound, mutants, ..] = &line[..] else { return Err(line.join("|")) };
        // The device on which the table was made cannot run this kernel.
        if mutants == "untried" && rms == "–" && bound == "–" {
            continue;
        }
        let (caught, all) = mutants.split_once('/').ok_or(format!("{name}: {mutants}"))?;
        // The list of all mutants names those of strategies that the device cannot run.
        let row = format!("| {} | ", name.trim_matches('`'));
        let is_untried = |line: &&str| line.starts_with(&row) && line.contains("| untried: ");
        let untried = text.lines().filter(is_untried).count();
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        let tried = number(all).saturating_sub(untried);
        if !within(rms, 3.0) || !within(bound, 1.0) || tried == 0 || number(caught) != tried {
            return Err(line.join(" | "));
        }
    }
    Ok(())
}

#[test]
fn accuracy_md_tells_the_margin_and_the_nearest_mutant_of_every_kernel() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ACCURACY.md")).expect("ACCURACY.md");
    assert_eq!(check_margins(&text), Ok(()), "run `scripts/accuracy` and commit");
    let readme = readme::text();
    assert!(readme.contains("(ACCURACY.md)"));
    let line = text.lines().find(|line| line.starts_with("| `")).expect("a kernel");
    assert!(check_margins(&text.replace(line, "")).is_err(), "a kernel is missing");
    let all = margins(line)[0][4].clone();
    let spoilt = line.replacen(&all, &format!("1{all}"), 1);
    assert!(check_margins(&text.replace(line, &spoilt)).is_err(), "a count that cannot be");
}
