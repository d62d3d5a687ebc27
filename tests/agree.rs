//! Every kernel against its reference on the device, at the awkward shapes, on every input
//! distribution; and proof that the comparison can fail.

mod common;

use std::collections::BTreeMap;

use common::{ran, session, skipped};
use fusebench::gpu::Checks;
use fusebench::kernel::Preset;
use fusebench::kernels::ALL;
use fusebench::record::{Row, Status};
use fusebench::suite::{Cell, Session, Sources, Task, cells};

/// Reference operations per distribution: every row of every smoke shape.
const CHECK: Task = Task::Check { flops: f64::INFINITY };

fn check(session: &mut Session, cell: &Cell) -> Row {
    session.run(cell, &CHECK, &mut |_, _| {}).0
}

/// Checks every smoke cell and returns the failures.
fn agreement(test: &str, checks: Checks) -> Option<Vec<String>> {
    let mut session = session(test, Sources::default(), checks)?;
    let mut unsupported: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for cell in cells(Preset::Smoke) {
        let row = check(&mut session, &cell);
        let reason = row.reason.unwrap_or_default();
        match row.status {
            Status::Ok => {}
            Status::Unsupported => *unsupported.entry(reason).or_default() += 1,
            _ => failures.push(format!("{}: {reason}", row.id)),
        }
    }
    for (reason, count) in unsupported {
        skipped(test, &format!("{count} cells unsupported ({reason})"));
    }
    ran(test);
    Some(failures)
}

