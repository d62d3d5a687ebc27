//! Strategies with cooperative matrices where no device has them: their shaders run as they are,
//! only that matrices are rows that the invocations of a subgroup of eight hold as plain vectors.
//! That shows which elements meet, what is cleared and what is stored, on any number of subgroups;
//! what a device's own matrix units do is for its own run to show. In the same way one that takes
//! subgroups of any size meets sizes that no device here has.

mod common;

use common::{SEED, is_kernel_chosen, ran, session, skipped};
use fusebench::accuracy::{Judgement, Noise, judge};
use fusebench::gpu::{Checks, Gpu, Step};
use fusebench::inputs::Distribution;
use fusebench::kernel::{Answer, Dtype, Entry, Mutant, Preset, Problem, Variant};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use fusebench::shader::{self, Dialect};
use fusebench::suite::{Cell, Session, Sources};
use regex::Regex;

/// Width of the matrices and invocations of a workgroup: with subgroups of eight as many as blocks,
/// with wider matrices, more of them, fewer that leave a rest, and one. The first at every
/// precision.
const WORKGROUPS: [(u32, f64); 5] = [(8, 32.0), (16, 32.0), (8, 128.0), (8, 24.0), (8, 8.0)];

/// Invocations of a subgroup, each of which holds one row of a matrix or two.
const SUBGROUP: u32 = 8;

/// The shader without cooperative matrices: a function for each use of a tile, and one that
/// multiplies, all of them told which invocation of its subgroup calls.
fn emulated(text: &str, side: u32) -> String {
    let replace = |text: &str, pattern: &str, by: &str| {
        Regex::new(pattern).expect("a pattern").replace_all(text, by).into_owned()
    };
    let target = r"&(\w+)\[([^\]]+)\], (\w+)\)";
    let text = replace(text, &format!(r"coopLoadT<\w+>\({target}"), "rows_of_$1(own, $2, $3)");
    let text = replace(&text, &format!(r"coopLoad<\w+>\({target}"), "columns_of_$1(own, $2, $3)");
    let text =
        replace(&text, &format!(r"coopStoreT\((\w+), {target}"), "store_$2(own, $1, $3, $4)");
    let text = text.replace("coopMultiplyAdd", "times_plus").replace(
        "@builtin(subgroup_id)",
        "@builtin(subgroup_invocation_id) own: u32, @builtin(subgroup_id)",
    );
    let unknown = ["coopLoad", "coopStore"].iter().any(|call| text.contains(call));
    assert!(!unknown, "a use of matrices that this does not know:\n{text}");
    let (rows, quads) = (side / SUBGROUP, side / 4);
    let mut out =
        format!("const SIDE = {side}u; alias Square = array<vec4<f32>, {}>; ", rows * quads);
    let tiles = Regex::new(r"var<workgroup> (\w+): array").expect("a pattern");
    for tile in tiles.captures_iter(&text).map(|found| found[1].to_owned()) {
        for (name, by_rows) in [("rows", true), ("columns", false)] {
            if text.contains(&format!("{name}_of_{tile}(")) {
                out += &load(name, &tile, side, by_rows);
            }
        }
        if text.contains(&format!("store_{tile}(")) {
            out += &store(&tile, side);
        }
    }
    // Last, because naga wants every named override before the arrays that are sized by them.
    text + &out + &times_plus(side)
}

/// Where an element of a matrix lies behind its first one; the invocation `own` holds the row.
fn place(row: u32, column: u32, by_rows: bool) -> String {
    let row = format!("(own + {}u)", SUBGROUP * row);
    if by_rows {
        format!("{row} * stride + {column}u")
    } else {
        format!("{column}u * stride + {row}")
    }
}

fn load(name: &str, tile: &str, side: u32, by_rows: bool) -> String {
    let mut out = format!("fn {name}_of_{tile}(own: u32, at: u32, stride: u32) -> Square {{ ");
    out += "var m: Square; ";
    for (row, quad) in (0..side / SUBGROUP).flat_map(|row| (0..side / 4).map(move |q| (row, q))) {
        let of = |j| format!("f32({tile}[at + {}])", place(row, 4 * quad + j, by_rows));
        let [a, b, c, d] = [0, 1, 2, 3].map(of);
        out += &format!("m[{}] = vec4<f32>({a}, {b}, {c}, {d}); ", row * (side / 4) + quad);
    }
    out + "return m; } "
}

fn store(tile: &str, side: u32) -> String {
    let mut out = format!("fn store_{tile}(own: u32, m: Square, at: u32, stride: u32) {{ ");
    for (row, column) in (0..side / SUBGROUP).flat_map(|row| (0..side).map(move |c| (row, c))) {
        let value = format!("m[{}][{}]", row * (side / 4) + column / 4, column % 4);
        out += &format!("{tile}[at + {}] = Sum({value}); ", place(row, column, true));
    }
    out + "} "
}

