//! The reader of comparisons, and the forms that they can take.
#![no_main]

use std::path::Path;

use fusebench_fuzz::record::{parse_comparison, to_json};
use fusebench_fuzz::report::comment::LIMIT_BYTES;
use fusebench_fuzz::report::export::Form;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match parse_comparison(Path::new("FILE"), data) {
        Ok(found) => {
            let text = to_json(&found);
            parse_comparison(Path::new("FILE"), text.as_bytes()).expect("what was read is written");
            for form in [Form::JUnit, Form::Markdown] {
                let written = form.write_comparison(&found).expect("a form of comparisons");
                assert!(written.ends_with('\n'), "no end of line:\n{written}");
                assert!(form == Form::JUnit || written.len() <= LIMIT_BYTES, "{}", written.len());
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert_eq!(told.lines().count(), 3, "what, why, what to do:\n{told}");
        }
    }
});
