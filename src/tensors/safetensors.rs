//! Reads one tensor of a `.safetensors` file: the header by the crate of that name, then the bytes
//! of that tensor alone.

use std::io::{self, Read, Seek, SeekFrom};

use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::source::Unreadable;
use crate::given::FileTensor;
use crate::nearest::nearest;
use crate::npy::Kind;

/// The length of the header, little-endian, in front of it.
const PREFIX: u64 = 8;
/// The format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// Names listed in a message.
const LISTED: usize = 8;
const SAVE_AGAIN: &str =
    "the file is damaged or no .safetensors file: write it again with safetensors' save_file";

/// Reads a tensor of a file of `len` bytes; without a name the only one.
///
/// # Errors
/// When the file is not a `.safetensors` file of that size, or has no such tensor of plain numbers.
/// Sizes in the file are held against `len` before anything is allocated.
pub fn read(
    reader: &mut (impl Read + Seek),
    len: u64,
    wanted: Option<&str>,
) -> Result<FileTensor, Unreadable> {
    let (metadata, start) = header(reader, len)?;
    let info = find(&metadata, wanted)?;
    let kind = kind(info.dtype)?;
    if info.shape.contains(&0) {
        let next = "give a tensor with at least one value";
        return Err(Unreadable::new("shape", "the tensor holds no values", next));
    }
    let (from, to) = info.data_offsets;
    let unreadable = |error: io::Error| Unreadable::io("data", &error);
    reader.seek(SeekFrom::Start(start + from as u64)).map_err(unreadable)?;
    let mut bytes = vec![0; to - from];
    reader.read_exact(&mut bytes).map_err(unreadable)?;
    if info.dtype == Dtype::BF16 {
        bytes = widened(&bytes);
    }
    Ok(FileTensor::new(kind, info.shape.clone(), bytes))
}

/// The header and where the data start. The crate has checked that offsets follow each other and
/// fit shapes and types.
fn header(reader: &mut impl Read, len: u64) -> Result<(Metadata, u64), Unreadable> {
    if len == 0 {
        return Err(Unreadable::new("file", "it is empty", SAVE_AGAIN));
    }
    let mut size = [0; PREFIX as usize];
    let cut = |_| {
        let problem = format!("it takes {PREFIX} bytes, the file has {len}");
        Unreadable::new("header length", problem, SAVE_AGAIN)
    };
    reader.read_exact(&mut size).map_err(cut)?;
    let size = u64::from_le_bytes(size);
    let most = (len - PREFIX).min(MAX_HEADER);
    if size > most {
        let problem = format!("it claims {size} bytes, at most {most} are possible here");
        return Err(Unreadable::new("header length", problem, SAVE_AGAIN));
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text).map_err(|error| Unreadable::io("header", &error))?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| {
        // A name from the file may hold anything.
        let problem = error.to_string().replace(|c: char| c.is_control(), " ");
        Unreadable::new("header", problem, SAVE_AGAIN)
    })?;
    let (claimed, held) = (metadata.data_len() as u64, len - PREFIX - size);
    if claimed != held {
        let problem = format!("the tensors take {claimed} bytes, behind the header are {held}");
        return Err(Unreadable::new("data_offsets", problem, SAVE_AGAIN));
    }
    Ok((metadata, PREFIX + size))
}

fn find<'a>(metadata: &'a Metadata, wanted: Option<&str>) -> Result<&'a TensorInfo, Unreadable> {
    let names = metadata.offset_keys();
    let count = names.len();
    let Some(wanted) = wanted else {
        if let [only] = names.as_slice() {
            return Ok(metadata.info(only).expect("a key of the header"));
        }
        let problem = format!("the file holds {count} tensors and none is named");
        let some: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
        let dots = if count > LISTED { ", …" } else { "" };
        let next = format!("write FILE:TENSOR; it holds {}{dots}", some.join(", "));
        return Err(Unreadable::new("tensor", problem, next));
    };
    metadata.info(wanted).ok_or_else(|| {
        let problem = format!("none of the {count} in the file is named {wanted}");
        let near = nearest(wanted, names.iter().map(String::as_str));
        Unreadable::new("tensor", problem, format!("did you mean {near}?"))
    })
}

fn kind(dtype: Dtype) -> Result<Kind, Unreadable> {
    match dtype {
        Dtype::F16 => Ok(Kind::F16),
        Dtype::F32 | Dtype::BF16 => Ok(Kind::F32),
        Dtype::F64 => Ok(Kind::F64),
        Dtype::U32 => Ok(Kind::U32),
        Dtype::I32 => Ok(Kind::I32),
        Dtype::I8 => Ok(Kind::I8),
        Dtype::U8 => Ok(Kind::U8),
        other => {
            let problem = format!("{other} is none of F16, BF16, F32, F64, I8, U8, I32, U32");
            let next = "convert it to F32 before saving";
            Err(Unreadable::new("dtype", problem, next))
        }
    }
}

