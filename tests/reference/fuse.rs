//! Fusions with the absent modalities zeroed first, as linear algebra on whole arrays.

use fusebench::inputs::Inputs;
use fusebench::kernel::{Dtype, Problem};
use ndarray::{
    Array1, Array2, Array3, ArrayD, ArrayView1, ArrayView2, Axis, Ix1, Ix2, Ix3, Zip, concatenate,
    s, stack,
};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let y = match name {
        "concat" => concat(problem),
        "early_fusion" => early_fusion(problem.inputs),
        "film" => return vec![film(problem.inputs).into_dyn()],
        "gated_fusion" => gated_fusion(problem.inputs),
        "late_fusion" => late_fusion(problem),
        "low_rank_fusion" => low_rank_fusion(problem.inputs),
        "modality_attention" => modality_attention(problem.inputs),
        "multiplicative_interaction" => multiplicative_interaction(problem),
        "nonlocal_gate" => return vec![nonlocal_gate(problem.inputs).into_dyn()],
        "tensor_fusion" => tensor_fusion(problem.inputs),
        "weighted_sum" => weighted_sum(problem.inputs),
        _ => panic!("write an oracle for {name}"),
    };
    vec![y.into_dyn()]
}

/// 1 where a modality is present: `[m, b]`.
fn presence(inputs: &Inputs, modalities: usize) -> Array2<f64> {
    let bits = inputs.words("present");
    Array2::from_shape_fn((modalities, bits.len()), |(m, b)| f64::from(bits[b] >> m & 1))
}

/// Zeroes the garbage of absent modalities.
fn masked(x: Array3<f64>, present: &Array2<f64>) -> Array3<f64> {
    let present = present.view().insert_axis(Axis(2));
    let present = present.broadcast(x.dim()).expect("one bit for each row").to_owned();
    Zip::from(&x).and(&present).map_collect(|&x, &bit| if bit == 0.0 { 0.0 } else { x })
}

fn weighted_sum(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix3>(inputs, "x");
    let present = presence(inputs, x.len_of(Axis(0)));
    let a = float::<Ix1>(inputs, "a").mapv(f64::exp).insert_axis(Axis(1));
    let odds = &present * &a;
    let total = odds.sum_axis(Axis(0)).mapv(|total| if total == 0.0 { 1.0 } else { total });
    let weights = (odds / &total).insert_axis(Axis(2));
    (masked(x, &present) * &weights).sum_axis(Axis(0))
}

fn gated_fusion(inputs: &Inputs) -> Array2<f64> {
    let u = float::<Ix3>(inputs, "u");
    let present = presence(inputs, u.len_of(Axis(0)));
    let gates = float::<Ix3>(inputs, "v").mapv(|v| 0.5 + 0.5 * (0.5 * v).tanh());
    (masked(u, &present).mapv(f64::tanh) * &gates).sum_axis(Axis(0))
}

/// The modality `m` of every sample, with zeros where it is absent.
fn without_absent(x: ArrayView2<f64>, inputs: &Inputs, m: usize) -> Array2<f64> {
    let bits = inputs.words("present");
    let mut x = x.to_owned();
    for (row, mut values) in x.outer_iter_mut().enumerate() {
        if bits[row] >> m & 1 == 0 {
            values.fill(0.0);
        }
    }
    x
}

/// The columns of each modality by the offset table.
fn columns(inputs: &Inputs) -> Vec<(usize, usize)> {
    let first: Vec<usize> = inputs.words("first").iter().map(|&at| at as usize).collect();
    first.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Each modality of a packed `x[batch, total]`.
fn modalities(inputs: &Inputs) -> Vec<Array2<f64>> {
    let x = float::<Ix2>(inputs, "x");
    let of = |(m, (from, end)): (usize, (usize, usize))| {
        without_absent(x.slice(s![.., from..end]), inputs, m)
    };
    columns(inputs).into_iter().enumerate().map(of).collect()
}

/// All products of entries of `[1; a]` and `[1; b]`, row by row.
fn products(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    let (rows, cells) = (a.nrows(), a.ncols() * b.ncols());
    let all = &a.view().insert_axis(Axis(2)) * &b.view().insert_axis(Axis(1));
    // The product of transposed operands is not row-major by itself.
    Array2::from_shape_vec((rows, cells), all.iter().copied().collect()).expect("all cells")
}

fn with_ones(x: &Array2<f64>) -> Array2<f64> {
    concatenate![Axis(1), Array2::ones((x.nrows(), 1)), *x]
}

fn joined(parts: &[Array2<f64>]) -> Array2<f64> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(1), &views).expect("one row for each sample")
}

