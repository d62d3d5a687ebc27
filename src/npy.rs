//! Writes arrays as `.npy` files, format version 1.0 (NumPy enhancement proposal 1).
//!
//! `ndarray-npy` 0.10 has no half-precision element, and a header is all the format asks for.

use std::io::{self, Write};

use crate::elem::Elem;

/// Magic string and version, then two bytes that hold the length of the header.
const PREFIX: &[u8] = b"\x93NUMPY\x01\x00";
/// The data starts at a multiple of this, so that it can be mapped.
const ALIGNMENT: usize = 64;

/// Element types that the files hold, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F16,
    F32,
    F64,
    U32,
    I32,
    I8,
    U8,
}

impl Kind {
    /// How the elements of a device buffer appear: packed codes one to a byte.
    pub fn of(elem: Elem) -> Self {
        match elem {
            Elem::F16 => Kind::F16,
            Elem::F32 => Kind::F32,
            Elem::U32 => Kind::U32,
            Elem::I32 => Kind::I32,
            Elem::I8 | Elem::I4 | Elem::I4Split => Kind::I8,
            Elem::U2 => Kind::U8,
        }
    }

    /// NumPy's name of the type.
    pub fn descr(self) -> &'static str {
        match self {
            Kind::F16 => "<f2",
            Kind::F32 => "<f4",
            Kind::F64 => "<f8",
            Kind::U32 => "<u4",
            Kind::I32 => "<i4",
            Kind::I8 => "|i1",
            Kind::U8 => "|u1",
        }
    }

    /// The name of the type elsewhere in the program.
    pub fn name(self) -> &'static str {
        match self {
            Kind::F16 => "f16",
            Kind::F32 => "f32",
            Kind::F64 => "f64",
            Kind::U32 => "u32",
            Kind::I32 => "i32",
            Kind::I8 => "i8",
            Kind::U8 => "u8",
        }
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Kind::F64 => 8,
            Kind::F32 | Kind::U32 | Kind::I32 => 4,
            Kind::F16 => 2,
            Kind::I8 | Kind::U8 => 1,
        }
    }
}

/// The bytes of `len` elements of a device buffer as a file holds them.
pub fn unpacked(elem: Elem, bytes: &[u8], len: usize) -> Vec<u8> {
    match elem {
        // Two's complement: a negative code becomes the byte that an i1 holds.
        Elem::I8 | Elem::I4 | Elem::I4Split | Elem::U2 => {
            elem.decode(bytes, len).into_iter().map(|code| code as i16 as u8).collect()
        }
        Elem::F32 | Elem::F16 | Elem::U32 | Elem::I32 => bytes[..elem.bytes_of(len)].to_vec(),
    }
}

/// Writes one array: `bytes` are its elements in C order.
///
/// # Panics
/// When the number of bytes is not that of the shape: a bug in the caller.
pub fn write(out: &mut impl Write, kind: Kind, shape: &[usize], bytes: &[u8]) -> io::Result<()> {
    let len = shape.iter().product::<usize>() * kind.bytes();
    assert_eq!(bytes.len(), len, "bytes of {shape:?} {}", kind.descr());
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    // Python writes a tuple of one element with a comma, and takes one after any last element.
    let sizes = if shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut header =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sizes}), }}", kind.descr());
    let unpadded = PREFIX.len() + 2 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(PREFIX)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    out.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: Kind, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        write(&mut file, kind, shape, bytes).expect("a vector takes every byte");
        file
    }

    #[test]
    fn a_file_is_what_numpy_writes() {
        // numpy.save of numpy.arange(3, dtype='<u4') and of an empty (2, 0) '<f2', NumPy 2.4.
        let file = written(Kind::U32, &[3], bytemuck::cast_slice(&[0_u32, 1, 2]));
        let header = "{'descr': '<u4', 'fortran_order': False, 'shape': (3,), }";
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(std::str::from_utf8(&file[10..128]).unwrap(), format!("{header:<117}\n"));
        assert_eq!(&file[128..], bytemuck::cast_slice::<u32, u8>(&[0, 1, 2]));
        let empty = written(Kind::F16, &[2, 0], &[]);
        assert!(String::from_utf8_lossy(&empty).contains("'shape': (2, 0), }"));
        assert!(String::from_utf8_lossy(&written(Kind::I8, &[], &[7])).contains("'shape': (), }"));
    }

    #[test]
    fn codes_come_one_to_a_byte() {
        for (elem, codes) in [
            (Elem::I8, vec![-128_i8, 127, -1, 0, 5]),
            (Elem::I4, vec![-8, 7, -1, 0, 3, 1, 2, -7, 6]),
            (Elem::I4Split, vec![-8, 7, -1, 0, 3, 1, 2, -7, 6]),
            (Elem::U2, vec![3, 0, 2, 1, 3]),
        ] {
            let words = elem.pack(&codes);
            let bytes = unpacked(elem, bytemuck::cast_slice(&words), codes.len());
            assert_eq!(bytes, bytemuck::cast_slice::<i8, u8>(&codes), "{elem:?}");
        }
    }

    #[test]
    #[should_panic(expected = "bytes of [2, 2] <f4")]
    fn a_shape_of_another_size_is_noticed() {
        written(Kind::F32, &[2, 2], &[0; 12]);
    }
}