/// A bf16 is the upper half of an f32.
fn widened(bytes: &[u8]) -> Vec<u8> {
    let wide = |half: &[u8]| bf16::from_le_bytes([half[0], half[1]]).to_f32().to_le_bytes();
    bytes.chunks_exact(2).flat_map(wide).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn one(dtype: &str, shape: &str, end: usize) -> String {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    }

    fn read_bytes(bytes: &[u8], wanted: Option<&str>) -> Result<FileTensor, Unreadable> {
        read(&mut Cursor::new(bytes), bytes.len() as u64, wanted)
    }

    #[test]
    fn every_type_is_read() {
        for (dtype, data, expected) in [
            ("F32", 1.5_f32.to_le_bytes().to_vec(), 1.5),
            ("F64", (-0.1_f64).to_le_bytes().to_vec(), -0.1),
            ("F16", half::f16::from_f32(0.25).to_le_bytes().to_vec(), 0.25),
            ("BF16", bf16::from_f32(-3.0).to_le_bytes().to_vec(), -3.0),
            ("I32", (-7_i32).to_le_bytes().to_vec(), -7.0),
            ("U32", u32::MAX.to_le_bytes().to_vec(), 4_294_967_295.0),
            ("I8", vec![0x80], -128.0),
            ("U8", vec![0x80], 128.0),
        ] {
            let bytes = file(&one(dtype, "[1,1]", data.len()), &data);
            let read = read_bytes(&bytes, Some("t")).expect(dtype);
            assert_eq!((read.values(), read.dims.as_slice()), (vec![expected], &[1, 1][..]));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_tensor_that_is_named() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},
            "a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        let bytes = file(header, &[1, 2, 3, 4, 5]);
        assert_eq!(read_bytes(&bytes, Some("b")).expect("there").values(), [3.0, 4.0, 5.0]);
        assert_eq!(read_bytes(&bytes, Some("a")).expect("there").values(), [1.0, 2.0]);
        let why = read_bytes(&bytes, None).expect_err("two tensors");
        assert!(why.next.contains("a, b"), "{why}");
        let why = read_bytes(&bytes, Some("A")).expect_err("no such tensor");
        assert!(why.problem.contains("named A") && why.next.contains("did you mean"), "{why}");
        let only = file(&one("U8", "[2]", 2), &[7, 8]);
        assert_eq!(read_bytes(&only, None).expect("the only one").values(), [7.0, 8.0]);
    }

    #[test]
    fn every_fault_is_named_with_its_field() {
        let gap = r#"{"t":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
        let terabyte = one("F32", "[1099511627776]", 4_398_046_511_104);
        let overflow = one("F32", "[4294967296,4294967296,4294967296]", 8);
        for (bytes, field, says) in [
            (vec![], "file", "empty"),
            (vec![1, 2, 3], "header length", "the file has 3"),
            (vec![0xff; 16], "header length", "at most 8 are possible"),
            (file("", &[]), "header", "EOF"),
            (file("[]", &[]), "header", "invalid"),
            (file("{\"t\":7}", &[]), "header", "invalid"),
            (file(&one("F99", "[1]", 1), &[0]), "header", "F99"),
            (file(&one("F32", "[2]", 4), &[0; 4]), "header", "tensor"),
            (file(&one("F32", "[-1]", 4), &[0; 4]), "header", "invalid"),
            (file(gap, &[0; 3]), "header", "offset"),
            (file(&overflow, &[0; 8]), "header", "overflow"),
            (file(&terabyte, &[0; 8]), "data_offsets", "take 4398046511104 bytes"),
            (file(&one("F32", "[2]", 8), &[0; 7]), "data_offsets", "behind the header are 7"),
            (file(&one("F32", "[2]", 8), &[0; 9]), "data_offsets", "behind the header are 9"),
            (file(&one("BOOL", "[1]", 1), &[0]), "dtype", "none of F16"),
            (file(&one("I64", "[1]", 8), &[0; 8]), "dtype", "none of F16"),
            (file(&one("F32", "[0,4]", 0), &[]), "shape", "no values"),
        ] {
            let why = read_bytes(&bytes, Some("t")).expect_err(says);
            assert_eq!(why.field, field, "{why}");
            assert!(why.problem.contains(says), "{why}");
            assert_eq!(why.to_string().lines().count(), 2, "{why}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let bytes = file(&one("F32", "[5,31]", 620), &[7; 620]);
        read_bytes(&bytes, Some("t")).expect("whole");
        for len in 0..bytes.len() {
            read_bytes(&bytes[..len], Some("t")).expect_err("it is cut off");
        }
    }
}
