//! From a kernel's file to a compilable shader: one line in front says what it is written over.

use std::fmt;

use crate::kernel::{Dtype, Elem, Need, Variant};

/// Subgroups whose size is known, under the name shown to users.
pub const SUBGROUP_OF_8: &str = "subgroup-of-8";

/// What the text of a shader leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The types `T` and `T4` of floating-point tensors.
    pub storage: Elem,
    /// The types `Sum` and `Sum4` that products of them are added in.
    pub sum: Elem,
    /// The matrices `Left`, `Right` and `Total`, `SIDE` rows and columns each.
    pub matrix: Option<Matrix>,
}

impl Dialect {
    /// That of a strategy at a precision.
    pub fn of(variant: &Variant, dtype: Dtype) -> Self {
        let (storage, sum) = (variant.storage(dtype), dtype.sum());
        let of = |side| Matrix { side, factor: storage, sum };
        Dialect { storage, sum, matrix: variant.matrix_side().map(of) }
    }

    /// Names of the optional device features it takes, as the adapter's report has them.
    pub fn features(&self, needs: &[Need]) -> Vec<String> {
        let half = (self.storage == Elem::F16).then(|| "shader-f16".to_owned());
        let named = needs.iter().filter_map(|need| match need {
            Need::ShaderF16 => Some("shader-f16".to_owned()),
            Need::Subgroup => Some("subgroup".to_owned()),
            Need::SubgroupOf8 => Some(SUBGROUP_OF_8.to_owned()),
            Need::CooperativeMatrix(_) => self.matrix.map(|matrix| matrix.to_string()),
        });
        named.chain(half).collect()
    }
}

/// Cooperative matrices: squares that the lanes of a subgroup hold together, and the type their
/// products are added in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub side: u32,
    pub factor: Elem,
    pub sum: Elem,
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix { side, factor, sum } = self;
        write!(f, "cooperative-matrix-{side}x{side}-{}-{}", factor.name(), sum.name())
    }
}

/// Directives first, aliases next, then the two functions every stored result goes through, and
/// the one that opens the eight elements of a T8: 16 bytes of f16 are one load, 32 of f32 two. One
/// line without its end, so that line numbers in error messages are those of the file.
///
/// Conversion of an f32 beyond the range of f16 is indeterminate in WGSL, so it is clamped first.
pub fn prelude(dialect: &Dialect) -> String {
    let half = dialect.storage == Elem::F16;
    let mut line = String::new();
    if half {
        line += "enable f16; ";
    }
    if dialect.matrix.is_some() {
        line += "enable wgpu_cooperative_matrix; ";
    }
    let (stored, sum) = (if half { "f16" } else { "f32" }, dialect.sum.name());
    line += &format!("alias T = {stored}; alias T4 = vec4<{stored}>; ");
    line += &format!("alias Sum = {sum}; alias Sum4 = vec4<{sum}>; ");
    if let Some(Matrix { side, .. }) = dialect.matrix {
        for (name, ty, role) in [("Left", stored, "A"), ("Right", stored, "B"), ("Total", sum, "C")]
        {
            line += &format!("alias {name} = coop_mat{side}x{side}<{ty}, {role}>; ");
        }
        line += &format!("const SIDE = {side}u; ");
    }
    line += match half {
        true => concat!(
            "fn to_storage(v: f32) -> T { return T(clamp(v, -65504.0, 65504.0)); } ",
            "fn to_storage4(v: vec4<f32>) -> T4 { ",
            "return T4(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0))); } ",
            "alias T8 = vec4<u32>; fn from_storage8(v: T8) -> mat2x4<f32> { return mat2x4<f32>(",
            "vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)), ",
            "vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w))); } ",
        ),
        false => concat!(
            "fn to_storage(v: f32) -> T { return v; } ",
            "fn to_storage4(v: vec4<f32>) -> T4 { return v; } ",
            "alias T8 = mat2x4<f32>; fn from_storage8(v: T8) -> mat2x4<f32> { return v; } ",
        ),
    };
    line
}

/// The complete WGSL text of a kernel.
pub fn source(wgsl: &str, dialect: &Dialect) -> String {
    format!("{}{wgsl}", prelude(dialect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelude_moves_no_line() {
        let needs = &[Need::CooperativeMatrix(16)];
        for variant in [Variant::new("a", &[]), Variant { needs, ..Variant::new("b", &[]) }] {
            for dtype in Dtype::ALL {
                let dialect = Dialect::of(&variant, dtype);
                assert_eq!(source("a\nb\n", &dialect).lines().count(), 2, "{dialect:?}");
            }
        }
    }

    #[test]
    fn a_dialect_names_the_features_it_takes() {
        let needs = &[Need::Subgroup, Need::CooperativeMatrix(8)];
        let variant = Variant { needs, ..Variant::new("tile8", &[]) };
        let of = |dtype| Dialect::of(&variant, dtype).features(needs);
        assert_eq!(of(Dtype::F32), ["subgroup", "cooperative-matrix-8x8-f32-f32"]);
        assert_eq!(of(Dtype::F16)[1..], ["cooperative-matrix-8x8-f16-f32", "shader-f16"]);
    }
}
