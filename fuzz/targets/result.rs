//! The reader of result files, and every form that whatever it accepts can take.
#![no_main]

use std::path::Path;

use fusebench_fuzz::record::{Run, parse, to_json};
use fusebench_fuzz::report::export::{Export, Form};
use fusebench_fuzz::report::{self, comment};
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
        report::markdown::table(run),
        report::terminal::table(run, plain, width),
        report::terminal::checks(run, plain, width),
    ] {
        assert!(text.ends_with('\n'), "no end of line:\n{text}");
    }
    Form::ALL.into_iter().filter(|form| form.holds_something_of(run)).for_each(|form| {
        match form.write(std::slice::from_ref(run)) {
            Export::One(text) => exported(form, &text),
            Export::Several(files) => files.iter().for_each(|(_, text)| exported(form, text)),
        }
    });
}

fn exported(form: Form, text: &str) {
    assert!(text.ends_with('\n'), "{form:?}: no end of line:\n{text}");
    match form {
        Form::Bmf | Form::Gha | Form::Gbench => {
            let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
            assert!(!has_null(&value), "{form:?}: a null in\n{text}");
        }
        Form::OpenMetrics => {
            let numbers = text.lines().filter(|line| !line.starts_with('#'));
            for line in numbers.filter_map(|line| line.rsplit_once("} ")) {
                let finite = |word: &str| word.parse::<f64>().is_ok_and(f64::is_finite);
                assert!(line.1.split(' ').all(finite), "{line:?}");
            }
            assert!(text.ends_with("\n# EOF\n"), "{text}");
        }
        Form::Markdown => assert!(text.len() <= comment::LIMIT_BYTES, "{} bytes", text.len()),
        Form::Otava | Form::JUnit | Form::Csv => {}
    }
}

fn has_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(items) => items.iter().any(has_null),
        serde_json::Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}
