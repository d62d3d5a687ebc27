//! The cells a worker is asked for, by their ids.

use std::collections::HashMap;

use crate::given::UserTensors;
use crate::kernel::Preset;
use crate::suite::{Item, items};

/// The presets asked for so far: a preset holds thousands of cells, and each is asked for once.
#[derive(Default)]
pub struct Catalogue {
    presets: HashMap<String, HashMap<String, Item>>,
}

impl Catalogue {
    /// The item of a preset.
    pub fn find(&mut self, id: &str, preset: &str) -> Option<&Item> {
        if !self.presets.contains_key(preset) {
            let known = Preset::ALL.into_iter().find(|known| known.name() == preset)?;
            let all = items(known).into_iter().map(|item| (item.id(), item)).collect();
            self.presets.insert(preset.to_owned(), all);
        }
        self.presets[preset].get(id)
    }

    /// The item of a preset, or the one that tensors of a user make of the cell `fitted_from`.
    ///
    /// # Errors
    /// Says which cell there is none of, or what the tensors do not fit.
    pub fn fitted(
        &mut self,
        id: &str,
        fitted_from: Option<&str>,
        preset: &str,
        tensors: &UserTensors,
    ) -> Result<Item, String> {
        let listed = fitted_from.unwrap_or(id);
        let item = self.find(listed, preset);
        let item = item.ok_or_else(|| format!("no cell {listed} in preset {preset}"))?;
        let (Some(_), Item::Kernel(cell)) = (fitted_from, item) else { return Ok(item.clone()) };
        let fitted = cell.fitted(tensors).map_err(|misfit| misfit.to_string())?;
        let same = fitted.filter(|cell| cell.id() == id).map(Item::from);
        same.ok_or_else(|| "the tensors are not those that the run began with".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_found_in_its_own_preset_only() {
        let mut catalogue = Catalogue::default();
        let last = items(Preset::Smoke).pop().expect("a preset is not empty").id();
        for _ in 0..2 {
            assert_eq!(catalogue.find(&last, "smoke").map(Item::id), Some(last.clone()));
            assert!(catalogue.find(&last, "models").is_none());
            assert!(catalogue.find(&last, "no preset").is_none());
        }
        let none = catalogue.fitted("linear/no/f32/m1", None, "smoke", &UserTensors::default());
        let reason = none.err().expect("there is no such cell");
        assert_eq!(reason, "no cell linear/no/f32/m1 in preset smoke");
    }
}
