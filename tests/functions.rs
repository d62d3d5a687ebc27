//! The functions that kernels compute from, on the device, against NumPy's tables, which a library
//! of higher precision filled: each result is within what WGSL allows that function, or the
//! operations it is made of.

mod common;

use std::fs;
use std::path::Path;

use common::{ran, session, skipped};
use fusebench::accuracy::functions::tanh;
use fusebench::accuracy::{Scalar, Tracked};
use fusebench::gpu::{Checks, Step};
use fusebench::inputs::{Inputs, Params, Tensor};
use fusebench::kernel::{Buffer, Dtype, Elem, Launch, Variant};
use fusebench::kernels::ALL;
use fusebench::shader::{self, Dialect};
use fusebench::suite::{Session, Sources};

/// One function as kernels compute it.
struct Function {
    /// Name of NumPy's table.
    table: &'static str,
    /// The kernel whose text defines the function; `None` where it is built in.
    from: Option<(&'static str, &'static str)>,
    /// WGSL of f32 `v`.
    expression: &'static str,
    /// Where kernels call it: outside, its result or argument leaves the range of f32.
    domain: fn(f32) -> bool,
    tracked: fn(Tracked) -> Tracked,
}

const FUNCTIONS: [Function; 4] = [
    Function {
        table: "exp",
        from: None,
        expression: "exp(v)",
        domain: |v| v.abs() < 87.0,
        tracked: Scalar::exp,
    },
    Function {
        table: "log",
        from: None,
        expression: "log(v)",
        domain: |v| v.is_normal() && v > 0.0,
        tracked: Scalar::ln,
    },
    Function {
        table: "tanh",
        from: Some(("project/linear", "tanh_exp")),
        expression: "tanh_exp(v)",
        domain: f32::is_normal,
        tracked: tanh,
    },
    Function {
        table: "log1p",
        from: Some(("relate/sigmoid_contrastive_loss", "log1p")),
        expression: "log1p(vec4<f32>(v)).x",
        // What e^-|x| can be.
        domain: |v| v.is_normal() && v > 0.0 && v <= 1.0,
        tracked: log1p,
    },
];

/// The series of seven terms below 1/16, whose next term is the error, and the logarithm above.
fn log1p(e: Tracked) -> Tracked {
    if e.value >= 0.0625 {
        return (Tracked::exact(1.0) + e).ln();
    }
    let term = |n: i32| Tracked::exact(f64::from((-1.0_f32).powi(n + 1) / n as f32));
    let series = (1..7).rev().fold(term(7), |sum, n| term(n) + e * sum) * e;
    series.approximating(e.value.ln_1p(), e.value.powi(8) / 8.0)
}

/// Arguments and results of NumPy's table for f32 that lie in the domain.
fn table(function: &Function) -> Option<Vec<(f32, f32)>> {
    let folder = ".oracles/numpy/numpy/_core/tests/data";
    let file = format!("umath-validation-set-{}.csv", function.table);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(file);
    let text = fs::read_to_string(path).ok()?;
    let bits = |field: &str| u32::from_str_radix(field.trim_start_matches("0x"), 16).ok();
    let pair = |line: &str| {
        let mut fields = line.strip_prefix("np.float32,")?.split(',');
        let mut next = || Some(f32::from_bits(bits(fields.next()?)?));
        Some((next()?, next()?)).filter(|&(v, f)| (function.domain)(v) && f.is_finite())
    };
    Some(text.lines().filter_map(pair).collect())
}

/// The text of one function of a kernel.
fn definition((path, name): (&str, &str)) -> &'static str {
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
    let start = entry.wgsl.find(&format!("fn {name}(")).expect("the kernel defines it");
    let text = &entry.wgsl[start..];
    &text[..text.find("\n}").expect("a function ends") + 2]
}

