//! What a kernel is: the trait every file under `src/kernels/` implements, and the words it speaks.
//!
//! A kernel never types its own name: family, name and WGSL text come from its path, through the
//! generated list in [`crate::kernels::ALL`].

use ndarray::Array2;

use crate::accuracy::Tracked;
pub use crate::elem::Elem;
use crate::inputs::{Distribution, Generator, Inputs};
pub use crate::launch::{
    Buffer, Dispatch, Launch, Slice, Window, cut, refuses_ragged, refuses_uncut, spill,
};
pub use crate::operands::{Operand, Operands};
use crate::reference::Rows;
pub use crate::shape::{Preset, Shape};

/// One benchmarkable operation with all its strategies, shapes and its CPU reference.
pub trait Kernel: Sync {
    /// What the kernel computes, at which precisions and by which strategies.
    fn spec(&self) -> Spec;

    /// The shapes of a preset, in the order they are listed.
    fn shapes(&self, preset: Preset) -> Vec<Shape>;

    /// Params and input tensors in binding order; every tensor is drawn from `generator`, which
    /// knows the precision, the distribution and the seed.
    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs;

    /// The output and scratch buffers and the dispatches of one run.
    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch;

    /// Floating-point operations and compulsory memory traffic of one run.
    fn work(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Work;

    /// The exact answer: one matrix per output, holding the selected rows.
    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>>;

    /// The same function over the error-tracking scalar: value, worst-case bound and variance of
    /// the rounding error of each output element.
    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>>;

    /// For a kernel that compresses: the answer at full precision for the selected rows of the
    /// first output, and how far from it the compression is predicted to stay.
    fn uncompressed(&self, _problem: &Problem, _rows: &Rows) -> Option<Uncompressed> {
        None
    }
}

/// What a compressed kernel is compared with besides its own arithmetic.
pub struct Uncompressed {
    /// Rows of the first output, from the tensors before compression.
    pub output: Array2<f64>,
    /// What the outputs of the device stand for, where the first one is not it by itself.
    pub restored: Option<Array2<f64>>,
    /// Signal over error in dB that the scales of the compressed tensors promise; `None` where they
    /// promise nothing.
    pub predicted_sqnr_db: Option<f64>,
}

/// One kernel with the names and the WGSL text that its path gives it.
#[derive(Clone, Copy)]
pub struct Entry {
    pub family: &'static str,
    pub name: &'static str,
    pub kernel: &'static dyn Kernel,
    pub wgsl: &'static str,
    /// Shaders of some of the strategies, each with what its file is named after the kernel: those
    /// of cooperative matrices, which a device without such types could not compile beside others.
    pub others: &'static [(&'static str, &'static str)],
}

impl Entry {
    /// `FAMILY/NAME`, as in the folders `kernels/` and `src/kernels/`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.family, self.name)
    }

    /// Path, as under `kernels/`, and text of each shader.
    pub fn shaders(&self) -> impl Iterator<Item = (String, &'static str)> {
        let named = |&(part, text): &(_, _)| (format!("{}_{part}", self.path()), text);
        [(self.path(), self.wgsl)].into_iter().chain(self.others.iter().map(named))
    }

    /// The text of the shader that is named so after the kernel.
    pub fn other(&self, part: &str) -> Option<&'static str> {
        self.others.iter().find(|(name, _)| *name == part).map(|&(_, text)| text)
    }

    /// The one that has the entry points of a strategy.
    ///
    /// # Panics
    /// When the kernel has no such shader, which is a bug in its file.
    pub fn shader(&self, variant: &Variant) -> (String, &'static str) {
        let Some(part) = variant.shader else { return (self.path(), self.wgsl) };
        let path = format!("{}_{part}", self.path());
        let text = self.other(part).unwrap_or_else(|| panic!("there is no {path}.wgsl"));
        (path, text)
    }
}

/// The static description of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// One plain sentence, shown by `list` and in the documentation table.
    pub summary: &'static str,
    /// Which of the seven difficulties of modality fusion it answers (README, "The kernels").
    pub difficulties: &'static [u8],
    pub dtypes: &'static [Dtype],
    pub variants: &'static [Variant],
    /// Input distributions that expose faults of this kernel; the first is the timed data.
    pub inputs: &'static [Distribution],
    /// Inputs that may come from files.
    pub operands: Operands,
    /// Small faults that verification must catch, each in the text of the shader.
    pub mutants: &'static [Mutant],
}

