//! What linear layers on compressed weights share: shapes, grids, the answer at full precision.

use ndarray::{Ix1, Ix2};

use super::codes::{entry, sqnr_db};
use crate::accuracy::Scalar;
use crate::accuracy::functions::gelu_erf;
use crate::kernel::{Buffer, Dtype, Launch, Preset, Problem, Shape, Uncompressed, Variant};
use crate::reference::{Rows, by_rows};

/// Rows × columns × depth.
pub fn of((m, n, k): (usize, usize, usize)) -> Shape {
    Shape::new(&[("m", m), ("n", n), ("k", k)])
}

/// The projections of `linear` that a compressed layer would replace.
pub fn models() -> Vec<Shape> {
    vec![
        of((577, 768, 1024)).from("CLIP ViT-L/14-336 image"),
        of((77, 768, 768)).from("CLIP ViT-L/14-336 text"),
        of((257, 1536, 1408)).from("BLIP-2 Q-Former keys and values"),
        of((576, 4096, 1024)).from("LLaVA-1.5-7B"),
        of((576, 4096, 4096)).from("LLaVA-1.5-7B"),
        of((1024, 1024, 1280)).from("ImageBind-huge vision head, batch 1024"),
        of((9_000, 30, 35)).from("MulT MOSEI vision"),
        of((12_000, 30, 74)).from("MulT MOSEI audio"),
    ]
}

/// Squares from 256 to 4096.
pub fn squares() -> Vec<Shape> {
    [256, 512, 1024, 2048, 4096].map(|n| of((n, n, n))).into()
}

/// The models and the squares.
pub fn large(preset: Preset) -> Vec<Shape> {
    if preset == Preset::Models { models() } else { squares() }
}

/// Keeps the outputs of the size of the inputs, as trained weights do.
pub fn weight_scale(k: usize) -> f32 {
    (k.max(1) as f32).sqrt().recip()
}

/// One output `y[m, n]` from blocks of 4 rows by 4 · WG columns or of 16 by 32, from four columns
/// of all rows, or tiles of 64 by 64.
pub fn launch(shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
    let (m, n) = (shape["m"], shape["n"]);
    let (name, rows, cols) = match entry(variant) {
        "register" => ("registers", 4, 4 * variant.constant("WG")),
        "broadcast" => ("broadcast", 16, 32),
        "matvec" => ("matvec", m.max(1), 4),
        _ => ("tiled", 64, 64),
    };
    let grid = [n.div_ceil(cols) as u32, m.div_ceil(rows) as u32, 1];
    let mut launch = Launch::single(Buffer::new("y", variant.storage(dtype), m, n), grid);
    launch.dispatches[0].entry = name;
    launch
}

/// Whether a GELU follows, as the tag says: `gelu`, `group32_gelu`.
pub fn has_gelu(shape: &Shape) -> bool {
    shape.option().is_some_and(|tag| tag.ends_with("gelu"))
}

/// What the layer does to its sums.
pub fn activate<S: Scalar>(shape: &Shape, sum: S) -> S {
    if has_gelu(shape) { gelu_erf(sum) } else { sum }
}

/// The grid of a layer that may end with a GELU.
pub fn launch_activated(shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
    let gelu = f64::from(u8::from(has_gelu(shape)));
    launch(shape, dtype, variant).with_constant("GELU", gelu)
}

/// a · wᵀ + b from the original tensors, and the SQNR that the noise of their codes leaves.
pub fn uncompressed(
    problem: &Problem,
    rows: &Rows,
    (a, w): (&str, &str),
    noise: f64,
) -> Uncompressed {
    let inputs = problem.inputs;
    let (a, w) = (inputs.float::<Ix2>(a), inputs.float::<Ix2>(w));
    let b = inputs.float::<Ix1>("b");
    let output = by_rows(rows, a.nrows(), w.nrows(), |row, mut y| {
        for (col, y) in y.iter_mut().enumerate() {
            let pairs = a.row(row).into_iter().zip(w.row(col));
            let dot: f64 = pairs.map(|(&a, &w)| f64::from(a) * f64::from(w)).sum();
            *y = activate(problem.shape, dot + f64::from(b[col]));
        }
    });
    let signal = output.iter().map(|x| x * x).sum::<f64>();
    // How many independent roundings and sums stand behind the products.
    let (m, n, k) = (output.nrows(), w.nrows(), w.ncols());
    let elements = (m * n).min(m * k).min(n * k);
    // Of noise that has gone through an activation there is no such prediction.
    let linear = !has_gelu(problem.shape);
    let predicted_sqnr_db = linear.then(|| sqnr_db(noise / signal, elements)).flatten();
    Uncompressed { output, restored: None, predicted_sqnr_db }
}
