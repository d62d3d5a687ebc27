//! Cells: kernel × variant × dtype × shape.

use super::sources::Sources;
use crate::given::Given;
use crate::inputs::{Distribution, Generator, Inputs};
use crate::kernel::{Buffer, Dtype, Elem, Entry, Launch, Preset, Shape, Slice, Variant, Work};
use crate::kernels::ALL;
use crate::launch::MAX_GRID;
use crate::shader::{self, Dialect};

/// One thing to verify and time on a device.
#[derive(Clone)]
pub struct Cell {
    pub entry: &'static Entry,
    pub variant: &'static Variant,
    pub dtype: Dtype,
    pub shape: Shape,
    pub preset: Preset,
    /// Tensors of a user, which gave the shape.
    pub given: Option<Given>,
}

/// Every cell of a preset, in the order of the registry.
pub fn cells(preset: Preset) -> Vec<Cell> {
    let mut cells = Vec::new();
    for entry in ALL {
        let spec = entry.kernel.spec();
        for shape in entry.kernel.shapes(preset) {
            for variant in spec.variants {
                cells.extend(spec.dtypes.iter().map(|&dtype| Cell {
                    entry,
                    variant,
                    dtype,
                    shape: shape.clone(),
                    preset,
                    given: None,
                }));
            }
        }
    }
    cells
}

