//! The rule that turns numbers into codes, on the host: it feeds the kernels that work on codes,
//! and predicts how far from full precision they stay.

use ndarray::{Array2, ArrayView2, Ix2};
use rayon::prelude::*;

use crate::inputs::{Inputs, Params, Tensor};
use crate::kernel::{Answer, Elem, Problem, Shape, Uncompressed, Variant};
use crate::reference::{Rows, by_rows};

/// Largest absolute maximum that counts as zero: below it a scale would leave the normal range of
/// f32, where a device may flush it to zero and then divide by it.
pub const LEAST: f32 = 1.5e-36;
/// Fewer independent elements than this let the measured noise stray more than the slack of the
/// gate from its expectation: the squared error of one rounding has a relative deviation of 0.9.
const LEAST_ELEMENTS: usize = 1024;

/// Which elements share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Tensor,
    Row,
    /// A column.
    Channel,
    /// So many consecutive elements of a row, the last group of a row as long as what is left.
    Group(usize),
}

impl Span {
    /// By the tag of the shape; rows where it says nothing.
    pub fn of(shape: &Shape) -> Self {
        match shape.option().map(|tag| tag.trim_end_matches("_gelu")) {
            Some("tensor" | "fixed") => Span::Tensor,
            Some("channel") => Span::Channel,
            Some("group32" | "zeros") => Span::Group(32),
            Some("group64") => Span::Group(64),
            Some("group128") => Span::Group(128),
            _ => Span::Row,
        }
    }

    /// Rows and columns of the scales of an `m × k` tensor.
    pub fn dims(self, m: usize, k: usize) -> (usize, usize) {
        match self {
            Span::Tensor => (1, 1),
            Span::Row => (m, 1),
            Span::Channel => (1, k),
            Span::Group(length) => (m, k.div_ceil(length)),
        }
    }

    /// Where the scale of an element is.
    pub fn place(self, row: usize, col: usize) -> (usize, usize) {
        match self {
            Span::Tensor => (0, 0),
            Span::Row => (row, 0),
            Span::Channel => (0, col),
            Span::Group(length) => (row, col / length),
        }
    }
}

/// The same strategy with floating-point tensors stored as f16.
pub const fn half(name: &'static str, variant: Variant) -> Variant {
    Variant { name, float: Elem::F16, ..variant }
}

/// The entry point of a strategy in either storage.
pub fn entry(variant: &Variant) -> &'static str {
    variant.name.trim_end_matches("_f16")
}

/// Codes that fill whole words in every row.
pub fn padded(k: usize, elem: Elem) -> usize {
    k.next_multiple_of(32 / elem.bits())
}

/// A matrix as codes and scales.
pub struct Coded {
    /// `m × padded(k)`, zero beyond column k.
    pub codes: Vec<i8>,
    pub scales: Array2<f32>,
}

/// Symmetric codes: s = absmax/limit, q = round(x/s), a span of zeros getting scale 1. `limit` is
/// 127 for int8 and 7 for int4; scales are stored as `storage`.
pub fn quantise(x: ArrayView2<f32>, span: Span, elem: Elem, storage: Elem) -> Coded {
    let (m, k) = x.dim();
    let limit = limit(elem);
    let mut peaks = Array2::<f32>::zeros(span.dims(m, k));
    for ((row, col), value) in x.indexed_iter() {
        let peak = &mut peaks[span.place(row, col)];
        *peak = peak.max(value.abs());
    }
    let least = least(elem, storage);
    let scales = peaks.mapv(|peak| if peak < least { 1.0 } else { storage.round(peak / limit) });
    let width = padded(k, elem);
    let mut codes = vec![0_i8; m * width];
    for ((row, col), &value) in x.indexed_iter() {
        let steps = value / scales[span.place(row, col)];
        codes[row * width + col] = steps.round_ties_even().clamp(-limit, limit) as i8;
    }
    Coded { codes, scales }
}

/// Largest code of a symmetric type.
pub fn limit(elem: Elem) -> f32 {
    if elem == Elem::I4 { 7.0 } else { 127.0 }
}

/// The absolute maximum below which a span counts as zero when its scale is stored as `storage`.
pub fn least(elem: Elem, storage: Elem) -> f32 {
    // 7 · 2^-14, the smallest normal f16.
    if storage == Elem::F16 && elem == Elem::I4 { 7.0 / 16_384.0 } else { LEAST }
}

/// Floating-point tensors, to be looked at before they are handed over as originals.
pub fn originals(tensors: Vec<Tensor>) -> Inputs {
    Inputs::new(Params::new(), tensors)
}

/// A tensor of scales.
pub fn scale_tensor(name: &'static str, storage: Elem, scales: &Array2<f32>) -> Tensor {
    let dims = [scales.nrows(), scales.ncols()];
    Tensor::floats(name, storage, &dims, scales.iter().copied().collect())
}

/// What a tensor and its codes are made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Power {
    /// Σx².
    signal: f64,
    /// The Σs²/12 that rounding evenly spread over a step adds.
    noise: f64,
    /// Elements that noise is added to, and those of them whose code is 0.
    elements: usize,
    zeros: usize,
}