fn concat(problem: &Problem) -> Array2<f64> {
    let inputs = problem.inputs;
    let names = ["x0", "x1", "x2", "x3", "x4", "x5"].into_iter().enumerate();
    let values = |name| match problem.dtype {
        Dtype::I8 => inputs.codes::<Ix2>(name).mapv(f64::from),
        _ => float(inputs, name),
    };
    let parts = names.map(|(m, name)| without_absent(values(name).view(), inputs, m));
    joined(&parts.collect::<Vec<_>>())
}

fn early_fusion(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix1>(inputs, "x");
    let batch = inputs.words("present").len();
    let block = |(m, (from, end)): (usize, (usize, usize))| {
        let block = x.slice(s![batch * from..batch * end]);
        let block = block.into_shape_with_order((batch, end - from)).expect("a block");
        without_absent(block, inputs, m)
    };
    let parts: Vec<_> = columns(inputs).into_iter().enumerate().map(block).collect();
    joined(&parts).dot(&float::<Ix2>(inputs, "w").t()) + float::<Ix1>(inputs, "b")
}

fn modality_attention(inputs: &Inputs) -> Array2<f64> {
    let x = float::<Ix3>(inputs, "x");
    let (m, batch, d) = x.dim();
    let present = presence(inputs, m);
    let x = masked(x, &present);
    let query = float::<Ix1>(inputs, "query");
    let scale = f64::from((d as f32).sqrt().recip());
    let mut y = Array2::zeros((batch, d));
    for b in 0..batch {
        let members: Vec<usize> = (0..m).filter(|&m| present[[m, b]] == 1.0).collect();
        let embeddings = x.slice(s![.., b, ..]).select(Axis(0), &members);
        let scores = embeddings.dot(&query) * scale;
        y.row_mut(b).assign(&probabilities(&scores).dot(&embeddings));
    }
    y
}

fn film(inputs: &Inputs) -> Array3<f64> {
    let x = float::<Ix3>(inputs, "x");
    let neutral = |name: &str, value: f64| {
        let mut drawn = float::<Ix2>(inputs, name);
        for (sample, mut values) in drawn.outer_iter_mut().enumerate() {
            if inputs.words("present")[sample] & 2 == 0 {
                values.fill(value);
            }
        }
        drawn.insert_axis(Axis(1))
    };
    let mut y = x * neutral("gamma", 1.0) + neutral("beta", 0.0);
    for (sample, mut values) in y.outer_iter_mut().enumerate() {
        if inputs.words("present")[sample] & 1 == 0 {
            values.fill(0.0);
        }
    }
    y
}

/// One cell after the other, by its index into each modality.
fn tensor_fusion(inputs: &Inputs) -> Array2<f64> {
    let parts: Vec<_> = modalities(inputs).iter().map(with_ones).collect();
    let cells = parts.iter().map(|part| part.ncols()).product::<usize>();
    Array2::from_shape_fn((parts[0].nrows(), cells), |(row, cell)| {
        let mut rest = cell;
        parts.iter().rev().fold(1.0, |product, part| {
            let entry = rest % part.ncols();
            rest /= part.ncols();
            product * part[[row, entry]]
        })
    })
}

/// The whole tensor of weights that the factors stand for, applied to the tensor fusion.
fn low_rank_fusion(inputs: &Inputs) -> Array2<f64> {
    let (w, bias) = (float::<Ix1>(inputs, "w"), float::<Ix1>(inputs, "bias"));
    let (ranks, o) = (w.len(), bias.len());
    let parts: Vec<_> = modalities(inputs).iter().map(with_ones).collect();
    let rows: usize = parts.iter().map(Array2::ncols).sum();
    let f = float::<Ix1>(inputs, "f").into_shape_with_order((ranks, rows, o)).expect("factors");
    let mut rest = f.view();
    let factors: Vec<Array3<f64>> = parts
        .iter()
        .map(|part| {
            let (factor, others) = rest.split_at(Axis(1), part.ncols());
            rest = others;
            factor.to_owned()
        })
        .collect();
    let ones = Array2::ones((parts[0].nrows(), 1));
    let fused = parts.iter().fold(ones, |fused, part| products(&fused, part));
    let mut tensor = Array2::zeros((fused.ncols(), o));
    for r in 0..ranks {
        let one = Array2::from_elem((o, 1), w[r]);
        let factor = |f: &Array3<f64>| f.index_axis(Axis(0), r).t().to_owned();
        tensor += &factors.iter().fold(one, |cells, f| products(&cells, &factor(f))).t();
    }
    fused.dot(&tensor) + bias
}

