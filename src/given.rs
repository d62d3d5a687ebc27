//! Tensors that a user brought: values in the type of their file, and their conversion.

use std::sync::Arc;

use half::f16;
use rayon::prelude::*;

use crate::elem::Elem;
use crate::npy::Kind;
use crate::shape::Shape;

/// The tensors that take the place of generated ones in a cell.
#[derive(Clone, Debug)]
pub struct Given {
    pub tensors: Vec<GivenTensor>,
    /// The shape of the preset that they replace.
    pub preset_shape: Shape,
    /// Whether gates only report, because some value is not finite.
    pub report_only: bool,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct GivenTensor {
    /// What `--input` calls it.
    pub name: &'static str,
    /// What the kernel calls the tensor it draws.
    pub drawn_as: &'static str,
    pub tensor: Arc<FileTensor>,
}

/// What a user named, before it is known which kernels it goes to.
#[derive(Clone, Debug, Default)]
pub struct UserTensors {
    /// By the name of the input.
    pub list: Vec<(String, Arc<FileTensor>)>,
    /// Values that are not finite are taken, and gates only report.
    pub allow_nonfinite: bool,
}

impl Given {
    pub fn find(&self, drawn_as: &str) -> Option<&FileTensor> {
        let found = self.tensors.iter().find(|given| given.drawn_as == drawn_as);
        found.map(|given| &*given.tensor)
    }
}

/// An array as a file holds it, in C order.
#[derive(Clone, PartialEq, Eq)]
pub struct FileTensor {
    pub kind: Kind,
    pub dims: Vec<usize>,
    /// Little-endian, as many as the dimensions say.
    bytes: Vec<u8>,
}

/// Values never appear in messages.
impl std::fmt::Debug for FileTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.kind.descr(), self.dims)
    }
}

/// What a conversion cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    pub values: Vec<f32>,
    /// Signal over conversion error in dB; `None` where every value is exact.
    pub sqnr_db: Option<f64>,
    /// The same from errors spread evenly over the spacing of numbers, of those values that are not
    /// exact.
    pub predicted_sqnr_db: Option<f64>,
}

impl FileTensor {
    /// # Panics
    /// When the number of bytes is not that of the dimensions: a bug in a reader.
    pub fn new(kind: Kind, dims: Vec<usize>, bytes: Vec<u8>) -> Self {
        let len = dims.iter().product::<usize>() * kind.bytes();
        assert_eq!(bytes.len(), len, "bytes of {dims:?} {}", kind.descr());
        FileTensor { kind, dims, bytes }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Every value, exactly.
    pub fn values(&self) -> Vec<f64> {
        let each = self.kind.bytes();
        self.bytes.par_chunks_exact(each).map(|bytes| value(self.kind, bytes)).collect()
    }

    /// The first value that is infinite or not a number, or that f32 cannot hold: its flat index,
    /// the value, and how many there are.
    pub fn first_nonfinite(&self) -> Option<(usize, f64, usize)> {
        let values = self.values();
        let bad = |value: &f64| !(*value as f32).is_finite();
        let first = values.par_iter().position_first(bad)?;
        Some((first, values[first], values.par_iter().filter(|value| bad(value)).count()))
    }

    /// The values rounded once to the storage type, half to even.
    pub fn converted(&self, storage: Elem) -> Converted {
        let exact = self.values();
        let round = |&value: &f64| match storage {
            Elem::F16 => to_f16(value).to_f32(),
            _ => value as f32,
        };
        let values: Vec<f32> = exact.par_iter().map(round).collect();
        let (mut signal, mut error, mut predicted) = (0.0, 0.0, 0.0);
        for (&exact, &value) in exact.iter().zip(&values).filter(|(exact, _)| exact.is_finite()) {
            signal += exact * exact;
            let delta = f64::from(value) - exact;
            error += delta.powi(2);
            predicted += if delta == 0.0 { 0.0 } else { spacing(storage, exact).powi(2) / 12.0 };
        }
        let db = |noise: f64| (noise > 0.0).then(|| 10.0 * (signal / noise).log10());
        Converted { values, sqnr_db: db(error), predicted_sqnr_db: db(predicted) }
    }

    /// The first finite value that the storage type turns into an infinity.
    pub fn first_beyond(&self, storage: Elem) -> Option<f64> {
        let beyond = |value: &f64| value.is_finite() && to_f16(*value).is_infinite();
        (storage == Elem::F16).then(|| self.values().into_par_iter().find_first(beyond)).flatten()
    }
}

/// The distance between neighbours of a type around a value.
fn spacing(storage: Elem, value: f64) -> f64 {
    let (digits, least) = if storage == Elem::F16 { (10, -14) } else { (23, -126) };
    let exponent = value.abs().log2().floor().max(f64::from(least));
    (exponent - f64::from(digits)).exp2()
}

fn value(kind: Kind, bytes: &[u8]) -> f64 {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("as many bytes as the kind has")
    }
    match kind {
        Kind::F16 => f16::from_le_bytes(array(bytes)).to_f64(),
        Kind::F32 => f32::from_le_bytes(array(bytes)).into(),
        Kind::F64 => f64::from_le_bytes(array(bytes)),
        Kind::U32 => u32::from_le_bytes(array(bytes)).into(),
        Kind::I32 => i32::from_le_bytes(array(bytes)).into(),
        Kind::I8 => i8::from_le_bytes(array(bytes)).into(),
        Kind::U8 => bytes[0].into(),
    }
}

