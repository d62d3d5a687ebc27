//! Input tensors: what is uploaded, from which distribution, reproducibly.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayView, ArrayViewD, Dimension, IxDyn};
use rayon::prelude::*;

pub use crate::distribution::Distribution;
use crate::given::Given;
use crate::kernel::{Dtype, Elem, Variant};
pub use crate::params::{Params, Scalar};
use crate::rng;

/// Values that one thread draws at a time.
const AT_ONCE: usize = 4096;

/// Draws tensors of one precision from one distribution under one seed.
#[derive(Clone, Copy, Debug)]
pub struct Generator<'a> {
    pub dtype: Dtype,
    /// How floating-point tensors are stored.
    pub storage: Elem,
    pub distribution: Distribution,
    pub seed: u32,
    /// Columns of the weights that are not as large as the others.
    pub columns: Option<ColumnScale>,
    /// Tensors that are not drawn.
    pub given: Option<&'a Given>,
}

/// Columns `first..end` of every matrix of weights, times a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnScale {
    pub first: usize,
    pub end: usize,
    pub factor: f32,
}

impl ColumnScale {
    /// The factor of the element at a flat index; a vector has no columns.
    fn at(&self, dims: &[usize], index: u32) -> f32 {
        let [_, .., columns] = dims else { return 1.0 };
        let inside = (self.first..self.end).contains(&(index as usize % columns));
        if inside { self.factor } else { 1.0 }
    }
}

impl<'a> Generator<'a> {
    pub fn new(dtype: Dtype, variant: &Variant, distribution: Distribution, seed: u32) -> Self {
        let storage = variant.storage(dtype);
        Generator { dtype, storage, distribution, seed, columns: None, given: None }
    }

    /// The same with the tensors of a user instead of generated ones.
    pub fn given(self, given: Option<&'a Given>) -> Self {
        Generator { given, ..self }
    }

    /// The same with floating-point tensors stored otherwise: scales that stay f32, say.
    pub fn stored_as(self, storage: Elem) -> Self {
        Generator { storage, ..self }
    }

    /// A data tensor in the storage type.
    pub fn data(&self, name: &'static str, dims: &[usize]) -> Tensor {
        let half = self.storage == Elem::F16;
        let plane = dims.iter().skip(1).product::<usize>().max(1);
        let width = dims.last().copied().unwrap_or(1).max(1) as u32;
        let octaves = if half { 10.0 } else { 15.0 };
        let ratio = |index: u32| {
            let steps = dims.first().map_or(1, |&first| first.max(2) - 1);
            (octaves * (index as usize / plane) as f32 / steps as f32).exp2()
        };
        let outlier = |channel: u32| rng::word(self.seed, 0x0c4a, channel).is_multiple_of(171);
        let (normals, words) = (self.normals(name), self.stream(name));
        let sign = |index| if words.word(index) & 1 == 0 { 1.0 } else { -1.0 };
        let normal = |offset: f32, scale: f32| {
            self.tensor(name, dims, |index| offset + scale * normals.at(index))
        };
        match self.distribution {
            Distribution::Normal
            | Distribution::Needle
            | Distribution::Edges
            | Distribution::User => normal(0.0, 1.0),
            Distribution::Integers => {
                self.tensor(name, dims, |index| self.integer(words, index) as f32)
            }
            Distribution::Offset => normal(1000.0, 1.0),
            Distribution::Small => normal(0.0, 1e-3),
            Distribution::Large => normal(0.0, 30.0),
            Distribution::Constant => self.tensor(name, dims, |_| 1000.1),
            Distribution::Outliers => self.tensor(name, dims, |index| {
                let scale = if outlier(index % width) { 20.0 } else { 1.0 };
                scale * normals.at(index)
            }),
            Distribution::Ties => {
                self.tensor(name, dims, |index| 0.5 * words.integer(index, 4) as f32)
            }
            Distribution::Extreme => self.tensor(name, dims, |index| 127.0 * sign(index)),
            Distribution::Ratio => {
                self.tensor(name, dims, |index| ratio(index) * normals.at(index))
            }
            Distribution::Subnormal => normal(0.0, if half { 1e-5 } else { 1e-39 }),
        }
    }