/// A fault put into a shader to prove that verification has power.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What is wrong, in a few words: `last element dropped`.
    pub fault: &'static str,
    /// Every occurrence of this text is replaced…
    pub text: &'static str,
    /// …by this one.
    pub instead: &'static str,
    /// Why no output can show the fault, for a mutant that computes the same function.
    pub equivalent: Option<&'static str>,
}

impl Mutant {
    pub const fn new(fault: &'static str, text: &'static str, instead: &'static str) -> Self {
        Mutant { fault, text, instead, equivalent: None }
    }
}

/// One strategy: which entry points run, with which override constants.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    /// Values of WGSL `override`s, the tile sizes among them.
    pub constants: &'static [(&'static str, f64)],
    /// How the floating-point side of an i8 or i4 cell is stored; other precisions fix it.
    pub float: Elem,
    /// Optional device features the WGSL text cannot do without.
    pub needs: &'static [Need],
    /// What the shader with its entry points is named after the kernel: `matrix` is that of
    /// NAME_matrix.wgsl, `None` that of NAME.wgsl.
    pub shader: Option<&'static str>,
    /// Where the strategy is worth measuring when nobody asks for it by name.
    pub suits: Suits,
    /// `Some(reason)` when the strategy cannot do this shape.
    pub refuses: fn(&Shape) -> Option<String>,
    /// Turns of all loops of one invocation, where they may be more than a driver allows; 0 says
    /// that they are not.
    pub turns: fn(&Shape) -> usize,
}

impl Variant {
    /// A strategy without special needs that does every shape on every device.
    pub const fn new(name: &'static str, constants: &'static [(&'static str, f64)]) -> Self {
        Variant {
            name,
            constants,
            float: Elem::F32,
            needs: &[],
            shader: None,
            suits: Suits::Any,
            refuses: |_| None,
            turns: |_| 0,
        }
    }

    /// How floating-point tensors are stored under this strategy.
    pub fn storage(&self, dtype: Dtype) -> Elem {
        match dtype {
            Dtype::I8 | Dtype::I4 => self.float,
            Dtype::F32 | Dtype::F16 | Dtype::F16Acc => dtype.storage(),
        }
    }

    /// Rows and columns of the cooperative matrices that it multiplies, where it does.
    pub fn matrix_side(&self) -> Option<u32> {
        self.needs.iter().find_map(|need| match need {
            Need::CooperativeMatrix(side) => Some(*side),
            Need::ShaderF16 | Need::Subgroup | Need::SubgroupOf8 => None,
        })
    }

    /// The same strategy with other values for some of its constants; `None` when it has no
    /// constant of a name. Lives as long as the program, as those of the registry do.
    pub fn with_constants(&self, values: &[(String, f64)]) -> Option<&'static Variant> {
        let mut constants = self.constants.to_vec();
        for (name, value) in values {
            constants.iter_mut().find(|(known, _)| known == name)?.1 = *value;
        }
        let constants = Box::leak(constants.into_boxed_slice());
        Some(Box::leak(Box::new(Variant { constants, ..*self })))
    }

    /// The value of an override constant.
    ///
    /// # Panics
    /// When the variant has no such constant, which is a bug in the kernel's file.
    pub fn constant(&self, name: &str) -> usize {
        let found = self.constants.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("variant {} has no constant {name}", self.name)).1 as usize
    }
}

/// Loops of more turns than this, their number known when compiled, are left as loops: llvmpipe
/// unrolled 16 turns of attention's and did not unroll 32.
const UNROLLED: usize = 16;

/// Turns of the loops of an invocation: `outer`, and in each of them the `inner` ones, whose number
/// is known when compiled.
pub fn turns(outer: usize, inner: &[usize]) -> usize {
    outer * (1 + inner.iter().filter(|&&turns| turns > UNROLLED).sum::<usize>())
}

/// A device feature beyond the portable baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// `enable f16;` (implied by the f16 dtypes).
    ShaderF16,
    /// Subgroup built-in functions.
    Subgroup,
    /// Products of square matrices of this side that a subgroup holds together; their types are
    /// those of the precision.
    CooperativeMatrix(u32),
    /// Subgroup functions where every subgroup has eight invocations, as on llvmpipe with vectors
    /// of 256 bits.
    SubgroupOf8,
}