/// Rounds once. `f16::from_f64` drops the low half of the mantissa, so that a value just above a
/// tie would go down: on the way through f32 inexact values are made odd, which no tie is.
fn to_f16(value: f64) -> f16 {
    let near = value as f32;
    let back = f64::from(near);
    if back == value || !near.is_finite() {
        return f16::from_f32(near);
    }
    let below = if back.abs() > value.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f16::from_f32(f32::from_bits(below | 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubles(values: &[f64]) -> FileTensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        FileTensor::new(Kind::F64, vec![values.len()], bytes)
    }

    #[test]
    fn values_are_rounded_once_and_half_to_even() {
        let step = 2.0_f64.powi(-10);
        let (tie, next) = (1.0 + 0.5 * step, 1.0 + 1.5 * step);
        let tiny = 2.0_f64.powi(-40);
        let converted = doubles(&[tie, tie + tiny, tie - tiny, next, -next - tiny, 1e-8, 65_519.0])
            .converted(Elem::F16);
        let step = step as f32;
        let expected = [1.0, 1.0 + step, 1.0, 1.0 + 2.0 * step, -1.0 - 2.0 * step, 0.0, 65_504.0];
        assert_eq!(converted.values, expected);
        let single = doubles(&[1.0 + 2.0_f64.powi(-24), 1.0 + 3.0 * 2.0_f64.powi(-24)]);
        let expected = [1.0, 1.0 + 4.0 * f32::EPSILON / 2.0];
        assert_eq!(single.converted(Elem::F32).values, expected);
    }

    #[test]
    fn every_half_survives_and_neighbours_of_ties_go_their_way() {
        for bits in (0..0x7bff_u16).step_by(7) {
            let (low, high) = (f16::from_bits(bits), f16::from_bits(bits + 1));
            let (low64, high64) = (low.to_f64(), high.to_f64());
            assert_eq!(to_f16(low64), low);
            let tie = 0.5 * (low64 + high64);
            assert_eq!(to_f16(tie.next_down()), low, "{bits:#x}");
            assert_eq!(to_f16(tie.next_up()), high, "{bits:#x}");
            assert_eq!(to_f16(tie).to_bits() & 1, 0, "{bits:#x}");
        }
    }

    #[test]
    fn the_cost_of_a_conversion_is_its_own() {
        let exact = doubles(&[0.5, -3.0]).converted(Elem::F16);
        assert_eq!((exact.sqnr_db, exact.predicted_sqnr_db), (None, None));
        let normal = |index| f64::from(crate::rng::normal(1, 2, index));
        let many = doubles(&(0..4096).map(normal).collect::<Vec<f64>>()).converted(Elem::F16);
        let (got, said) = (many.sqnr_db.unwrap(), many.predicted_sqnr_db.unwrap());
        assert!((got - said).abs() < 0.2, "{got} dB, predicted {said}");
        let third = doubles(&[1.0 / 3.0]);
        let db = third.converted(Elem::F32).sqnr_db.expect("a third is not exact");
        assert!((150.0..170.0).contains(&db), "{db}");
        assert!(third.converted(Elem::F16).sqnr_db.expect("nor in f16") < 80.0);
    }

    #[test]
    fn what_no_type_holds_is_found() {
        assert_eq!(doubles(&[1.0, 1e39, f64::NAN]).first_nonfinite(), Some((1, 1e39, 2)));
        assert_eq!(doubles(&[1.0, 1e38]).first_nonfinite(), None);
        assert_eq!(doubles(&[1.0, 7e4]).first_beyond(Elem::F16), Some(7e4));
        assert_eq!(doubles(&[1.0, 7e4]).first_beyond(Elem::F32), None);
        assert_eq!(doubles(&[65_504.0]).first_beyond(Elem::F16), None);
    }
}
