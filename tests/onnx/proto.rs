//! The few messages of onnx.proto that a node test consists of, read without a schema: fields by
//! number, as https://github.com/onnx/onnx/blob/v1.22.0/onnx/onnx.proto numbers them.

use half::f16;
use ndarray::{ArrayD, IxDyn};

/// The value of one field of a message.
enum Field<'a> {
    /// Wire types 0, 1 and 5.
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> &'a [u8] {
        let Field::Bytes(bytes) = self else { panic!("a number where bytes are expected") };
        bytes
    }

    fn number(&self) -> u64 {
        let Field::Number(number) = self else { panic!("bytes where a number is expected") };
        *number
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("names are UTF-8")
    }

    /// Repeated integers, packed into one field or not.
    fn integers(&self) -> Vec<u64> {
        let Field::Bytes(bytes) = self else { return vec![self.number()] };
        let mut bytes = *bytes;
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(varint(&mut bytes));
        }
        all
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a message ends between fields");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number of more than 64 bits");
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Number and value of every field.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(little_endian(take(&mut bytes, 8))),
            5 => Field::Number(little_endian(take(&mut bytes, 4))),
            2 => {
                let len = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, len))
            }
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, field));
    }
    all
}

/// TensorProto.DataType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u64);

impl Kind {
    pub const FLOAT: Kind = Kind(1);
    pub const BOOL: Kind = Kind(9);
    pub const FLOAT16: Kind = Kind(10);

    /// Bits of an integer and whether it has a sign; `None` for floating-point types.
    pub fn integer(self) -> Option<(u32, bool)> {
        Some(match self.0 {
            2 => (8, false),
            3 => (8, true),
            4 => (16, false),
            5 => (16, true),
            6 => (32, true),
            7 => (64, true),
            Self::BOOL_NUMBER => (8, false),
            12 => (32, false),
            13 => (64, false),
            21 => (4, false),
            22 => (4, true),
            25 => (2, false),
            26 => (2, true),
            _ => return None,
        })
    }

    const BOOL_NUMBER: u64 = Kind::BOOL.0;
}

/// One tensor, its elements as f64, which holds those of every case exactly; empty where the type
/// is a floating-point one of eight or four bits.
#[derive(Clone, Debug)]
pub struct Array {
    pub name: String,
    pub kind: Kind,
    pub values: ArrayD<f64>,
}

pub fn tensor(message: &[u8]) -> Array {
    let (mut dims, mut name, mut kind, mut raw) = (Vec::new(), String::new(), Kind(0), None);
    let mut small: Vec<u8> = Vec::new();
    for (number, field) in fields(message) {
        match number {
            1 => dims.extend(field.integers().iter().map(|&dim| dim as usize)),
            2 => kind = Kind(field.number()),
            // Narrow types fill one number with a byte or a pair of bytes.
            5 => small.extend(field.integers().iter().flat_map(|word| {
                let bytes = if kind.integer().is_some_and(|(bits, _)| bits == 16) { 2 } else { 1 };
                word.to_le_bytes().into_iter().take(bytes).collect::<Vec<_>>()
            })),
            8 => name = field.text(),
            9 => raw = Some(field.bytes()),
            other => panic!("tensor {name}: field {other} is not read here"),
        }
    }
    let len: usize = dims.iter().product();
    let values = decode(kind, raw.unwrap_or(&small), len);
    let dims = if values.is_empty() && len > 0 { vec![0] } else { dims };
    Array { name, kind, values: ArrayD::from_shape_vec(IxDyn(&dims), values).expect("its size") }
}

fn decode(kind: Kind, bytes: &[u8], len: usize) -> Vec<f64> {
    let chunks = |width: usize| bytes.chunks_exact(width).map(little_endian);
    match (kind, kind.integer()) {
        (Kind::FLOAT, _) => chunks(4).map(|bits| f32::from_bits(bits as u32).into()).collect(),
        (Kind::FLOAT16, _) => chunks(2).map(|bits| f16::from_bits(bits as u16).into()).collect(),
        (_, Some((bits, signed))) => {
            let each = (8 / bits).max(1);
            let width = bits.div_ceil(8) as usize;
            let parts = chunks(width).flat_map(|word| (0..each).map(move |i| word >> (i * bits)));
            let extend = |part: u64| {
                let left = part << (64 - bits);
                let wide = if signed { (left as i64) >> (64 - bits) } else { 0 };
                if signed { wide as f64 } else { (left >> (64 - bits)) as f64 }
            };
            parts.map(extend).take(len).collect()
        }
        _ => Vec::new(),
    }
}

/// An attribute of a node.
#[derive(Clone, Debug)]
pub enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
}

/// One operator and the names of what it takes and gives; a name left out is empty.
#[derive(Debug, Default)]
pub struct Node {
    pub operator: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: Vec<(String, Attribute)>,
}

/// The nodes of a model.
pub fn nodes(model: &[u8]) -> Vec<Node> {
    let graph = fields(model).into_iter().find(|(number, _)| *number == 7).expect("a graph").1;
    let nodes = fields(graph.bytes()).into_iter().filter(|(number, _)| *number == 1);
    nodes.map(|(_, field)| node(field.bytes())).collect()
}

fn node(message: &[u8]) -> Node {
    let mut node = Node::default();
    for (number, field) in fields(message) {
        match number {
            1 => node.inputs.push(field.text()),
            2 => node.outputs.push(field.text()),
            4 => node.operator = field.text(),
            5 => node.attributes.extend(attribute(field.bytes())),
            _ => {}
        }
    }
    node
}

/// `None` for lists, graphs and tensors, which no operator tested here needs.
fn attribute(message: &[u8]) -> Option<(String, Attribute)> {
    let (mut name, mut value) = (String::new(), None);
    for (number, field) in fields(message) {
        match number {
            1 => name = field.text(),
            2 => value = Some(Attribute::Float(f32::from_bits(field.number() as u32))),
            3 => value = Some(Attribute::Int(field.number() as i64)),
            4 => value = Some(Attribute::Text(field.text())),
            _ => {}
        }
    }
    value.map(|value| (name, value))
}
