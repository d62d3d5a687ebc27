//! `fusebench list`: the catalogue, without touching a GPU.

use serde_json::{Value, json};

use super::args::Selection;
use super::exit::{Exit, Failure};
use super::output::print;
use super::select::select;
use crate::suite::Item;

/// Prints the selected cells, grouped by kernel.
pub fn list(selection: &Selection, json: bool) -> Result<Exit, Failure> {
    let items = select(selection)?;
    if json {
        let values: Vec<Value> = items.iter().map(describe).collect();
        let text = serde_json::to_string_pretty(&values).expect("plain values serialise");
        print(&format!("{text}\n"));
    } else {
        print(&table(&items));
    }
    Ok(Exit::Fine)
}

fn describe(item: &Item) -> Value {
    let (shape, work) = (item.shape(), item.work());
    let axes = shape.axes().iter().map(|&(axis, size)| (axis.to_owned(), json!(size)));
    let operands = match item {
        Item::Kernel(cell) => cell.entry.kernel.spec().operands.list(),
        Item::Pipeline(_) => &[],
    };
    let operands = operands.iter().map(|one| (one.name.to_owned(), json!(one.dims)));
    json!({
        "id": item.id(),
        "kernel": item.name(),
        "family": item.family(),
        "variant": item.variant(),
        "dtype": item.dtype().name(),
        "shape": Value::Object(axes.collect()),
        "option": shape.option(),
        "model": shape.source(),
        "preset": item.preset().name(),
        "summary": item.summary(),
        "difficulties": item.difficulties(),
        "operands": Value::Object(operands.collect()),
        "flops": work.flops,
        "bytes": work.bytes,
    })
}

fn table(items: &[Item]) -> String {
    let mut text = String::new();
    for group in items.chunk_by(|a, b| a.name() == b.name()) {
        let first = &group[0];
        text.push_str(&format!("{} ({}): {}\n", first.name(), first.family(), first.summary()));
        let unique = |names: Vec<&'static str>| {
            let mut seen: Vec<&str> = Vec::new();
            names.into_iter().for_each(|name| {
                if !seen.contains(&name) {
                    seen.push(name);
                }
            });
            seen.join(", ")
        };
        let variants = unique(group.iter().map(Item::variant).collect());
        let dtypes = unique(group.iter().map(|item| item.dtype().name()).collect());
        let answers: Vec<String> = first.difficulties().iter().map(u8::to_string).collect();
        let answers = answers.join(", ");
        text.push_str(&format!(
            "  variants: {variants}; dtypes: {dtypes}; answers difficulty {answers}\n"
        ));
        if let Item::Kernel(cell) = first {
            let operands = cell.entry.kernel.spec().operands;
            let takes = match operands.why_none() {
                None => operands.described(),
                Some(why) => format!("nothing: {why}"),
            };
            text.push_str(&format!("  --input takes {takes}\n"));
        }
        let mut shapes: Vec<(String, &str)> = Vec::new();
        for item in group {
            let shape = item.shape().to_string();
            if !shapes.iter().any(|(known, _)| *known == shape) {
                shapes.push((shape, item.shape().source()));
            }
        }
        for (shape, model) in shapes {
            text.push_str(format!("  {shape:<32} {model}").trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    let ids = items.len();
    text.push_str(&format!("{ids} cells; an id is KERNEL/VARIANT/DTYPE/SHAPE\n"));
    text
}