    /// In f16 only sums up to 2^11 are exact: -1, 0 and 1, half of them zero. Otherwise -15 to 15.
    fn integer(&self, stream: rng::Stream, index: u32) -> i32 {
        match self.storage {
            Elem::F16 => stream.integer(index, 2) / 2,
            _ => stream.integer(index, 15),
        }
    }

    fn stream(&self, tensor: &str) -> rng::Stream {
        rng::Stream::new(self.seed, stream_of(tensor))
    }

    fn normals(&self, tensor: &str) -> rng::Normals {
        rng::Normals::new(self.seed, stream_of(tensor))
    }

    /// A parameter tensor (weights, gains, biases): standard normal whatever the distribution of
    /// the data, scaled by `scale`; small integers in an integer run.
    pub fn weight(&self, name: &'static str, dims: &[usize], scale: f32) -> Tensor {
        match self.distribution {
            Distribution::Integers => self.data(name, dims),
            _ => {
                let normals = self.normals(name);
                let Some(columns) = self.columns else {
                    return self.tensor(name, dims, |index| scale * normals.at(index));
                };
                let scale = |index| columns.at(dims, index) * scale;
                self.tensor(name, dims, |index| scale(index) * normals.at(index))
            }
        }
    }

    /// A tensor in the storage type with values given by flat index.
    pub fn filled(
        &self,
        name: &'static str,
        dims: &[usize],
        value: impl Fn(usize) -> f32 + Sync,
    ) -> Tensor {
        self.tensor(name, dims, |index| value(index as usize))
    }

    /// A tensor of the user in the storage type, where there is one of that name.
    ///
    /// # Panics
    /// When it holds another number of values: the kernel's operands are not what it draws.
    pub fn user(&self, name: &'static str, dims: &[usize]) -> Option<Tensor> {
        let values = self.given?.find(name)?.converted(self.storage).values;
        Some(Tensor { name, elem: self.storage, values: Values::Float(shaped(dims, values)) })
    }

    fn tensor(
        &self,
        name: &'static str,
        dims: &[usize],
        draw: impl Fn(u32) -> f32 + Sync,
    ) -> Tensor {
        if let Some(tensor) = self.user(name, dims) {
            return tensor;
        }
        let mut values = vec![0.0; dims.iter().product()];
        values.par_chunks_mut(AT_ONCE).enumerate().for_each(|(block, values)| {
            let first = (block * AT_ONCE) as u32;
            values.iter_mut().zip(first..).for_each(|(value, index)| *value = draw(index));
            self.storage.round_all(values);
        });
        Tensor { name, elem: self.storage, values: Values::Float(shaped(dims, values)) }
    }
}

/// The stream of random numbers that is a tensor's own.
fn stream_of(tensor: &str) -> u32 {
    tensor.bytes().fold(17_u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()))
}

fn flat<A>(array: &ArrayD<A>) -> &[A] {
    array.as_slice().expect("tensors are row-major")
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
    /// What compressed tensors were made from; never uploaded.
    pub originals: Vec<Tensor>,
}

impl Inputs {
    /// Tensors in binding order, nothing compressed.
    pub fn new(params: Params, tensors: Vec<Tensor>) -> Self {
        Inputs { params, tensors, originals: Vec::new() }
    }

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

    /// A tensor of packed codes by name, one code per element.
    ///
    /// # Panics
    /// As [`Inputs::float`].
    pub fn codes<D: Dimension>(&self, name: &str) -> ArrayView<'_, i8, D> {
        let Values::Code(array) = &self.tensor(name).values else {
            panic!("tensor {name} does not hold codes");
        };
        array.view().into_dimensionality().expect("the rank the kernel declared")
    }

    /// Replaces the values of a tensor by others of the same number, exact in its type.
    ///
    /// # Panics
    /// When there is no such tensor or the number differs: a bug in a pipeline.
    pub fn replace(&mut self, name: &str, values: &[f64]) {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}")).replace(values);
    }

    /// Draws the values of a floating-point tensor anew: standard normal times `factor`, held to
    /// what its type can say. The same seed gives the same values in every kernel and type.
    ///
    /// # Panics
    /// When there is no such tensor: a bug in a pipeline.
    pub fn draw(&mut self, name: &str, seed: u32, factor: f32) {
        let tensor = self.tensors.iter().find(|tensor| tensor.name == name);
        let tensor = tensor.unwrap_or_else(|| panic!("no tensor {name}"));
        let limit = if tensor.elem == Elem::F16 { 65_504.0 } else { f32::MAX };
        let normals = rng::Normals::new(seed, 0xfea7);
        let value = |index| (factor * normals.at(index)).clamp(-limit, limit);
        let rounded = |index| f64::from(tensor.elem.round(value(index)));
        let len = tensor.dims().iter().product::<usize>() as u32;
        let values: Vec<f64> = (0..len).into_par_iter().map(rounded).collect();
        self.replace(name, &values);
    }

    fn tensor(&self, name: &str) -> &Tensor {
        let mut all = self.tensors.iter().chain(&self.originals);
        let found = all.find(|tensor| tensor.name == name);
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
    /// Packed when uploaded.
    Code(ArrayD<i8>),
}

