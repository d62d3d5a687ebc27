//! Each operation as one writes it with burn: its own function where it has one, else the formula
//! of its module in `burn-nn`. Weights and features are in burn's own layout beforehand, so that it
//! pays for no conversion.

use burn_tensor::module::{
    attention, batch_norm, conv1d, embedding, interpolate, layer_norm, linear,
};
use burn_tensor::ops::{AttentionModuleOptions, ConvOptions, InterpolateMode, InterpolateOptions};
use burn_tensor::{Int, Tensor, TensorData, activation};
use fusebench::inputs::Inputs;
use fusebench::kernel::Shape;
use ndarray::{Ix1, Ix2, Ix3, Ix4};

use super::{Burn, values};
use crate::cases::Case;
use crate::contender::Contender;
use crate::inputs::{all_features, known_rows};

/// burn at one case; `None` where it has no such operation.
pub fn contender(burn: &Burn, case: &Case, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let shape = &case.shape;
    match case.entry.name {
        "linear" => projection(burn, shape, inputs),
        "cosine_similarity" => cosine_similarity(burn, inputs),
        "cross_attention" => cross_attention(burn, inputs),
        "softmax" => {
            let x = burn.tensor::<2>(inputs.float::<Ix2>("x"));
            burn.operation(move || activation::softmax(x.clone(), 1), |y| vec![values(y)])
        }
        "layer_norm" | "add_layer_norm" | "rms_norm" | "l2_normalize" => {
            rows(burn, case.entry.name, inputs)
        }
        "batch_norm" => planes(burn, inputs),
        "group_norm" => groups(burn, shape, inputs),
        "concat" => concat(burn, inputs),
        "film" => film(burn, inputs),
        "weighted_sum" => weighted_sum(burn, shape, inputs),
        "gated_fusion" => gated_fusion(burn, shape, inputs),
        "embedding_lookup" => lookup(burn, shape, inputs),
        "conv1d" => convolution(burn, shape, inputs),
        "resize_bilinear" => resize(burn, shape, inputs),
        _ => None,
    }
}

fn projection(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let x = burn.tensor::<2>(inputs.float::<Ix2>("x"));
    let w = burn.tensor::<2>(inputs.float::<Ix2>("w").t());
    let b = burn.tensor::<1>(inputs.float::<Ix1>("b"));
    let gelu = shape.option() == Some("gelu");
    let run = move || {
        let y = linear(x.clone(), w.clone(), Some(b.clone()));
        if gelu { activation::gelu(y) } else { y }
    };
    burn.operation(run, |y| vec![values(y)])
}

fn cosine_similarity(burn: &Burn, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let [a, b] = ["a", "b"].map(|name| burn.tensor::<2>(inputs.float::<Ix2>(name)));
    let temperature = inputs.params.get_real("temperature");
    let run = move || {
        let [a, b] = [&a, &b].map(|x| unit_rows(x.clone()));
        a.matmul(b.transpose()).mul_scalar(temperature)
    };
    burn.operation(run, |s| vec![values(s)])
}

/// Rows over their lengths, as `vector_normalize` of `burn-linalg` does it.
fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / length
}

fn cross_attention(burn: &Burn, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    // burn has heads before queries.
    let by_head = |name| inputs.float::<Ix4>(name).permuted_axes([0, 2, 1, 3]);
    let [q, k, v] = ["q", "k", "v"].map(|name| burn.tensor::<4>(by_head(name)));
    let options = AttentionModuleOptions::default();
    let run = move || attention(q.clone(), k.clone(), v.clone(), None, None, options);
    burn.operation(run, |o: Tensor<4>| vec![values(o.swap_dims(1, 2))])
}

fn rows(burn: &Burn, name: &str, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let x = burn.tensor::<2>(inputs.float::<Ix2>("x"));
    let vector = |name| burn.tensor::<1>(inputs.float::<Ix1>(name));
    if name == "l2_normalize" {
        return burn.operation(move || unit_rows(x.clone()), |y| vec![values(y)]);
    }
    let (g, eps) = (vector("g"), inputs.params.get_real("eps"));
    if name == "rms_norm" {
        let run = move || {
            let rms = (x.clone().square().mean_dim(1) + eps).sqrt();
            (x.clone() / rms) * g.clone().unsqueeze::<2>()
        };
        return burn.operation(run, |y: Tensor<2>| vec![values(y)]);
    }
    let b = vector("b");
    if name == "layer_norm" {
        let run = move || layer_norm(x.clone(), g.clone(), Some(b.clone()), eps);
        return burn.operation(run, |y| vec![values(y)]);
    }
    let (res, bias) = (burn.tensor::<2>(inputs.float::<Ix2>("res")), vector("bias"));
    let run = move || {
        let h = x.clone() + res.clone() + bias.clone().unsqueeze::<2>();
        (h.clone(), layer_norm(h, g.clone(), Some(b.clone()), eps))
    };
    burn.operation(run, |(h, y)| vec![values(h), values(y)])
}

