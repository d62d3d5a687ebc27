//! Which cells a command works on.

use regex::Regex;

use super::args::Selection;
use super::exit::Failure;
use crate::kernel::Preset;
use crate::kernels::ALL;
pub use crate::nearest::nearest;
use crate::pipelines;
use crate::suite::{Item, items};

/// The cells of the preset that pass every filter.
///
/// # Errors
/// `Usage` for a filter that is no regular expression or a variant no kernel has, `Nothing` when
/// no cell is left.
pub fn select(selection: &Selection) -> Result<Vec<Item>, Failure> {
    let filters = filters(selection)?;
    known_variants(&selection.variant)?;
    let listed = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
    let all = items(selection.preset());
    let chosen: Vec<Item> = all
        .into_iter()
        .filter(|item| listed(&selection.dtype, item.dtype().name()))
        .filter(|item| listed(&selection.variant, item.variant()))
        .filter(|item| {
            let id = item.id();
            filters.is_empty() || filters.iter().any(|filter| filter.is_match(&id))
        })
        .collect();
    if chosen.is_empty() {
        return Err(Failure::nothing(nothing_selected(selection)));
    }
    Ok(chosen)
}

/// The filters, any of which may match; none lets everything through.
///
/// # Errors
/// `Usage` for one that is no regular expression.
pub fn filters(selection: &Selection) -> Result<Vec<Regex>, Failure> {
    let filters = selection.filters.iter().map(|text| {
        Regex::new(text).map_err(|error| {
            Failure::usage(format!("filter `{text}` is not a regular expression: {error}"))
        })
    });
    filters.collect()
}

fn known_variants(wanted: &[String]) -> Result<(), Failure> {
    let mut known: Vec<&str> = ALL
        .iter()
        .flat_map(|entry| entry.kernel.spec().variants)
        .map(|variant| variant.name)
        .chain(pipelines::ALL.iter().flat_map(|pipeline| pipeline.strategies.iter().copied()))
        .collect();
    known.sort_unstable();
    known.dedup();
    match wanted.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let known = known.join(", ");
            Err(Failure::usage(format!("--variant {name}: no kernel has it; known are {known}")))
        }
    }
}

fn nothing_selected(selection: &Selection) -> String {
    let preset = selection.preset().name();
    let Some(filter) = selection.filters.first() else {
        return format!("nothing selected in preset {preset}: see `fusebench list`");
    };
    // The filter may fit another preset or be a misspelt name.
    let elsewhere = Preset::ALL.into_iter().filter(|other| {
        Regex::new(filter).is_ok_and(|f| items(*other).iter().any(|item| f.is_match(&item.id())))
    });
    let elsewhere: Vec<&str> = elsewhere.map(Preset::name).collect();
    let advice = if elsewhere.contains(&preset) {
        let list = format!("fusebench list {filter}");
        format!("it fits cells there, but not of this --dtype or --variant: see `{list}`")
    } else if elsewhere.is_empty() {
        let name = filter.split('/').next().unwrap_or(filter);
        format!("did you mean {}?", nearest(name, ALL.iter().map(|entry| entry.name)))
    } else {
        format!("it fits cells of --preset {}", elsewhere.join(" or "))
    };
    format!("nothing selected by `{filter}` in preset {preset}: {advice}")
}
