//! ndarray on the CPU, as one writes it: whole-array expressions, rows in parallel.

use std::hint::black_box;
use std::time::Instant;

use fusebench::inputs::Inputs;
use ndarray::parallel::prelude::*;
use ndarray::{
    Array1, Array2, Array3, Array4, ArrayD, ArrayView1, ArrayView2, ArrayViewMut1, Axis, Ix1, Ix2,
    Ix3, Ix4, Zip, concatenate, s,
};

use crate::cases::Case;
use crate::contender::{Contender, Result};
use crate::inputs::{all_features, known_rows};

/// One operation with its arrays; gives its outputs.
type Run = Box<dyn Fn() -> Vec<ArrayD<f32>>>;

struct Operation(Run);

impl Contender for Operation {
    fn time(&mut self, runs: u32) -> Result<f64> {
        let started = Instant::now();
        (0..runs).for_each(|_| drop(black_box((self.0)())));
        Ok(started.elapsed().as_secs_f64())
    }

    fn answer(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok((self.0)().iter().map(|output| output.iter().copied().collect()).collect())
    }
}

/// ndarray at one case; `None` where nobody would write the operation with it: convolution and
/// resizing.
pub fn contender(case: &Case, inputs: &Inputs) -> Option<Box<dyn Contender>> {
    let run = match case.entry.name {
        "linear" => linear(inputs, case.shape.option() == Some("gelu")),
        "cosine_similarity" => cosine_similarity(inputs),
        "cross_attention" => cross_attention(inputs),
        "softmax" => {
            let x = matrix(inputs, "x");
            Box::new(move || one(by_rows(x.view(), softmax)))
        }
        "layer_norm" | "add_layer_norm" | "rms_norm" | "l2_normalize" => {
            rows(case.entry.name, inputs)
        }
        "batch_norm" => batch_norm(inputs),
        "group_norm" => group_norm(inputs, case.shape["g"]),
        "film" | "weighted_sum" | "gated_fusion" | "concat" => fusion(case.entry.name, inputs),
        "embedding_lookup" => lookup(inputs),
        _ => return None,
    };
    Some(Box::new(Operation(run)))
}

fn vector(inputs: &Inputs, name: &str) -> Array1<f32> {
    inputs.float::<Ix1>(name).to_owned()
}

fn matrix(inputs: &Inputs, name: &str) -> Array2<f32> {
    inputs.float::<Ix2>(name).to_owned()
}

fn cube(inputs: &Inputs, name: &str) -> Array3<f32> {
    inputs.float::<Ix3>(name).to_owned()
}

fn one<D: ndarray::Dimension>(output: ndarray::Array<f32, D>) -> Vec<ArrayD<f32>> {
    vec![output.into_dyn()]
}

/// A matrix whose rows are computed in parallel, each from the same row of `x`.
fn by_rows(
    x: ArrayView2<f32>,
    compute: impl Fn(ArrayView1<f32>, ArrayViewMut1<f32>) + Sync,
) -> Array2<f32> {
    let mut y = Array2::zeros(x.dim());
    Zip::from(y.rows_mut()).and(x.rows()).par_for_each(|y, x| compute(x, y));
    y
}

fn softmax(x: ArrayView1<f32>, mut y: ArrayViewMut1<f32>) {
    let peak = x.fold(f32::NEG_INFINITY, |peak, &x| peak.max(x));
    y.zip_mut_with(&x, |y, &x| *y = (x - peak).exp());
    let total = y.sum();
    y.map_inplace(|y| *y /= total);
}

fn linear(inputs: &Inputs, gelu: bool) -> Run {
    let (x, w, b) = (matrix(inputs, "x"), matrix(inputs, "w"), vector(inputs, "b"));
    Box::new(move || {
        let mut y = x.dot(&w.t());
        y += &b;
        if gelu {
            let root = std::f32::consts::FRAC_1_SQRT_2;
            y.par_mapv_inplace(|y| 0.5 * y * (1.0 + libm::erff(y * root)));
        }
        one(y)
    })
}

/// One over the length of each row.
fn inverse_lengths(x: &Array2<f32>) -> Array1<f32> {
    x.map_axis(Axis(1), |row| row.dot(&row).max(1e-24).sqrt().recip())
}

fn cosine_similarity(inputs: &Inputs) -> Run {
    let (a, b) = (matrix(inputs, "a"), matrix(inputs, "b"));
    let temperature = inputs.params.get_real("temperature") as f32;
    Box::new(move || {
        let (of_a, of_b) = (inverse_lengths(&a) * temperature, inverse_lengths(&b));
        one(a.dot(&b.t()) * of_a.insert_axis(Axis(1)) * of_b)
    })
}

fn cross_attention(inputs: &Inputs) -> Run {
    let [q, k, v] = ["q", "k", "v"].map(|name| inputs.float::<Ix4>(name).to_owned());
    let scale = inputs.params.get_real("scale") as f32;
    Box::new(move || {
        let (b, queries, heads, _) = q.dim();
        let mut o = Array4::zeros((b, queries, heads, v.dim().3));
        for (sample, mut o) in o.outer_iter_mut().enumerate() {
            let heads = o.axis_iter_mut(Axis(1)).into_par_iter().enumerate();
            heads.for_each(|(head, mut o)| {
                let [q, k, v] = [&q, &k, &v].map(|x| x.slice(s![sample, .., head, ..]));
                let scores = q.dot(&k.t()) * scale;
                o.assign(&by_rows(scores.view(), softmax).dot(&v));
            });
        }
        one(o)
    })
}

