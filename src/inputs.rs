//! Input tensors: what is uploaded, from which distribution, reproducibly.

use half::f16;
use ndarray::{ArrayD, ArrayView, ArrayViewD, Dimension, IxDyn};
use rayon::prelude::*;

use crate::kernel::{Dtype, Elem};
use crate::rng;

/// What the input values look like. Each one exposes faults that the others hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Standard normal: the timed data, and the precision class.
    Normal,
    /// Small integers whose sums are exact in any order: indexing, tails, strides, races.
    Integers,
    /// Normal around 1000: cancellation, one-pass variance.
    Offset,
    /// Normal with standard deviation 1e-3: a wrong or missing epsilon.
    Small,
    /// Normal with standard deviation 30: a missing max-subtraction.
    Large,
}

impl Distribution {
    pub const ALL: [Distribution; 5] = [
        Distribution::Normal,
        Distribution::Integers,
        Distribution::Offset,
        Distribution::Small,
        Distribution::Large,
    ];

    /// Whether the values are so many different ones that roundings are independent. Around 1000
    /// f16 has steps of one half, and an integer is one of 31 values.
    pub fn is_continuous(self) -> bool {
        !matches!(self, Distribution::Integers | Distribution::Offset)
    }

    pub fn name(self) -> &'static str {
        match self {
            Distribution::Normal => "normal",
            Distribution::Integers => "integers",
            Distribution::Offset => "offset",
            Distribution::Small => "small",
            Distribution::Large => "large",
        }
    }
}

/// Draws tensors of one precision from one distribution under one seed.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    pub dtype: Dtype,
    pub distribution: Distribution,
    pub seed: u32,
}

impl Generator {
    /// A data tensor in the storage type of the precision.
    pub fn data(&self, name: &'static str, dims: &[usize]) -> Tensor {
        // In f16 only sums up to 2^11 are exact: keep to -1, 0, 1, and half of them zero.
        let integer = |stream, index| match self.dtype.storage() {
            Elem::F16 => rng::integer(self.seed, stream, index, 2) / 2,
            _ => rng::integer(self.seed, stream, index, 15),
        };
        let normal = |stream, index| rng::normal(self.seed, stream, index);
        self.tensor(name, dims, |stream, index| match self.distribution {
            Distribution::Normal => normal(stream, index),
            Distribution::Integers => integer(stream, index) as f32,
            Distribution::Offset => 1000.0 + normal(stream, index),
            Distribution::Small => 1e-3 * normal(stream, index),
            Distribution::Large => 30.0 * normal(stream, index),
        })
    }

    /// A parameter tensor (weights, gains, biases): standard normal whatever the distribution of
    /// the data, scaled by `scale`; small integers in an integer run.
    pub fn weight(&self, name: &'static str, dims: &[usize], scale: f32) -> Tensor {
        match self.distribution {
            Distribution::Integers => self.data(name, dims),
            _ => self
                .tensor(name, dims, |stream, index| scale * rng::normal(self.seed, stream, index)),
        }
    }

    /// A tensor in the storage type of the precision with values given by flat index.
    pub fn filled(
        &self,
        name: &'static str,
        dims: &[usize],
        value: impl Fn(usize) -> f32 + Sync,
    ) -> Tensor {
        self.tensor(name, dims, |_, index| value(index as usize))
    }

    fn tensor(
        &self,
        name: &'static str,
        dims: &[usize],
        draw: impl Fn(u32, u32) -> f32 + Sync,
    ) -> Tensor {
        let stream = name.bytes().fold(17_u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let elem = self.dtype.storage();
        let draw = |index: u32| round_to(elem, draw(stream, index));
        let len = dims.iter().product::<usize>() as u32;
        let values: Vec<f32> = (0..len).into_par_iter().map(draw).collect();
        Tensor { name, elem, values: Values::Float(shaped(dims, values)) }
    }
}

/// The nearest value of the storage type.
pub fn round_to(elem: Elem, value: f32) -> f32 {
    match elem {
        Elem::F16 => f16::from_f32(value).to_f32(),
        Elem::F32 | Elem::U32 => value,
    }
}

fn shaped<A>(dims: &[usize], values: Vec<A>) -> ArrayD<A> {
    ArrayD::from_shape_vec(IxDyn(dims), values).expect("one value per element")
}

/// The uploaded side of a problem.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub params: Params,
    /// In binding order, from binding 1.
    pub tensors: Vec<Tensor>,
}

