//! Which strategies and constants are worth trying, which one wins, and which cells a device that
//! was tuned runs. Pure; the command `tune` does the measuring.

use std::collections::{HashMap, HashSet};

use super::cell::Cell;
use super::item::Item;
use super::sources::Sources;
use crate::kernel::{Suits, Variant};
use crate::record::{Device, Winner};

/// Constants worth other values. A value that a kernel cannot work with fails verification.
const TUNABLE: [(&str, &[f64]); 3] = [
    ("WG", &[8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
    ("EACH", &[4.0, 16.0, 64.0]),
    ("ROWS", &[8.0, 16.0, 64.0]),
];

/// A challenger has to be faster in every round, and by this much in the middle of them: less is
/// within what moves between two runs.
const LEAST_GAIN: f64 = 1.02;

/// The strategy that is taken where nothing was measured: the last one made for this kind of
/// device, in the order in which a kernel lists them, that has what it needs there and does the
/// shape.
pub fn by_rule<'a>(items: &'a [Item], device: &Device) -> Option<&'a Item> {
    let able: Vec<&Item> = items.iter().filter(|item| can(item, device)).collect();
    Suits::choose(&able, device.emulated, |item| item.suits()).copied()
}

/// Whether a device has what a strategy needs, and the strategy does the shape.
fn can(item: &Item, device: &Device) -> bool {
    let Item::Kernel(cell) = item else { return true };
    cell.unfit(|feature| device.features.iter().any(|known| known == feature)).is_none()
}

/// Other values for one constant of a strategy, one change at a time, as far as the device's
/// largest workgroup allows.
pub fn variations(item: &Item, max_invocations: u64) -> Vec<Item> {
    let Item::Kernel(cell) = item else { return Vec::new() };
    let mut found = Vec::new();
    for (name, values) in TUNABLE {
        let Some(&(_, present)) = cell.variant.constants.iter().find(|(known, _)| *known == name)
        else {
            continue;
        };
        let fits = |value: &f64| name != "WG" || *value <= max_invocations as f64;
        for &value in values.iter().filter(|&value| *value != present && fits(value)) {
            found.extend(item.with_constants(&with(cell.variant, name, value)));
        }
    }
    found
}

fn with(variant: &Variant, name: &str, value: f64) -> Vec<(String, f64)> {
    let constants = variant.constants.iter();
    let changed = constants.map(|&(known, own)| (known, if known == name { value } else { own }));
    changed.map(|(known, value)| (known.to_owned(), value)).collect()
}

/// How many times faster a challenger is than the rule's choice, from the times of both in
/// alternating rounds; `None` when it does not win.
pub fn gain(rule_s: &[f64], challenger_s: &[f64]) -> Option<f64> {
    let mut gains: Vec<f64> = rule_s.iter().zip(challenger_s).map(|(a, b)| a / b).collect();
    gains.sort_by(f64::total_cmp);
    let middle = *gains.get(gains.len() / 2)?;
    (gains[0] > 1.0 && middle >= LEAST_GAIN).then_some(middle)
}

/// Winners of one origin.
pub struct Layer<'a> {
    pub origin: &'static str,
    pub winners: &'a [Winner],
}

/// The cells of a tuned device.
#[derive(Default)]
pub struct Chosen {
    pub items: Vec<Item>,
    /// Ids of those that a winner stands for, and where that comes from.
    pub tuned: HashMap<String, &'static str>,
    /// Winners among shaders that have changed since: they count for nothing.
    pub stale: usize,
}

