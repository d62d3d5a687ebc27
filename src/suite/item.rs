//! What a run goes through: kernels and pipelines alike, each giving one row.

use super::cell::{Cell, cells};
use super::pipeline_cell::{PipelineCell, pipeline_cells};
use crate::kernel::{Dtype, Preset, Shape, Suits};
use crate::record::{Row, Status, Work};

/// One row to be.
#[derive(Clone)]
pub enum Item {
    Kernel(Cell),
    Pipeline(PipelineCell),
}

/// Every kernel and every pipeline of a preset, in the order of their registries.
pub fn items(preset: Preset) -> Vec<Item> {
    let kernels = cells(preset).into_iter().map(Item::Kernel);
    kernels.chain(pipeline_cells(preset).into_iter().map(Item::Pipeline)).collect()
}

impl From<Cell> for Item {
    fn from(cell: Cell) -> Self {
        Item::Kernel(cell)
    }
}

impl Item {
    /// Display name, filter target and key in every file.
    pub fn id(&self) -> String {
        match self {
            Item::Kernel(cell) => cell.id(),
            Item::Pipeline(cell) => cell.id(),
        }
    }

    /// The id of the preset's cell that tensors of a user gave another shape.
    pub fn fitted_from(&self) -> Option<String> {
        match self {
            Item::Kernel(cell) => cell.fitted_from(),
            Item::Pipeline(_) => None,
        }
    }

    /// The kernel, or `pipeline_NAME`.
    pub fn name(&self) -> String {
        match self {
            Item::Kernel(cell) => cell.entry.name.to_owned(),
            Item::Pipeline(cell) => cell.name(),
        }
    }

    pub fn family(&self) -> &'static str {
        match self {
            Item::Kernel(cell) => cell.entry.family,
            Item::Pipeline(_) => "pipeline",
        }
    }

    /// `FAMILY/NAME` of every kernel that it runs.
    pub fn kernels(&self) -> Vec<String> {
        match self {
            Item::Kernel(cell) => vec![cell.entry.path()],
            Item::Pipeline(cell) => cell.kernels(),
        }
    }

    pub fn summary(&self) -> &'static str {
        match self {
            Item::Kernel(cell) => cell.entry.kernel.spec().summary,
            Item::Pipeline(cell) => cell.pipeline.summary,
        }
    }

    pub fn difficulties(&self) -> &'static [u8] {
        match self {
            Item::Kernel(cell) => cell.entry.kernel.spec().difficulties,
            Item::Pipeline(cell) => cell.pipeline.difficulties,
        }
    }

    /// The strategy of the kernel, or the fusion strategy of the pipeline.
    pub fn variant(&self) -> &'static str {
        match self {
            Item::Kernel(cell) => cell.variant.name,
            Item::Pipeline(cell) => cell.strategy,
        }
    }

    /// Override constants that differ from the strategy's own.
    pub fn constants(&self) -> Vec<(String, f64)> {
        let Item::Kernel(cell) = self else { return Vec::new() };
        let variants = cell.entry.kernel.spec().variants;
        let own = variants.iter().find(|variant| variant.name == cell.variant.name);
        let own = own.map_or(&[][..], |variant| variant.constants);
        let other = cell.variant.constants.iter().filter(|constant| !own.contains(constant));
        other.map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    /// The same with other values for override constants; `None` when it has no such constants.
    pub fn with_constants(&self, values: &[(String, f64)]) -> Option<Item> {
        match self {
            _ if values.is_empty() => Some(self.clone()),
            Item::Pipeline(_) => None,
            Item::Kernel(cell) => {
                let variant = cell.variant.with_constants(values)?;
                Some(Item::Kernel(Cell { variant, ..cell.clone() }))
            }
        }
    }

    pub fn dtype(&self) -> Dtype {
        match self {
            Item::Kernel(cell) => cell.dtype,
            Item::Pipeline(cell) => cell.dtype,
        }
    }

    /// How the floating-point side of i8 and i4 is stored, which other precisions say themselves:
    /// strategies that differ in it do not do the same.
    pub fn float(&self) -> Option<&'static str> {
        match self {
            Item::Kernel(cell) => {
                matches!(cell.dtype, Dtype::I8 | Dtype::I4).then(|| cell.variant.float.name())
            }
            Item::Pipeline(_) => None,
        }
    }

    pub fn shape(&self) -> &Shape {
        match self {
            Item::Kernel(cell) => &cell.shape,
            Item::Pipeline(cell) => &cell.shape,
        }
    }

    pub fn preset(&self) -> Preset {
        match self {
            Item::Kernel(cell) => cell.preset,
            Item::Pipeline(cell) => cell.preset,
        }
    }

    /// Where it is worth measuring when nobody asks for it by name.
    pub fn suits(&self) -> Suits {
        match self {
            Item::Kernel(cell) => cell.variant.suits,
            Item::Pipeline(_) => Suits::Any,
        }
    }

    pub fn work(&self) -> Work {
        match self {
            Item::Kernel(cell) => cell.work().into(),
            Item::Pipeline(cell) => cell.work(),
        }
    }

    /// The row of an item that did not run.
    pub fn row(&self, status: Status, reason: Option<String>, checks: &str) -> Row {
        let shape = self.shape();
        let axes = shape.axes().iter();
        Row {
            id: self.id(),
            kernel: self.name(),
            variant: self.variant().to_owned(),
            dtype: self.dtype().name().to_owned(),
            family: self.family().to_owned(),
            shape: axes.map(|&(axis, size)| (axis.to_owned(), size as u64)).collect(),
            option: shape.option().map(str::to_owned),
            model: Some(shape.source()).filter(|name| !name.is_empty()).map(str::to_owned),
            preset: self.preset().name().to_owned(),
            constants: self.constants().into_iter().collect(),
            tuned: false,
            checks: checks.to_owned(),
            status,
            reason,
            work: self.work(),
            time: None,
            rate: None,
            accuracy: None,
            time_trusted: None,
            stages: Vec::new(),
            compile_s: None,
            verify_s: None,
            harness_s: None,
            device_bytes: None,
        }
    }
}

impl From<crate::kernel::Work> for Work {
    fn from(work: crate::kernel::Work) -> Self {
        let arithmetic = work.arithmetic.name().to_owned();
        Work { flops: work.flops, bytes: work.bytes, arithmetic }
    }
}
