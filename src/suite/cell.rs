//! Cells: kernel × variant × dtype × shape.

use super::sources::Sources;
use crate::given::Given;
use crate::inputs::{Distribution, Generator, Inputs};
use crate::kernel::{Buffer, Dtype, Elem, Entry, Launch, Preset, Shape, Variant, Work};
use crate::kernels::ALL;
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

    /// The text of its shader, of these.
    pub fn source(&self, sources: &Sources) -> String {
        shader::source(sources.get(self.entry), &self.dialect())
    }

    /// Whether a dispatch binds buffers in part.
    pub fn is_cut(&self) -> bool {
        self.launch().dispatches.iter().any(|dispatch| !dispatch.slice.windows.is_empty())
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
    use super::*;

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