fn rows(name: &str, inputs: &Inputs) -> Run {
    let x = matrix(inputs, "x");
    if name == "l2_normalize" {
        return Box::new(move || one(&x * &inverse_lengths(&x).insert_axis(Axis(1))));
    }
    let (g, eps) = (vector(inputs, "g"), inputs.params.get_real("eps") as f32);
    if name == "rms_norm" {
        return Box::new(move || {
            one(by_rows(x.view(), |x, mut y| {
                let scale = (x.dot(&x) / x.len() as f32 + eps).sqrt().recip();
                Zip::from(&mut y).and(&x).and(&g).for_each(|y, &x, &g| *y = x * scale * g);
            }))
        });
    }
    let b = vector(inputs, "b");
    let normalise = move |x: ArrayView2<f32>| by_rows(x, |x, y| layer_norm(x, y, &g, &b, eps));
    if name == "layer_norm" {
        return Box::new(move || one(normalise(x.view())));
    }
    let (res, bias) = (matrix(inputs, "res"), vector(inputs, "bias"));
    Box::new(move || {
        let h = &x + &res + &bias;
        let y = normalise(h.view());
        vec![h.into_dyn(), y.into_dyn()]
    })
}

fn layer_norm(
    x: ArrayView1<f32>,
    mut y: ArrayViewMut1<f32>,
    g: &Array1<f32>,
    b: &Array1<f32>,
    eps: f32,
) {
    let n = x.len() as f32;
    let mean = x.sum() / n;
    y.zip_mut_with(&x, |y, &x| *y = x - mean);
    let scale = (y.dot(&y) / n + eps).sqrt().recip();
    Zip::from(&mut y).and(g).and(b).for_each(|y, &g, &b| *y = *y * scale * g + b);
}

fn batch_norm(inputs: &Inputs) -> Run {
    let x = cube(inputs, "x");
    let [g, b, mean, variance] = ["g", "b", "mean", "variance"].map(|name| vector(inputs, name));
    let eps = inputs.params.get_real("eps") as f32;
    Box::new(move || {
        let gain = &g / variance.mapv(|variance| (variance + eps).sqrt());
        let columns = |vector: &Array1<f32>| vector.view().insert_axis(Axis(1)).to_owned();
        let (mean, gain, b) = (columns(&mean), columns(&gain), columns(&b));
        let mut y = Array3::zeros(x.dim());
        Zip::from(y.outer_iter_mut()).and(x.outer_iter()).par_for_each(|mut y, x| {
            y.assign(&((&x - &mean) * &gain + &b));
        });
        one(y)
    })
}

fn group_norm(inputs: &Inputs, groups: usize) -> Run {
    let x = cube(inputs, "x");
    let [gain, bias] = ["g", "b"].map(|name| vector(inputs, name).insert_axis(Axis(1)));
    let eps = inputs.params.get_real("eps") as f32;
    Box::new(move || {
        let (n, c, l) = x.dim();
        let rows = x.to_shape((n * groups, c / groups * l)).expect("row-major");
        let unit = by_rows(rows.view(), |x, mut y| {
            let mean = x.sum() / x.len() as f32;
            y.zip_mut_with(&x, |y, &x| *y = x - mean);
            let scale = (y.dot(&y) / y.len() as f32 + eps).sqrt().recip();
            y.map_inplace(|y| *y *= scale);
        });
        let unit = unit.into_shape_with_order((n, c, l)).expect("row-major");
        one(unit * &gain + &bias)
    })
}

fn fusion(name: &str, inputs: &Inputs) -> Run {
    if name == "concat" {
        let parts: Vec<_> = all_features(inputs).iter().map(|part| part.to_owned()).collect();
        return Box::new(move || {
            let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
            one(concatenate(Axis(1), &parts).expect("rows of one number"))
        });
    }
    if name == "film" {
        let x = cube(inputs, "x");
        let [gamma, beta] = ["gamma", "beta"].map(|name| matrix(inputs, name));
        return Box::new(move || {
            let [gamma, beta] = [&gamma, &beta].map(|factor| factor.view().insert_axis(Axis(1)));
            one(&x * &gamma + &beta)
        });
    }
    if name == "weighted_sum" {
        let (x, a) = (cube(inputs, "x"), vector(inputs, "a"));
        return Box::new(move || {
            let mut weights = Array1::zeros(a.len());
            softmax(a.view(), weights.view_mut());
            let mut y = Array2::zeros((x.dim().1, x.dim().2));
            for (x, &weight) in x.outer_iter().zip(&weights) {
                y.scaled_add(weight, &x);
            }
            one(y)
        });
    }
    let (u, v) = (cube(inputs, "u"), cube(inputs, "v"));
    Box::new(move || {
        let mut y = Array2::zeros((u.dim().1, u.dim().2));
        for (u, v) in u.outer_iter().zip(v.outer_iter()) {
            let gate = |y: &mut f32, &u: &f32, &v: &f32| *y += u.tanh() / (1.0 + (-v).exp());
            Zip::from(&mut y).and(&u).and(&v).par_for_each(gate);
        }
        one(y)
    })
}

fn lookup(inputs: &Inputs) -> Run {
    let (table, ids) = known_rows(inputs);
    let ids: Vec<usize> = ids.into_iter().map(|id| id as usize).collect();
    Box::new(move || one(table.select(Axis(0), &ids)))
}
