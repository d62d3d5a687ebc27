//! Each operator in terms of our kernels: what the host folds, transposes or broadcasts before and
//! after, and which cases mean something that no kernel computes.

pub mod align;
pub mod attention;
pub mod normalize;
pub mod project;
pub mod quantize;

use fusebench::kernel::Elem;
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::case::Case;
use super::common::lab::{Element, Lab, Run};
use super::outside::Outside;
use super::proto::{Array, Kind};

/// One output of a case as one strategy gives it.
pub struct Checked {
    /// Kernel and strategy.
    pub by: String,
    /// Position among the outputs of the operator.
    pub output: usize,
    pub elements: ArrayD<Element>,
}

pub type Outcome = Result<Vec<Checked>, Outside>;

/// An operator, the kernels that stand for it, and how.
pub struct Operator {
    pub name: &'static str,
    pub kernels: &'static [&'static str],
    /// Largest error of the published f32 outputs, absolute below 1 and relative above: NumPy
    /// computed them in f32. Twice what was measured against the f64 reference at most.
    pub noise: f64,
    /// Optional outputs that no kernel gives.
    pub uncompared: &'static [&'static str],
    pub run: fn(&Lab, &Case) -> Outcome,
}

const fn operator(
    name: &'static str,
    kernels: &'static [&'static str],
    noise: f64,
    run: fn(&Lab, &Case) -> Outcome,
) -> Operator {
    Operator { name, kernels, noise, uncompared: &[], run }
}

pub const OPERATORS: &[Operator] = &[
    operator(
        "Attention",
        &["cross_attention", "linear", "attention_map"],
        1.2e-7,
        attention::attention,
    ),
    Operator {
        uncompared: &["Mean", "InvStdDev"],
        ..operator("LayerNormalization", &["layer_norm"], 5e-7, normalize::layer_norm)
    },
    operator("RMSNormalization", &["rms_norm"], 2.5e-7, normalize::rms_norm),
    operator("GroupNormalization", &["group_norm"], 1.5e-7, normalize::group_norm),
    operator("InstanceNormalization", &["group_norm"], 2e-7, normalize::instance_norm),
    operator("BatchNormalization", &["batch_norm"], 3e-7, normalize::batch_norm),
    operator("Softmax", &["softmax"], 1e-7, normalize::softmax),
    operator("LpNormalization", &["l2_normalize"], 4e-8, normalize::lp_normalization),
    operator("Resize", &["resize_bilinear"], 6e-8, align::resize),
    operator("CenterCropPad", &["center_crop_pad"], 0.0, align::center_crop_pad),
    operator("TopK", &["top_k"], 0.0, align::top_k),
    operator("Gemm", &["linear"], 1.5e-7, project::gemm),
    operator("MatMul", &["linear"], 2e-7, project::matmul),
    operator("Gelu", &["linear"], 8e-8, project::gelu),
    operator("MatMulInteger", &["linear_w8a8"], 0.0, project::matmul_integer),
    operator("QLinearMatMul", &["linear_w8a8", "quantize_int8"], 0.0, project::qlinear_matmul),
    operator("QuantizeLinear", &["quantize_int8"], 0.0, quantize::quantize),
    operator("DynamicQuantizeLinear", &["quantize_int8"], 1.5e-9, quantize::quantize_dynamic),
    operator("DequantizeLinear", &["dequantize_int8"], 0.0, quantize::dequantize),
];

/// The same for f16 outputs: half a unit in the last place below 1, and a little for inputs that
/// were rounded on the way.
pub const F16_NOISE: f64 = 3e-4;

/// How a kernel stores what an array of this type holds.
fn storage(array: &Array) -> Elem {
    if array.kind == Kind::FLOAT16 { Elem::F16 } else { Elem::F32 }
}

/// The elements in row-major order.
fn flat(values: ArrayViewD<f64>) -> Vec<f64> {
    values.iter().copied().collect()
}

/// The first output of a kernel as output 0 of the operator.
fn first(kernel: &str, runs: &[Run], dims: &[usize]) -> Vec<Checked> {
    at(kernel, runs, 0, dims)
}

/// The first output of a kernel as another output of the operator.
fn at(kernel: &str, runs: &[Run], output: usize, dims: &[usize]) -> Vec<Checked> {
    let of = |run: &Run| checked(kernel, run, output, run.array(0, dims));
    runs.iter().map(of).collect()
}

fn checked(kernel: &str, run: &Run, output: usize, elements: ArrayD<Element>) -> Checked {
    Checked { by: format!("{kernel}/{}", run.variant), output, elements }
}

/// Runs of the same kernel one after the other as one, which gives what they give in turn.
fn joined(parts: Vec<Vec<Run>>) -> Vec<Run> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        assert_eq!(part.len(), all.len(), "the same strategies take every part");
        for (run, more) in all.iter_mut().zip(part) {
            assert_eq!(run.variant, more.variant);
            for (output, more) in run.outputs.iter_mut().zip(more.outputs) {
                output.extend(more);
            }
        }
    }
    all
}

/// The axes in order, but for one that comes last.
fn with_last(rank: usize, axis: usize) -> Vec<usize> {
    (0..rank).filter(|&other| other != axis).chain([axis]).collect()
}

fn permuted<A: Clone>(values: &ArrayD<A>, order: &[usize]) -> ArrayD<A> {
    values.view().permuted_axes(IxDyn(order)).as_standard_layout().into_owned()
}

/// Undoes `permuted`.
fn restored<A: Clone>(values: &ArrayD<A>, order: &[usize]) -> ArrayD<A> {
    let back: Vec<usize> =
        (0..order.len()).map(|axis| order.iter().position(|&from| from == axis).unwrap()).collect();
    permuted(values, &back)
}
