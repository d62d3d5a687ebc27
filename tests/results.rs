//! Committed result files stay readable and say what they are.

use std::fs;
use std::path::Path;

use fusebench::record::{Status, read};

#[test]
fn every_committed_run_is_complete_and_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let mut seen = 0;
    for folder in fs::read_dir(&root).expect("results").flatten().filter(|e| e.path().is_dir()) {
        for file in fs::read_dir(folder.path()).expect("a device").flatten() {
            let run = read(&file.path()).unwrap_or_else(|error| panic!("{error}"));
            let name = file.path().display().to_string();
            assert!(run.complete && !run.environment.fusebench.dirty, "{name}");
            let bad = |status| matches!(status, Status::Wrong | Status::Error);
            assert!(!run.rows.iter().any(|row| bad(row.status)), "{name} has a failed row");
            seen += 1;
        }
    }
    assert!(seen > 0, "no reference run");
}