impl Power {
    fn of(value: f32, scale: f32) -> Self {
        let signal = f64::from(value).powi(2);
        // The zeros of a span of zeros are exact.
        if value == 0.0 && scale == 1.0 {
            return Power { signal, ..Power::default() };
        }
        let zeros = usize::from(value.abs() < 0.5 * scale);
        Power { signal, noise: f64::from(scale).powi(2) / 12.0, elements: 1, zeros }
    }

    fn plus(self, other: Power) -> Self {
        Power {
            signal: self.signal + other.signal,
            noise: self.noise + other.noise,
            elements: self.elements + other.elements,
            zeros: self.zeros + other.zeros,
        }
    }
}

/// The power of the chosen rows under their scales.
pub fn power(x: ArrayView2<f32>, scales: ArrayView2<f32>, span: Span, rows: &[usize]) -> Power {
    let of = |row: usize| {
        let values = x.row(row).into_iter().enumerate();
        let each = values.map(|(col, &value)| Power::of(value, scales[span.place(row, col)]));
        each.fold(Power::default(), Power::plus)
    };
    rows.par_iter().map(|&row| of(row)).reduce(Power::default, Power::plus)
}

/// Noise over signal of a tensor; not a number where most codes are 0, whose errors are not spread
/// evenly over a step.
pub fn noise_ratio(Power { signal, noise, elements, zeros }: Power) -> f64 {
    if noise == 0.0 {
        0.0
    } else if 2 * zeros > elements {
        f64::NAN
    } else {
        noise / signal
    }
}

/// What a quantiser gave on the device.
pub struct Codes<'a> {
    pub codes: &'a Answer<'a>,
    pub scales: &'a Answer<'a>,
    pub points: Option<&'a Answer<'a>>,
}

/// The rows of `x` beside what its codes stand for, and what their scales promise.
pub fn restored(problem: &Problem, rows: &Rows, span: Span, given: &Codes) -> Option<Uncompressed> {
    let x = problem.inputs.float::<Ix2>("x");
    let (m, k) = x.dim();
    let scales = given.scales.values().into_iter().map(|scale| scale as f32).collect();
    let scales = Array2::from_shape_vec(span.dims(m, k), scales).ok()?;
    // There is a zero point for each scale.
    let points = given.points.map(Answer::values);
    let points = points.map(|points| Array2::from_shape_vec(span.dims(m, k), points));
    let points = points.transpose().ok()?;
    let output = by_rows(rows, m, k, |row, mut y| {
        y.iter_mut().zip(x.row(row)).for_each(|(y, &x)| *y = f64::from(x));
    });
    let restored = by_rows(rows, m, k, |row, mut y| {
        for (col, (y, code)) in y.iter_mut().zip(given.codes.row(row)).enumerate() {
            let place = span.place(row, col);
            let zero = points.as_ref().map_or(0.0, |points| points[place]);
            *y = (code - zero) * f64::from(scales[place]);
        }
    });
    let noise = noise_ratio(power(x, scales.view(), span, &rows.of(m)));
    // A scale that was fixed beforehand promises nothing about what lies beyond its range.
    let fixed = problem.shape.option() == Some("fixed");
    let predicted_sqnr_db = if fixed { None } else { sqnr_db(noise, output.len()) };
    Some(Uncompressed { output, restored: Some(restored), predicted_sqnr_db })
}

/// Power along k: what each column of a matrix has, and what rounding adds to it.
pub struct Columns {
    signal: Vec<f64>,
    noise: Vec<f64>,
    total: Power,
}

impl Columns {
    /// The chosen rows of a matrix, with the scales of its codes where it has any.
    pub fn of(x: ArrayView2<f32>, scales: Option<(ArrayView2<f32>, Span)>, rows: &[usize]) -> Self {
        let none = || vec![Power::default(); x.ncols()];
        let add = |mut columns: Vec<Power>, &row: &usize| {
            for (col, (column, &value)) in columns.iter_mut().zip(x.row(row)).enumerate() {
                let scale = scales.map_or(0.0, |(scales, span)| scales[span.place(row, col)]);
                *column = column.plus(Power::of(value, scale));
            }
            columns
        };
        let join = |a: Vec<Power>, b: Vec<Power>| {
            a.into_iter().zip(b).map(|(a, b)| a.plus(b)).collect::<Vec<Power>>()
        };
        let columns = rows.par_iter().fold(none, add).reduce(none, join);
        Columns {
            signal: columns.iter().map(|column| column.signal).collect(),
            noise: columns.iter().map(|column| column.noise).collect(),
            total: columns.into_iter().fold(Power::default(), Power::plus),
        }
    }

    /// Σ over all elements of a · wᵀ of the squared error that both roundings make in it: they add
    /// up along k, weighed by what they are multiplied with. Not a number as in [`noise_ratio`].
    pub fn product_noise(&self, w: &Columns) -> f64 {
        if noise_ratio(self.total).is_nan() || noise_ratio(w.total).is_nan() {
            return f64::NAN;
        }
        let columns = self.signal.iter().zip(&self.noise).zip(w.signal.iter().zip(&w.noise));
        columns.map(|((a, da), (w, dw))| a * dw + da * w + da * dw).sum()
    }
}