#[test]
fn every_smoke_cell_agrees_with_its_reference() {
    let failures = agreement("every_smoke_cell_agrees_with_its_reference", Checks::Safe);
    let failures = failures.unwrap_or_default();
    assert!(failures.is_empty(), "{} cells:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_smoke_cell_agrees_without_runtime_checks() {
    let failures = agreement("every_smoke_cell_agrees_without_runtime_checks", Checks::Trusted);
    let failures = failures.unwrap_or_default();
    assert!(failures.is_empty(), "{} cells:\n{}", failures.len(), failures.join("\n"));
}

/// Small faults, one at a time: kernel, text of the shader, what takes its place. Every one must be
/// caught at some smoke shape on some input distribution.
const FAULTS: &[(&str, &str, &str)] = &[
    // A wrong constant.
    ("normalize/layer_norm", "+ params.eps", "+ 10.0 * params.eps"),
    ("normalize/rms_norm", "+ params.eps", "+ 10.0 * params.eps"),
    ("project/linear", "(1.0 + erf(", "(1.0 + 1.0001 * erf("),
    ("project/linear", "0.044715", "0.0447"),
    ("attend/cross_attention", "* params.scale", "* params.scale * 1.001"),
    ("fuse/weighted_sum", "/ total", "/ (total + 1e-5)"),
    ("fuse/gated_fusion", "vec4<f32>(15.0)", "vec4<f32>(5.0)"),
    ("normalize/layer_norm", "squares / n", "squares / (n - 1.0)"),
    // The last element dropped.
    ("normalize/layer_norm", "i < params.d; i++) { total", "i + 1u < params.d; i++) { total"),
    ("normalize/softmax", "i < valid; i++) { total", "i + 1u < valid; i++) { total"),
    ("project/linear", "q < params.k / 4u; q++", "q + 1u < params.k / 4u; q++"),
    ("attend/cross_attention", "key < valid; key++", "key + 1u < valid; key++"),
    ("probe/fma", "i < params.trips", "i + 1u < params.trips"),
    // A swapped or shifted index.
    ("normalize/layer_norm", "f32(g[i])", "f32(g[0])"),
    ("normalize/rms_norm", "f32(g[", "f32(g[0u * "),
    ("project/linear", "f32(b[col])", "f32(b[min(row, params.n - 1u)])"),
    ("attend/cross_attention", "index % params.queries) * params.heads + h", "h) * 1u + 0u * h"),
    ("probe/copy", "y[index] = x[index]", "y[index] = x[index ^ 1u]"),
    ("probe/read", "folded ^= x", "folded |= x"),
    // A step left out.
    ("normalize/layer_norm", "let shift = f32(x[base]);", "let shift = 0.0;"),
    ("normalize/softmax", "peak = max(peak, f32(x[base + i]));", "peak = 0.0;"),
    ("attend/cross_attention", "total *= shrink;", ""),
    ("fuse/gated_fusion", "sum += gate *", "sum +="),
    // A mask ignored.
    ("normalize/softmax", "min(len[row], params.n)", "params.n"),
    ("attend/cross_attention", "min(len[b], params.keys)", "params.keys"),
    ("fuse/weighted_sum", "((mask >> m) & 1u) == 1u", "true"),
    ("fuse/gated_fusion", "((mask >> m) & 1u) == 1u", "true"),
    // A level of the workgroup's reduction left out.
    ("normalize/layer_norm", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    ("probe/launch_overhead", "= ", "= 1u + "),
];

#[test]
fn every_fault_put_into_a_shader_is_caught() {
    let test = "every_fault_put_into_a_shader_is_caught";
    let mut survivors = Vec::new();
    for &(path, text, fault) in FAULTS {
        let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
        assert!(entry.wgsl.contains(text), "{path} has no `{text}`");
        let mut sources = Sources::default();
        sources.replace(path, entry.wgsl.replace(text, fault));
        let Some(mut session) = session(test, sources, Checks::Safe) else { return };
        let all = cells(Preset::Smoke);
        let mut rows = all.iter().filter(|cell| cell.entry.path() == path).map(|cell| {
            let row = check(&mut session, cell);
            assert_ne!(row.status, Status::Error, "{path} `{fault}`: {:?}", row.reason);
            row
        });
        if !rows.any(|row| row.status == Status::Wrong) {
            survivors.push(format!("{path}: `{text}` -> `{fault}`"));
        }
    }
    assert!(survivors.is_empty(), "not caught:\n{}", survivors.join("\n"));
    ran(test);
}

#[test]
fn a_store_past_the_end_is_caught_by_the_guard_band() {
    let test = "a_store_past_the_end_is_caught_by_the_guard_band";
    let path = "normalize/layer_norm";
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
    let store = "y[row * params.d + i] = to_storage(out);";
    assert!(entry.wgsl.contains(store));
    let beyond = format!("{store} y[params.rows * params.d] = to_storage(out);");
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(store, &beyond));
    let Some(mut session) = session(test, sources, Checks::Safe) else { return };
    let all = cells(Preset::Smoke);
    let cell = all.iter().find(|cell| cell.id() == "layer_norm/thread/f32/r7d31").expect("a cell");
    let row = check(&mut session, cell);
    assert_eq!(row.status, Status::Wrong);
    assert!(
        row.reason.as_deref().is_some_and(|why| why.contains("past the end of `y`")),
        "{row:?}"
    );
    ran(test);
}

#[test]
fn an_element_never_written_is_caught_wherever_it_is() {
    let test = "an_element_never_written_is_caught_wherever_it_is";
    let path = "normalize/rms_norm";
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered kernel");
    let guard = "if (row >= params.rows) { return; }";
    assert!(entry.wgsl.contains(guard));
    let skipping = "if (row >= params.rows || row == 100u) { return; }";
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(guard, skipping));
    let Some(mut session) = session(test, sources, Checks::Safe) else { return };
    let all = cells(Preset::Models);
    let cell = all.iter().find(|cell| cell.id() == "rms_norm/thread/f32/r257d1408").expect("one");
    // So few reference rows that row 100 is most likely not among them.
    let row = session.run(cell, &Task::Check { flops: 1e5 }, &mut |_, _| {}).0;
    assert_eq!(row.accuracy.expect("it was verified").verified, "sampled");
    assert_eq!(row.status, Status::Wrong);
    assert!(row.reason.is_some_and(|why| why.contains("never written")));
    ran(test);
}