fn times_plus(side: u32) -> String {
    let (rows, quads) = (side / SUBGROUP, side / 4);
    let mut out =
        "fn times_plus(a: Square, b: Square, c: Square) -> Square { var m = c; ".to_owned();
    for k in 0..side {
        let (row, invocation) = (k / SUBGROUP, k % SUBGROUP);
        for quad in 0..quads {
            let of = row * quads + quad;
            out += &format!("let b_{k}_{quad} = subgroupBroadcast(b[{of}], {invocation}u); ");
        }
        for (row, quad) in (0..rows).flat_map(|row| (0..quads).map(move |quad| (row, quad))) {
            let factor = format!("a[{}][{}]", row * quads + k / 4, k % 4);
            out += &format!("m[{}] += {factor} * b_{k}_{quad}; ", row * quads + quad);
        }
    }
    out + "return m; } "
}

/// Subgroups of so many invocations, for the one shader that takes any number: they exchange values
/// through workgroup memory.
fn of_size(text: &str, size: u32) -> String {
    let replace = |text: String, this: &str, by: &str| {
        assert!(text.contains(this), "no {this} in:\n{text}");
        text.replace(this, by)
    };
    let text = replace(text.to_owned(), "subgroupMax(", "exchange(false, ");
    let text = replace(text, "subgroupAdd(", "exchange(true, ");
    let own = format!(
        "caller = lane; \
         weigh_keys(lane / {size}u, max(LANES / {size}u, 1u), lane % {size}u, {size}u);"
    );
    let text = replace(text, "weigh_keys(subgroup, subgroups, own, size);", &own);
    assert!(!text.contains("subgroupB") && !text.contains("subgroupS"), "another exchange");
    text + &format!(
        "var<private> caller: u32; var<workgroup> exchanged: array<vec4<f32>, LANES>; \
         fn exchange(adds: bool, v: vec4<f32>) -> vec4<f32> {{ \
         exchanged[caller] = v; workgroupBarrier(); \
         let first = caller / {size}u * {size}u; var all = exchanged[first]; \
         for (var i = first + 1u; i < min(first + {size}u, LANES); i++) {{ \
         all = select(max(all, exchanged[i]), all + exchanged[i], adds); }} \
         workgroupBarrier(); return all; }} "
    )
}

/// Runs a cell with such a shader and judges it.
fn verdicts(gpu: &Gpu, cell: &Cell, text: &str, inputs: &[Distribution]) -> Vec<Judgement> {
    let dialect = Dialect { matrix: None, ..cell.dialect() };
    let source = shader::source(text, &dialect);
    let launch = cell.launch();
    let tensors = cell.inputs(Distribution::Normal, SEED).tensors.len();
    let program = gpu.compile(&source, &launch, cell.variant, tensors, Checks::Safe);
    let program = program.unwrap_or_else(|error| panic!("{}: {error}", cell.id()));
    let one = |&distribution: &Distribution| {
        let inputs = cell.inputs(distribution, SEED);
        let set = gpu.allocate(&program, &inputs, &launch, &[]).expect("small buffers");
        let steps = [Step { program: program.clone(), set }];
        gpu.run(&steps).expect("it runs");
        let read = gpu.read(&steps[0].set).expect("it can be read");
        assert!(read.iter().all(|output| output.guard_intact), "{}: guard", cell.id());
        let problem = Problem {
            shape: &cell.shape,
            dtype: cell.dtype,
            variant: cell.variant,
            inputs: &inputs,
            device: &[],
        };
        let reference: Vec<_> =
            cell.entry.kernel.tracked(&problem, &Rows::All).swap_remove(0).into_iter().collect();
        let answer = Answer { buffer: &launch.outputs[0], bytes: &read[0].bytes };
        let noise = match (distribution, cell.dtype) {
            (Distribution::Normal, Dtype::F32 | Dtype::F16) => Noise::Independent,
            _ => Noise::Repeating,
        };
        let origin: Vec<usize> = (0..reference.len()).collect();
        judge(&answer.values(), &reference, &origin, noise)
    };
    inputs.iter().map(one).collect()
}

/// A device with subgroups of eight.
fn device(test: &str) -> Option<Session> {
    let session = session(test, Sources::default(), Checks::Safe)?;
    if session.gpu().report.has(shader::SUBGROUP_OF_8) {
        return Some(session);
    }
    skipped(test, "needs subgroups of eight");
    None
}

/// Kernels with a shader for matrices, and its text.
fn kernels() -> impl Iterator<Item = (&'static Entry, &'static str)> {
    let chosen = ALL.iter().filter(|entry| is_kernel_chosen(entry));
    chosen.filter_map(|entry| Some((entry, entry.other("matrix")?)))
}

/// Its cells of one number of invocations, whose matrices are `side` wide.
fn cells(entry: &'static Entry, side: u32, lanes: f64) -> Vec<Cell> {
    cells_of(entry, lanes, |variant| variant.matrix_side() == Some(side))
}

