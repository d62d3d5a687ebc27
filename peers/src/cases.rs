//! What is compared: operations that both sides have, at sizes of published models and at some of
//! the sizes of `run --preset sweep`.

use fusebench::kernel::{Dtype, Entry, Kernel, Preset, Shape};
use fusebench::kernels::ALL;
use fusebench::suite::Cell;

/// Kernel, axes, option. Everything is f32.
type Listed = (&'static str, &'static [(&'static str, usize)], Option<&'static str>);

const LISTED: &[Listed] = &[
    ("linear", &[("m", 512), ("n", 512), ("k", 512)], None),
    ("linear", &[("m", 77), ("n", 768), ("k", 768)], None),
    ("linear", &[("m", 577), ("n", 768), ("k", 1024)], None),
    ("linear", &[("m", 1), ("n", 1024), ("k", 1280)], None),
    ("linear", &[("m", 9_000), ("n", 30), ("k", 35)], None),
    ("linear", &[("m", 77), ("n", 3072), ("k", 768)], Some("gelu")),
    ("cosine_similarity", &[("m", 256), ("n", 1000), ("d", 768)], None),
    ("cross_attention", &[("b", 1), ("h", 12), ("q", 32), ("k", 257), ("d", 64)], None),
    ("cross_attention", &[("b", 1), ("h", 20), ("q", 1), ("k", 1500), ("d", 64)], None),
    ("cross_attention", &[("b", 1), ("h", 8), ("q", 64), ("k", 320), ("d", 64)], None),
    ("softmax", &[("r", 10_922), ("n", 768)], None),
    ("softmax", &[("r", 384), ("n", 257)], None),
    ("layer_norm", &[("r", 10_922), ("d", 768)], None),
    ("layer_norm", &[("r", 257), ("d", 1408)], None),
    ("add_layer_norm", &[("r", 1500), ("d", 1280)], None),
    ("rms_norm", &[("r", 577), ("d", 1024)], None),
    ("l2_normalize", &[("r", 4096), ("d", 768)], None),
    ("batch_norm", &[("n", 32), ("c", 64), ("l", 3_136)], None),
    ("group_norm", &[("n", 1), ("c", 256), ("l", 1_050), ("g", 32)], None),
    ("film", &[("b", 64), ("l", 196), ("c", 128)], None),
    ("weighted_sum", &[("m", 4), ("b", 1024), ("d", 1024)], None),
    ("gated_fusion", &[("m", 3), ("b", 22_200), ("d", 60)], None),
    ("concat", &[("b", 1024), ("u", 1024), ("v", 1024), ("w", 1024), ("x", 1024)], None),
    ("embedding_lookup", &[("b", 64), ("t", 77), ("v", 49_408), ("d", 512)], None),
    ("conv1d", &[("b", 24), ("t", 500), ("c", 74), ("o", 30), ("w", 1), ("s", 1), ("p", 0)], None),
    // Coordinates are f32 elsewhere and integers here; twice as large both are exact.
    ("resize_bilinear", &[("h", 128), ("w", 128), ("c", 4), ("y", 256), ("x", 256)], None),
];

/// One operation at one shape.
#[derive(Clone)]
pub struct Case {
    pub entry: &'static Entry,
    pub shape: Shape,
}

impl Case {
    /// `KERNEL/SHAPE`, which filters match.
    pub fn id(&self) -> String {
        format!("{}/{}", self.entry.name, self.shape)
    }

    /// The case by every strategy of the kernel.
    pub fn cells(&self) -> Vec<Cell> {
        let variants = self.entry.kernel.spec().variants.iter();
        let cell = |variant| Cell {
            entry: self.entry,
            variant,
            dtype: Dtype::F32,
            shape: self.shape.clone(),
            preset: Preset::Models,
            given: None,
        };
        variants.map(cell).collect()
    }
}

/// Every case whose id holds the filter.
pub fn cases(filter: &str) -> Vec<Case> {
    let all = LISTED.iter().map(|&(kernel, axes, option)| {
        let entry = ALL.iter().find(|entry| entry.name == kernel).expect("a kernel of the suite");
        let shape = option.map_or(Shape::new(axes), |option| Shape::new(axes).tag(option));
        Case { entry, shape: published(entry.kernel, shape) }
    });
    all.filter(|case| case.id().contains(filter)).collect()
}

/// The same shape with the model that it is from, where it is from one.
fn published(kernel: &dyn Kernel, shape: Shape) -> Shape {
    let mut known = kernel.shapes(Preset::Models).into_iter();
    known.find(|other| other.to_string() == shape.to_string()).unwrap_or(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_listed_once_and_draws_its_inputs() {
        let mut seen = std::collections::HashSet::new();
        for case in cases("") {
            assert!(seen.insert(case.id()), "{} twice", case.id());
            assert!(!case.cells().is_empty() && !case.cells()[0].is_empty(), "{}", case.id());
        }
        assert_eq!(seen.len(), LISTED.len());
    }

    #[test]
    fn a_filter_leaves_what_it_names_and_sizes_of_models_say_which() {
        let found = cases("softmax/r384");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].shape.source(), "BLIP-2 Q-Former");
        assert!(cases("no such kernel").is_empty());
    }
}
