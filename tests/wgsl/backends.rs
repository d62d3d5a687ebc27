//! What becomes of a shader on each back end, and what the back end's own compiler says to it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::valid::ModuleInfo;
use naga::{Module, ShaderStage};

use super::{Check, Pipeline};

/// One pipeline in the languages of two back ends.
pub struct Translation {
    pub spirv: Vec<u32>,
    /// The one exception: HLSL has no cooperative matrices below shader model 6.9 and naga
    /// translates none. No DX12 adapter reports the feature, so such a cell is unsupported there.
    pub hlsl: Option<Hlsl>,
}

pub struct Hlsl {
    pub text: String,
    pub entry: String,
}

/// SPIR-V and HLSL of one pipeline; that it becomes MSL is checked too.
pub fn translate(
    module: &Module,
    info: &ModuleInfo,
    pipeline: &Pipeline,
) -> Result<Translation, String> {
    let entry = (ShaderStage::Compute, pipeline.entry.to_owned());
    let constants =
        pipeline.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let (module, info) =
        pipeline_constants::process_overrides(module, info, Some((entry.0, &entry.1)), &constants)
            .map_err(|error| format!("overrides: {error}"))?;

    let hlsl = match pipeline.matrices {
        true => None,
        false => Some(to_hlsl(&module, &info, &entry)?),
    };
    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let msl_entry = msl::PipelineOptions { entry_point: Some(entry.clone()), ..Default::default() };
    msl::write_string(&module, &info, &options, &msl_entry)
        .map_err(|error| format!("MSL: {error}"))?;

    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    let spv_entry = spv::PipelineOptions { shader_stage: entry.0, entry_point: entry.1 };
    let spirv = spv::write_vec(&module, &info, &options, Some(&spv_entry))
        .map_err(|error| format!("SPIR-V: {error}"))?;
    Ok(Translation { spirv, hlsl })
}

fn to_hlsl(
    module: &Module,
    info: &ModuleInfo,
    entry: &(ShaderStage, String),
) -> Result<Hlsl, String> {
    // At 6.4 naga writes dot4add_i8packed(a, b, 0), of whose 0 the fetched compiler, older than the
    // one that wgpu asks for, makes 64 bits.
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
    let hlsl_entry = hlsl::PipelineOptions { entry_point: Some(entry.clone()) };
    let mut text = String::new();
    let reflection = hlsl::Writer::new(&mut text, &options, &hlsl_entry)
        .write(module, info, None)
        .map_err(|error| format!("HLSL: {error}"))?;
    let name = reflection.entry_point_names.into_iter().next().ok_or("HLSL: no entry point")?;
    Ok(Hlsl { text, entry: name.map_err(|error| format!("HLSL: {error}"))? })
}

/// What scripts/oracles fetches: distributions carry versions from before cooperative matrices. It
/// validates nothing else, by the rules of SPIR-V without Vulkan's: among those it takes offence
/// at the array strides that naga leaves on workgroup memory, which drivers have always accepted.
const NEW_SPIRV_VAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.oracles/spirv-val");

/// Whether `spirv-val` of Debian's spirv-tools is installed.
pub fn has_spirv_val() -> bool {
    Command::new("spirv-val").arg("--version").output().is_ok()
}

/// Whether there is one that knows cooperative matrices.
pub fn has_new_spirv_val() -> bool {
    Command::new(NEW_SPIRV_VAL).arg("--version").output().is_ok()
}

/// What `spirv-val` says about the module of a pipeline.
pub fn spirv_val(pipeline: &Pipeline, words: &[u32]) -> Check {
    let (program, environment) =
        if pipeline.matrices { (NEW_SPIRV_VAL, "spv1.3") } else { ("spirv-val", "vulkan1.3") };
    let mut child = Command::new(program)
        .args(["--target-env", environment, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // The validator may stop reading at the first error: its verdict is what counts.
    let _ = child.stdin.take().expect("a piped stdin").write_all(&bytes);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if output.status.success() { Ok(()) } else { Err(format!("spirv-val: {text}")) }
}