/// The function on the device.
fn evaluate(session: &Session, function: &Function, arguments: Vec<f32>) -> Vec<f64> {
    let len = arguments.len();
    let definition = function.from.map_or("", definition);
    let wgsl = format!(
        "struct Params {{ n: u32 }}
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        {definition}
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
            if (id.x >= params.n) {{ return; }}
            let v = x[id.x];
            y[id.x] = {};
        }}",
        function.expression
    );
    let x = Tensor::floats("x", Elem::F32, &[len], arguments);
    let inputs = Inputs::new(Params::new().size("n", len), vec![x]);
    let output = Buffer::new("y", Elem::F32, 1, len);
    let launch = Launch::single(output.clone(), [len.div_ceil(64) as u32, 1, 1]);
    let (gpu, variant) = (session.gpu(), Variant::new("thread", &[]));
    let source = shader::source(&wgsl, &Dialect::of(&variant, Dtype::F32));
    let program = gpu.compile(&source, &launch, &variant, 1, Checks::Safe).expect("it compiles");
    let set = gpu.allocate(&program, &inputs, &launch, &[]).expect("small buffers");
    let steps = [Step { program, set }];
    gpu.run(&steps).expect("it runs");
    let read = gpu.read(&steps[0].set).expect("it can be read");
    output.elem.decode(&read[0].bytes, len)
}

/// A unit in the last place of an f32.
fn ulp(value: f32) -> f64 {
    let size = value.abs().max(f32::MIN_POSITIVE);
    f64::from(size.next_up()) - f64::from(size)
}

/// How far the tables are from exact: half a unit, but for log(0.7930513), which is rounded to the
/// neighbour.
const TABLE_ULPS: f64 = 0.515;

/// Arguments at which a result is further from the table than WGSL and the table's own rounding
/// allow.
fn faults(function: &Function, table: &[(f32, f32)], device: &[f64]) -> Vec<String> {
    let each = table.iter().zip(device).filter_map(|(&(v, published), &device)| {
        let tracked = (function.tracked)(Tracked::exact(f64::from(v)));
        let allowed = tracked.worst + TABLE_ULPS * ulp(published);
        let error = (device - f64::from(published)).abs();
        let within = error <= allowed && tracked.worst.is_finite();
        let reference = (tracked.value - f64::from(published)).abs() <= TABLE_ULPS * ulp(published);
        (!within || !reference).then(|| format!("{}({v}) = {device}, {published}", function.table))
    });
    each.collect()
}

/// Prints the largest errors. Units in the last place say nothing of results near zero, where only
/// an absolute error is promised.
fn report(function: &Function, table: &[(f32, f32)], device: &[f64]) {
    let (mut ulps, mut share) = (0.0_f64, 0.0_f64);
    for (&(v, published), &device) in table.iter().zip(device) {
        let tracked = (function.tracked)(Tracked::exact(f64::from(v)));
        let error = (device - f64::from(published)).abs();
        share = share.max((device - tracked.value).abs() / tracked.worst);
        if published.abs() >= 0.0625 {
            ulps = ulps.max(error / ulp(published));
        }
    }
    let (name, rows) = (function.table, table.len());
    println!("{name}: {rows} values, at most {share:.2} of the bound, {ulps:.1} ULP from 1/16 on");
}

#[test]
fn functions_on_the_device_are_within_their_bounds_of_the_published_tables() {
    let test = "functions_on_the_device_are_within_their_bounds_of_the_published_tables";
    let Some(session) = session(test, Sources::default(), Checks::Safe) else { return };
    for function in &FUNCTIONS {
        let Some(mut table) = table(function) else {
            return skipped(test, "no tables of NumPy, run scripts/oracles");
        };
        let arguments = table.iter().map(|&(argument, _)| argument).collect();
        let device = evaluate(&session, function, arguments);
        let found = faults(function, &table, &device);
        assert!(found.is_empty(), "{} of {}: {}", found.len(), table.len(), found.join("; "));
        report(function, &table, &device);
        let (name, rows) = (function.table, table.len());
        assert!(rows > 50, "{name}: only {rows} values");
        // The twin: one corrupted value of the table.
        let row = &mut table[rows / 2];
        row.1 += 1e-3 * row.1.abs().max(1.0);
        assert_eq!(faults(function, &table, &device).len(), 1, "{name}: not noticed");
    }
    ran(test);
}
