//! Every shader, without a GPU: it compiles at every precision and for every strategy, each back
//! end accepts it, and its interface is the one its Rust partner describes.

mod backends;
#[path = "../common/mod.rs"]
mod common;
mod directx;

use std::collections::BTreeSet;
use std::{env, fs};

use backends::{Hlsl, has_new_spirv_val, has_spirv_val, spirv_val, translate};
use common::{kernels, skipped};
use directx::DirectX;
use fusebench::inputs::{Distribution, Generator};
use fusebench::kernel::Entry;
use fusebench::kernel::{Dtype, Elem, Kernel, Preset, Shape, Variant};
use fusebench::kernels::ALL;
use fusebench::shader::{self, Dialect};
use naga::valid::{
    Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator,
};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};

type Check = Result<(), String>;

const MAX_COLUMNS: usize = 100;
const MAX_LINES: usize = 400;

/// Parses and validates a complete shader.
fn compile(source: &str) -> Result<(Module, ModuleInfo), String> {
    let module =
        naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let capabilities = Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP
        | Capabilities::COOPERATIVE_MATRIX;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|error| error.into_inner().to_string())?;
    Ok((module, info))
}

/// One pipeline: an entry point with its override constants.
#[derive(Clone, Debug, PartialEq)]
struct Pipeline {
    entry: &'static str,
    constants: Vec<(&'static str, f64)>,
    /// The buffers that the launch gives it to write.
    writable: Vec<&'static str>,
    /// Whether it multiplies cooperative matrices, of which not every back end and tool knows.
    matrices: bool,
}

/// One of the texts of a kernel: which of its shaders, and what that is written over.
#[derive(Clone, Debug, PartialEq)]
struct Script {
    shader: Option<&'static str>,
    dialect: Dialect,
}

impl Script {
    fn of(variant: &Variant, dtype: Dtype) -> Self {
        Script { shader: variant.shader, dialect: Dialect::of(variant, dtype) }
    }

    /// The text without the line in front.
    fn wgsl(&self, entry: &Entry) -> &'static str {
        self.shader.map_or(entry.wgsl, |part| entry.other(part).expect("a shader"))
    }

    fn source(&self, entry: &Entry) -> String {
        shader::source(self.wgsl(entry), &self.dialect)
    }
}

/// The distinct pipelines of all smoke and models shapes.
fn pipelines(kernel: &dyn Kernel, dtype: Dtype, script: &Script) -> Vec<Pipeline> {
    let mut found = Vec::new();
    for shape in [Preset::Smoke, Preset::Models].into_iter().flat_map(|p| kernel.shapes(p)) {
        for variant in kernel.spec().variants {
            if (variant.refuses)(&shape).is_some() || Script::of(variant, dtype) != *script {
                continue;
            }
            let launch = kernel.launch(&shape, dtype, variant);
            let buffers = launch.outputs.iter().chain(&launch.scratch);
            let writable: Vec<_> = buffers.map(|buffer| buffer.name).collect();
            for dispatch in launch.dispatches {
                let constants = variant.constants.iter().copied().chain(dispatch.constants);
                let constants = constants.collect();
                let (entry, writable) = (dispatch.entry, writable.clone());
                let matrices = script.dialect.matrix.is_some();
                let pipeline = Pipeline { entry, constants, writable, matrices };
                if !found.contains(&pipeline) {
                    found.push(pipeline);
                }
            }
        }
    }
    found
}

/// An entry point writes only what its launch provides, and something of it.
fn check_writes(module: &Module, info: &ModuleInfo, pipeline: &Pipeline) -> Check {
    let index = module.entry_points.iter().position(|entry| entry.name == pipeline.entry);
    let uses = info.get_entry_point(index.ok_or("no such entry point")?);
    let touched = module.global_variables.iter().filter(|(handle, global)| {
        let storage = matches!(global.space, AddressSpace::Storage { access }
            if access.contains(StorageAccess::STORE));
        storage && !uses[*handle].is_empty()
    });
    let names: Vec<_> = touched.filter_map(|(_, global)| global.name.as_deref()).collect();
    let is_view = |name: &str, of: &str| ["", "4", "8"].iter().any(|v| name == format!("{of}{v}"));
    let provided = |name: &&str| pipeline.writable.iter().any(|known| is_view(name, known));
    if !names.is_empty() && names.iter().all(provided) {
        return Ok(());
    }
    Err(format!("writes {names:?}, given {:?}", pipeline.writable))
}

