//! The reader of result files, and every form that whatever it accepts can take.
#![no_main]

use std::path::Path;

use fusebench_fuzz::record::{Run, parse, to_json};
use fusebench_fuzz::report;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match parse(Path::new("FILE"), data) {
        Ok(run) => accepted(&run),
        Err(error) => {
            let told = error.to_string();
            assert_eq!(told.lines().count(), 3, "what, why, what to do:\n{told}");
        }
    }
});

fn accepted(run: &Run) {
    let text = to_json(run);
    let again = parse(Path::new("FILE"), text.as_bytes()).expect("what was read can be written");
    assert_eq!(&again, run, "written and read again");
    let width = 80;
    let plain = false;
    for text in [
        report::csv::table(run),
        report::markdown::table(run),
        report::terminal::table(run, plain, width),
        report::terminal::checks(run, plain, width),
    ] {
        assert!(text.ends_with('\n'), "no end of line:\n{text}");
    }
}
