//! Reads `.npy` files, versions 1 to 3 (NumPy enhancement proposal 1).
//!
//! The crates that read them parse any Python literal, with a parser generator behind it, and
//! `ndarray-npy` 0.10 has no half precision; a header has three keys.

use std::io::{self, Read};

use super::source::Unreadable;
use crate::given::FileTensor;
use crate::npy::Kind;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses headers over 10,000 bytes.
const MAX_HEADER: u64 = 1 << 20;
/// NumPy's own limit.
const MAX_RANK: usize = 64;
const SAVE_AGAIN: &str = "the file is damaged or no .npy file: write it again with numpy.save";

/// Reads the array of a file of `len` bytes.
///
/// # Errors
/// When the file is not a `.npy` file of that size with an array of plain little-endian numbers.
/// Sizes in the file are held against `len` before anything is allocated.
pub fn read(reader: &mut impl Read, len: u64) -> Result<FileTensor, Unreadable> {
    let (header, start) = header(reader, len)?;
    let Header { descr, fortran_order, shape } = parse(&header)?;
    let kind = kind(&descr)?;
    let claimed = shape.iter().try_fold(kind.bytes() as u64, |size, &dim| size.checked_mul(dim));
    let held = len - start;
    let text = dims_text(&shape);
    if claimed != Some(held) {
        let claimed = claimed.map_or("more than 2^64".to_owned(), |size| size.to_string());
        let problem =
            format!("{text} of {descr} takes {claimed} bytes, behind the header are {held}");
        return Err(Unreadable::new("shape", problem, SAVE_AGAIN));
    }
    if held == 0 {
        let next = "give an array with at least one value";
        return Err(Unreadable::new("shape", format!("{text} holds no values"), next));
    }
    // As large as the file, so that it fits.
    let dims: Vec<usize> = shape.iter().map(|&dim| dim as usize).collect();
    let mut bytes = vec![0; held as usize];
    reader.read_exact(&mut bytes).map_err(|error| Unreadable::io("data", &error))?;
    if fortran_order {
        bytes = transposed(&bytes, kind.bytes(), &dims);
    }
    Ok(FileTensor::new(kind, dims, bytes))
}

/// The text of the header and where the data start.
fn header(reader: &mut impl Read, len: u64) -> Result<(String, u64), Unreadable> {
    let cut = |field: &str, needs: u64| {
        let problem = format!("it ends at byte {needs} or later, the file has {len}");
        Unreadable::new(field, problem, SAVE_AGAIN)
    };
    if len == 0 {
        return Err(Unreadable::new("file", "it is empty", SAVE_AGAIN));
    }
    let mut prefix = [0; 8];
    fill(reader, &mut prefix, || cut("magic string", 8))?;
    if &prefix[..6] != MAGIC {
        let problem = "the file does not start with \\x93NUMPY";
        return Err(Unreadable::new("magic string", problem, SAVE_AGAIN));
    }
    let wide = match prefix[6] {
        1 => false,
        2 | 3 => true,
        other => {
            let problem = format!("it is {other}, known are 1, 2 and 3");
            return Err(Unreadable::new("version", problem, SAVE_AGAIN));
        }
    };
    let mut size = [0; 4];
    let digits = if wide { 4 } else { 2 };
    fill(reader, &mut size[..digits], || cut("header length", 12))?;
    let (size, before) = (u64::from(u32::from_le_bytes(size)), 8 + digits as u64);
    if size > MAX_HEADER || before + size > len {
        let most = (len - before).min(MAX_HEADER);
        let problem = format!("it claims {size} bytes, at most {most} are possible here");
        return Err(Unreadable::new("header length", problem, SAVE_AGAIN));
    }
    let mut text = vec![0; size as usize];
    fill(reader, &mut text, || cut("header", before + size))?;
    let text = String::from_utf8(text)
        .map_err(|_| Unreadable::new("header", "it is no text", SAVE_AGAIN))?;
    Ok((text, before + size))
}

fn fill(
    reader: &mut impl Read,
    buffer: &mut [u8],
    cut: impl Fn() -> Unreadable,
) -> Result<(), Unreadable> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => cut(),
        _ => Unreadable::io("header", &error),
    })
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(text: &str) -> Result<Header, Unreadable> {
    let mut rest = Literal(text.trim());
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    rest.expect('{')?;
    while !rest.take('}') {
        let key = rest.string("header")?;
        rest.expect(':')?;
        match key {
            "descr" if rest.sees('[') => {
                let next = "save one field of it: numpy.save(file, array['field'])";
                return Err(Unreadable::new("descr", "it is a structured array", next));
            }
            "descr" => descr = Some(rest.string("descr")?.to_owned()),
            "fortran_order" => fortran_order = Some(rest.boolean()?),
            "shape" => shape = Some(rest.sizes()?),
            other => {
                let problem = format!("the key {other:?} is unknown");
                return Err(Unreadable::new("header", problem, SAVE_AGAIN));
            }
        }
        if !rest.take(',') && !rest.sees('}') {
            return Err(rest.unexpected("header", "a comma or }"));
        }
    }
    if !rest.0.is_empty() {
        return Err(rest.unexpected("header", "its end"));
    }
    let absent = |key: &str| Unreadable::new("header", format!("it has no {key}"), SAVE_AGAIN);
    Ok(Header {
        descr: descr.ok_or_else(|| absent("descr"))?,
        fortran_order: fortran_order.ok_or_else(|| absent("fortran_order"))?,
        shape: shape.ok_or_else(|| absent("shape"))?,
    })
}