/// What no file may contain, and its size.
fn lint(wgsl: &str) -> Check {
    let code = wgsl.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for word in ["enable", "requires", "diagnostic", "arrayLength"] {
        if words.contains(word) {
            return Err(format!("`{word}` is not allowed in a kernel"));
        }
    }
    let dense: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    for pointer in ["ptr<workgroup", "ptr<storage"] {
        if dense.contains(pointer) {
            return Err(format!("`{pointer}` parameters are not portable"));
        }
    }
    if let Some(line) = wgsl.lines().position(|line| line.chars().count() > MAX_COLUMNS) {
        return Err(format!("line {} is longer than {MAX_COLUMNS} columns", line + 1));
    }
    match wgsl.lines().count() {
        lines if lines > MAX_LINES => Err(format!("{lines} lines, more than {MAX_LINES}")),
        _ => Ok(()),
    }
}

/// The buffers a kernel describes for one shape, by binding, and how many each variant binds.
struct Interface {
    params: Vec<&'static str>,
    /// Name and whether the shader may write.
    buffers: Vec<(&'static str, bool)>,
}

/// Of the strategies that share a shader, whatever it is written over.
fn interface(
    entry: &Entry,
    shape: &Shape,
    dtype: Dtype,
    shader: Option<&str>,
) -> Result<Interface, String> {
    let kernel = entry.kernel;
    let variant = &kernel.spec().variants[0];
    let generator = Generator::new(dtype, variant, Distribution::Normal, 1);
    let inputs = kernel.inputs(shape, &generator);
    let mut buffers: Vec<_> = inputs.tensors.iter().map(|tensor| (tensor.name, false)).collect();
    let mut longest = Vec::new();
    let shares = |variant: &&Variant| variant.shader == shader;
    for variant in kernel.spec().variants.iter().filter(shares) {
        let launch = kernel.launch(shape, dtype, variant);
        let written = launch.outputs.iter().chain(&launch.scratch);
        let names: Vec<_> = written.map(|buffer| (buffer.name, true)).collect();
        let shared = names.len().min(longest.len());
        if names[..shared] != longest[..shared] {
            return Err(format!("variant {} binds other buffers", variant.name));
        }
        if names.len() > longest.len() {
            longest = names;
        }
    }
    buffers.extend(longest);
    Ok(Interface { params: inputs.params.names().to_vec(), buffers })
}

/// Names, order and access of the shader's buffers. `x4` and `x8` are views of the buffer `x`.
fn check_buffers(module: &Module, interface: &Interface) -> Check {
    let mut expected = vec![("params", false)];
    expected.extend(&interface.buffers);
    let mut seen = BTreeSet::new();
    for (_, global) in module.global_variables.iter() {
        let Some(binding) = &global.binding else { continue };
        let name = global.name.as_deref().unwrap_or_default();
        let Some(&(wanted, writes)) = expected.get(binding.binding as usize) else {
            return Err(format!("{name} has binding {}, which nothing fills", binding.binding));
        };
        if binding.group != 0
            || !["", "4", "8"].iter().any(|view| name == format!("{wanted}{view}"))
        {
            return Err(format!("binding {} is {name}, expected {wanted}", binding.binding));
        }
        let right = match global.space {
            AddressSpace::Uniform => binding.binding == 0,
            AddressSpace::Storage { access } => {
                binding.binding > 0 && access.contains(StorageAccess::STORE) == writes
            }
            _ => false,
        };
        if !right {
            return Err(format!("{name} is declared with the wrong address space or access"));
        }
        seen.insert(wanted);
    }
    match expected.iter().find(|(name, _)| !seen.contains(name)) {
        Some((name, _)) => Err(format!("{name} is not declared")),
        None => Ok(()),
    }
}

/// Names and offsets of the Params members.
fn check_params(module: &Module, names: &[&str]) -> Check {
    let params = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params"));
    let Some((_, params)) = params else { return Err("no struct Params".into()) };
    let TypeInner::Struct { members, .. } = &params.inner else {
        return Err("Params is not a struct".into());
    };
    let declared: Vec<_> =
        members.iter().map(|m| (m.name.as_deref().unwrap_or_default(), m.offset)).collect();
    let expected: Vec<_> = names.iter().zip(0_u32..).map(|(&name, i)| (name, 4 * i)).collect();
    if declared == expected {
        return Ok(());
    }
    Err(format!("Params are {declared:?} in WGSL and {expected:?} in Rust"))
}

/// Runs a check for every kernel, precision and text and reports all failures together.
fn for_each_kernel(check: impl Fn(&Entry, Dtype, &Script) -> Check) {
    let mut failures = Vec::new();
    for entry in kernels() {
        for &dtype in entry.kernel.spec().dtypes {
            let mut scripts: Vec<Script> = Vec::new();
            for variant in entry.kernel.spec().variants {
                let script = Script::of(variant, dtype);
                if !scripts.contains(&script) {
                    let of = |why| format!("{} {} {script:?}: {why}", entry.path(), dtype.name());
                    failures.extend(check(entry, dtype, &script).err().map(of));
                    scripts.push(script);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_pipeline_compiles_for_every_back_end() {
    let validate = has_spirv_val();
    assert!(validate || env::var_os("CI").is_none(), "spirv-val is not installed");
    let validate_matrices = has_new_spirv_val();
    assert!(validate_matrices || env::var_os("CI").is_none(), "run scripts/oracles: no spirv-val");
    let directx = DirectX::find();
    assert!(directx.is_some() || env::var_os("CI").is_none(), "run scripts/oracles: no DXC");
    let count = std::cell::Cell::new(0);
    for_each_kernel(|entry, dtype, script| {
        let (module, info) = compile(&script.source(entry))?;
        for pipeline in pipelines(entry.kernel, dtype, script) {
            let of = |error| format!("{pipeline:?}: {error}");
            let translation = translate(&module, &info, &pipeline).map_err(of)?;
            check_writes(&module, &info, &pipeline).map_err(of)?;
            count.set(count.get() + 1);
            if if pipeline.matrices { validate_matrices } else { validate } {
                spirv_val(&pipeline, &translation.spirv).map_err(of)?;
            }
            if let (Some(directx), Some(hlsl)) = (&directx, &translation.hlsl) {
                directx.compile(hlsl).map_err(of)?;
            }
        }
        Ok(())
    });
    assert!(count.get() >= kernels().count(), "only {} pipelines", count.get());
    if !validate {
        println!("skipped: spirv-val is not installed, {} modules not validated", count.get());
    }
    if !validate_matrices {
        let why = "spirv-val knows no cooperative matrices, run scripts/oracles";
        skipped("every_pipeline_compiles_for_every_back_end", why);
    }
    if directx.is_none() {
        skipped("every_pipeline_compiles_for_every_back_end", "DXC absent, run scripts/oracles");
    }
}

/// Pipelines of all precisions from one shader file: what reads eights pays in f16 alone.
fn pipelines_of_all(entry: &Entry, shader: Option<&str>) -> Vec<Pipeline> {
    let spec = entry.kernel.spec();
    let mut found = Vec::new();
    for &dtype in spec.dtypes {
        let scripts = spec.variants.iter().map(|variant| Script::of(variant, dtype));
        for script in scripts.filter(|script| script.shader == shader) {
            found.extend(pipelines(entry.kernel, dtype, &script));
        }
    }
    found
}

#[test]
fn every_entry_point_is_used() {
    for_each_kernel(|entry, _, script| {
        let (module, _) = compile(&script.source(entry))?;
        let used = pipelines_of_all(entry, script.shader);
        let idle = module.entry_points.iter().find(|e| !used.iter().any(|p| p.entry == e.name));
        idle.map_or(Ok(()), |e| Err(format!("no smoke or models shape runs {}", e.name)))
    });
}

#[test]
fn every_interface_is_the_one_described() {
    for_each_kernel(|entry, dtype, script| {
        let (module, _) = compile(&script.source(entry))?;
        let shape = entry.kernel.shapes(Preset::Smoke).swap_remove(0);
        let interface = interface(entry, &shape, dtype, script.shader)?;
        check_params(&module, &interface.params)?;
        check_buffers(&module, &interface)
    });
}

#[test]
fn every_file_keeps_the_rules() {
    for_each_kernel(|entry, _, script| lint(script.wgsl(entry)));
    // The text compiled in is the text on disk.
    for (path, wgsl) in ALL.iter().flat_map(Entry::shaders) {
        let path = format!("{}/kernels/{path}.wgsl", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(fs::read_to_string(&path).expect("readable text"), wgsl, "{path}");
    }
}

const F32: Dialect = Dialect { storage: Elem::F32, sum: Elem::F32, matrix: None };

fn plain(
    entry: &'static str,
    constants: Vec<(&'static str, f64)>,
    writable: Vec<&'static str>,
) -> Pipeline {
    Pipeline { entry, constants, writable, matrices: false }
}

fn layer_norm() -> &'static Entry {
    ALL.iter().find(|entry| entry.name == "layer_norm").expect("a kernel")
}

/// The layer norm shader with one passage replaced.
fn corrupted(from: &str, to: &str) -> String {
    let wgsl = layer_norm().wgsl;
    assert!(wgsl.contains(from), "nothing to corrupt: {from}");
    shader::source(&wgsl.replacen(from, to, 1), &F32)
}

#[test]
fn corrupted_shaders_do_not_compile() {
    assert!(compile(&corrupted("f32(g[i])", "vec2<f32>(g[i])")).is_err());
    assert!(compile(&corrupted("@builtin(workgroup_id)", "")).is_err());
    assert!(compile(&shader::source("var<private> h: f16;", &F32)).is_err());
}

#[test]
fn unknown_constants_and_entries_are_refused() {
    let (module, info) = compile(&shader::source(layer_norm().wgsl, &F32)).expect("valid");
    let of = |entry, name| plain(entry, vec![(name, 8.0)], vec![]);
    assert!(translate(&module, &info, &of("thread", "WG")).is_ok());
    assert!(translate(&module, &info, &of("thread", "LANES")).is_err());
    assert!(translate(&module, &info, &of("no_such_entry", "WG")).is_err());
}

#[test]
fn writing_a_buffer_that_is_not_provided_is_found() {
    let (module, info) = compile(&shader::source(layer_norm().wgsl, &F32)).expect("valid");
    let of = |writable| plain("thread", vec![], writable);
    assert_eq!(check_writes(&module, &info, &of(vec!["y"])), Ok(()));
    assert!(check_writes(&module, &info, &of(vec!["scores"])).is_err());
}

#[test]
fn a_corrupted_module_fails_spirv_val() {
    if !has_spirv_val() {
        assert!(env::var_os("CI").is_none(), "spirv-val is not installed");
        println!("skipped: spirv-val is not installed, 1 check not made");
        return;
    }
    let (module, info) = compile(&shader::source(layer_norm().wgsl, &F32)).expect("valid");
    let pipeline = plain("thread", vec![("WG", 8.0)], vec![]);
    let words = translate(&module, &info, &pipeline).expect("valid").spirv;
    assert_eq!(spirv_val(&pipeline, &words), Ok(()));
    let cut_short = &words[..words.len() - 1];
    assert!(spirv_val(&pipeline, cut_short).is_err(), "OpFunctionEnd is missing");
}

#[test]
fn dxc_refuses_what_is_no_hlsl() {
    let Some(directx) = DirectX::find() else {
        assert!(env::var_os("CI").is_none(), "run scripts/oracles: no DXC");
        skipped("dxc_refuses_what_is_no_hlsl", "DXC absent, run scripts/oracles");
        return;
    };
    let hlsl = |text: &str| Hlsl { text: text.to_owned(), entry: "main".to_owned() };
    let right = "[numthreads(1, 1, 1)] void main(uint3 id : SV_DispatchThreadID) {}";
    assert_eq!(directx.compile(&hlsl(right)), Ok(()));
    let wrong = directx.compile(&hlsl(&right.replace("{}", "{ return 1 }")));
    assert!(wrong.is_err_and(|why| why.contains("error")));
}

#[test]
fn forbidden_text_is_found() {
    assert_eq!(lint("// enable nothing here\nfn main() {}\n"), Ok(()));
    for bad in [
        "enable f16;",
        "requires packed_4x8_integer_dot_product;",
        "diagnostic(off, derivative_uniformity);",
        "fn f(p: ptr<workgroup, f32>) {}",
        "fn f(p: ptr< storage, f32>) {}",
        "let n = arrayLength(&x);",
        &"x".repeat(101),
        &"\n".repeat(401),
    ] {
        assert!(lint(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_changed_interface_is_found() {
    let entry = layer_norm();
    let shape = entry.kernel.shapes(Preset::Smoke).swap_remove(0);
    let described = interface(entry, &shape, Dtype::F32, None).expect("one interface");
    let check = |from: &str, to: &str| {
        let (module, _) = compile(&corrupted(from, to)).expect("still valid");
        check_params(&module, &described.params).and(check_buffers(&module, &described))
    };
    assert_eq!(check("eps: f32 }", "eps: f32 } "), Ok(()));
    for (from, to) in [
        ("rows: u32, d: u32, eps: f32", "d: u32, rows: u32, eps: f32"),
        ("eps: f32 }", "eps: f32, more: f32 }"),
        ("rows: u32, d: u32,", "rows: u32, @align(8) d: u32,"),
        ("@binding(2) var<storage, read> g", "@binding(5) var<storage, read> g"),
        ("var<storage, read> x", "var<storage, read_write> x"),
        ("var<uniform> params", "var<storage, read> params"),
    ] {
        assert!(check(from, to).is_err(), "{from} → {to}");
    }
}
