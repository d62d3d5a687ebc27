//! `fusebench dump`: what is in its files, and that its script finds what is wrong.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::python::Python;
use common::{SEED, ends, has_adapter, ran, skipped};
use fusebench::inputs::Distribution;
use fusebench::kernel::Preset;
use fusebench::kernels::ALL;
use fusebench::npy::{Kind, unpacked};
use fusebench::record::{DumpedCell, Manifest, Role};
use fusebench::suite::{Cell, cells};

/// A cell that takes milliseconds.
const SMALL: &str = "^layer_norm/thread/f32/r7d31$";

fn fusebench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusebench"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Dumps from the smoke preset with any further arguments.
fn dump(filters: &[&str], dir: &Path, extra: &[&str]) -> Output {
    let dir = dir.to_str().expect("UTF-8");
    let fixed = ["--preset", "smoke", "-o", dir];
    let arguments = [&["dump"], filters, &fixed, extra].concat();
    fusebench(&arguments).output().expect("the program starts")
}

fn manifest(dir: &Path) -> Manifest {
    let text = fs::read_to_string(dir.join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("of the type that is documented")
}

fn cell(id: &str) -> Cell {
    let all = cells(Preset::Smoke);
    all.into_iter().find(|cell| cell.id() == id).unwrap_or_else(|| panic!("no cell {id}"))
}

/// The elements of a `.npy` file, behind the header, whose length is in bytes 8 and 9.
fn data(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("a file");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(start % 64, 0, "the data can be mapped");
    bytes[start..].to_vec()
}

fn wide(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|word| f64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// One array of a cell as written.
fn array(dir: &Path, cell: &DumpedCell, role: Role, name: &str) -> Vec<u8> {
    let file = cell.files.iter().find(|file| file.role == role && file.name == name);
    data(&dir.join(&file.unwrap_or_else(|| panic!("no {role:?} {name}")).path))
}

#[test]
fn files_hold_what_verification_saw() {
    let test = "files_hold_what_verification_saw";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let filters = [
        "^(layer_norm|softmax)/thread/f(32|16)/r7",
        "^quantize_int[84]/",
        "^linear_(sparse_2_4|w4a16)/",
    ];
    ends(&dump(&filters, dir.path(), &["--dtype", "f32,f16,i8,i4"]), 0, &["check.py"]);
    let manifest = manifest(dir.path());
    assert_eq!((manifest.format.as_str(), manifest.complete), ("fusebench-dump", true));
    assert_eq!((manifest.inputs.as_str(), manifest.seed), ("normal", SEED));
    let mut kinds = Vec::new();
    for dumped in manifest.cells.iter().filter(|dumped| !dumped.files.is_empty()) {
        let accuracy = dumped.row.accuracy.as_ref().expect("verified");
        assert_eq!((accuracy.verified.as_str(), accuracy.checked.len()), ("all", 1));
        let cell = cell(&dumped.row.id);
        let inputs = cell.inputs(Distribution::Normal, SEED);
        for tensor in &inputs.tensors {
            let bytes = array(dir.path(), dumped, Role::Input, tensor.name);
            let len = tensor.dims().iter().product();
            assert_eq!(bytes, unpacked(tensor.elem, &tensor.bytes(), len), "{}", dumped.row.id);
            kinds.push(Kind::of(tensor.elem).descr());
        }
        for (number, buffer) in cell.launch().outputs.iter().enumerate() {
            let of = |role| array(dir.path(), dumped, role, buffer.name);
            let (output, reference, bound) =
                (of(Role::Output), wide(&of(Role::Reference)), wide(&of(Role::Bound)));
            assert_eq!(output.len(), buffer.len() * Kind::of(buffer.elem).bytes());
            assert_eq!((reference.len(), bound.len()), (buffer.len(), buffer.len()));
            kinds.push(Kind::of(buffer.elem).descr());
            if number > 0 || !buffer.elem.is_float() || accuracy.against.is_some() {
                continue;
            }
            // The error that verification reported is the one between the files.
            let device = buffer.elem.decode(&output, buffer.len());
            let largest = device.iter().zip(&reference).map(|(a, b)| (a - b).abs());
            assert_eq!(largest.fold(0.0, f64::max), accuracy.max_abs, "{}", dumped.row.id);
        }
    }
    let expected = ["<f4", "<u4", "|i1", "|u1"];
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    if !kinds.contains(&"<f2") {
        skipped(test, "no f16 on this adapter");
    }
    let text = fs::read_to_string(dir.path().join("manifest.json")).expect("a manifest");
    assert!(!text.contains(dir.path().to_str().expect("UTF-8")), "a path is in the manifest");
    ran(test);
}

#[test]
fn a_folder_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("mine"), "precious").expect("a file");
    ends(&dump(&[SMALL], dir.path(), &[]), 2, &["is not empty", "--force"]);
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    ends(&dump(&[SMALL], &dir.path().join("mine"), &[]), 2, &["cannot dump to", "-o"]);
    ends(&dump(&[SMALL], Path::new("-"), &[]), 2, &["a folder of files"]);
}

