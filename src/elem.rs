//! Element types of device buffers, and how their values become bytes and back.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Values that are converted in one call.
const AT_ONCE: usize = 1024;

/// The element type of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    F32,
    F16,
    U32,
    I32,
    /// Signed codes, four to a word, lowest byte first.
    I8,
    /// Signed codes, eight to a word, lowest nibble first.
    I4,
    /// Signed codes of four bits as a word without sign bits: byte i holds code i plus 8 and, above
    /// it, code i + 4 plus 8. Weights are laid out so once, so that a kernel unpacks bytes and
    /// shifts nothing but the whole word.
    I4Split,
    /// Unsigned codes, sixteen to a word, lowest bits first.
    U2,
}

impl Elem {
    pub fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::U32 => "u32",
            Elem::I32 => "i32",
            Elem::I8 => "i8",
            Elem::I4 => "i4",
            Elem::I4Split => "i4_split",
            Elem::U2 => "u2",
        }
    }

    pub fn bits(self) -> usize {
        match self {
            Elem::F32 | Elem::U32 | Elem::I32 => 32,
            Elem::F16 => 16,
            Elem::I8 => 8,
            Elem::I4 | Elem::I4Split => 4,
            Elem::U2 => 2,
        }
    }

    /// Bytes that `len` elements take; packed codes fill whole words.
    pub fn bytes_of(self, len: usize) -> usize {
        match self {
            Elem::I8 | Elem::I4 | Elem::I4Split | Elem::U2 => (len * self.bits()).div_ceil(32) * 4,
            Elem::F32 | Elem::F16 | Elem::U32 | Elem::I32 => len * self.bits() / 8,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Elem::F32 | Elem::F16)
    }

    /// The nearest value of the type to an f32.
    pub fn round(self, value: f32) -> f32 {
        if self == Elem::F16 { f16::from_f32(value).to_f32() } else { value }
    }

    /// The same for many values, which takes a fraction of the time.
    pub fn round_all(self, values: &mut [f32]) {
        if self == Elem::F16 {
            let mut halves = [f16::ZERO; AT_ONCE];
            for values in values.chunks_mut(AT_ONCE) {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                halves.convert_to_f32_slice(values);
            }
        }
    }

    /// The little-endian bytes of floating-point values already rounded to the type.
    pub fn encode(self, values: &[f32]) -> Cow<'_, [u8]> {
        if self != Elem::F16 {
            return bytemuck::cast_slice(values).into();
        }
        let mut bytes = vec![0; 2 * values.len()];
        let places = bytes.par_chunks_mut(2 * AT_ONCE).zip(values.par_chunks(AT_ONCE));
        places.for_each(|(place, values)| {
            let mut halves = [f16::ZERO; AT_ONCE];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            place.copy_from_slice(bytemuck::cast_slice(halves));
        });
        bytes.into()
    }

    /// The words of small integer codes, the last one filled up with zeros.
    pub fn pack(self, codes: &[i8]) -> Vec<u32> {
        let (bits, mask) = (self.bits(), (1_u64 << self.bits()) as u32 - 1);
        let word = |codes: &[i8]| {
            let place = |(i, &code): (usize, &i8)| (code as u32 & mask) << self.place(i);
            codes.iter().enumerate().map(place).fold(self.zeros(), |word, part| word ^ part)
        };
        codes.chunks(32 / bits).map(word).collect()
    }

    /// Reads device bytes back as f64, one value per element.
    pub fn decode(self, bytes: &[u8], len: usize) -> Vec<f64> {
        self.decode_range(bytes, 0..len)
    }

    /// The same for some consecutive elements.
    pub fn decode_range(self, bytes: &[u8], elements: Range<usize>) -> Vec<f64> {
        fn wide<A: Into<f64>>(bytes: &[u8], of: fn([u8; 4]) -> A) -> Vec<f64> {
            bytes.as_chunks().0.iter().map(|&word| of(word).into()).collect()
        }
        let each = self.bits() / 8;
        let range = || &bytes[elements.start * each..elements.end * each];
        match self {
            Elem::F32 => wide(range(), f32::from_le_bytes),
            Elem::F16 => {
                let mut values = vec![0.0; elements.len()];
                let halves: Vec<f16> = bytemuck::pod_collect_to_vec(range());
                halves.convert_to_f64_slice(&mut values);
                values
            }
            Elem::U32 => wide(range(), u32::from_le_bytes),
            Elem::I32 => wide(range(), i32::from_le_bytes),
            Elem::I8 | Elem::I4 | Elem::I4Split | Elem::U2 => {
                elements.map(|index| f64::from(self.code(bytes, index))).collect()
            }
        }
    }

    /// The first element that is infinite or not a number, by its bits.
    pub fn first_nonfinite(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Elem::F32 => {
                let infinite = |word| u32::from_le_bytes(word) & 0x7f80_0000 == 0x7f80_0000;
                first_of(bytes.as_chunks::<4>().0, infinite)
            }
            Elem::F16 => {
                let infinite = |half| u16::from_le_bytes(half) & 0x7c00 == 0x7c00;
                first_of(bytes.as_chunks::<2>().0, infinite)
            }
            _ => None,
        }
    }

    /// The lowest bit of code `index` of a word.
    fn place(self, index: usize) -> usize {
        match self {
            Elem::I4Split => index % 4 * 8 + index / 4 * 4,
            _ => index * self.bits(),
        }
    }

    /// A word of codes that are zero: four bits plus 8 are those bits with their highest turned.
    fn zeros(self) -> u32 {
        if self == Elem::I4Split { 0x8888_8888 } else { 0 }
    }

    /// The code at `index` of packed little-endian words.
    fn code(self, bytes: &[u8], index: usize) -> i32 {
        let (bits, each) = (self.bits(), 32 / self.bits());
        let at = index / each * 4;
        let word = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let left = (word ^ self.zeros()) << (32 - bits - self.place(index % each));
        if self == Elem::U2 { (left >> (32 - bits)) as i32 } else { left as i32 >> (32 - bits) }
    }
}

