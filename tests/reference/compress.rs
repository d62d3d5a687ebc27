//! Codes and sparse matrices on whole arrays: spans by reshaping, codes as the nearest integer.

use fusebench::kernel::Problem;
use ndarray::{Array2, Array4, ArrayD, Axis, Ix1, Ix2, s};

use super::{float, probabilities};

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    match name {
        "quantize_int8" => quantize_int8(problem),
        "quantize_int4" => quantize_int4(problem),
        "dequantize_int8" => vec![dequantize_int8(problem).into_dyn()],
        "dequantize_int4" => vec![restored(problem, problem.shape["m"]).into_dyn()],
        "linear_w8a8" => vec![linear_w8a8(problem).into_dyn()],
        "linear_w4a16" => {
            vec![linear(problem, &restored(problem, problem.shape["n"])).into_dyn()]
        }
        "linear_sparse_2_4" => vec![linear(problem, &expanded(problem)).into_dyn()],
        "cross_attention_int8" => vec![cross_attention(problem).into_dyn()],
        "prune_magnitude" => prune_magnitude(problem),
        "prune_2_4" => prune_2_4(problem),
        _ => panic!("write an oracle for {name}"),
    }
}

/// Elements that share a scale: rows and columns of a block.
fn block(problem: &Problem, (m, k): (usize, usize)) -> (usize, usize) {
    match problem.shape.option().map(|tag| tag.trim_end_matches("_gelu")) {
        Some("tensor" | "fixed") => (m, k),
        Some("channel") => (m, 1),
        Some("group32" | "zeros") => (1, 32),
        Some("group64") => (1, 64),
        Some("group128") => (1, 128),
        _ => (1, k),
    }
}

/// `f` over every block, the last ones as large as what is left.
fn by_block(
    x: &Array2<f64>,
    (high, wide): (usize, usize),
    f: impl Fn(&[f64]) -> f64,
) -> Array2<f64> {
    let (m, k) = (x.nrows().div_ceil(high.max(1)), x.ncols().div_ceil(wide));
    Array2::from_shape_fn((m, k), |(i, j)| {
        let (bottom, right) = (x.nrows().min((i + 1) * high), x.ncols().min((j + 1) * wide));
        let part = x.slice(s![i * high..bottom, j * wide..right]);
        f(&part.iter().copied().collect::<Vec<_>>())
    })
}

/// One value of a block for each of its elements.
fn spread(x: &Array2<f64>, (high, wide): (usize, usize), dims: (usize, usize)) -> Array2<f64> {
    Array2::from_shape_fn(dims, |(i, j)| x[[i / high, j / wide]])
}

fn one_if_zero(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { x }
}

/// The nearest integer, the even one of two.
fn nearest(x: f64) -> f64 {
    let (below, part) = (x.floor(), x - x.floor());
    below + f64::from(u8::from(part > 0.5 || part == 0.5 && below % 2.0 != 0.0))
}

fn with_padding(x: &Array2<f64>, each: usize) -> Array2<f64> {
    let mut wide = Array2::zeros((x.nrows(), x.ncols().next_multiple_of(each)));
    wide.slice_mut(s![.., ..x.ncols()]).assign(x);
    wide
}

fn absmax(part: &[f64]) -> f64 {
    part.iter().fold(0.0, |peak, x| x.abs().max(peak))
}