#[test]
fn what_cannot_be_dumped_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let new = dir.path().join("new");
    let path = new.to_str().expect("UTF-8");
    let models = |filter: &str| fusebench(&["dump", filter, "-o", path]).output().expect("starts");
    ends(&models("^pipeline_"), 2, &["is a pipeline", "stages"]);
    ends(&dump(&[], &new, &[]), 2, &["<FILTER>"]);
    ends(&dump(&[SMALL], &new, &["--inputs", "pink"]), 2, &["pink", "normal"]);
    ends(&dump(&[SMALL], &new, &["-d", "all"]), 2, &["one device"]);
    ends(&dump(&["nothing_like_it"], &new, &[]), 4, &["did you mean"]);
    assert!(!new.exists(), "nothing was made");
    let mut bare = fusebench(&["dump", SMALL, "--preset", "smoke", "-o", path]);
    bare.env("VK_DRIVER_FILES", "/nonexistent").env("WGPU_BACKEND", "vulkan");
    ends(&bare.output().expect("the program starts"), 3, &["no graphics adapter"]);
    assert!(!new.exists(), "an empty folder is left");
}

#[test]
fn cells_too_large_or_on_other_inputs_are_skipped() {
    let test = "cells_too_large_or_on_other_inputs_are_skipped";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let new = dir.path().join("new");
    let path = new.to_str().expect("UTF-8");
    let large = "^linear/register/f32/m576n4096k4096$";
    let out = fusebench(&["dump", large, "-o", path]).output().expect("the program starts");
    ends(&out, 4, &["more than 64.00 MB", "--force", "nothing ran"]);
    ends(&dump(&[SMALL], &new, &["--inputs", "needle"]), 4, &["verified on normal"]);
    assert!(!new.exists(), "an empty folder is left");
    ran(test);
}

#[test]
fn a_lost_device_ends_the_dump_and_keeps_what_was_written() {
    let test = "a_lost_device_ends_the_dump_and_keeps_what_was_written";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let lost = "layer_norm/thread/f32/r5d33";
    let path = dir.path().to_str().expect("UTF-8");
    let filter = "^layer_norm/thread/f32/(r7d31|r5d33|r4d65)$";
    let mut command = fusebench(&["dump", filter, "--preset", "smoke", "-o", path]);
    let out = command.env("FUSEBENCH_TEST_LOSE_DEVICE", lost).output().expect("it starts");
    ends(&out, 3, &[lost, "device was lost"]);
    let manifest = manifest(dir.path());
    let ids: Vec<_> =
        manifest.cells.iter().map(|cell| (cell.row.id.as_str(), cell.files.len())).collect();
    assert_eq!(ids, [("layer_norm/thread/f32/r7d31", 6), (lost, 0)]);
    assert!(!manifest.complete);
    ran(test);
}

#[test]
fn a_shader_that_hangs_ends_the_dump() {
    let test = "a_shader_that_hangs_ends_the_dump";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    // Long rounds, because llvmpipe leaves a loop after 65,536 of them.
    let guard = "let base = row * params.d;\n    var squares = 0.0;\n    for (var i = 0u;";
    let round = "s = (s * 1664525u + 1013904223u) >> 1u; ".repeat(20);
    let spin = format!("while (s != 0xffffffffu) {{ {round} y[row] = to_storage(f32(s)); }}");
    let kernels = overlay(dir.path(), "rms_norm", guard, &format!("var s = row; {spin} {guard}"));
    let id = "rms_norm/thread/f32/r65537d5";
    let out = dump(&[id], &dir.path().join("new"), &["--kernels", &kernels, "--patience", "2"]);
    ends(&out, 3, &[id, "no progress for 2 s"]);
    ran(test);
}

