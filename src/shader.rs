//! From a kernel's file to a compilable shader: one line in front names the storage type.

use crate::kernel::Dtype;

/// Directives first, aliases next, then the two functions every stored result goes through. One
/// line without its end, so that line numbers in error messages are those of the file.
///
/// Conversion of an f32 beyond the range of f16 is indeterminate in WGSL, so it is clamped first.
pub fn prelude(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 | Dtype::F16Acc => concat!(
            "enable f16; alias T = f16; alias T4 = vec4<f16>; ",
            "fn to_storage(v: f32) -> T { return T(clamp(v, -65504.0, 65504.0)); } ",
            "fn to_storage4(v: vec4<f32>) -> T4 { ",
            "return T4(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0))); } ",
        ),
        Dtype::F32 | Dtype::I8 | Dtype::I4 => concat!(
            "alias T = f32; alias T4 = vec4<f32>; ",
            "fn to_storage(v: f32) -> T { return v; } ",
            "fn to_storage4(v: vec4<f32>) -> T4 { return v; } ",
        ),
    }
}

/// The complete WGSL text of a kernel at one precision.
pub fn source(wgsl: &str, dtype: Dtype) -> String {
    format!("{}{wgsl}", prelude(dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_moves_no_line() {
        for dtype in Dtype::ALL {
            assert_eq!(source("a\nb\n", dtype).lines().count(), 2);
        }
    }
}
