//! From a kernel's file to a compilable shader: one line in front names the storage type.

use crate::kernel::Elem;

/// Directives first, aliases next, then the two functions every stored result goes through. One
/// line without its end, so that line numbers in error messages are those of the file.
///
/// Conversion of an f32 beyond the range of f16 is indeterminate in WGSL, so it is clamped first.
pub fn prelude(storage: Elem) -> &'static str {
    match storage {
        Elem::F16 => concat!(
            "enable f16; alias T = f16; alias T4 = vec4<f16>; ",
            "fn to_storage(v: f32) -> T { return T(clamp(v, -65504.0, 65504.0)); } ",
            "fn to_storage4(v: vec4<f32>) -> T4 { ",
            "return T4(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0))); } ",
        ),
        _ => concat!(
            "alias T = f32; alias T4 = vec4<f32>; ",
            "fn to_storage(v: f32) -> T { return v; } ",
            "fn to_storage4(v: vec4<f32>) -> T4 { return v; } ",
        ),
    }
}

/// The complete WGSL text of a kernel whose floating-point tensors are stored as `storage`.
pub fn source(wgsl: &str, storage: Elem) -> String {
    format!("{}{wgsl}", prelude(storage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_moves_no_line() {
        for storage in [Elem::F32, Elem::F16] {
            assert_eq!(source("a\nb\n", storage).lines().count(), 2);
        }
    }
}