/// The matrix form as one bilinear form of [1; m1] and [1; m2].
fn multiplicative_interaction(problem: &Problem) -> Array2<f64> {
    let inputs = problem.inputs;
    let float = |name| float::<Ix2>(inputs, name);
    let m1 = without_absent(float("m1").view(), inputs, 0);
    let m2 = without_absent(float("m2").view(), inputs, 1);
    let c = super::float::<Ix1>(inputs, "c");
    if problem.shape.option().is_some_and(|tag| tag.starts_with("vector")) {
        let w = unblocked(problem, m1.ncols(), c.len());
        return (m1.dot(&w) + float("v")) * &m2 + m1.dot(&float("u")) + c;
    }
    let (d1, d2, o) = (m1.ncols(), m2.ncols(), c.len());
    let mut weights = Array3::zeros((d1 + 1, d2 + 1, o));
    weights.slice_mut(s![0, 0, ..]).assign(&c);
    weights.slice_mut(s![0, 1.., ..]).assign(&float("v"));
    weights.slice_mut(s![1.., 0, ..]).assign(&float("u"));
    let w = unblocked(problem, d1 * d2, o);
    let w = w.into_shape_with_order((d1, d2, o)).expect("three axes");
    weights.slice_mut(s![1.., 1.., ..]).assign(&w);
    let weights = weights.into_shape_with_order(((d1 + 1) * (d2 + 1), o)).expect("cells");
    products(&with_ones(&m1), &with_ones(&m2)).dot(&weights)
}

/// The blocks of outputs that W is stored in, side by side.
fn unblocked(problem: &Problem, rows: usize, o: usize) -> Array2<f64> {
    let flat = super::float::<Ix1>(problem.inputs, "w");
    let width = (o.div_ceil(8).div_ceil(64) * 64).max(64);
    let mut w = Array2::zeros((rows, o));
    for (mut block, first) in w.axis_chunks_iter_mut(Axis(1), width).zip((0..).step_by(width)) {
        let values = flat.iter().copied().skip(first * rows);
        block.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    }
    w
}

fn log_softmax(x: ArrayView1<f64>) -> Array1<f64> {
    let peak = x.fold(f64::MIN, |a, &b| a.max(b));
    let log_total = peak + x.mapv(|x| (x - peak).exp()).sum().ln();
    x.mapv(|x| x - log_total)
}

fn late_fusion(problem: &Problem) -> Array2<f64> {
    let x = float::<Ix3>(problem.inputs, "x");
    let (m, batch, c) = x.dim();
    let present = presence(problem.inputs, m);
    let a = float::<Ix1>(problem.inputs, "a");
    let tag = problem.shape.option().unwrap_or_default();
    let sample = |b: usize| {
        let x = x.index_axis(Axis(1), b);
        let members: Vec<usize> = (0..m).filter(|&m| present[[m, b]] == 1.0).collect();
        let weights = a.select(Axis(0), &members);
        let weights = &weights / weights.sum();
        let x = x.select(Axis(0), &members);
        if tag.starts_with("vote") {
            return vote(&x);
        }
        if members.is_empty() {
            let equal = if tag.starts_with("experts") { -(c as f64).ln() } else { 0.0 };
            return Array1::from_elem(c, equal);
        }
        if tag.starts_with("average") {
            return weights.dot(&x);
        }
        let experts: Vec<_> = x.outer_iter().map(log_softmax).collect();
        let views: Vec<_> = experts.iter().map(|expert| expert.view()).collect();
        let experts = stack(Axis(0), &views).expect("one row for each expert");
        log_softmax(weights.dot(&experts).view())
    };
    let mut y = Array2::zeros((batch, c));
    (0..batch).for_each(|b| y.row_mut(b).assign(&sample(b)));
    y
}

/// 1 at the first of the classes with most votes.
fn vote(x: &Array2<f64>) -> Array1<f64> {
    let mut votes = Array1::<usize>::zeros(x.ncols());
    for logits in x.outer_iter() {
        let peak = logits.fold(f64::MIN, |a, &b| a.max(b));
        let winner = logits.iter().position(|&logit| logit == peak);
        winner.into_iter().for_each(|class| votes[class] += 1);
    }
    let most = votes.iter().copied().max().unwrap_or(0);
    let elected = votes.iter().position(|&count| count == most && most > 0);
    Array1::from_shape_fn(x.ncols(), |class| f64::from(u8::from(Some(class) == elected)))
}

fn nonlocal_gate(inputs: &Inputs) -> Array3<f64> {
    let mut y = float::<Ix3>(inputs, "q");
    let k = float::<Ix3>(inputs, "k");
    let (len, present) = (inputs.words("len"), inputs.words("present"));
    for (b, mut y) in y.outer_iter_mut().enumerate() {
        let valid = if present[b] & 2 == 0 { 0 } else { len[b] as usize };
        if present[b] & 1 == 0 {
            y.fill(0.0);
        } else if valid > 0 {
            let keys = k.slice(s![b, ..valid, ..]);
            let mut weights = y.dot(&keys.t());
            for mut scores in weights.outer_iter_mut() {
                let weights = probabilities(&scores.to_owned());
                scores.assign(&weights);
            }
            y += &weights.dot(&keys);
        }
    }
    y
}
