//! Everything verification sees of a cell, as arrays.

use ndarray::Array2;

use super::cell::Cell;
use super::item::Item;
use super::session::{CellError, Session};
use super::verify::{Failure, Scope, examine_keeping, noise, reference_s, summarise};
use crate::accuracy::Tracked;
use crate::gpu::{Output, Step};
use crate::inputs::{Distribution, Inputs, Scalar, Tensor};
use crate::kernel::Buffer;
use crate::npy::{Kind, unpacked};
use crate::record::{Param, Role, Row, Status};
use crate::units::Bytes;

/// One array to be written.
#[derive(Clone, Debug)]
pub struct Array {
    /// Of the buffer in the shader; a reference and a bound have that of their output.
    pub name: &'static str,
    pub role: Role,
    /// How the device stores it, or for an original how it would.
    pub stored_as: &'static str,
    pub kind: Kind,
    pub shape: Vec<usize>,
    /// In C order, little-endian.
    pub bytes: Vec<u8>,
}

/// A cell with what was seen of it.
pub struct Dump {
    /// The verdict, over all output rows.
    pub row: Row,
    pub params: Vec<(&'static str, Param)>,
    /// Inputs and originals, then for each output what came back, its reference and its bound;
    /// none when the cell did not run.
    pub arrays: Vec<Array>,
    /// The device cannot be used any more.
    pub lost: bool,
}

impl Session {
    /// Compiles and runs a cell on one distribution and keeps every array. A cell is skipped when
    /// its arrays would take more than `limit_bytes`, or when its kernel is not verified on this
    /// distribution. `alive` is called as by [`Session::run`].
    pub fn dump(
        &self,
        cell: &Cell,
        distribution: Distribution,
        limit_bytes: u64,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Dump {
        let row = Item::from(cell.clone()).row(Status::Ok, None, self.checks().name());
        let (params, arrays) = (Vec::new(), Vec::new());
        let mut dump = Dump { row, params, arrays, lost: false };
        if let Err(error) = self.try_dump(cell, distribution, limit_bytes, &mut dump, alive) {
            dump.row.status = error.status;
            dump.row.reason = Some(error.reason);
            dump.lost = error.fatal;
        }
        dump
    }

    fn try_dump(
        &self,
        cell: &Cell,
        distribution: Distribution,
        limit_bytes: u64,
        dump: &mut Dump,
        alive: &mut dyn FnMut(&'static str, f64),
    ) -> Result<(), CellError> {
        if let Some(reason) = self.unsupported(cell) {
            return Err(CellError::new(Status::Unsupported, reason));
        }
        known(cell, distribution)?;
        cell.within_storage()?;
        let launch = cell.launch();
        let outputs = launch.outputs.iter().map(output_bytes).sum::<usize>();
        // Twice, because drawing the inputs of what is far too large already takes its time.
        within(outputs, limit_bytes)?;
        alive("drawing inputs", 0.0);
        let inputs = cell.inputs(distribution, self.seed);
        let uploaded = inputs.tensors.iter().chain(&inputs.originals).map(tensor_bytes);
        within(outputs + uploaded.sum::<usize>(), limit_bytes)?;
        alive("compiling", 0.0);
        let program = self.compile(cell, inputs.tensors.len(), self.checks())?;
        alive("running", 0.0);
        let set = self.gpu.allocate(&program, &inputs, &launch, &[])?;
        dump.row.device_bytes = Some(set.bytes);
        let steps = [Step { program, set }];
        self.gpu.run(&steps)?;
        let results = self.gpu.read(&steps[0].set)?;
        alive("computing the reference", reference_s(cell, f64::INFINITY));
        let scope =
            Scope { distributions: vec![distribution], flops: f64::INFINITY, seed: self.seed };
        let drawn = (distribution, noise(cell, distribution));
        let (finding, references) = examine_keeping(cell, &scope, drawn, &inputs, &results);
        dump.params = inputs.params.scalars().map(|(name, value)| (name, value.into())).collect();
        dump.arrays = arrays(&inputs, &launch.outputs, &results, &references);
        let (mut accuracy, mut failure) = summarise(&[finding], cell.is_empty());
        cell.note_given(&mut accuracy, &mut failure);
        if matches!(failure, Some(Failure::Unverified)) {
            // No finding: `check` judges all distributions of a kernel together, and one alone may
            // have wide bounds only, as integers have after a GELU.
            (accuracy.passed, failure) = (true, None);
            dump.row.reason = Some("no gate could have failed on these inputs alone".to_owned());
        }
        dump.row.accuracy = Some(accuracy);
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// Whether the kernel is verified on this distribution, which `check` would apply too.
fn known(cell: &Cell, distribution: Distribution) -> Result<(), CellError> {
    let known = cell.entry.kernel.spec().inputs;
    if cell.given.is_some() && distribution == Distribution::User {
        return Ok(());
    }
    if known.contains(&distribution) {
        return Ok(());
    }
    let names: Vec<&str> = known.iter().map(|known| known.name()).collect();
    let (name, names) = (distribution.name(), names.join(", "));
    let reason = format!("--inputs {name}: this kernel is verified on {names}");
    Err(CellError::new(Status::Skipped, reason))
}

fn within(bytes: usize, limit_bytes: u64) -> Result<(), CellError> {
    if bytes as u64 <= limit_bytes {
        return Ok(());
    }
    let (bytes, limit) = (Bytes(bytes as f64), Bytes(limit_bytes as f64));
    let reason = format!("its files take at least {bytes}, more than {limit}; --force writes them");
    Err(CellError::new(Status::Skipped, reason))
}

/// The output as stored, its reference and its bound.
fn output_bytes(buffer: &Buffer) -> usize {
    buffer.len() * (Kind::of(buffer.elem).bytes() + 2 * Kind::F64.bytes())
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.dims().iter().product::<usize>() * Kind::of(tensor.elem).bytes()
}

fn arrays(
    inputs: &Inputs,
    buffers: &[Buffer],
    results: &[Output],
    references: &[Array2<Tracked>],
) -> Vec<Array> {
    let uploaded = inputs.tensors.iter().map(|tensor| of_tensor(tensor, Role::Input));
    let originals = inputs.originals.iter().map(|tensor| of_tensor(tensor, Role::Original));
    let outputs = buffers.iter().zip(results).zip(references);
    let outputs = outputs.flat_map(|((buffer, result), reference)| {
        let shape = vec![buffer.rows, buffer.cols];
        let stored_as = buffer.elem.name();
        let wide = |role, of: fn(&Tracked) -> f64| Array {
            name: buffer.name,
            role,
            stored_as,
            kind: Kind::F64,
            shape: shape.clone(),
            bytes: reference.iter().flat_map(|element| of(element).to_le_bytes()).collect(),
        };
        let reference = wide(Role::Reference, |element| element.value);
        let bound = wide(Role::Bound, |element| element.worst);
        let bytes = unpacked(buffer.elem, &result.bytes, buffer.len());
        let kind = Kind::of(buffer.elem);
        let (name, role) = (buffer.name, Role::Output);
        [Array { name, role, stored_as, kind, shape, bytes }, reference, bound]
    });
    uploaded.chain(originals).chain(outputs).collect()
}

fn of_tensor(tensor: &Tensor, role: Role) -> Array {
    let len = tensor.dims().iter().product();
    Array {
        name: tensor.name,
        role,
        stored_as: tensor.elem.name(),
        kind: Kind::of(tensor.elem),
        shape: tensor.dims().to_vec(),
        bytes: unpacked(tensor.elem, &tensor.bytes(), len),
    }
}

impl From<Scalar> for Param {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Size(value) => Param::Size(value),
            Scalar::Real(value) => Param::Real(f64::from(value)),
        }
    }
}