impl Tensor {
    /// An array of 32-bit integers: lengths, indices, masks.
    pub fn words(name: &'static str, dims: &[usize], values: Vec<u32>) -> Self {
        Tensor { name, elem: Elem::U32, values: Values::Word(shaped(dims, values)) }
    }

    /// An array of codes to be packed as `elem` without gaps between rows.
    pub fn codes(name: &'static str, elem: Elem, dims: &[usize], codes: Vec<i8>) -> Self {
        Tensor { name, elem, values: Values::Code(shaped(dims, codes)) }
    }

    /// Floating-point values as given, stored as f32 or rounded to f16.
    pub fn floats(name: &'static str, elem: Elem, dims: &[usize], values: Vec<f32>) -> Self {
        let values = values.into_iter().map(|value| elem.round(value)).collect();
        Tensor { name, elem, values: Values::Float(shaped(dims, values)) }
    }

    fn replace(&mut self, values: &[f64]) {
        let len = self.dims().iter().product::<usize>();
        assert_eq!(values.len(), len, "values for `{}`", self.name);
        match &mut self.values {
            Values::Float(array) => {
                array.iter_mut().zip(values).for_each(|(to, &from)| *to = from as f32);
            }
            Values::Word(array) => {
                array.iter_mut().zip(values).for_each(|(to, &from)| *to = from as u32);
            }
            Values::Code(array) => {
                array.iter_mut().zip(values).for_each(|(to, &from)| *to = from as i8);
            }
        }
    }

    /// Fills the elements whose flat index is `unused` with a huge number, so that a kernel that
    /// reads padding or an absent modality shows it.
    pub fn with_garbage(mut self, unused: impl Fn(usize) -> bool + Sync) -> Self {
        let garbage = if self.elem == Elem::F16 { 6e4 } else { 1e30 };
        if let Values::Float(array) = &mut self.values {
            let garbage = self.elem.round(garbage);
            let all = array.as_slice_mut().expect("tensors are row-major").par_iter_mut();
            let padding = all.enumerate().filter(|(index, _)| unused(*index));
            padding.for_each(|(_, value)| *value = garbage);
        }
        self
    }

    pub fn dims(&self) -> &[usize] {
        match &self.values {
            Values::Float(array) => array.shape(),
            Values::Word(array) => array.shape(),
            Values::Code(array) => array.shape(),
        }
    }

    /// The little-endian bytes to upload.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Float(array) => self.elem.encode(flat(array)),
            Values::Word(array) => bytemuck::cast_slice(flat(array)).into(),
            Values::Code(array) => {
                bytemuck::cast_slice(&self.elem.pack(flat(array))).to_vec().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(dtype: Dtype, distribution: Distribution) -> Generator<'static> {
        let storage = dtype.storage();
        Generator { dtype, storage, distribution, seed: 1, columns: None, given: None }
    }

    #[test]
    fn what_is_uploaded_is_what_the_reference_sees() {
        for dtype in [Dtype::F32, Dtype::F16] {
            let tensor = generator(dtype, Distribution::Offset).data("x", &[3, 5]);
            let back = tensor.elem.decode(&tensor.bytes(), tensor.dims().iter().product());
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
        assert!(
            tensor
                .elem
                .decode(&tensor.bytes(), tensor.dims().iter().product())
                .iter()
                .all(|x| x.fract() == 0.0)
        );
    }
}