impl Inputs {
    /// A floating-point tensor by name, with its dimensions.
    ///
    /// # Panics
    /// When there is no such tensor or its rank differs: a bug in the kernel's file.
    pub fn float<D: Dimension>(&self, name: &str) -> ArrayView<'_, f32, D> {
        let Values::Float(array) = &self.tensor(name).values else {
            panic!("tensor {name} does not hold floating-point values");
        };
        array.view().into_dimensionality().expect("the rank the kernel declared")
    }

    /// An integer tensor by name.
    ///
    /// # Panics
    /// As [`Inputs::float`].
    pub fn words(&self, name: &str) -> ArrayViewD<'_, u32> {
        let Values::Word(array) = &self.tensor(name).values else {
            panic!("tensor {name} does not hold integers");
        };
        array.view()
    }

    fn tensor(&self, name: &str) -> &Tensor {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

/// One input array as the device sees it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: &'static str,
    pub elem: Elem,
    values: Values,
}

/// Floating-point values are kept as f32 already rounded to the storage type.
#[derive(Clone, Debug)]
enum Values {
    Float(ArrayD<f32>),
    Word(ArrayD<u32>),
}

impl Tensor {
    /// An array of 32-bit integers: lengths, indices, masks.
    pub fn words(name: &'static str, dims: &[usize], values: Vec<u32>) -> Self {
        Tensor { name, elem: Elem::U32, values: Values::Word(shaped(dims, values)) }
    }

    /// Fills the elements whose flat index is `unused` with a huge number, so that a kernel that
    /// reads padding or an absent modality shows it.
    pub fn with_garbage(mut self, unused: impl Fn(usize) -> bool) -> Self {
        let garbage = if self.elem == Elem::F16 { 6e4 } else { 1e30 };
        if let Values::Float(array) = &mut self.values {
            let padding = array.iter_mut().enumerate().filter(|(index, _)| unused(*index));
            padding.for_each(|(_, value)| *value = round_to(self.elem, garbage));
        }
        self
    }

    pub fn dims(&self) -> &[usize] {
        match &self.values {
            Values::Float(array) => array.shape(),
            Values::Word(array) => array.shape(),
        }
    }

    /// The little-endian bytes to upload.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.values {
            Values::Float(array) => encode(self.elem, array.iter().copied()),
            Values::Word(array) => {
                bytemuck::cast_slice(&array.iter().copied().collect::<Vec<_>>()).to_vec()
            }
        }
    }
}

fn encode(elem: Elem, values: impl Iterator<Item = f32>) -> Vec<u8> {
    match elem {
        Elem::F16 => bytemuck::cast_slice(&values.map(f16::from_f32).collect::<Vec<_>>()).to_vec(),
        Elem::F32 | Elem::U32 => bytemuck::cast_slice(&values.collect::<Vec<_>>()).to_vec(),
    }
}

/// Reads device bytes back as f64, one value per element.
pub fn decode(elem: Elem, bytes: &[u8]) -> Vec<f64> {
    match elem {
        Elem::F32 => {
            bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect()
        }
        Elem::F16 => {
            bytemuck::pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f64::from).collect()
        }
        Elem::U32 => {
            bytemuck::pod_collect_to_vec::<u8, u32>(bytes).into_iter().map(f64::from).collect()
        }
    }
}

/// The uniform `Params` struct of a shader: named 4-byte scalars in declaration order.
///
/// A test compares names and offsets with the WGSL of every kernel.
#[derive(Clone, Debug, Default)]
pub struct Params {
    names: Vec<&'static str>,
    words: Vec<u32>,
}

impl Params {
    pub fn new() -> Self {
        Params::default()
    }

    /// Appends an unsigned size or count.
    pub fn size(self, name: &'static str, value: usize) -> Self {
        self.word(name, u32::try_from(value).expect("sizes fit 32 bits"))
    }

    /// Appends an f32.
    pub fn real(self, name: &'static str, value: f32) -> Self {
        self.word(name, value.to_bits())
    }

    fn word(mut self, name: &'static str, value: u32) -> Self {
        self.names.push(name);
        self.words.push(value);
        self
    }

    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(dtype: Dtype, distribution: Distribution) -> Generator {
        Generator { dtype, distribution, seed: 1 }
    }

    #[test]
    fn what_is_uploaded_is_what_the_reference_sees() {
        for dtype in [Dtype::F32, Dtype::F16] {
            let tensor = generator(dtype, Distribution::Offset).data("x", &[3, 5]);
            let back = decode(tensor.elem, &tensor.bytes());
            let Values::Float(seen) = &tensor.values else { panic!("data is floating point") };
            assert!(seen.iter().zip(&back).all(|(&a, &b)| f64::from(a) == b), "{dtype:?}");
        }
    }

    #[test]
    fn different_tensors_of_one_seed_differ() {
        let generator = generator(Dtype::F32, Distribution::Normal);
        assert_ne!(generator.data("q", &[9]).bytes(), generator.data("k", &[9]).bytes());
    }

    #[test]
    fn integer_runs_hold_integers() {
        let tensor = generator(Dtype::F32, Distribution::Integers).weight("w", &[400], 0.1);
        assert!(decode(tensor.elem, &tensor.bytes()).iter().all(|x| x.fract() == 0.0));
    }
}
