//! `--input`: tensors from files on the command line.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{ends, has_adapter, ran};
use fusebench::npy::{Kind, write};
use fusebench::record::{Manifest, Role, Row, Run, Status};
use fusebench::rng;

fn fusebench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusebench"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

/// A `.npy` file of doubles.
fn npy(dir: &Path, name: &str, dims: &[usize], value: impl Fn(u32) -> f64) -> String {
    let len = dims.iter().product::<usize>() as u32;
    let data: Vec<u8> = (0..len).flat_map(|index| value(index).to_le_bytes()).collect();
    let mut file = Vec::new();
    write(&mut file, Kind::F64, dims, &data).expect("a vector takes every byte");
    let path = dir.join(name);
    fs::write(&path, file).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

fn normal(stream: u32) -> impl Fn(u32) -> f64 {
    // Below the digits of an f32, so that every conversion has something to round.
    let digits = move |index| 1e-6 * f64::from(rng::normal(8, stream, index));
    move |index| f64::from(rng::normal(7, stream, index)) + digits(index)
}

fn rows(output: &Output) -> Vec<Row> {
    let run: Run = serde_json::from_slice(&output.stdout).expect("a result file");
    run.rows
}

fn check(filters: &[&str], inputs: &[String], more: &[&str]) -> Output {
    let mut arguments = vec!["check", "--preset", "smoke"];
    arguments.extend(filters);
    for input in inputs {
        arguments.extend(["--input", input]);
    }
    arguments.extend(more);
    fusebench(&arguments)
}

#[test]
fn tensors_become_the_shape_and_the_data_of_a_dump() {
    let test = "tensors_become_the_shape_and_the_data_of_a_dump";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let x = npy(dir.path(), "secret-x.npy", &[9, 33], normal(1));
    let w = npy(dir.path(), "secret-w.npy", &[5, 33], normal(2));
    let out = dir.path().join("dump");
    let filter = "^linear/register/f32/m7n30k74$";
    let (x, w) = (format!("x={x}"), format!("w={w}"));
    let output = fusebench(&[
        "dump",
        filter,
        "--preset",
        "smoke",
        "--input",
        &x,
        "--input",
        &w,
        "-o",
        out.to_str().expect("UTF-8"),
    ]);
    ends(&output, 0, &["m9n5k33"]);
    let text = fs::read_to_string(out.join("manifest.json")).expect("a manifest");
    let manifest: Manifest = serde_json::from_str(&text).expect("of the documented type");
    assert_eq!(manifest.inputs, "user");
    let cell = &manifest.cells[0];
    assert_eq!(cell.row.id, "linear/register/f32/m9n5k33");
    let file = cell.files.iter().find(|file| file.role == Role::Input && file.name == "x");
    let bytes = fs::read(out.join(&file.expect("an input").path)).expect("a file");
    let expected: Vec<u8> =
        (0..9 * 33).flat_map(|index| (normal(1)(index) as f32).to_le_bytes()).collect();
    assert_eq!(bytes[bytes.len() - expected.len()..], expected[..]);
    // Not the path, not the name of the file, and the twin: the arguments are there.
    assert!(!text.contains("secret") && text.contains("x=PATH"), "{text}");
    ran(test);
}

#[test]
fn rows_say_user_and_what_the_conversion_cost() {
    let test = "rows_say_user_and_what_the_conversion_cost";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let x = npy(dir.path(), "secret.npy", &[40, 96], normal(1));
    let filters =
        ["^layer_norm/thread/", "^softmax/thread/f32/r.*[0-9]$", "^quantize_int[84]/thread/"];
    let input = [format!("x={x}")];
    let output = check(&filters, &input, &["--format", "json"]);
    ends(&output, 0, &["x=PATH"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
    let rows = rows(&output);
    let mut compressed = 0;
    for row in rows.iter().filter(|row| row.status == Status::Ok) {
        let accuracy = row.accuracy.as_ref().expect("verified");
        assert_eq!((accuracy.inputs.as_str(), accuracy.checked.len()), ("user", 1), "{}", row.id);
        let given = &accuracy.converted[0];
        assert_eq!((given.input.as_str(), given.from.as_str()), ("x", "f64"));
        let db = given.sqnr_db.expect("no value is exact");
        let said = given.predicted_sqnr_db.expect("predicted");
        assert!((db - said).abs() < 1.0, "{}: {db} dB, predicted {said}", row.id);
        assert_eq!(db > 140.0, given.to == "f32", "{}: {db} dB", row.id);
        if row.kernel.starts_with("quantize") {
            compressed += 1;
            assert_eq!(accuracy.against.as_deref(), Some("full precision"));
            let said = accuracy.predicted_sqnr_db.expect("predicted");
            assert!((accuracy.sqnr_db - said).abs() < 1.0, "{}: {said}", row.id);
        }
    }
    assert!(compressed >= 6, "{} rows", rows.len());
    let table = check(&filters[..1], &input, &[]);
    ends(&table, 0, &["your tensors on their way in: x f64 to f32", "r40d96"]);
    ran(test);
}

#[test]
fn one_wrong_element_is_caught_on_tensors_of_a_user() {
    let test = "one_wrong_element_is_caught_on_tensors_of_a_user";
    if !has_adapter(test) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let x = [format!("x={}", npy(dir.path(), "x.npy", &[5, 31], normal(1)))];
    let folder = dir.path().join("normalize");
    fs::create_dir(&folder).expect("a folder");
    let shader = include_str!("../kernels/normalize/layer_norm.wgsl");
    let store = "y[row * params.d + i] = to_storage(out);";
    assert!(shader.contains(store));
    let wrong = "let slip = select(0.0, 1e-3, row == 3u && i == 30u); \
                 y[row * params.d + i] = to_storage(out + slip);";
    fs::write(folder.join("layer_norm.wgsl"), shader.replace(store, wrong)).expect("a file");
    let overlay = ["--kernels", dir.path().to_str().expect("UTF-8")];
    let filter = ["^layer_norm/thread/f32/"];
    ends(&check(&filter, &x, &overlay), 1, &["wrong", "element 123", "user inputs"]);
    ends(&check(&filter, &x, &[]), 0, &["pass"]);
    // Gates that only report see it too and decide nothing.
    let report = [&overlay[..], &["--allow-nonfinite", "--format", "json"]].concat();
    let output = check(&filter, &x, &report);
    ends(&output, 0, &[]);
    let accuracy = rows(&output).swap_remove(0).accuracy.expect("verified");
    assert!(accuracy.report_only && !accuracy.passed, "{accuracy:?}");
    ran(test);
}

#[test]
fn values_that_are_not_finite_are_refused_unless_allowed() {
    let test = "values_that_are_not_finite_are_refused_unless_allowed";
    let dir = tempfile::tempdir().expect("a folder");
    let bad = |index| if index == 40 { f64::NAN } else { normal(1)(index) };
    let x = [format!("x={}", npy(dir.path(), "x.npy", &[5, 32], bad))];
    let filters = [
        "^(layer_norm|softmax|l2_normalize|top_k|median_filter)/",
        "^(quantize|dequantize)_int[48]/",
        "^(prune_2_4|prune_magnitude)/",
    ];
    ends(&check(&filters, &x, &[]), 2, &["values: 1 of 160", "NaN at [1, 8]", "--allow-nonfinite"]);
    let huge = [format!("x={}", npy(dir.path(), "h.npy", &[5, 32], |_| 1e300))];
    ends(&check(&filters, &huge, &[]), 2, &["beyond f32"]);
    if !has_adapter(test) {
        return;
    }
    let output = check(&filters, &x, &["--allow-nonfinite", "--format", "json"]);
    ends(&output, 0, &[]);
    for row in rows(&output) {
        let fine = matches!(row.status, Status::Ok | Status::Unsupported);
        assert!(fine, "{}: {:?}", row.id, row.reason);
    }
    ran(test);
}

#[test]
fn what_does_not_fit_is_said_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, dims: &[usize]| npy(dir.path(), name, dims, |_| 0.5);
    let (five, six) = (file("five.npy", &[3, 5]), file("six.npy", &[4, 6]));
    let (x, w) = (format!("x={five}"), format!("w={six}"));
    let cut = dir.path().join("cut.npy");
    let bytes = fs::read(&five).expect("a file");
    fs::write(&cut, &bytes[..bytes.len() - 1]).expect("a file");
    let cut = format!("x={}", cut.display());
    let cube = format!("x={}", file("cube.npy", &[2, 3, 5]));
    let model = dir.path().join("m.safetensors");
    let header = br#"{"layer.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    fs::write(&model, [&length[..], header, &[0; 4]].concat()).expect("a file");
    let named = format!("x={}:layer.wieght", model.display());
    let linear = "^linear/register/f32/";
    let twice = [x.as_str(), &x];
    let below = format!("a={}", npy(dir.path(), "below.npy", &[3], |_| -1.0));
    let cases: [(&[&str], &str, &[&str]); 12] = [
        (&[&below], "^late_fusion/", &["some values are below zero", "at least 0"]),
        (&[&x, &w], linear, &["--input x and --input w do not fit", "5 in x", "6 in w"]),
        (&[&cube], linear, &["3 dimensions: 2 × 3 × 5", "m × k"]),
        (&["q=nothing.npy"], linear, &["cannot read --input q", "nothing.npy"]),
        (&[&format!("q={five}")], linear, &["linear takes no such tensor", "w (n × k)"]),
        (&[&x], "^gaussian_noise/", &["draws noise and reads nothing"]),
        (&[&x], "^read/", &["a probe measures the device"]),
        (&[&x], "^pipeline_", &["fits nothing that is selected", "is a pipeline"]),
        (&[&cut], linear, &["cut.npy", "shape: 3 × 5 of <f8 takes 120 bytes", "are 119"]),
        (&[&named], linear, &["tensor: none of the 1", "did you mean layer.weight?"]),
        (&twice, linear, &["given twice"]),
        (&["x=a.txt"], linear, &["neither .npy nor .safetensors"]),
    ];
    for (inputs, filter, says) in cases {
        let inputs: Vec<String> = inputs.iter().map(|&input| input.to_owned()).collect();
        ends(&check(&[filter], &inputs, &[]), 2, says);
    }
    let group = format!("x={}", file("seven.npy", &[1, 7, 4]));
    ends(&check(&["^group_norm/.*g3$"], &[group], &[]), 2, &["no multiple"]);
    ends(&check(&[linear], std::slice::from_ref(&x), &["--mutants"]), 2, &["cannot be used with"]);
    ends(&check(&[linear], &[], &["--allow-nonfinite"]), 2, &["--input"]);
    let dump = dir.path().join("dump").display().to_string();
    let both = ["dump", linear, "--input", &x, "--inputs", "small", "-o", &dump];
    ends(&fusebench(&both), 2, &["cannot be used with"]);
    assert!(!Path::new(&dump).exists(), "nothing was made");
}
