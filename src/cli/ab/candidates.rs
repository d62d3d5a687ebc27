//! Which cells there are on either side.

use std::collections::HashSet;

use regex::Regex;

use super::binaries::{self, Listed};
use super::flags::PairFlags;
use super::sides::Source;
use crate::cli::exit::Failure;
use crate::cli::run::first_shapes;
use crate::cli::select;
use crate::kernel::Suits;
use crate::record::{Comparison, Device};
use crate::suite::{Item, items};

/// A cell by its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: String,
    pub family: String,
    pub on_base: bool,
    pub on_head: bool,
}

/// The cells that the selection names and at least one side has.
///
/// # Errors
/// As for `run`; `Nothing` when no cell is on both sides, `Usage` for a program that is no
/// fusebench.
pub fn candidates(
    flags: &PairFlags,
    base: &Source,
    head: &Source,
    previous: Option<&Comparison>,
) -> Result<Vec<Candidate>, Failure> {
    let mut found = match (base, head) {
        (Source::Binary(base), Source::Binary(head)) => {
            let filters = select::filters(&flags.selection)?;
            let base = listed(flags, &filters, binaries::list("--base", base, flags)?);
            let head = listed(flags, &filters, binaries::list("--head", head, flags)?);
            merged(base, head)
        }
        _ => embedded(flags, base, head)?,
    };
    if let Some(previous) = previous {
        let again = super::confirm::slower(previous);
        found.retain(|candidate| again.contains(&candidate.id));
    }
    if found.iter().any(|candidate| candidate.on_base && candidate.on_head) {
        return Ok(found);
    }
    let message = match (previous, found.is_empty()) {
        (Some(_), _) => "nothing to confirm: no cell that is SLOWER there is selected here",
        (None, true) => "nothing selected: see `fusebench list`",
        (None, false) => "no cell is on both sides: the base has other kernels than the head",
    };
    Err(Failure::nothing(message))
}

fn embedded(flags: &PairFlags, base: &Source, head: &Source) -> Result<Vec<Candidate>, Failure> {
    let items = select::select(&flags.selection)?;
    let candidate = |item: &Item| {
        let (on_base, on_head) = (base.has(item), head.has(item));
        let family = item.family().to_owned();
        (on_base || on_head).then(|| Candidate { id: item.id(), family, on_base, on_head })
    };
    Ok(items.iter().filter_map(candidate).collect())
}

/// What the selection leaves of a program's own list.
fn listed(flags: &PairFlags, filters: &[Regex], mut cells: Vec<Listed>) -> Vec<Listed> {
    let selection = &flags.selection;
    let chosen = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
    cells.retain(|cell| {
        chosen(&selection.dtype, &cell.dtype)
            && chosen(&selection.variant, &cell.variant)
            && (filters.is_empty() || filters.iter().any(|filter| filter.is_match(&cell.id)))
    });
    if flags.quick && filters.is_empty() {
        cells.dedup_by(|next, first| next.kernel == first.kernel);
    }
    cells
}

fn merged(base: Vec<Listed>, head: Vec<Listed>) -> Vec<Candidate> {
    let on = |list: &[Listed], id: &str| list.iter().any(|cell| cell.id == id);
    let of = |cell: &Listed| Candidate {
        id: cell.id.clone(),
        family: cell.family.clone(),
        on_base: on(&base, &cell.id),
        on_head: on(&head, &cell.id),
    };
    let only_base = base.iter().filter(|cell| !on(&head, &cell.id));
    head.iter().chain(only_base).map(of).collect()
}

/// The taste of `--quick`: of each kernel the first shape by the strategy that the rules choose.
///
/// # Errors
/// As for `run`.
pub fn taste(
    mut candidates: Vec<Candidate>,
    flags: &PairFlags,
    device: &Device,
) -> Result<Vec<Candidate>, Failure> {
    let taste = first_shapes(&select::select(&flags.selection)?, device);
    let taste: HashSet<String> = taste.iter().map(Item::id).collect();
    candidates.retain(|candidate| taste.contains(&candidate.id));
    Ok(candidates)
}

/// Strategies made for GPUs are left out on a CPU driver unless named.
pub fn suited(candidates: Vec<Candidate>, flags: &PairFlags, emulated: bool) -> Vec<Candidate> {
    if !emulated || !flags.selection.variant.is_empty() {
        return candidates;
    }
    let gpu_only: Vec<String> = items(flags.selection.preset())
        .iter()
        .filter(|item| item.suits() == Suits::Gpu)
        .map(Item::id)
        .collect();
    let before = candidates.len();
    let kept: Vec<Candidate> =
        candidates.into_iter().filter(|candidate| !gpu_only.contains(&candidate.id)).collect();
    if kept.len() < before {
        anstream::eprintln!(
            "fusebench: {} cells with strategies made for GPUs are left out on this CPU driver; \
             --variant runs them",
            before - kept.len()
        );
    }
    kept
}