/// A folder of shaders with one text of one kernel replaced.
fn overlay(dir: &Path, kernel: &str, text: &str, instead: &str) -> String {
    let entry = ALL.iter().find(|entry| entry.name == kernel).expect("in the registry");
    let changed = entry.wgsl.replace(text, instead);
    assert_ne!(changed, entry.wgsl, "the shader says `{text}`");
    let folder = dir.join("kernels");
    let shader = folder.join(format!("{}.wgsl", entry.path()));
    fs::create_dir_all(shader.parent().expect("a family")).expect("a folder");
    fs::write(shader, changed).expect("a shader");
    folder.to_str().expect("UTF-8").to_owned()
}

/// Without NumPy the test counts as skipped.
fn python(test: &str) -> Option<Python> {
    Python::with(test, "numpy", "numpy")
}

fn check(python: &Python, dir: &Path) -> Output {
    run(python, dir, &["check.py"])
}

fn run(python: &Python, dir: &Path, arguments: &[&str]) -> Output {
    python.command().args(arguments).current_dir(dir).output().expect("Python starts")
}

/// Changes the last byte of an array.
fn corrupt(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    *bytes.last_mut().expect("not empty") ^= 0x40;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn the_script_agrees_with_every_family_and_finds_a_changed_output() {
    let test = "the_script_agrees_with_every_family_and_finds_a_changed_output";
    let Some(python) = python(test) else { return };
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    // The smallest cells that are not empty, one for each kernel, precision and option.
    let mut chosen: Vec<Cell> = Vec::new();
    let mut candidates = cells(Preset::Smoke);
    candidates.retain(|cell| !cell.is_empty() && cell.work().bytes > 200.0);
    candidates.sort_by(|a, b| a.work().bytes.total_cmp(&b.work().bytes));
    for cell in candidates {
        let key = |cell: &Cell| (cell.entry.name, cell.dtype, cell.shape.option());
        if !chosen.iter().any(|known| key(known) == key(&cell)) {
            chosen.push(cell);
        }
    }
    let filters: Vec<String> = chosen.iter().map(|cell| format!("^{}$", cell.id())).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    ends(&dump(&filters, dir.path(), &[]), 0, &[]);
    let out = check(&python, dir.path());
    ends(&out, 0, &["0 beyond their bound", "y, computed here"]);
    assert!(String::from_utf8_lossy(&out.stderr).is_empty(), "{out:?}");
    let manifest = manifest(dir.path());
    for (kernel, dtype) in [("layer_norm", "f32"), ("linear", "f16"), ("top_k", "f32")] {
        let of = |cell: &&DumpedCell| cell.row.kernel == kernel && cell.row.dtype == dtype;
        let Some(cell) = manifest.cells.iter().find(of).filter(|cell| !cell.files.is_empty())
        else {
            skipped(test, &format!("no {dtype} on this adapter"));
            continue;
        };
        let output = cell.files.iter().find(|file| file.role == Role::Output).expect("an output");
        let path = dir.path().join(&output.path);
        corrupt(&path);
        ends(&check(&python, dir.path()), 1, &["WRONG", "1 beyond", &cell.row.id]);
        corrupt(&path);
    }
    ends(&check(&python, dir.path()), 0, &[]);
    ran(test);
}

#[test]
fn the_script_recomputes_from_the_inputs() {
    let test = "the_script_recomputes_from_the_inputs";
    let Some(python) = python(test) else { return };
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let filters = [
        "^(layer_norm|rms_norm)/thread/.*/r(4d65|2d1023|1d1)$",
        "^softmax/thread/.*/(r2n1025|.*_tail)$",
        "^linear/register/.*",
    ];
    for inputs in ["normal", "integers", "offset", "small", "large"] {
        ends(&dump(&filters, dir.path(), &["--force", "--inputs", inputs]), 0, &[]);
        ends(&check(&python, dir.path()), 0, &["0 beyond their bound"]);
    }
    let read = [("layer_norm", "b"), ("rms_norm", "g"), ("softmax", "x"), ("linear", "w")];
    for (kernel, input) in read {
        let filter = format!("^{kernel}/.*/(r4d65|r2n1025|m17n31k33)$");
        ends(&dump(&[&filter], dir.path(), &["--force", "--dtype", "f32"]), 0, &[]);
        let files = manifest(dir.path()).cells[0].files.clone();
        let file = files.iter().find(|file| file.name == input).expect("an input");
        corrupt(&dir.path().join(&file.path));
        ends(&check(&python, dir.path()), 1, &["y, computed here", "WRONG"]);
    }
    ran(test);
}

#[test]
fn a_wrong_kernel_is_dumped_all_the_same() {
    let test = "a_wrong_kernel_is_dumped_all_the_same";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let new = dir.path().join("new");
    let kernels = overlay(dir.path(), "layer_norm", " + f32(b[i])", "");
    ends(&dump(&[SMALL], &new, &["--kernels", &kernels]), 1, &["wrong", "G1"]);
    let manifest = manifest(&new);
    assert_eq!((manifest.cells[0].files.len(), manifest.complete), (6, true));
    assert!(!manifest.cells[0].row.accuracy.as_ref().expect("verified").passed);
    if let Some(python) = python(test) {
        ends(&check(&python, &new), 1, &["WRONG", "fusebench: wrong"]);
    }
    ran(test);
}

#[test]
fn numpy_loads_every_type() {
    let test = "numpy_loads_every_type";
    let Some(python) = python(test) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let halves = [0x3c00_u16, 0xc000, 0x7bff, 0x0001];
    let arrays: [(Kind, &[usize], Vec<u8>); 8] = [
        (Kind::F16, &[2, 2], halves.iter().flat_map(|half| half.to_le_bytes()).collect()),
        (Kind::F32, &[1], 1.5_f32.to_le_bytes().to_vec()),
        (Kind::F64, &[], (-0.1_f64).to_le_bytes().to_vec()),
        (Kind::U32, &[2], [u32::MAX, 7].iter().flat_map(|word| word.to_le_bytes()).collect()),
        (Kind::I32, &[1, 1], i32::MIN.to_le_bytes().to_vec()),
        (Kind::I8, &[3], vec![0x80, 0xff, 0x07]),
        (Kind::U8, &[4], vec![0, 1, 2, 3]),
        (Kind::F16, &[0, 8, 3], vec![]),
    ];
    for (number, (kind, shape, bytes)) in arrays.iter().enumerate() {
        let mut file = Vec::new();
        fusebench::npy::write(&mut file, *kind, shape, bytes).expect("written");
        fs::write(dir.path().join(format!("{number}.npy")), file).expect("a file");
    }
    let script = "
import numpy, io
expected = [([[1.0, -2.0], [65504.0, 2.0**-24]], '<f2'), ([1.5], '<f4'), (-0.1, '<f8'),
    ([2**32 - 1, 7], '<u4'), ([[-2**31]], '<i4'), ([-128, -1, 7], '|i1'), ([0, 1, 2, 3], '|u1'),
    (numpy.zeros((0, 8, 3)), '<f2')]
for number, (values, dtype) in enumerate(expected):
    want, got = numpy.array(values, dtype), numpy.load(f'{number}.npy')
    assert got.dtype.str == dtype and got.shape == want.shape and (got == want).all(), (got, want)
    saved = io.BytesIO()
    numpy.save(saved, want)
    assert saved.getvalue() == open(f'{number}.npy', 'rb').read(), number
";
    ends(&run(&python, dir.path(), &["-c", script]), 0, &[]);
    ran(test);
}

#[test]
fn the_lines_of_python_in_the_readme_run() {
    let test = "the_lines_of_python_in_the_readme_run";
    let Some(python) = python(test) else { return };
    if !has_adapter(test) {
        return;
    }
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```python\n").expect("a block of Python");
    let (script, _) = rest.split_once("```").expect("an end of the block");
    let command = readme.lines().find(|line| line.starts_with("fusebench dump ")).expect("a dump");
    let command = command.split('#').next().expect("a command").replace('\'', "");
    let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
    let dir = tempfile::tempdir().expect("a folder");
    let out = fusebench(&arguments).current_dir(dir.path()).output().expect("the program starts");
    ends(&out, 0, &[]);
    ends(&run(&python, dir.path(), &["-c", script]), 0, &[]);
    ran(test);
}