/// Its cells of one strategy with so many invocations in a workgroup.
fn cells_of(entry: &'static Entry, lanes: f64, is_wanted: impl Fn(&Variant) -> bool) -> Vec<Cell> {
    let spec = entry.kernel.spec();
    let of: &Variant = spec.variants.iter().find(|one| is_wanted(one)).expect("such a strategy");
    let variant = of.with_constants(&[("LANES".to_owned(), lanes)]).expect("it has the constant");
    let shapes = entry.kernel.shapes(Preset::Smoke).into_iter();
    let shapes = shapes.filter(|shape| (variant.refuses)(shape).is_none());
    let cell = |(shape, &dtype): (_, &Dtype)| Cell {
        entry,
        variant,
        dtype,
        shape,
        preset: Preset::Smoke,
        given: None,
    };
    let all = shapes.flat_map(|shape| spec.dtypes.iter().map(move |d| (shape.clone(), d)));
    all.map(cell).filter(|cell| !cell.is_empty()).collect()
}

/// What shows the precision, and what shows every place, of the data that the kernel knows.
fn inputs(entry: &Entry) -> Vec<Distribution> {
    let wanted = [Distribution::Normal, Distribution::Integers, Distribution::Ties];
    let known = entry.kernel.spec().inputs.iter().copied();
    known.filter(|distribution| wanted.contains(distribution)).collect()
}

#[test]
fn strategies_with_matrices_agree_with_their_reference_when_emulated() {
    let test = "strategies_with_matrices_agree_with_their_reference_when_emulated";
    let Some(session) = device(test) else { return };
    let mut failures = Vec::new();
    for (entry, text) in kernels() {
        for (side, lanes) in WORKGROUPS {
            let every = (side, lanes) == WORKGROUPS[0];
            let chosen = |cell: &Cell| every || cell.dtype == Dtype::F32;
            for cell in cells(entry, side, lanes).into_iter().filter(chosen) {
                let found = verdicts(session.gpu(), &cell, &emulated(text, side), &inputs(entry));
                assert!(found.iter().any(|judgement| !judgement.gates.is_empty()), "{}", cell.id());
                let wrong = found.into_iter().filter_map(|judgement| judgement.failure);
                failures.extend(wrong.map(|f| format!("{} {lanes}: {}", cell.id(), f.why)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    ran(test);
}

#[test]
fn a_tile_of_attention_agrees_with_its_reference_for_subgroups_of_any_size() {
    let test = "a_tile_of_attention_agrees_with_its_reference_for_subgroups_of_any_size";
    let Some(session) = device(test) else { return };
    let mut failures = Vec::new();
    let chosen =
        ALL.iter().filter(|entry| entry.name == "cross_attention" && is_kernel_chosen(entry));
    for entry in chosen {
        let text = entry.other("subgroup").expect("a shader");
        // The last one is larger than the workgroup.
        for size in [4, 16, 32, 64, 128] {
            let cells = cells_of(entry, 64.0, |variant| variant.shader == Some("subgroup"));
            for cell in cells.into_iter().filter(|cell| cell.dtype == Dtype::F32) {
                let found = verdicts(session.gpu(), &cell, &of_size(text, size), &inputs(entry));
                let wrong = found.into_iter().filter_map(|judgement| judgement.failure);
                failures.extend(wrong.map(|f| format!("{} of {size}: {}", cell.id(), f.why)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    ran(test);
}

#[test]
fn every_mutant_of_a_shader_for_matrices_is_caught_when_emulated() {
    let test = "every_mutant_of_a_shader_for_matrices_is_caught_when_emulated";
    let Some(session) = device(test) else { return };
    let mut survivors = Vec::new();
    for (entry, text) in kernels() {
        let own = |mutant: &&Mutant| text.contains(mutant.text) && mutant.equivalent.is_none();
        for mutant in entry.kernel.spec().mutants.iter().filter(own) {
            let faulty = emulated(&text.replace(mutant.text, mutant.instead), 8);
            let is_caught = |cell: Cell| {
                let found = verdicts(session.gpu(), &cell, &faulty, &inputs(entry));
                found.iter().any(|judgement| judgement.failure.is_some())
            };
            if !cells(entry, 8, 32.0).into_iter().any(is_caught) {
                survivors.push(format!("{}: {}", entry.path(), mutant.fault));
            }
        }
    }
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
    ran(test);
}

#[test]
fn what_the_shaders_of_a_kernel_share_is_the_same() {
    let function = Regex::new(r"(?m)^fn (\w+)\(").expect("a pattern");
    let body = |text: &str, name: &str| -> Option<String> {
        let start = text.find(&format!("fn {name}("))?;
        let first = text[start..].lines().next()?;
        let end = if first.ends_with('}') { first.len() } else { text[start..].find("\n}\n")? };
        Some(text[start..start + end].to_owned())
    };
    for (entry, other) in
        ALL.iter().flat_map(|entry| entry.others.iter().map(move |o| (entry, o.1)))
    {
        let names = function.captures_iter(other).map(|found| found[1].to_owned());
        let shared: Vec<String> =
            names.filter(|name| entry.wgsl.contains(&format!("fn {name}("))).collect();
        assert!(!shared.is_empty(), "{}", entry.path());
        for name in &shared {
            assert_eq!(body(other, name), body(entry.wgsl, name), "{}", entry.path());
        }
    }
}
