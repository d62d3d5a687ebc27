use std::fs;
use std::path::Path;

use super::super::comparison_fixture::comparison;
use super::super::fixture::{emulated_run, gpu_run};
use super::super::{read, read_comparison};
use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a readable folder");
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Streams every row of `run` to `FILE` without finishing it.
fn streamed(file: &Path, run: &Run) -> PartialFile {
    let mut partial = PartialFile::create(file).expect("a writable path");
    partial.header(run).expect("a header");
    run.rows.iter().for_each(|row| partial.row(row).expect("a row"));
    partial
}

#[test]
fn a_finished_file_reads_back_as_what_was_written_and_leaves_no_neighbour() {
    for mut run in [gpu_run(), emulated_run()] {
        // 0.1 + 0.2 and a third are among the numbers a careless parser moves by one ulp.
        run.environment.timer.resolution_s = 0.1 + 0.2;
        run.rows[0].time.as_mut().unwrap().samples = vec![1.0 / 3.0, 5e-324, f64::MAX];
        let folder = folder();
        let file = folder.path().join("run.json");
        streamed(&file, &run).finish(&run).expect("a finished file");
        assert_eq!(read(&file).expect("a readable file"), run);
        assert_eq!(names_in(folder.path()), ["run.json"]);
    }
}

#[test]
fn a_partial_file_holds_every_row_written_so_far_and_is_incomplete() {
    let (folder, run) = (folder(), gpu_run());
    let partial = streamed(&folder.path().join("run.json"), &run);
    let found = read(&folder.path().join("run.json.partial.jsonl")).expect("a readable file");
    assert_eq!(found, Run { complete: false, ..run.clone() });
    drop(partial);
    assert_eq!(names_in(folder.path()), ["run.json.partial.jsonl"]);
}

#[test]
fn a_path_nobody_can_write_to_is_found_before_measuring() {
    let folder = folder();
    let read_only = folder.path().join("kept.json");
    fs::write(&read_only, "{}").unwrap();
    let mut permissions = fs::metadata(&read_only).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&read_only, permissions).unwrap();
    let below_a_file = read_only.join("run.json");
    for (path, why) in [
        (folder.path(), "it is a folder"),
        (&read_only, "it is read-only"),
        (&folder.path().join("no/run.json"), "no does not exist"),
        (&below_a_file, "does not exist"),
        (Path::new(""), "it names no file"),
        (&folder.path().join("x".repeat(250)), "partial.jsonl"),
    ] {
        let message = PartialFile::create(path).err().expect("an error").to_string();
        assert!(message.contains(why), "{message}");
        assert_eq!(message.lines().count(), 3, "{message}");
    }
    assert_eq!(names_in(folder.path()), ["kept.json"]);
}

#[cfg(unix)]
#[test]
fn a_device_is_refused_and_a_link_leads_to_its_target() {
    let error = PartialFile::create(Path::new("/dev/null")).err().expect("an error");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let folder = folder();
    let (target, link) = (folder.path().join("target.json"), folder.path().join("link.json"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    write_atomically(&link, b"new").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_run_that_measured_nothing_leaves_nothing_behind() {
    let folder = folder();
    drop(PartialFile::create(&folder.path().join("run.json")).unwrap());
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn a_number_that_is_not_finite_is_refused_with_its_id_and_field() {
    type Spoil = fn(&mut Row, f64);
    let spoils: [(&str, Spoil); 5] = [
        ("time.median", |row, bad| row.time.as_mut().unwrap().median = bad),
        ("time.samples[1]", |row, bad| row.time.as_mut().unwrap().samples[1] = bad),
        ("time.cold_median", |row, bad| row.time.as_mut().unwrap().cold_median = Some(bad)),
        ("accuracy.gates[2].worst", |row, bad| {
            row.accuracy.as_mut().unwrap().gates[2].worst = bad;
        }),
        ("accuracy.predicted_sqnr_db", |row, bad| {
            row.accuracy.as_mut().unwrap().predicted_sqnr_db = Some(bad);
        }),
    ];
    let folder = folder();
    let mut partial = streamed(&folder.path().join("run.json"), &gpu_run());
    for (field, spoil) in spoils {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut row = gpu_run().rows[0].clone();
            check_finite(&row).expect("the fixture is sound");
            spoil(&mut row, bad);
            let message = partial.row(&row).unwrap_err().to_string();
            assert!(message.contains(&row.id) && message.contains(field), "{message}");
        }
    }
    let mut run = gpu_run();
    run.environment.peaks[0].value = f64::INFINITY;
    let message = partial.finish(&run).unwrap_err().to_string();
    assert!(message.contains("peaks[0].value"), "{message}");
    assert!(!folder.path().join("run.json").exists());
    assert!(folder.path().join("run.json.partial.jsonl").exists(), "the rows are kept");
}

#[test]
fn replacing_a_file_leaves_the_new_bytes_and_nothing_else() {
    let folder = folder();
    let file = folder.path().join("page.html");
    for bytes in [&b"a longer first version"[..], b"second"] {
        write_atomically(&file, bytes).unwrap();
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    assert_eq!(names_in(folder.path()), ["page.html"]);
    assert!(write_atomically(folder.path(), b"").is_err());
}

#[test]
fn a_comparison_streams_and_reads_back_in_both_forms() {
    let (folder, whole) = (folder(), comparison());
    let file = folder.path().join("ab.json");
    let mut partial = PartialFile::create(&file).expect("a writable path");
    partial.comparison(&whole).expect("a header");
    whole.rows.iter().for_each(|row| partial.compared(row).expect("a row"));
    // A cell that is written again replaces itself.
    partial.compared(&whole.rows[0]).expect("a row");
    let path = folder.path().join("ab.json.partial.jsonl");
    let found = read_comparison(&path).expect("a readable file");
    assert_eq!((found.complete, found.rows.len()), (false, whole.rows.len()));
    partial.finish_comparison(&whole).expect("a finished file");
    assert_eq!(read_comparison(&file).expect("a readable file"), whole);
    assert_eq!(names_in(folder.path()), ["ab.json"]);
}

#[test]
fn a_run_is_no_comparison_and_a_comparison_without_a_number_is_not_written() {
    let folder = folder();
    let file = folder.path().join("run.json");
    streamed(&file, &gpu_run()).finish(&gpu_run()).expect("a finished file");
    let error = read_comparison(&file).unwrap_err().to_string();
    assert!(error.contains("is not a comparison") && error.contains("fusebench ab"), "{error}");
    let mut broken = comparison();
    broken.rows[1].ratio.as_mut().unwrap().low = f64::NAN;
    let partial = PartialFile::create(&file).expect("a writable path");
    let error = partial.finish_comparison(&broken).unwrap_err().to_string();
    assert!(error.contains("ratio.low"), "{error}");
}