/// What is left of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn sees(&mut self, wanted: char) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(wanted)
    }

    fn take(&mut self, wanted: char) -> bool {
        let seen = self.sees(wanted);
        if seen {
            self.0 = &self.0[wanted.len_utf8()..];
        }
        seen
    }

    fn expect(&mut self, wanted: char) -> Result<(), Unreadable> {
        match self.take(wanted) {
            true => Ok(()),
            false => Err(self.unexpected("header", &format!("`{wanted}`"))),
        }
    }

    /// A string without escapes, of which NumPy writes none.
    fn string(&mut self, field: &str) -> Result<&'a str, Unreadable> {
        let Some(quote) = ['\'', '"'].into_iter().find(|&quote| self.take(quote)) else {
            return Err(self.unexpected(field, "a string"));
        };
        let Some((string, rest)) = self.0.split_once(quote) else {
            return Err(Unreadable::new(field, "a string does not end", SAVE_AGAIN));
        };
        self.0 = rest;
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool, Unreadable> {
        self.0 = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected("fortran_order", "True or False"))
    }

    /// A tuple of sizes.
    fn sizes(&mut self) -> Result<Vec<u64>, Unreadable> {
        if !self.take('(') {
            return Err(self.unexpected("shape", "a tuple"));
        }
        let mut sizes = Vec::new();
        while !self.take(')') {
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (number, rest) = self.0.split_at(digits);
            let Ok(size) = number.parse() else {
                return Err(self.unexpected("shape", "a size"));
            };
            sizes.push(size);
            // Python 2 wrote long integers with an L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if sizes.len() > MAX_RANK {
                let problem = format!("it has more than {MAX_RANK} dimensions");
                return Err(Unreadable::new("shape", problem, SAVE_AGAIN));
            }
            if !self.take(',') && !self.sees(')') {
                return Err(self.unexpected("shape", "a comma or )"));
            }
            self.0 = self.0.trim_start();
        }
        Ok(sizes)
    }

    fn unexpected(&self, field: &str, wanted: &str) -> Unreadable {
        let seen: String = self.0.chars().take(12).collect();
        let seen = if seen.is_empty() { "the end".to_owned() } else { format!("{seen:?}") };
        Unreadable::new(field, format!("{wanted} is expected where {seen} is"), SAVE_AGAIN)
    }
}

fn kind(descr: &str) -> Result<Kind, Unreadable> {
    let (order, name) = descr.split_at(descr.chars().next().map_or(0, char::len_utf8));
    let kinds = [Kind::F16, Kind::F32, Kind::F64, Kind::U32, Kind::I32, Kind::I8, Kind::U8];
    let found = kinds.into_iter().find(|kind| &kind.descr()[1..] == name);
    match (order, found) {
        ("<", Some(kind)) => Ok(kind),
        ("|" | ">", Some(kind)) if kind.bytes() == 1 => Ok(kind),
        (">", Some(kind)) => {
            let next = format!("convert it: numpy.save(file, array.astype('{}'))", kind.descr());
            Err(Unreadable::new("descr", format!("{descr} is big-endian"), next))
        }
        _ => {
            let known: Vec<&str> = kinds.iter().map(|kind| kind.descr()).collect();
            let problem = format!("{descr:?} is none of {}", known.join(", "));
            let next = "convert it: numpy.save(file, array.astype('<f4'))";
            Err(Unreadable::new("descr", problem, next))
        }
    }
}

fn dims_text(shape: &[u64]) -> String {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    if sizes.is_empty() { "a single value".to_owned() } else { sizes.join(" × ") }
}

/// Elements of `each` bytes from Fortran order, first index fastest, to C order.
fn transposed(bytes: &[u8], each: usize, dims: &[usize]) -> Vec<u8> {
    let strides: Vec<usize> = dims
        .iter()
        .scan(1, |stride, &dim| {
            let own = *stride;
            *stride *= dim;
            Some(own)
        })
        .collect();
    let mut index = vec![0; dims.len()];
    let mut from = 0;
    let mut to = Vec::with_capacity(bytes.len());
    for _ in 0..bytes.len() / each {
        to.extend_from_slice(&bytes[from * each..(from + 1) * each]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            from += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            from -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    to
}

#[cfg(test)]
#[path = "npy_tests.rs"]
mod tests;
