//! The reader of `.npy` files, and the conversions of whatever it accepts.
#![no_main]

use std::io::Cursor;

use fusebench_fuzz::elem::Elem;
use fusebench_fuzz::npy::write;
use fusebench_fuzz::tensors::read_npy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match read_npy(&mut Cursor::new(data), data.len() as u64) {
        Ok(tensor) => {
            assert_eq!(tensor.values().len(), tensor.len());
            assert_eq!(tensor.converted(Elem::F16).values.len(), tensor.len());
            // Written again in C order it is the same array.
            let tail = &data[data.len() - tensor.len() * tensor.kind.bytes()..];
            let mut again = Vec::new();
            write(&mut again, tensor.kind, &tensor.dims, tail).expect("a vector takes every byte");
            let again = read_npy(&mut Cursor::new(&again), again.len() as u64).expect("our own");
            assert_eq!((again.kind, &again.dims), (tensor.kind, &tensor.dims));
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 2, "{error}"),
    }
});