impl Cell {
    /// `KERNEL/VARIANT/DTYPE/SHAPE`: display name, filter target and key in every file.
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.entry.name, self.variant.name, self.dtype.name(), self.shape)
    }

    /// How floating-point tensors are stored.
    pub fn storage(&self) -> Elem {
        self.variant.storage(self.dtype)
    }

    /// What the text of the shader is written over.
    pub fn dialect(&self) -> Dialect {
        Dialect::of(self.variant, self.dtype)
    }

    /// Why it cannot run on a device with these features, where it cannot.
    pub fn unfit(&self, has: impl Fn(&str) -> bool) -> Option<String> {
        let needs = self.dialect().features(self.variant.needs).into_iter();
        let missing = needs.into_iter().find(|feature| !has(feature));
        let missing = missing.map(|feature| format!("needs {feature}"));
        missing.or_else(|| (self.variant.refuses)(&self.shape))
    }

    /// The other strategies that take slices of this shape one after the other.
    pub fn cut_by(&self) -> Vec<&'static str> {
        let is_cut = |variant: &&'static Variant| {
            let launch = self.entry.kernel.launch(&self.shape, self.dtype, variant);
            let mut slices = launch.dispatches.iter().map(|dispatch| &dispatch.slice);
            (variant.refuses)(&self.shape).is_none() && slices.any(|part| *part != Slice::default())
        };
        let variants = self.entry.kernel.spec().variants.iter();
        let others = variants.filter(|variant| variant.name != self.variant.name);
        others.filter(is_cut).map(|variant| variant.name).collect()
    }

    /// The text of its shader, of these.
    pub fn source(&self, sources: &Sources) -> String {
        shader::source(sources.get(self.entry, self.variant), &self.dialect())
    }

    /// What it is verified on before it is timed, the data to be timed first. Rounded in f16, only
    /// sums that are exact tell right from wrong, which those of `Ties` are in attention.
    pub fn timed_distributions(&self) -> Vec<Distribution> {
        let exact = self.dtype == Dtype::F16Acc;
        let timed = |distribution: &Distribution| match distribution {
            Distribution::Normal | Distribution::Integers => true,
            Distribution::Ties => exact,
            _ => false,
        };
        let known = self.entry.kernel.spec().inputs.iter().copied();
        known.filter(timed).collect()
    }

    /// What `check` verifies it on. A smoke shape with more rows than a grid dimension has
    /// workgroups is there for its grid: its smaller sisters try the other numbers.
    pub fn checked_distributions(&self) -> Vec<Distribution> {
        let is_for_its_grid = self.preset == Preset::Smoke && self.rows() > MAX_GRID;
        match is_for_its_grid {
            true => self.timed_distributions(),
            false => self.entry.kernel.spec().inputs.to_vec(),
        }
    }

    /// Params and tensors of one distribution.
    pub fn inputs(&self, distribution: Distribution, seed: u32) -> Inputs {
        let generator = Generator::new(self.dtype, self.variant, distribution, seed);
        self.drawn(&generator.given(self.given.as_ref()))
    }

    /// Params and tensors from a generator.
    pub fn drawn(&self, generator: &Generator) -> Inputs {
        self.entry.kernel.inputs(&self.shape, generator)
    }

    pub fn launch(&self) -> Launch {
        self.entry.kernel.launch(&self.shape, self.dtype, self.variant)
    }

    pub fn work(&self) -> Work {
        self.entry.kernel.work(&self.shape, self.dtype, self.variant)
    }

    /// Rows of the largest output: what sampled verification chooses from.
    pub fn rows(&self) -> usize {
        self.launch().outputs.iter().map(|output| output.rows).max().unwrap_or(0)
    }

    /// Whether a run has anything to compute.
    pub fn is_empty(&self) -> bool {
        self.launch().outputs.iter().all(Buffer::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::launch::{PORTABLE_BINDING, WINDOW_ALIGNMENT, Window};

    fn model(id: &str) -> Cell {
        let mut found = cells(Preset::Models).into_iter().filter(|cell| cell.id() == id);
        found.next().unwrap_or_else(|| panic!("no {id}"))
    }

    /// The distinct windows of each buffer.
    fn windows(launch: &Launch) -> BTreeMap<&'static str, Vec<Window>> {
        let mut found: BTreeMap<&str, Vec<Window>> = BTreeMap::new();
        for window in launch.dispatches.iter().flat_map(|dispatch| &dispatch.slice.windows) {
            let known = found.entry(window.buffer).or_default();
            if !known.contains(window) {
                known.push(window.clone());
            }
        }
        found
    }

    /// Whether windows, in this order, cover a buffer of so many elements once, and may be bound.
    fn fit(windows: &[Window], elem: Elem, len: Option<usize>) -> bool {
        let ranges = windows.iter().map(|window| &window.elements);
        let ends = std::iter::once(0).chain(ranges.clone().map(|range| range.end));
        ranges.clone().zip(ends).all(|(range, before)| range.start == before)
            && ranges.clone().all(|range| {
                elem.bytes_of(range.start).is_multiple_of(WINDOW_ALIGNMENT)
                    && elem.bytes_of(range.len()) <= PORTABLE_BINDING
            })
            && len
                .is_none_or(|len| ranges.clone().next_back().is_some_and(|range| range.end == len))
    }

    #[test]
    fn windows_of_every_cut_buffer_cover_it_once_and_fit_a_binding() {
        let mut cut = 0;
        for cell in [Preset::Smoke, Preset::Models].into_iter().flat_map(cells) {
            let launch = cell.launch();
            let windows = windows(&launch);
            if windows.is_empty() || (cell.variant.refuses)(&cell.shape).is_some() {
                continue;
            }
            cut += 1;
            // Drawing gigabytes takes longer than it is worth.
            let drawn = match cell.preset {
                Preset::Smoke => cell.inputs(Distribution::Normal, 1).tensors,
                _ => Vec::new(),
            };
            for (name, windows) in windows {
                let outputs = launch.outputs.iter().chain(&launch.scratch);
                let known = outputs
                    .map(|buffer| (buffer.name, buffer.elem, buffer.len()))
                    .chain(drawn.iter().map(|t| (t.name, t.elem, t.dims().iter().product())))
                    .find(|(known, ..)| *known == name);
                let (elem, len) =
                    known.map_or((cell.storage(), None), |(_, elem, len)| (elem, Some(len)));
                assert!(fit(&windows, elem, len), "{} {name}: {windows:?}", cell.id());
            }
        }
        assert!(cut > 40, "only {cut} cells are cut");
    }

    #[test]
    fn a_gap_an_overlap_and_a_missing_end_are_seen() {
        let of = |ranges: &[std::ops::Range<usize>]| -> Vec<Window> {
            ranges.iter().map(|range| Window { buffer: "x", elements: range.clone() }).collect()
        };
        let fits = |ranges: &[std::ops::Range<usize>]| fit(&of(ranges), Elem::F32, Some(200));
        assert!(fits(&[0..64, 64..128, 128..200]));
        assert!(!fits(&[0..64, 128..200]), "a gap");
        assert!(!fits(&[0..128, 64..200]), "an overlap");
        assert!(!fits(&[0..64, 64..128]), "the end is missing");
        assert!(!fits(&[0..32, 32..200]), "no window may start there");
    }

    #[test]
    fn what_is_too_large_names_the_other_strategies_that_cut_it() {
        for (id, wanted) in [
            ("low_rank_fusion/registers/f32/b128r128o512u512v512", &["slices8"][..]),
            ("low_rank_fusion/slices8/f32/b128r128o512u512v512", &[]),
            ("low_rank_fusion/registers/f32/b128r40o100u10v720", &[]),
            ("bottleneck_attention/unfused/f16/b1h12s400t3136f4d64", &["unfused_slices8"]),
            ("bottleneck_attention/unfused/f32/b1h12s400t784f4d64", &[]),
            ("multiplicative_interaction/registers/f32/b128o1024u512v512", &["slices8"]),
        ] {
            assert_eq!(model(id).cut_by(), wanted, "{id}");
        }
    }

    #[test]
    fn ids_are_unique_and_use_only_the_contracts_characters() {
        for preset in Preset::ALL {
            let mut seen = std::collections::HashSet::new();
            for cell in cells(preset) {
                let id = cell.id();
                let legal = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
                assert!(id.chars().all(legal), "{id}");
                assert!(seen.insert(id.clone()), "{id} twice in {}", preset.name());
            }
        }
    }
}
