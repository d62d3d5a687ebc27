//! The error of a sum whose terms pass through at most a declared number of additions.

use super::scalar::Scalar;
use super::tracked::{MIN_NORMAL_F16, MIN_NORMAL_F32, Tracked, UNIT_F16, UNIT_F32};
use crate::kernel::Elem;

/// What a sum is kept in.
#[derive(Clone, Copy)]
struct Precision {
    unit: f64,
    min_normal: f64,
    /// Bits of the significand, and the exponent of the smallest normal number.
    digits: i32,
    lowest: i32,
}

impl Precision {
    const F32: Precision =
        Precision { unit: UNIT_F32, min_normal: MIN_NORMAL_F32, digits: 24, lowest: -126 };
    const F16: Precision =
        Precision { unit: UNIT_F16, min_normal: MIN_NORMAL_F16, digits: 11, lowest: -14 };

    fn of(elem: Elem) -> Self {
        if elem == Elem::F16 { Precision::F16 } else { Precision::F32 }
    }
}

/// A running partial sum: its value, and the square it would have if the terms came in random
/// order. The larger of the two squares sizes the rounding error, so that an order whose partial
/// sums happen to cancel does not promise more than the device's own order can keep.
#[derive(Clone, Copy, Default)]
struct Partial {
    sum: f64,
    squares: f64,
}

