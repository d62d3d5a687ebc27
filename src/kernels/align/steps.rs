//! What kernels over streams `[batch, steps, features]` share: strategies, launch, fractions.

use crate::kernel::{Buffer, Dtype, Launch, Variant, refuses_ragged, spill};

/// One element an invocation.
pub const SCALAR: Variant = Variant::new("scalar", &[("WG", 64.0)]);

/// Four elements of one step an invocation.
pub const VECTOR: Variant = Variant {
    refuses: |shape| refuses_ragged(shape, "f"),
    ..Variant::new("vector", &[("WG", 64.0)])
};

/// One output `y[rows, f]`, one or four elements an invocation; the entry point is the variant's.
pub fn launch(rows: usize, f: usize, dtype: Dtype, variant: &Variant) -> Launch {
    let each = if variant.name == "vector" { 4 } else { 1 };
    let workgroups = (rows * f / each).div_ceil(variant.constant("WG"));
    let mut launch = Launch::single(Buffer::new("y", dtype.storage(), rows, f), spill(workgroups));
    launch.dispatches[0].entry = variant.name;
    launch
}

/// A coordinate as an element and a fraction of the way to the next one, in integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub index: usize,
    pub num: usize,
    pub den: usize,
}

/// Where output `j` of `u` lies among `t` elements: at their centres, or with both ends aligned.
pub fn place(j: usize, t: usize, u: usize, corners: bool) -> Place {
    let (num, den) = if corners {
        (j * (t - 1), (u - 1).max(1))
    } else {
        (((2 * j + 1) * t).saturating_sub(u), 2 * u)
    };
    let num = num.min((t - 1) * den);
    Place { index: num / den, num: num % den, den }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_follow_the_definitions() {
        let of = |j, t, u, corners| {
            let place = place(j, t, u, corners);
            place.index as f64 + place.num as f64 / place.den as f64
        };
        assert_eq!([0, 1, 2, 3].map(|j| of(j, 2, 4, false)), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!([0, 1].map(|j| of(j, 4, 2, false)), [0.5, 2.5]);
        assert_eq!([0, 1, 2, 3, 4].map(|j| of(j, 3, 5, true)), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!((of(0, 7, 1, true), of(0, 7, 1, false), of(6, 1, 7, false)), (0.0, 3.0, 0.0));
    }
}