fn quantize_int8(problem: &Problem) -> Vec<ArrayD<f64>> {
    let x = float::<Ix2>(problem.inputs, "x");
    let block = block(problem, x.dim());
    let none = Array2::<f64>::zeros((0, 1));
    let (scale, zero) = match problem.shape.option() {
        Some("fixed") => (Array2::from_elem((1, 1), 1.0 / 64.0), Array2::from_elem((1, 1), -3.0)),
        Some("zero_point") => {
            let low = by_block(&x, block, |part| part.iter().fold(0.0, |a, &x| x.min(a)));
            let high = by_block(&x, block, |part| part.iter().fold(0.0, |a, &x| x.max(a)));
            let scale = ((&high - &low) / 255.0).mapv(one_if_zero);
            let zero = (-&low / &scale).mapv(nearest) - 128.0;
            (scale, zero)
        }
        _ => (by_block(&x, block, absmax).mapv(|peak| one_if_zero(peak / 127.0)), none),
    };
    let steps = &x / &spread(&scale, block, x.dim());
    let mut codes = steps.mapv(nearest);
    if !zero.is_empty() {
        codes += &spread(&zero, block, x.dim());
    }
    let codes = codes.mapv(|code| code.clamp(-128.0, 127.0));
    vec![scale.into_dyn(), zero.into_dyn(), with_padding(&codes, 4).into_dyn()]
}

fn quantize_int4(problem: &Problem) -> Vec<ArrayD<f64>> {
    let x = float::<Ix2>(problem.inputs, "x");
    let block = block(problem, x.dim());
    let scale = by_block(&x, block, absmax).mapv(|peak| one_if_zero(peak / 7.0));
    let codes = (&x / &spread(&scale, block, x.dim())).mapv(nearest);
    vec![scale.into_dyn(), with_padding(&codes, 8).into_dyn()]
}

/// Codes `q` times their scales `s`, without padding.
fn restored(problem: &Problem, rows: usize) -> Array2<f64> {
    let inputs = problem.inputs;
    let dims = (rows, problem.shape["k"]);
    let codes = inputs.codes::<Ix2>("q").mapv(f64::from).slice_move(s![.., ..dims.1]);
    codes * spread(&float::<Ix2>(inputs, "s"), block(problem, dims), dims)
}

fn dequantize_int8(problem: &Problem) -> Array2<f64> {
    let y = restored(problem, problem.shape["m"]);
    let zero = problem.inputs.words("z").mapv(|word| f64::from(word as i32));
    if zero.is_empty() {
        return y;
    }
    let zero = zero.into_dimensionality::<Ix1>().expect("a row of points");
    y - (float::<Ix2>(problem.inputs, "s") * zero.insert_axis(Axis(1)))
}

fn linear(problem: &Problem, w: &Array2<f64>) -> Array2<f64> {
    activated(
        problem,
        float::<Ix2>(problem.inputs, "x").dot(&w.t()) + &float::<Ix1>(problem.inputs, "b"),
    )
}

/// x·Φ(x) by the complementary error function, where the tag asks for it.
fn activated(problem: &Problem, y: Array2<f64>) -> Array2<f64> {
    if !problem.shape.option().is_some_and(|tag| tag.ends_with("gelu")) {
        return y;
    }
    let root = f64::from(std::f32::consts::FRAC_1_SQRT_2);
    y.mapv(|x| x * 0.5 * libm::erfc(-x * root))
}

fn linear_w8a8(problem: &Problem) -> Array2<f64> {
    let inputs = problem.inputs;
    let codes = |name| inputs.codes::<Ix2>(name).mapv(f64::from);
    let sums = codes("qa").dot(&codes("qw").t());
    let scales = float::<Ix2>(inputs, "sa").dot(&float::<Ix2>(inputs, "sw").t());
    activated(problem, sums * scales + &float::<Ix1>(inputs, "b"))
}

/// Two of every four scattered into a dense matrix.
fn expanded(problem: &Problem) -> Array2<f64> {
    let (values, places) = (
        float::<Ix2>(problem.inputs, "v"),
        problem.inputs.codes::<Ix2>("p").mapv(|place| place as usize),
    );
    let mut dense = Array2::zeros((values.nrows(), 2 * values.ncols()));
    for ((row, i), value) in values.indexed_iter() {
        dense[[row, i / 2 * 4 + places[[row, i]]]] = *value;
    }
    dense.slice_move(s![.., ..problem.shape["k"]])
}