/// The first place that `is` true of. Blocks are gone through to their end, which vectorises.
fn first_of<T: Copy + Sync>(all: &[T], is: impl Fn(T) -> bool + Sync) -> Option<usize> {
    let any = |block: &[T]| block.iter().fold(false, |found, &one| found | is(one));
    let block = all.par_chunks(AT_ONCE).position_first(any)?;
    let first = block * AT_ONCE;
    all[first..].iter().position(|&one| is(one)).map(|index| first + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_codes_come_back() {
        for (elem, codes) in [
            (Elem::I8, vec![-128_i8, 127, 0, -1, 5]),
            (Elem::I4, vec![-8, 7, 0, -1, 3, 2, 1, -7, 6]),
            (Elem::I4Split, vec![-8, 7, 0, -1, 3, 2, 1, -7, 6]),
            (Elem::U2, (0..35).map(|i| i % 4).collect()),
        ] {
            let words = elem.pack(&codes);
            let bytes: &[u8] = bytemuck::cast_slice(&words);
            assert_eq!(bytes.len(), elem.bytes_of(codes.len()), "{elem:?}");
            let back = elem.decode(bytes, codes.len());
            assert!(codes.iter().zip(&back).all(|(&a, &b)| f64::from(a) == b), "{elem:?}");
        }
    }

    #[test]
    fn split_codes_lie_four_to_a_mask_and_those_that_are_none_are_zero() {
        let codes = [-8_i8, 7, 0, -1, 3, 2, 1, -7, 6];
        let words = Elem::I4Split.pack(&codes);
        let bytes = |word: u32| (word & 0x0f0f_0f0f).to_le_bytes().map(|byte| byte as i8 - 8);
        assert_eq!(bytes(words[0]), codes[..4]);
        assert_eq!(bytes(words[0] >> 4), codes[4..8]);
        assert_eq!((bytes(words[1]), bytes(words[1] >> 4)), ([6, 0, 0, 0], [0; 4]));
    }

    #[test]
    fn what_is_not_finite_is_found_by_its_bits() {
        let bytes = |values: [f32; 4]| Elem::F32.encode(&values).into_owned();
        assert_eq!(Elem::F32.first_nonfinite(&bytes([0.0, f32::MAX, 1e-40, -1.0])), None);
        assert_eq!(Elem::F32.first_nonfinite(&bytes([0.0, 1.0, f32::NAN, 1.0])), Some(2));
        assert_eq!(Elem::F32.first_nonfinite(&bytes([0.0, f32::NEG_INFINITY, 1.0, 1.0])), Some(1));
        let halves = Elem::F16.encode(&[65_504.0, -0.0, f32::INFINITY]);
        assert_eq!(Elem::F16.first_nonfinite(&halves), Some(2));
        assert_eq!(Elem::U32.first_nonfinite(&[0xff; 8]), None);
        let mut many = vec![1.0; 3 * AT_ONCE];
        many[2 * AT_ONCE + 7..].fill(f32::NAN);
        for elem in [Elem::F32, Elem::F16] {
            assert_eq!(elem.first_nonfinite(&elem.encode(&many)), Some(2 * AT_ONCE + 7));
        }
    }

    #[test]
    fn numbers_come_back() {
        let words = [0_u32, 1 << 31, u32::MAX];
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        assert_eq!(Elem::U32.decode(bytes, 3), [0.0, 2_147_483_648.0, 4_294_967_295.0]);
        assert_eq!(Elem::I32.decode(bytes, 3), [0.0, -2_147_483_648.0, -1.0]);
        let halves = [1.5_f32, -0.25];
        assert_eq!(Elem::F16.decode(&Elem::F16.encode(&halves), 2), [1.5, -0.25]);
    }

    #[test]
    fn many_numbers_are_rounded_like_each_of_them() {
        let values: Vec<f32> = (0..AT_ONCE + 3).map(|i| 1.0 / (i as f32 + 0.3)).collect();
        for elem in [Elem::F32, Elem::F16] {
            let mut all = values.clone();
            elem.round_all(&mut all);
            assert!(all.iter().zip(&values).all(|(&a, &b)| a == elem.round(b)), "{elem:?}");
            let back = elem.decode(&elem.encode(&all), all.len());
            assert!(all.iter().zip(&back).all(|(&a, &b)| f64::from(a) == b), "{elem:?}");
        }
    }
}