impl Partial {
    fn joined(self, other: Partial) -> Partial {
        Partial { sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    /// Variance of the rounding of this partial sum.
    fn rounding(self, unit: f64) -> f64 {
        let size = (self.sum * self.sum).max(self.squares);
        unit * unit * size / 12.0
    }
}

/// Levels of the merge tree: enough for 2^40 blocks.
const LEVELS: usize = 40;

/// Sums blocks of consecutive terms one after the other and merges the blocks pairwise: the
/// reduction whose depth is at most the declared one.
pub(super) struct Accumulator {
    precision: Precision,
    block_len: usize,
    levels: [Option<Partial>; LEVELS],
    block: Partial,
    in_block: usize,
    worst: f64,
    magnitude: f64,
    variance: f64,
    exactness: Exactness,
}

impl Accumulator {
    /// For a sum kept in `elem`.
    pub fn new(terms: usize, depth: usize, elem: Elem) -> Self {
        Accumulator {
            precision: Precision::of(elem),
            block_len: block_len(terms, depth),
            levels: [None; LEVELS],
            block: Partial::default(),
            in_block: 0,
            worst: 0.0,
            magnitude: 0.0,
            variance: 0.0,
            exactness: Exactness::default(),
        }
    }

    pub fn run(mut self, terms: impl Iterator<Item = Tracked>, depth: usize) -> Tracked {
        terms.for_each(|term| self.push(term));
        self.close_block();
        let total = self.merge_all();
        let Precision { unit, min_normal, .. } = self.precision;
        if self.worst == 0.0 && self.exactness.holds(self.magnitude, self.precision) {
            return Tracked::exact(total.sum);
        }
        let h = depth as f64 * unit;
        // Both bound (1 + unit)^depth - 1, the second one also where the first has no value.
        let growth = if h < 0.5 { h / (1.0 - h) } else { (depth as f64 * unit.ln_1p()).exp_m1() };
        let flush = if self.magnitude < min_normal { min_normal } else { 0.0 };
        Tracked {
            value: total.sum,
            worst: self.worst + growth * (self.magnitude + self.worst) + flush,
            variance: self.variance,
        }
    }

    fn push(&mut self, term: Tracked) {
        self.worst += term.worst;
        self.magnitude += term.value.abs();
        self.variance += term.variance;
        if self.worst == 0.0 {
            self.exactness.see(term.value);
        }
        let first = self.in_block == 0;
        self.block =
            self.block.joined(Partial { sum: term.value, squares: term.value * term.value });
        if !first {
            self.variance += self.block.rounding(self.precision.unit);
        }
        self.in_block += 1;
        if self.in_block == self.block_len {
            self.close_block();
        }
    }

    /// Carries the finished block up the tree like a binary counter.
    fn close_block(&mut self) {
        if self.in_block == 0 {
            return;
        }
        let mut carry = std::mem::take(&mut self.block);
        self.in_block = 0;
        for level in &mut self.levels {
            match level.take() {
                None => {
                    *level = Some(carry);
                    return;
                }
                Some(earlier) => {
                    carry = earlier.joined(carry);
                    self.variance += carry.rounding(self.precision.unit);
                }
            }
        }
    }

    fn merge_all(&mut self) -> Partial {
        let levels = self.levels;
        let mut parts = levels.into_iter().flatten();
        let Some(first) = parts.next() else { return Partial::default() };
        parts.fold(first, |sum, part| {
            let joined = sum.joined(part);
            self.variance += joined.rounding(self.precision.unit);
            joined
        })
    }
}

/// The longest block whose sequential sum followed by a pairwise merge stays within the depth;
/// a pairwise sum where nothing does.
fn block_len(terms: usize, depth: usize) -> usize {
    let fits = |len: usize| {
        let levels = terms.div_ceil(len).max(1).next_power_of_two().trailing_zeros() as usize;
        len - 1 + levels <= depth
    };
    if fits(terms.max(1)) {
        return terms.max(1);
    }
    let mut len = terms.next_power_of_two();
    while len > 1 && !fits(len) {
        len /= 2;
    }
    len
}

/// Whether a sum of exactly known terms is exact in every order: all terms are multiples of one
/// power of two and the sum of magnitudes stays within 2^24 of it, 2^11 in f16.
#[derive(Default)]
struct Exactness {
    /// Exponent of the lowest set bit over all terms; `None` before the first non-zero one.
    lowest_bit: Option<i32>,
}

impl Exactness {
    /// Whether the sum of these terms is exact; most that are not show it within a few terms.
    fn of(mut terms: impl Iterator<Item = f64>, magnitude: f64, precision: Precision) -> bool {
        let mut exactness = Exactness::default();
        terms.all(|term| {
            let before = exactness.lowest_bit;
            exactness.see(term);
            exactness.lowest_bit == before || exactness.holds(magnitude, precision)
        })
    }

    fn see(&mut self, value: f64) {
        if value == 0.0 {
            return;
        }
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32 - 1075;
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let bit = exponent + mantissa.trailing_zeros() as i32;
        self.lowest_bit = Some(self.lowest_bit.map_or(bit, |known| known.min(bit)));
    }

    fn holds(&self, magnitude: f64, precision: Precision) -> bool {
        self.lowest_bit.is_none_or(|bit| {
            bit >= precision.lowest && magnitude <= f64::from(bit + precision.digits).exp2()
        })
    }
}

/// The sum of the products of exactly known factors, each rounded once, one after the other; `None`
/// where the general way is needed: another order, or products that are exact unless they are
/// flushed. What [`Accumulator`] would give, in a tenth of the time, because most references spend
/// nearly all of it on dot products.
pub(super) fn sequential_dot(
    pairs: impl ExactSizeIterator<Item = (f32, f32)> + Clone,
    depth: usize,
) -> Option<Tracked> {
    if depth + 1 < pairs.len() {
        return None;
    }
    let products = pairs.clone().map(|(a, b)| f64::from(a) * f64::from(b));
    let first = products.clone().next()?;
    let (mut sum, mut squares, mut magnitude) = (0.0_f64, 0.0_f64, 0.0_f64);
    let (mut worst, mut product_noise, mut sum_noise) = (0.0_f64, 0.0_f64, 0.0_f64);
    for product in products.clone() {
        let size = product.abs();
        let flush = if size < MIN_NORMAL_F32 { MIN_NORMAL_F32 } else { 0.0 };
        let exact = f64::from(product as f32) == product;
        let step = if exact { 0.0 } else { UNIT_F32 * size + flush };
        worst += step;
        product_noise += step * step;
        magnitude += size;
        squares += product * product;
        sum += product;
        sum_noise += (sum * sum).max(squares);
    }
    if worst == 0.0 {
        let is_tiny = |(a, b): (f32, f32)| {
            let product = (f64::from(a) * f64::from(b)).abs();
            a.is_subnormal() || b.is_subnormal() || (product > 0.0 && product < MIN_NORMAL_F32)
        };
        if pairs.clone().any(is_tiny) {
            return None;
        }
        if Exactness::of(products, magnitude, Precision::F32) {
            return Some(Tracked::exact(sum));
        }
    }
    // The first product is added to nothing.
    sum_noise -= first * first;
    let h = depth as f64 * UNIT_F32;
    let growth = if h < 1.0 { h / (1.0 - h) } else { f64::INFINITY };
    let flush = if magnitude < MIN_NORMAL_F32 { MIN_NORMAL_F32 } else { 0.0 };
    Some(Tracked {
        value: sum,
        worst: worst + growth * (magnitude + worst) + flush,
        variance: (product_noise + UNIT_F32 * UNIT_F32 * sum_noise) / 12.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_dot_product_tracks_what_the_general_one_does() {
        let term =
            |i: u32| ((i * 7919 % 2003) as f32 / 1001.0 - 1.0, (i * 37 % 101 + 1) as f32 / 77.0);
        for n in [2, 31, 257, 4096] {
            let pairs: Vec<(f32, f32)> = (0..n).map(term).collect();
            let exact = |value: f32| Tracked::exact(f64::from(value));
            let terms = pairs.iter().map(|&(a, b)| exact(a) * exact(b));
            let slow = Tracked::sum(terms, pairs.len());
            let fast = Tracked::dot(pairs.iter().copied(), pairs.len());
            assert_eq!(fast.value, slow.value, "{n}");
            assert!((fast.worst / slow.worst - 1.0).abs() < 1e-9, "{n}: {fast:?} {slow:?}");
            assert!((fast.variance / slow.variance - 1.0).abs() < 1e-9, "{n}: {fast:?} {slow:?}");
        }
    }

    #[test]
    fn exact_products_are_summed_as_the_general_way_sums_them() {
        let half = |i: usize| f32::from(half::f16::from_f32((i * 7919 % 2003) as f32 / 999.0));
        let integer = |i: usize| (i * 37 % 31) as f32 - 15.0;
        let one = |i: usize| if i == 0 { 4097.0 } else { 1.0 };
        // Exact, but devices may flush the factor, or the product.
        let subnormal = |i: usize| if i == 0 { f32::from_bits(1) } else { 1.0 };
        let tiny = |i: usize| if i.is_multiple_of(2) { 2_f32.powi(-70) } else { 1.0 };
        for n in [1, 2, 3, 31, 257, 4096] {
            let draws: [&dyn Fn(usize) -> f32; 6] =
                [&half, &integer, &one, &subnormal, &tiny, &|_| 0.0];
            for of in draws {
                let pairs: Vec<(f32, f32)> = (0..n).map(|i| (of(i), of(n - 1 - i))).collect();
                let exact = |value: f32| Tracked::exact(f64::from(value));
                let terms = pairs.iter().map(|&(a, b)| exact(a) * exact(b));
                let slow = Tracked::sum(terms, n);
                let fast = Tracked::dot(pairs.into_iter(), n);
                assert_eq!((fast.value, fast.worst), (slow.value, slow.worst), "{n}");
                let close = (fast.variance - slow.variance).abs() <= 1e-9 * slow.variance;
                assert!(close, "{n}: {fast:?} {slow:?}");
            }
        }
        let integers = [(3.0, 2.0), (-5.0, 7.0)];
        assert_eq!(Tracked::dot(integers.into_iter(), 2), Tracked::exact(-29.0));
    }

    #[test]
    fn sums_in_f16_are_exact_up_to_2048_and_else_have_the_bound_of_f16() {
        let of = |n: usize, value: f32| {
            Tracked::dot_in(Elem::F16, std::iter::repeat_n((value, 1.0), n), n)
        };
        assert_eq!(of(2048, 1.0), Tracked::exact(2048.0));
        assert!(of(2049, 1.0).worst > 0.0);
        let (short, long) = (of(100, 0.1), of(1024, 0.1));
        assert!((1.0..2.0).contains(&(short.worst / (110.0 * UNIT_F16 * short.value))));
        assert!((1.7..2.0).contains(&(long.worst / long.value)), "{long:?}");
        // An f32 sum of the same products is what it always was.
        let pairs = [(0.1, 0.3); 31];
        let of = |elem| Tracked::dot_in(elem, pairs.into_iter(), 31);
        assert_eq!(of(Elem::F32), Tracked::dot(pairs.into_iter(), 31));
        assert!(of(Elem::F16).worst > 5e3 * of(Elem::F32).worst);
    }

    #[test]
    fn blocks_keep_the_declared_depth() {
        for (terms, depth) in [(1408, 28), (1408, 1408), (30, 30), (4096, 70), (1, 1), (5, 3)] {
            let len = block_len(terms, depth);
            let blocks = terms.div_ceil(len);
            let levels = blocks.next_power_of_two().trailing_zeros() as usize;
            assert!(
                len - 1 + levels <= depth.max(levels),
                "{terms} terms in {depth}: blocks of {len}"
            );
        }
    }
}