/// Signal over noise in dB; `None` where there is no noise, or too few elements to see it.
pub fn sqnr_db(noise_over_signal: f64, elements: usize) -> Option<f64> {
    (noise_over_signal > 0.0 && elements >= LEAST_ELEMENTS)
        .then(|| -10.0 * noise_over_signal.log10())
        .filter(|db| db.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn gaussian(m: usize, k: usize, stream: u32) -> Array2<f32> {
        Array2::from_shape_fn((m, k), |(i, j)| rng::normal(3, stream, (i * k + j) as u32))
    }

    fn restored(x: &Array2<f32>, span: Span, elem: Elem) -> (Array2<f64>, f64) {
        let coded = quantise(x.view(), span, elem, Elem::F32);
        let width = padded(x.ncols(), elem);
        let back = Array2::from_shape_fn(x.dim(), |(i, j)| {
            f64::from(coded.codes[i * width + j]) * f64::from(coded.scales[span.place(i, j)])
        });
        let rows: Vec<usize> = (0..x.nrows()).collect();
        (back, noise_ratio(power(x.view(), coded.scales.view(), span, &rows)))
    }

    fn measured_db(exact: &Array2<f64>, got: &Array2<f64>) -> f64 {
        let error = (exact - got).mapv(|d| d * d).sum();
        10.0 * (exact.mapv(|x| x * x).sum() / error).log10()
    }

    #[test]
    fn the_predicted_sqnr_is_what_gaussian_tensors_show() {
        let x = gaussian(256, 1024, 1);
        let exact = x.mapv(f64::from);
        for elem in [Elem::I8, Elem::I4] {
            for span in [Span::Tensor, Span::Row, Span::Channel, Span::Group(32), Span::Group(128)]
            {
                let (back, ratio) = restored(&x, span, elem);
                let (got, said) = (measured_db(&exact, &back), sqnr_db(ratio, x.len()).unwrap());
                assert!((got - said).abs() < 0.5, "{elem:?} {span:?}: {got} dB, said {said}");
            }
        }
    }

    #[test]
    fn the_predicted_sqnr_is_what_products_show() {
        let (mut a, w) = (gaussian(96, 1024, 1), gaussian(128, 1024, 2));
        let product = |a: &Array2<f64>, w: &Array2<f64>| a.dot(&w.t());
        for correlated in [false, true] {
            // As in a model: rows have much in common, and some columns are large.
            if correlated {
                let common = w.row(0).to_owned() + w.row(1);
                a.rows_mut().into_iter().for_each(|mut row| row += &common);
                (0..1024).step_by(100).for_each(|col| a.column_mut(col).mapv_inplace(|x| 5.0 * x));
            }
            let exact = product(&a.mapv(f64::from), &w.mapv(f64::from));
            for (left, right, elem) in [
                (Some(Span::Row), Span::Row, Elem::I8),
                (None, Span::Group(128), Elem::I4),
                (None, Span::Group(32), Elem::I4),
            ] {
                let columns = |x: &Array2<f32>, span: Option<Span>| {
                    let coded = span.map(|span| (quantise(x.view(), span, elem, Elem::F32), span));
                    let scales = coded.as_ref().map(|(coded, span)| (coded.scales.view(), *span));
                    Columns::of(x.view(), scales, &(0..x.nrows()).collect::<Vec<_>>())
                };
                let rows = left.map_or(a.mapv(f64::from), |span| restored(&a, span, elem).0);
                let got = measured_db(&exact, &product(&rows, &restored(&w, right, elem).0));
                let noise = columns(&a, left).product_noise(&columns(&w, Some(right)));
                let signal = exact.iter().map(|x| x * x).sum::<f64>();
                let said = sqnr_db(noise / signal, exact.len()).expect("many elements");
                assert!((got - said).abs() < 0.5, "{elem:?} {right:?}: {got} dB, said {said}");
            }
        }
    }

    #[test]
    fn codes_of_restored_values_are_the_same_and_no_value_moves_by_more_than_half_a_step() {
        let mut x = gaussian(5, 131, 4);
        x.row_mut(2).fill(0.0);
        for (elem, span) in [(Elem::I8, Span::Row), (Elem::I4, Span::Group(32))] {
            let coded = quantise(x.view(), span, elem, Elem::F32);
            let (back, _) = restored(&x, span, elem);
            for ((at, &value), &restored) in x.indexed_iter().zip(&back) {
                let step = f64::from(coded.scales[span.place(at.0, at.1)]);
                assert!((f64::from(value) - restored).abs() <= 0.5 * step * (1.0 + 1e-5));
            }
            let again = quantise(back.mapv(|x| x as f32).view(), span, elem, Elem::F32);
            assert_eq!(again.codes, coded.codes);
            let width = padded(131, elem);
            assert!(coded.codes[2 * width..3 * width].iter().all(|&code| code == 0));
            assert_eq!(coded.scales[span.place(2, 0)], 1.0);
        }
    }
}
