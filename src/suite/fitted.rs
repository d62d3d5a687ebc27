//! Cells whose shape and data come from a user's tensors.

use std::collections::HashSet;

use super::cell::Cell;
use super::session::CellError;
use super::verify::Failure;
use crate::accuracy::{Noise, Rule};
use crate::given::{FileTensor, Given, GivenTensor, UserTensors};
use crate::kernel::Elem;
use crate::operands::{Misfit, Operand, Sized};
use crate::record::{Accuracy, ConvertedInput, Status};

/// A row is zero-mean when its mean is within this share of its deviation…
const MEAN_SHARE: f64 = 0.1;
/// …and what chance adds, in standard errors.
const MEAN_ERRORS: f64 = 3.0;
/// Values looked at for whether they are many different ones, and how many of them have to be.
const DISTINCT_SAMPLE: usize = 4096;
const DISTINCT_SHARE: usize = 4;

impl Cell {
    /// The same with the tensors of a user and the shape they make; `None` where the option of
    /// this shape is about generated values.
    ///
    /// # Errors
    /// When the kernel takes no such tensors, or they do not fit together.
    pub fn fitted(&self, tensors: &UserTensors) -> Result<Option<Cell>, Misfit> {
        let operands = self.entry.kernel.spec().operands;
        let name = self.entry.name;
        let found = tensors
            .list
            .iter()
            .map(|(name_of, tensor)| Ok((operands.find(name, name_of)?, tensor.clone())));
        let found = found.collect::<Result<Vec<_>, Misfit>>()?;
        found.iter().try_for_each(|(operand, tensor)| within_domain(name, operand, tensor))?;
        let used: Vec<&Operand> = found.iter().map(|(operand, _)| *operand).collect();
        if !operands.suit(self.shape.option(), &used) {
            return Ok(None);
        }
        let sized: Vec<Sized> =
            found.iter().map(|(operand, tensor)| (*operand, tensor.dims.as_slice())).collect();
        let shape = operands.fit(name, &self.shape, &sized)?;
        let tensors_of = found.into_iter().map(|(operand, tensor)| GivenTensor {
            name: operand.name,
            drawn_as: operand.tensor,
            tensor,
        });
        let given = Given {
            tensors: tensors_of.collect(),
            preset_shape: self.shape.clone(),
            report_only: tensors.allow_nonfinite,
        };
        Ok(Some(Cell { shape, given: Some(given), ..self.clone() }))
    }

    /// The id of the preset's cell that was fitted.
    pub fn fitted_from(&self) -> Option<String> {
        let shape = self.given.as_ref()?.preset_shape.clone();
        Some(Cell { shape, given: None, ..self.clone() }.id())
    }

    /// Refuses tensors with values that the storage type of the cell does not hold.
    pub(super) fn within_storage(&self) -> Result<(), CellError> {
        let storage = self.storage();
        let given = self.given.iter().flat_map(|given| &given.tensors);
        let mut beyond = given.filter(|given| given.tensor.first_beyond(storage).is_some());
        let Some(GivenTensor { name, .. }) = beyond.next() else { return Ok(()) };
        let reason = format!("`{name}` holds values beyond 65,504, the largest f16: scale it");
        Err(CellError::new(Status::Skipped, reason))
    }

    /// Adds what the conversion of given tensors cost, and lets gates only report where asked to:
    /// writing past the end of an output stays wrong.
    pub(super) fn note_given(&self, accuracy: &mut Accuracy, failure: &mut Option<Failure>) {
        let Some(given) = &self.given else { return };
        let storage = self.storage();
        let note = |given: &GivenTensor| {
            let converted = given.tensor.converted(storage);
            ConvertedInput {
                input: given.name.to_owned(),
                from: given.tensor.kind.name().to_owned(),
                to: storage.name().to_owned(),
                sqnr_db: converted.sqnr_db,
                predicted_sqnr_db: converted.predicted_sqnr_db,
            }
        };
        accuracy.converted = given.tensors.iter().map(note).collect();
        accuracy.report_only = given.report_only;
        let overrun =
            accuracy.failed_by.as_ref().is_some_and(|by| by.rule == Rule::GuardBand.name());
        if given.report_only && !overrun {
            *failure = None;
        }
    }
}

/// Refuses values that the kernel has no meaning for.
fn within_domain(kernel: &str, operand: &Operand, tensor: &FileTensor) -> Result<(), Misfit> {
    if !operand.nonnegative || tensor.values().iter().all(|&value| value >= 0.0) {
        return Ok(());
    }
    let name = operand.name;
    Err(Misfit {
        problem: format!("--input {name}: some values are below zero"),
        expected: format!("{name} of {kernel} is a weight or a variance, at least 0"),
        next: format!("give other values, or leave {name} out: it is then generated"),
    })
}

/// How the rounding errors on a user's data behave. What was computed before need not have
/// independent roundings, so the likely largest error is never held against it; the RMS error is,
/// where rows are zero-mean and values many.
pub fn user_noise(given: &Given, storage: Elem) -> Noise {
    let regular = |given: &GivenTensor| {
        let values = given.tensor.converted(storage).values;
        let width = given.tensor.dims.last().copied().unwrap_or(1);
        are_distinct(&values) && values.chunks(width).all(is_zero_mean)
    };
    // A vector is added or multiplied once in every element.
    let matrices = given.tensors.iter().filter(|given| given.tensor.dims.len() > 1);
    if matrices.into_iter().all(regular) { Noise::Dependent } else { Noise::Repeating }
}

fn are_distinct(values: &[f32]) -> bool {
    let step = values.len().div_ceil(DISTINCT_SAMPLE).max(1);
    let sample: Vec<u32> = values.iter().step_by(step).map(|value| value.to_bits()).collect();
    let distinct: HashSet<u32> = sample.iter().copied().collect();
    DISTINCT_SHARE * distinct.len() >= sample.len()
}

fn is_zero_mean(row: &[f32]) -> bool {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    mean.abs() <= (MEAN_SHARE + MEAN_ERRORS / n.sqrt()) * variance.sqrt()
}

#[cfg(test)]
#[path = "fitted_tests.rs"]
mod tests;
