//! The tables of PERFORMANCE.md are those of the committed reference run, and README's comparison
//! with others is the committed one: they are rewritten here, and in CI a stale table fails.

#[path = "common/readme.rs"]
mod readme;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use fusebench::record::{Row, Run, Status, read};

const REWRITE: &str = "cargo test --test performance";
const RUN: &str = "results/llvmpipe/models.json";
const PEERS: &str = "results/peers-llvmpipe.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The fastest strategy of one kernel, precision and shape.
struct Best<'a> {
    row: &'a Row,
    fraction: f64,
    bound_by: &'a str,
}

/// By kernel and shape, then precision; kernels in the order of the file.
type Table<'a> = Vec<(&'a str, BTreeMap<&'a str, BTreeMap<&'a str, Best<'a>>>)>;

fn best(run: &Run) -> Table<'_> {
    let mut table: Table = Vec::new();
    for row in run.rows.iter().filter(|row| row.status == Status::Ok && row.stages.is_empty()) {
        let Some(rate) = &row.rate else { continue };
        let (Some(fraction), Some(bound_by)) = (rate.fraction_of_peak, &rate.bound_by) else {
            continue;
        };
        let shape = row.id.rsplit('/').next().expect("an id has a shape");
        let position = table.iter().position(|(kernel, _)| *kernel == row.kernel);
        let position = position.unwrap_or_else(|| {
            table.push((&row.kernel, BTreeMap::new()));
            table.len() - 1
        });
        let found = Best { row, fraction, bound_by };
        let dtypes = table[position].1.entry(shape).or_default();
        let slower = dtypes.get(row.dtype.as_str()).is_none_or(|known| known.fraction < fraction);
        if slower {
            dtypes.insert(&row.dtype, found);
        }
    }
    table
}

fn block(run: &Run) -> String {
    let mut text = String::new();
    let device = &run.environment.device;
    let version = &run.environment.fusebench.commit;
    writeln!(text, "From `{RUN}`: {}, commit {version}.\n", device.name).unwrap();
    text.push_str("| kernel | shape | precision | fastest | of peak | bound by |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for (kernel, shapes) in best(run) {
        for (shape, dtypes) in shapes {
            for (dtype, Best { row, fraction, bound_by }) in dtypes {
                let percent = 100.0 * fraction;
                let variant = &row.variant;
                writeln!(
                    text,
                    "| `{kernel}` | {shape} | {dtype} | {variant} | {percent:.0} % | {bound_by} |"
                )
                .unwrap();
            }
        }
    }
    text
}

/// The text with the block between the markers replaced.
fn replaced(text: &str, block: &str) -> String {
    let (open, close) = ("<!-- fractions -->\n", "<!-- end fractions -->");
    let start = text.find(open).expect("PERFORMANCE.md opens the block") + open.len();
    let end = text.find(close).expect("PERFORMANCE.md closes the block");
    format!("{}{block}{}", &text[..start], &text[end..])
}

#[test]
fn the_tables_of_performance_are_those_of_the_reference_run() {
    let run = read(&root().join(RUN)).unwrap_or_else(|error| panic!("{error}"));
    let path = root().join("PERFORMANCE.md");
    let text = fs::read_to_string(&path).expect("PERFORMANCE.md");
    let expected = replaced(&text, &block(&run));
    if text == expected {
        return;
    }
    let stale = "PERFORMANCE.md does not match the reference run";
    if env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        panic!("{stale}: run `{REWRITE}` and commit");
    }
    fs::write(path, expected).expect("PERFORMANCE.md is writable");
    panic!("{stale}: rewritten, run `{REWRITE}` again");
}

#[test]
fn another_fraction_changes_the_table_and_a_slower_strategy_does_not() {
    let mut run = read(&root().join(RUN)).unwrap_or_else(|error| panic!("{error}"));
    let before = block(&run);
    let (kernel, fraction) = {
        let table = best(&run);
        let (_, shapes) = table.first().expect("some kernel");
        let dtypes = shapes.values().next().expect("some shape");
        let best = dtypes.values().next().expect("some precision");
        (best.row.clone(), best.fraction)
    };
    let mut slower = kernel.clone();
    slower.variant = "slower".to_owned();
    slower.rate.as_mut().expect("a rate").fraction_of_peak = Some(fraction / 2.0);
    run.rows.push(slower);
    assert_eq!(block(&run), before);
    let mut faster = kernel;
    faster.rate.as_mut().expect("a rate").fraction_of_peak = Some(fraction + 0.5);
    run.rows.push(faster);
    assert_ne!(block(&run), before);
}

/// What stands between the markers of the summary that `scripts/peers` wrote.
fn summary(text: &str) -> &str {
    let (_, rest) = text.split_once("<!-- summary -->\n").expect("the summary begins");
    rest.split_once("<!-- end summary -->").expect("the summary ends").0
}

#[test]
fn the_readme_shows_the_committed_comparison_with_others() {
    let text = fs::read_to_string(root().join(PEERS)).expect("results/peers-llvmpipe.md");
    let summary = summary(&text);
    assert!(summary.lines().count() > 3 && !summary.contains("ours is wrong"), "{summary}");
    readme::hold_to(&readme::replaced(&readme::text(), "peers", summary), REWRITE);
}

#[test]
fn a_comparison_that_changed_would_be_noticed() {
    let file = "a\n<!-- summary -->\n| 2.00 |\n<!-- end summary -->\nb\n";
    let page = "c\n<!-- peers -->\n| 1.00 |\n<!-- end peers -->\nd\n";
    let new = readme::replaced(page, "peers", summary(file));
    assert_eq!(new, "c\n<!-- peers -->\n| 2.00 |\n<!-- end peers -->\nd\n");
}