/// Takes the largest magnitude out twice; equal ones from the left.
fn prune_2_4(problem: &Problem) -> Vec<ArrayD<f64>> {
    let x = with_padding(&float::<Ix2>(problem.inputs, "x"), 4);
    let groups = x.ncols() / 4;
    let mut values = Array2::zeros((x.nrows(), 2 * groups));
    let mut places = Array2::zeros((x.nrows(), 2 * groups));
    for row in 0..x.nrows() {
        for group in 0..groups {
            let four = x.slice(s![row, 4 * group..4 * group + 4]);
            let mut left = four.mapv(f64::abs);
            let mut take = || {
                let peak = left.fold(-1.0_f64, |peak, &size| peak.max(size));
                let at = left.iter().position(|&size| size == peak).expect("a largest one");
                left[at] = -1.0;
                at
            };
            let taken = [take(), take()];
            for (slot, at) in
                [taken[0].min(taken[1]), taken[0].max(taken[1])].into_iter().enumerate()
            {
                values[[row, 2 * group + slot]] = four[at];
                places[[row, 2 * group + slot]] = at as f64;
            }
        }
    }
    vec![values.into_dyn(), with_padding(&places, 16).into_dyn()]
}

/// Ranks all elements by a stable sort.
fn prune_magnitude(problem: &Problem) -> Vec<ArrayD<f64>> {
    let x = float::<Ix2>(problem.inputs, "x");
    let share = match problem.shape.option() {
        Some("p0") => 1.0,
        Some("p10") => 0.9,
        Some("p90") => 0.1,
        Some("p100") => 0.0,
        _ => 0.5,
    };
    let flat: Vec<f64> = x.iter().copied().collect();
    let mut order: Vec<usize> = (0..flat.len()).collect();
    order.sort_by(|&a, &b| flat[b].abs().total_cmp(&flat[a].abs()));
    let (mut y, mut mask) = (vec![0.0; flat.len()], vec![0.0; flat.len().div_ceil(32)]);
    for &index in &order[..(share * flat.len() as f64).round() as usize] {
        y[index] = flat[index];
        mask[index / 32] += f64::from(1_u32 << (index % 32));
    }
    let y = Array2::from_shape_vec(x.dim(), y).expect("one value for each element");
    vec![y.into_dyn(), ndarray::Array1::from(mask).into_dyn()]
}

/// Attention over keys and values turned back into numbers.
fn cross_attention(problem: &Problem) -> Array2<f64> {
    let (inputs, shape) = (problem.inputs, problem.shape);
    let (batch, heads, keys, d) = (shape["b"], shape["h"], shape["k"], shape["d"]);
    let numbers = |codes: &str, scales: &str| {
        let codes = inputs.codes::<Ix2>(codes).mapv(f64::from);
        let scaled = codes.slice(s![.., ..d]).to_owned() * float::<Ix2>(inputs, scales);
        let flat: Vec<f64> = scaled.iter().copied().collect();
        Array4::from_shape_vec((batch, keys, heads, d), flat).expect("one for each element")
    };
    let (k, v) = (numbers("k", "sk"), numbers("v", "sv"));
    let mut o = float::<Ix2>(inputs, "q")
        .into_shape_with_order((batch, shape["q"], heads, d))
        .expect("row-major");
    let scale = f64::from(1.0 / (d as f32).sqrt());
    for b in 0..batch {
        let valid = inputs.words("len")[b] as usize;
        for h in 0..heads {
            let queries = o.slice(s![b, .., h, ..]).to_owned();
            let mut weights = queries.dot(&k.slice(s![b, ..valid, h, ..]).t()) * scale;
            for mut row in weights.rows_mut() {
                let shares = probabilities(&row.to_owned());
                row.assign(&shares);
            }
            o.slice_mut(s![b, .., h, ..]).assign(&weights.dot(&v.slice(s![b, ..valid, h, ..])));
        }
    }
    o.into_shape_with_order((batch * shape["q"] * heads, d)).expect("row-major")
}
