//! What the pipelines share: layers that are several stages, or another stage at another precision.

use crate::kernel::{Dtype, Elem};
use crate::pipeline::{Source, Stage};

/// The precision of every stage that is no linear layer: w8a8 keeps the rest in f32, w4a16 in f16.
pub fn plain(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::I8 => Dtype::F32,
        Dtype::I4 => Dtype::F16,
        other => other,
    }
}

/// Rows, outputs and inputs of a linear layer.
pub struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// A linear layer on the output of a stage or on features, with its activations quantised first
/// under w8a8. The result is the output `y` of the stage `name`.
pub fn linear(
    stages: &mut Vec<Stage>,
    name: &str,
    from: impl Into<Source>,
    size: &Size,
    dtype: Dtype,
) {
    layer(stages, name, &from.into(), size, dtype, None);
}

/// The same, followed by the GELU of the error function.
pub fn linear_gelu(
    stages: &mut Vec<Stage>,
    name: &str,
    from: impl Into<Source>,
    size: &Size,
    dtype: Dtype,
) {
    layer(stages, name, &from.into(), size, dtype, Some("gelu"));
}

fn layer(
    stages: &mut Vec<Stage>,
    name: &str,
    from: &Source,
    &Size { m, n, k }: &Size,
    dtype: Dtype,
    activation: Option<&'static str>,
) {
    let axes = [("m", m), ("n", n), ("k", k)];
    let stage = match dtype {
        Dtype::I8 => {
            let codes = format!("{name}: quantise");
            let rows = Stage::new(codes.clone(), "quantize_int8", &[("m", m), ("k", k)], dtype);
            stages.push(rows.fed("x", from));
            let stage = Stage::new(name, "linear_w8a8", &axes, dtype);
            stage.from("qa", &codes, "q").from("sa", &codes, "s")
        }
        Dtype::I4 => {
            let tag = if activation.is_some() { "group32_gelu" } else { "group32" };
            let stage = Stage::new(name, "linear_w4a16", &axes, dtype).stored_as(Elem::F16);
            stages.push(stage.tag(tag).fed("x", from));
            return;
        }
        _ => Stage::new(name, "linear", &axes, dtype).fed("x", from),
    };
    stages.push(activation.map_or(stage.clone(), |tag| stage.tag(tag)));
}
