use std::io::Cursor;

use super::*;
use crate::npy::write;

fn read_bytes(bytes: &[u8]) -> Result<FileTensor, Unreadable> {
    read(&mut Cursor::new(bytes), bytes.len() as u64)
}

/// A file of version 1 with any header.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn what_is_written_is_read_back() {
    for (kind, dims) in [
        (Kind::F16, vec![3, 5]),
        (Kind::F32, vec![7]),
        (Kind::F64, vec![1, 2, 3]),
        (Kind::U32, vec![31]),
        (Kind::I32, vec![33, 1]),
        (Kind::I8, vec![]),
        (Kind::U8, vec![257]),
    ] {
        let len = dims.iter().product::<usize>() * kind.bytes();
        let data: Vec<u8> = (0..len).map(|i| (i * 37 % 251) as u8).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, kind, &dims, &data).expect("a vector takes every byte");
        assert_eq!(read_bytes(&bytes), Ok(FileTensor::new(kind, dims.clone(), data.clone())));
        // The twin: one bit less would not be noticed by a reader that made the values up.
        *bytes.last_mut().expect("data") ^= 1;
        assert_ne!(read_bytes(&bytes), Ok(FileTensor::new(kind, dims, data)));
    }
}

#[test]
fn fortran_order_is_transposed() {
    // numpy.asfortranarray of [[0, 1, 2], [3, 4, 5]] and of a (2, 2, 2) array of 0 to 7.
    let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n";
    let read = read_bytes(&file(header, &floats(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])));
    assert_eq!(read.expect("a matrix").values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2, 2), }\n";
    let read = read_bytes(&file(header, &[0, 4, 2, 6, 1, 5, 3, 7])).expect("three dimensions");
    assert_eq!(read.values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn later_versions_and_other_spellings_are_read() {
    let header = "{\"shape\":(2L,),\"fortran_order\":False,\"descr\":\"<f4\"}";
    for version in [2, 3] {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        bytes.extend((header.len() as u32).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(floats(&[1.5, -2.0]));
        assert_eq!(read_bytes(&bytes).expect("readable").values(), [1.5, -2.0]);
    }
}

#[test]
fn every_fault_is_named_with_its_field() {
    let of = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    let good = |shape: &str| of("'<f4'", shape);
    let two = floats(&[1.0, 2.0]);
    let mut future = file(&good("(2,)"), &two);
    future[6] = 9;
    for (bytes, field, says) in [
        (vec![], "file", "empty"),
        (b"\x93NUM".to_vec(), "magic string", "the file has 4"),
        (b"PK\x03\x04 a zip file".to_vec(), "magic string", "x93NUMPY"),
        (future, "version", "it is 9"),
        (b"\x93NUMPY\x01\x00\xff".to_vec(), "header length", "the file has 9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "header length", "4294967295"),
        (b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), "header length", "65535"),
        (file("\u{0}", &[]), "header", "`{`"),
        (file("{'descr': '<f4'}", &two), "header", "no fortran_order"),
        (file("{'descr': '<f4', 'colour': 1}", &two), "header", "colour"),
        (file("{'descr': '<f4", &two), "descr", "does not end"),
        (file("{'descr': '<f4' 'shape': (2,)}", &two), "header", "comma"),
        (file(&of("'>f4'", "(2,)"), &two), "descr", "big-endian"),
        (file(&of("'<c8'", "(1,)"), &two), "descr", "none of"),
        (file(&of("'|O'", "(1,)"), &two), "descr", "none of"),
        (file(&of("''", "(1,)"), &two), "descr", "none of"),
        (file(&of("'é'", "(1,)"), &two), "descr", "none of"),
        (file(&of("[('a', '<f4')]", "(2,)"), &two), "descr", "structured"),
        (file(&of("7", "(2,)"), &two), "descr", "a string"),
        (file(&good("[2]"), &two), "shape", "a tuple"),
        (file(&good("(-2,)"), &two), "shape", "a size"),
        (file(&good("(2"), &two), "shape", "a size"),
        (file(&good("(2 3)"), &two), "shape", "a comma or )"),
        (file(&good("(0, 5)"), &[]), "shape", "no values"),
        (file(&good("(3,)"), &two), "shape", "takes 12 bytes, behind the header are 8"),
        (file(&good("(1,)"), &two), "shape", "takes 4 bytes"),
        (file(&good("(1099511627776,)"), &two), "shape", "takes 4398046511104 bytes"),
        (file(&good("(4294967296, 4294967296, 0)"), &two), "shape", "2^64"),
        (file(&good("(99999999999999999999,)"), &two), "shape", "a size"),
        (file(&good(&format!("({})", "1, ".repeat(65))), &two), "shape", "64 dimensions"),
    ] {
        let why = read_bytes(&bytes).expect_err(says);
        assert_eq!(why.field, field, "{why}");
        assert!(why.problem.contains(says), "{why}");
        assert_eq!(why.to_string().lines().count(), 2, "{why}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let mut bytes = Vec::new();
    write(&mut bytes, Kind::F32, &[5, 31], &[7; 620]).expect("a vector takes every byte");
    for len in 0..bytes.len() {
        read_bytes(&bytes[..len]).expect_err("it is cut off");
    }
}