/// Leaves only the winner of each kernel, precision, storage and shape whose class was tuned, with
/// its constants, where it is among the cells chosen and can run: a shape of its class may be one
/// that it refuses, and what ships was found on another device of that name. Of several layers the
/// first one counts that has a winner among the shaders in force.
pub fn choose(
    items: Vec<Item>,
    device: &Device,
    layers: &[Layer<'_>],
    sources: &Sources,
) -> Chosen {
    let mut chosen = Chosen::default();
    let mut stale = HashSet::new();
    let shape_of = |item: &Item| (item.dtype(), item.float(), item.shape().clone());
    let mut rest = items.as_slice();
    while let Some(first) = rest.first() {
        // One shape of a kernel, all strategies and precisions, is one run of cells.
        let same = |item: &&Item| item.name() == first.name() && item.shape() == first.shape();
        let (group, others) = rest.split_at(rest.iter().take_while(same).count());
        for item in group {
            let alike = || group.iter().filter(|other| shape_of(other) == shape_of(item));
            let winner = match winner_of(item, layers, sources) {
                Some(Found::Current(origin, winner)) => alike()
                    .find(|other| other.variant() == winner.variant && can(other, device))
                    .map(|_| (origin, winner)),
                Some(Found::Stale(winner)) => {
                    let Winner { kernel, dtype, float, class, .. } = winner;
                    stale.insert((kernel, dtype, float, class));
                    None
                }
                None => None,
            };
            match winner {
                None => chosen.items.push(item.clone()),
                Some((origin, winner)) if winner.variant == item.variant() => {
                    let constants: Vec<_> = winner.constants.clone().into_iter().collect();
                    let tuned = item.with_constants(&constants).unwrap_or_else(|| item.clone());
                    chosen.tuned.insert(tuned.id(), origin);
                    chosen.items.push(tuned);
                }
                Some(_) => {}
            }
        }
        rest = others;
    }
    chosen.stale = stale.len();
    chosen
}

enum Found<'a> {
    Current(&'static str, &'a Winner),
    Stale(&'a Winner),
}

fn winner_of<'a>(item: &Item, layers: &[Layer<'a>], sources: &Sources) -> Option<Found<'a>> {
    let Item::Kernel(Cell { entry, dtype, shape, .. }) = item else { return None };
    let (class, shader) = (shape.class(), sources.hash_of(entry));
    let mut stale = None;
    for &Layer { origin, winners } in layers {
        let of_item = |winner: &&Winner| {
            (&*winner.kernel, &*winner.dtype) == (entry.name, dtype.name())
                && winner.float.as_deref() == item.float()
                && winner.class == class
        };
        match winners.iter().find(of_item) {
            Some(winner) if winner.shader == shader => return Some(Found::Current(origin, winner)),
            found => stale = stale.or(found),
        }
    }
    stale.map(Found::Stale)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::item::items;
    use super::*;
    use crate::kernel::{Dtype, Preset};

    fn softmax() -> Vec<Item> {
        let softmax = |item: &Item| item.name() == "softmax" && item.dtype() == Dtype::F32;
        let all: Vec<Item> = items(Preset::Models).into_iter().filter(softmax).collect();
        let shape = all[0].shape().clone();
        all.into_iter().filter(|item| *item.shape() == shape).collect()
    }

    fn winner(variant: &str, constants: &[(&str, f64)], shader: String) -> [Winner; 1] {
        let constants = constants.iter().map(|&(name, value)| (name.to_owned(), value));
        [Winner {
            kernel: "softmax".to_owned(),
            dtype: "f32".to_owned(),
            float: None,
            class: softmax()[0].shape().class(),
            variant: variant.to_owned(),
            constants: constants.collect::<BTreeMap<_, _>>(),
            shape: String::new(),
            gain: 1.0,
            tried: 1,
            shader,
            tuned: String::new(),
        }]
    }

    fn chosen(items: Vec<Item>, layers: &[&[Winner]]) -> Chosen {
        let origins = ["first", "second"].into_iter();
        let layers = origins.zip(layers).map(|(origin, winners)| Layer { origin, winners });
        let features = ["subgroup".to_owned()].into();
        let device = Device { features, ..Device::default() };
        choose(items, &device, &layers.collect::<Vec<_>>(), &Sources::default())
    }

    fn shader() -> String {
        let Item::Kernel(cell) = &softmax()[0] else { unreachable!("softmax is a kernel") };
        Sources::default().hash_of(cell.entry)
    }

    #[test]
    fn only_the_winner_is_left_with_its_constants() {
        let chosen = chosen(softmax(), &[&winner("thread", &[("WG", 16.0)], shader())]);
        assert_eq!(chosen.items.len(), 1);
        assert_eq!(chosen.items[0].constants(), [("WG".to_owned(), 16.0)]);
        assert_eq!(chosen.items[0].row(crate::record::Status::Ok, None, "safe").constants.len(), 1);
        assert_eq!(chosen.tuned[&softmax()[0].id()], "first");
        assert_eq!(chosen.stale, 0);
    }

    #[test]
    fn a_winner_that_was_not_selected_or_is_out_of_date_changes_nothing() {
        let all = softmax();
        let ids = |items: &[Item]| items.iter().map(Item::id).collect::<Vec<_>>();
        let others: Vec<Item> = all.iter().filter(|i| i.variant() != "thread").cloned().collect();
        let current = winner("thread", &[], shader());
        assert_eq!(ids(&chosen(others.clone(), &[&current]).items), ids(&others));
        let old = winner("thread", &[], "0".to_owned());
        let found = chosen(all.clone(), &[&old]);
        assert_eq!((ids(&found.items), found.stale, found.tuned.len()), (ids(&all), 1, 0));
    }

    #[test]
    fn a_winner_that_cannot_run_leaves_its_rivals() {
        let all = softmax();
        assert!(all.iter().any(|item| item.variant() == "registers"));
        let found = chosen(all.clone(), &[&winner("registers", &[], shader())]);
        assert_eq!((found.items.len(), found.tuned.len()), (all.len(), 0));
    }

    #[test]
    fn the_first_layer_with_a_current_winner_counts() {
        let old = winner("workgroup", &[], "0".to_owned());
        let (thread, other) =
            (winner("thread", &[], shader()), winner("thread", &[("WG", 16.0)], shader()));
        for (layers, origin, constants) in [
            ([&thread, &other], "first", 0),
            ([&old, &other], "second", 1),
            ([&thread, &old], "first", 0),
        ] {
            let found = chosen(softmax(), &layers.map(|layer| &layer[..]));
            assert_eq!(found.tuned.values().collect::<Vec<_>>(), [&origin]);
            assert_eq!((found.items[0].constants().len(), found.stale), (constants, 0));
        }
    }

    #[test]
    fn variations_change_one_constant_within_the_limit() {
        let thread = softmax().into_iter().find(|item| item.variant() == "thread").expect("has it");
        let groups = |limit| {
            let found = variations(&thread, limit);
            found.iter().map(|item| item.constants()[0].1).collect::<Vec<_>>()
        };
        assert_eq!(groups(64), [16.0, 32.0, 64.0]);
        assert_eq!(groups(256).len(), 5);
    }

    #[test]
    fn the_rule_prefers_what_was_made_for_the_device() {
        let all = softmax();
        let suits = |emulated, features: &[&str]| {
            let features = features.iter().map(|&name| name.to_owned()).collect();
            let device = Device { emulated, features, ..Device::default() };
            by_rule(&all, &device).expect("one suits").suits()
        };
        let eight = ["subgroup", "subgroup-of-8"];
        assert_eq!((suits(true, &eight), suits(true, &[])), (Suits::Cpu, Suits::Any));
        assert_eq!((suits(false, &["subgroup"]), suits(false, &[])), (Suits::Gpu, Suits::Gpu));
        assert!(by_rule(&[], &Device::default()).is_none());
    }

    #[test]
    fn a_challenger_wins_only_when_faster_in_every_round() {
        assert_eq!(gain(&[2.0, 2.2, 2.1], &[1.0, 1.0, 1.0]), Some(2.1));
        assert_eq!(gain(&[2.0, 2.2, 0.9], &[1.0, 1.0, 1.0]), None);
        assert_eq!(gain(&[1.01, 1.01, 1.01], &[1.0, 1.0, 1.0]), None);
        assert_eq!(gain(&[], &[]), None);
    }
}