/// Device classes a strategy was designed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suits {
    Any,
    /// Long strips of work for each invocation, such as only a CPU adapter has few enough of.
    Cpu,
    /// Barriers cost 7 to 40 times on CPU adapters, where such a strategy is only checked.
    Gpu,
}

impl Suits {
    /// Whether the device's own rule may choose it: a CPU driver emulates the device.
    pub fn fits(self, emulated: bool) -> bool {
        self == Suits::Any || (self == Suits::Cpu) == emulated
    }

    /// What the device's own rule takes of the strategies that can do a shape: the last of those
    /// made for such a device, else the last of those for any.
    pub fn choose<T>(able: &[T], emulated: bool, suits: impl Fn(&T) -> Suits) -> Option<&T> {
        let of = |wanted| able.iter().rfind(|one| suits(one) == wanted);
        of(if emulated { Suits::Cpu } else { Suits::Gpu }).or_else(|| of(Suits::Any))
    }
}

/// The precision of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    F32,
    /// f16 storage, f32 arithmetic.
    F16,
    /// f16 storage and f16 arithmetic.
    F16Acc,
    I8,
    I4,
}

impl Dtype {
    pub const ALL: [Dtype; 5] = [Dtype::F32, Dtype::F16, Dtype::F16Acc, Dtype::I8, Dtype::I4];

    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::F16Acc => "f16acc",
            Dtype::I8 => "i8",
            Dtype::I4 => "i4",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Dtype::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// In what sums of products are kept.
    pub fn sum(self) -> Elem {
        if self == Dtype::F16Acc { Elem::F16 } else { Elem::F32 }
    }

    /// Whose peak bounds the arithmetic of a kernel that adds products in [`Dtype::sum`].
    pub fn arithmetic(self) -> Dtype {
        if self == Dtype::F16Acc { Dtype::F16Acc } else { Dtype::F32 }
    }

    /// How a floating-point tensor of this precision is stored; see [`Variant::storage`] for the
    /// compressed ones.
    pub fn storage(self) -> Elem {
        match self {
            Dtype::F16 | Dtype::F16Acc => Elem::F16,
            Dtype::F32 | Dtype::I8 | Dtype::I4 => Elem::F32,
        }
    }

    /// Bytes per stored floating-point element.
    pub fn bytes(self) -> usize {
        self.storage().bits() / 8
    }
}

/// One instance of a kernel: what the reference needs to know.
pub struct Problem<'a> {
    pub shape: &'a Shape,
    pub dtype: Dtype,
    pub variant: &'a Variant,
    pub inputs: &'a Inputs,
    /// What the device gave for every output, whole; empty when there was no run. A later output
    /// may be derived from an earlier one, which is verified by itself.
    pub device: &'a [Answer<'a>],
}

/// One output of the device, not yet decoded.
pub struct Answer<'a> {
    pub buffer: &'a Buffer,
    pub bytes: &'a [u8],
}

impl Answer<'_> {
    pub fn values(&self) -> Vec<f64> {
        self.buffer.elem.decode(self.bytes, self.buffer.len())
    }

    /// The elements of one row.
    pub fn row(&self, row: usize) -> Vec<f64> {
        let cols = self.buffer.cols;
        self.buffer.elem.decode_range(self.bytes, row * cols..(row + 1) * cols)
    }
}

impl Problem<'_> {
    /// How floating-point tensors are stored.
    pub fn storage(&self) -> Elem {
        self.variant.storage(self.dtype)
    }
}

/// Operation counts of one run: fused multiply-add = 2, every other arithmetic operation = 1,
/// comparisons and index arithmetic = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    pub flops: f64,
    /// Compulsory traffic: each input read once, each output written once.
    pub bytes: f64,
    /// Which arithmetic peak applies.
    pub arithmetic: Dtype,
    pub ceiling: Ceiling,
}

/// What a rate is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// Memory, arithmetic and launch as measured on the device.
    Device,
    /// Nothing: the work is of a kind of its own, such as traffic in workgroup memory.
    None,
}

impl Work {
    /// Work whose arithmetic is f32, as for every f32 and f16 kernel.
    pub fn new(flops: usize, bytes: usize) -> Self {
        let (arithmetic, ceiling) = (Dtype::F32, Ceiling::Device);
        Work { flops: flops as f64, bytes: bytes as f64, arithmetic, ceiling }
    }
}