fn planes(burn: &Burn, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let x = burn.tensor::<3>(inputs.float::<Ix3>("x"));
    let names = ["g", "b", "mean", "variance"];
    let [g, b, mean, variance] = names.map(|name| burn.tensor::<1>(inputs.float::<Ix1>(name)));
    let eps = inputs.params.get_real("eps");
    let run =
        move || batch_norm(x.clone(), g.clone(), b.clone(), mean.clone(), variance.clone(), eps);
    burn.operation(run, |y: Tensor<3>| vec![values(y)])
}

/// `burn_nn::GroupNorm`.
fn groups(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let (n, c, l, g) = (shape["n"], shape["c"], shape["l"], shape["g"]);
    let x = burn.tensor::<3>(inputs.float::<Ix3>("x"));
    let [gain, bias] = ["g", "b"].map(|name| burn.tensor::<1>(inputs.float::<Ix1>(name)));
    let eps = inputs.params.get_real("eps");
    let run = move || {
        let rows: Tensor<3> = x.clone().reshape([n, g, c / g * l]);
        let mean = rows.clone().mean_dim(2);
        let centred = rows - mean;
        let variance = centred.clone().square().mean_dim(2);
        let unit: Tensor<3> = centred.div((variance + eps).sqrt()).reshape([n, c, l]);
        unit * gain.clone().reshape([1, c, 1]) + bias.clone().reshape([1, c, 1])
    };
    burn.operation(run, |y: Tensor<3>| vec![values(y)])
}

fn concat(burn: &Burn, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let parts = all_features(inputs);
    let parts: Vec<Tensor<2>> = parts.into_iter().map(|part| burn.tensor(part)).collect();
    burn.operation(move || Tensor::cat(parts.clone(), 1), |y| vec![values(y)])
}

fn film(burn: &Burn, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let x = burn.tensor::<3>(inputs.float::<Ix3>("x"));
    let names = ["gamma", "beta"];
    let [gamma, beta] = names.map(|name| burn.tensor::<2>(inputs.float::<Ix2>(name)));
    let run = move || {
        let [gamma, beta] = [&gamma, &beta].map(|factor| factor.clone().unsqueeze_dim::<3>(1));
        x.clone() * gamma + beta
    };
    burn.operation(run, |y: Tensor<3>| vec![values(y)])
}

fn weighted_sum(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let x = burn.tensor::<3>(inputs.float::<Ix3>("x"));
    let a = burn.tensor::<1>(inputs.float::<Ix1>("a"));
    let (m, b, d) = (shape["m"], shape["b"], shape["d"]);
    let run = move || {
        let weights = activation::softmax(a.clone(), 0).reshape([m, 1, 1]);
        (x.clone() * weights).sum_dim(0).reshape([b, d])
    };
    burn.operation(run, |y: Tensor<2>| vec![values(y)])
}

fn gated_fusion(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let [u, v] = ["u", "v"].map(|name| burn.tensor::<3>(inputs.float::<Ix3>(name)));
    let (b, d) = (shape["b"], shape["d"]);
    let run = move || {
        let gated = u.clone().tanh() * activation::sigmoid(v.clone());
        gated.sum_dim(0).reshape([b, d])
    };
    burn.operation(run, |y: Tensor<2>| vec![values(y)])
}

fn lookup(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let (table, ids) = known_rows(inputs);
    let table = burn.tensor::<2>(table.view());
    let ids = TensorData::new(ids, [shape["b"], shape["t"]]);
    let ids = Tensor::<2, Int>::from_data(ids, &burn.device);
    let run = move || embedding(table.clone(), ids.clone());
    burn.operation(run, |y: Tensor<3>| vec![values(y)])
}

fn convolution(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    // burn has channels before steps.
    let turned = |name| inputs.float::<Ix3>(name).permuted_axes([0, 2, 1]);
    let (x, w) = (burn.tensor::<3>(turned("x")), burn.tensor::<3>(turned("w")));
    let bias = burn.tensor::<1>(inputs.float::<Ix1>("bias"));
    let options = ConvOptions::new([shape["s"]], [shape["p"]], [1], 1);
    let run = move || conv1d(x.clone(), w.clone(), Some(bias.clone()), options.clone());
    burn.operation(run, |y: Tensor<3>| vec![values(y.swap_dims(1, 2))])
}

fn resize(burn: &Burn, shape: &Shape, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let image = inputs.float::<Ix3>("x").permuted_axes([2, 0, 1]);
    let x = burn.tensor::<3>(image).unsqueeze_dim::<4>(0);
    let options = InterpolateOptions::new(InterpolateMode::Bilinear)
        .with_align_corners(false)
        .with_output_size([shape["y"], shape["x"]]);
    let run = move || interpolate(x.clone(), options.clone());
    burn.operation(run, |y: Tensor<4>| vec![values(y.permute([0, 2, 3, 1]))])
}
