//! The reader of `.safetensors` files: by name, without one, and with a wrong one.
#![no_main]

use std::io::Cursor;

use fusebench_fuzz::tensors::read_safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for name in [None, Some("w"), Some("no such tensor")] {
        match read_safetensors(&mut Cursor::new(data), data.len() as u64, name) {
            Ok(tensor) => assert_eq!(tensor.values().len(), tensor.len()),
            Err(error) => assert_eq!(error.to_string().lines().count(), 2, "{error}"),
        }
    }
});
