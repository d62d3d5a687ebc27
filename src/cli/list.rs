//! `fusebench list`: the catalogue, without touching a GPU.

use serde_json::{Value, json};

use super::args::Selection;
use super::exit::{Exit, Failure};
use super::output::print;
use super::select::select;
use crate::suite::Cell;

/// Prints the selected cells, grouped by kernel.
pub fn list(selection: &Selection, json: bool) -> Result<Exit, Failure> {
    let cells = select(selection)?;
    if json {
        let values: Vec<Value> = cells.iter().map(describe).collect();
        let text = serde_json::to_string_pretty(&values).expect("plain values serialise");
        print(&format!("{text}\n"));
    } else {
        print(&table(&cells));
    }
    Ok(Exit::Fine)
}

fn describe(cell: &Cell) -> Value {
    let spec = cell.entry.kernel.spec();
    let work = cell.work();
    let axes = cell.shape.axes().iter().map(|&(axis, size)| (axis.to_owned(), json!(size)));
    json!({
        "id": cell.id(),
        "kernel": cell.entry.name,
        "family": cell.entry.family,
        "variant": cell.variant.name,
        "dtype": cell.dtype.name(),
        "shape": Value::Object(axes.collect()),
        "option": cell.shape.option(),
        "model": cell.shape.source(),
        "preset": cell.preset.name(),
        "summary": spec.summary,
        "difficulties": spec.difficulties,
        "flops": work.flops,
        "bytes": work.bytes,
    })
}

fn table(cells: &[Cell]) -> String {
    let mut text = String::new();
    let groups = cells.chunk_by(|a, b| a.entry.name == b.entry.name);
    for group in groups {
        let (entry, spec) = (group[0].entry, group[0].entry.kernel.spec());
        text.push_str(&format!("{} ({}): {}\n", entry.name, entry.family, spec.summary));
        let unique = |names: Vec<&'static str>| {
            let mut seen: Vec<&str> = Vec::new();
            names.into_iter().for_each(|name| {
                if !seen.contains(&name) {
                    seen.push(name);
                }
            });
            seen.join(", ")
        };
        let variants = unique(group.iter().map(|cell| cell.variant.name).collect());
        let dtypes = unique(group.iter().map(|cell| cell.dtype.name()).collect());
        text.push_str(&format!("  variants: {variants}; dtypes: {dtypes}\n"));
        let mut shapes: Vec<(String, &str)> = Vec::new();
        for cell in group {
            let shape = cell.shape.to_string();
            if !shapes.iter().any(|(known, _)| *known == shape) {
                shapes.push((shape, cell.shape.source()));
            }
        }
        for (shape, model) in shapes {
            text.push_str(format!("  {shape:<32} {model}").trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    let ids = cells.len();
    text.push_str(&format!("{ids} cells; an id is KERNEL/VARIANT/DTYPE/SHAPE\n"));
    text
}
