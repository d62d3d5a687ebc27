//! Alignment by explicit padding, interpolation matrices and whole-array slices; and the laws that
//! need no second formulation.

use fusebench::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use fusebench::kernel::{Elem, Entry, Problem, Shape};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix1, Ix2, Ix3, concatenate, s};

use super::float;

/// The expected outputs of a kernel of this family, before storage.
pub fn oracle(name: &str, problem: &Problem) -> Vec<ArrayD<f64>> {
    let (inputs, shape) = (problem.inputs, problem.shape);
    match name {
        "resample_linear" => vec![resample(inputs, shape).into_dyn()],
        "sliding_window_pool" => vec![pool(inputs, shape).into_dyn()],
        "conv1d" => vec![conv1d(inputs, shape).into_dyn()],
        "median_filter" => vec![median(inputs, shape["w"]).into_dyn()],
        "resize_bilinear" => vec![resize(inputs, shape).into_dyn()],
        "center_crop_pad" => vec![packed(problem, center_crop_pad)],
        "patchify" => vec![packed(problem, patchify)],
        "cross_correlation_lag" => correlate(inputs, shape["l"]),
        "dtw" => dtw(inputs, shape),
        _ => panic!("write an oracle for {name}"),
    }
}

/// The row of an interpolation matrix that reads a real coordinate of `t` elements.
fn hat(coordinate: f64, t: usize) -> Array1<f64> {
    Array1::from_shape_fn(t, |i| (1.0 - (coordinate - i as f64).abs()).max(0.0))
}

/// One row for each of `u` outputs of `t` elements.
fn interpolation(t: usize, u: usize, option: Option<&str>) -> Array2<f64> {
    let mut matrix = Array2::zeros((u, t));
    let (t_real, u_real) = (t as f64, u as f64);
    for (j, mut row) in matrix.rows_mut().into_iter().enumerate() {
        let centre = (j as f64 + 0.5) * t_real / u_real;
        let weights = match option {
            Some("corners") => hat(j as f64 * (t_real - 1.0) / (u_real - 1.0).max(1.0), t),
            Some("antialias") => {
                let support = (t_real / u_real).max(1.0);
                let of = |i: usize| (1.0 - (i as f64 + 0.5 - centre).abs() / support).max(0.0);
                let triangle = Array1::from_shape_fn(t, of);
                &triangle / triangle.sum()
            }
            _ => hat((centre - 0.5).clamp(0.0, t_real - 1.0), t),
        };
        row.assign(&weights);
    }
    matrix
}

/// The same for irregular times, as `numpy.interp` would weigh the steps.
fn irregular(ticks: &[f64], times: &[f64]) -> Array2<f64> {
    let mut matrix = Array2::zeros((times.len(), ticks.len()));
    for (&time, mut row) in times.iter().zip(matrix.rows_mut()) {
        let passed = ticks.iter().filter(|&&tick| tick <= time).count();
        if passed == 0 || passed == ticks.len() {
            row[passed.saturating_sub(1)] = 1.0;
            continue;
        }
        let (before, after) = (ticks[passed - 1], ticks[passed]);
        row[passed] = (time - before) / (after - before);
        row[passed - 1] = (after - time) / (after - before);
    }
    matrix
}

fn resample(inputs: &Inputs, shape: &Shape) -> Array3<f64> {
    let x = float::<Ix3>(inputs, "x");
    let mut y = Array3::zeros((shape["b"], shape["u"], shape["f"]));
    for (b, mut out) in y.outer_iter_mut().enumerate() {
        let matrix = if shape.option() == Some("stamps") {
            let row = |name| -> Vec<f64> {
                inputs.words(name).index_axis(Axis(0), b).iter().map(|&w| f64::from(w)).collect()
            };
            irregular(&row("ticks"), &row("times"))
        } else {
            interpolation(shape["t"], shape["u"], shape.option())
        };
        out.assign(&matrix.dot(&x.index_axis(Axis(0), b)));
    }
    y
}

fn pool(inputs: &Inputs, shape: &Shape) -> Array3<f64> {
    let x = float::<Ix3>(inputs, "x");
    let (batch, t, f) = x.dim();
    let axis = |wanted: &str| shape.axes().iter().find(|axis| axis.0 == wanted).map(|axis| axis.1);
    let windows: Vec<(usize, usize)> = match axis("u") {
        Some(u) => (0..u).map(|j| (j * t / u, ((j + 1) * t).div_ceil(u))).collect(),
        None => {
            let starts = (0..t).step_by(shape["s"]).map(|first| (first, first + shape["w"]));
            starts.filter(|&(_, end)| end <= t).collect()
        }
    };
    let mut y = Array3::zeros((batch, windows.len(), f));
    for b in 0..batch {
        let len = inputs.words("len")[b] as usize;
        let valid = x.slice(s![b, ..len, ..]);
        // Sums up to each step: a window's is the difference of two.
        let mut sums = Array2::zeros((t + 1, f));
        for step in 0..t {
            let next = if step < len {
                &sums.row(step) + &valid.row(step)
            } else {
                sums.row(step).to_owned()
            };
            sums.row_mut(step + 1).assign(&next);
        }
        for (j, &(first, end)) in windows.iter().enumerate() {
            let (first, end) = (first.min(len), end.min(len));
            if first == end {
                continue;
            }
            let out = if shape.option().is_some_and(|tag| tag.starts_with("max")) {
                valid.slice(s![first..end, ..]).fold_axis(Axis(0), f64::MIN, |a, &b| a.max(b))
            } else {
                (&sums.row(end) - &sums.row(first)) / (end - first) as f64
            };
            y.slice_mut(s![b, j, ..]).assign(&out);
        }
    }
    y
}

/// One matrix product, or product of channels, for each tap.
fn conv1d(inputs: &Inputs, shape: &Shape) -> Array3<f64> {
    let x = float::<Ix3>(inputs, "x");
    let (batch, t, c) = x.dim();
    let edge = Array3::zeros((batch, shape["p"], c));
    let padded = concatenate![Axis(1), edge, x, edge];
    let (width, stride) = (shape["w"], shape["s"]);
    let total = t + 2 * shape["p"];
    let targets = if total < width { 0 } else { (total - width) / stride + 1 };
    let mut y = Array3::zeros((batch, targets, shape["o"]));
    for q in 0..width {
        for b in 0..batch {
            if targets == 0 {
                continue;
            }
            let last = q + (targets - 1) * stride;
            let steps = padded.slice(s![b, q..=last;stride, ..]);
            let products = if shape.option() == Some("depthwise") {
                &steps * &float::<Ix2>(inputs, "w").column(q)
            } else {
                steps.dot(&float::<Ix3>(inputs, "w").index_axis(Axis(1), q).t())
            };
            let mut sum = y.index_axis_mut(Axis(0), b);
            sum += &products;
        }
    }
    y + &float::<Ix1>(inputs, "bias")
}

fn median(inputs: &Inputs, width: usize) -> Array2<f64> {
    let x = float::<Ix2>(inputs, "x");
    let (reach, t) = (width / 2, x.ncols());
    if t <= reach {
        return x;
    }
    let left = x.slice(s![.., 1..=reach;-1]);
    let right = x.slice(s![.., t - 1 - reach..t - 1;-1]);
    let padded = concatenate![Axis(1), left, x, right];
    let mut y = x.clone();
    for (row, mut out) in padded.rows().into_iter().zip(y.rows_mut()) {
        for (window, out) in row.windows(width).into_iter().zip(&mut out) {
            let mut sorted = window.to_vec();
            sorted.sort_by(f64::total_cmp);
            *out = sorted[reach];
        }
    }
    y
}

fn resize(inputs: &Inputs, shape: &Shape) -> Array3<f64> {
    let x = float::<Ix3>(inputs, "x");
    let down = interpolation(shape["h"], shape["y"], shape.option());
    let across = interpolation(shape["w"], shape["x"], shape.option());
    let mut y = Array3::zeros((shape["y"], shape["x"], shape["c"]));
    for i in 0..shape["c"] {
        let plane = down.dot(&x.index_axis(Axis(2), i)).dot(&across.t());
        y.index_axis_mut(Axis(2), i).assign(&plane);
    }
    y
}

/// Applies a copy to the elements of the words of x, and packs them again.
fn packed(problem: &Problem, copy: fn(Array3<u32>, &Shape) -> ArrayD<u32>) -> ArrayD<f64> {
    let shape = problem.shape;
    let size = problem.dtype.bytes();
    let words = problem.inputs.words("x");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let element = |b: &[u8]| b.iter().rev().fold(0, |e, &b| e << 8 | u32::from(b));
    let dim = (shape["h"], shape["w"], shape["c"]);
    let count = dim.0 * dim.1 * dim.2;
    let elements = bytes.chunks(size).take(count).map(element).collect();
    let image = Array3::from_shape_vec(dim, elements).expect("one element each");
    let copied = copy(image, shape);
    let bytes: Vec<u8> =
        copied.iter().flat_map(|element| element.to_le_bytes().into_iter().take(size)).collect();
    bytes.chunks(4).map(|word| f64::from(element(word))).collect::<Array1<f64>>().into_dyn()
}

fn center_crop_pad(image: Array3<u32>, shape: &Shape) -> ArrayD<u32> {
    // One axis after the other, as ONNX defines it.
    fn fit(image: Array3<u32>, axis: Axis, wanted: usize) -> Array3<u32> {
        let size = image.len_of(axis);
        if wanted <= size {
            let first = (size - wanted) / 2;
            return image.slice_axis(axis, (first..first + wanted).into()).to_owned();
        }
        let edge = |n: usize| {
            let mut dim = image.raw_dim();
            dim[axis.index()] = n;
            Array3::zeros(dim)
        };
        let before = (wanted - size) / 2;
        concatenate![axis, edge(before), image, edge(wanted - size - before)]
    }
    fit(fit(image, Axis(0), shape["y"]), Axis(1), shape["x"]).into_dyn()
}

fn patchify(image: Array3<u32>, shape: &Shape) -> ArrayD<u32> {
    let (h, w, c) = image.dim();
    let p = shape["p"];
    let (down, across) = (h.div_ceil(p), w.div_ceil(p));
    let mut padded = Array3::zeros((down * p, across * p, c));
    padded.slice_mut(s![..h, ..w, ..]).assign(&image);
    let patches = padded.into_shape_with_order((down, p, across, p, c)).expect("whole patches");
    patches.permuted_axes([0, 2, 1, 3, 4]).as_standard_layout().to_owned().into_dyn()
}

fn correlate(inputs: &Inputs, reach: usize) -> Vec<ArrayD<f64>> {
    let (a, b) = (float::<Ix3>(inputs, "a"), float::<Ix3>(inputs, "b"));
    let (batch, t, f) = a.dim();
    let edge = Array3::zeros((batch, reach, f));
    let padded = concatenate![Axis(1), edge, b, edge];
    let mut r = Array2::zeros((batch, 2 * reach + 1));
    for (l, mut column) in r.columns_mut().into_iter().enumerate() {
        let products = &a * &padded.slice(s![.., l..l + t, ..]);
        column.assign(&products.sum_axis(Axis(2)).sum_axis(Axis(1)));
    }
    let lag = r.map_axis(Axis(1), |r| {
        let peak = r.fold(f64::MIN, |a, &b| a.max(b));
        r.iter().position(|&value| value == peak).expect("a maximum") as f64 - reach as f64
    });
    vec![r.into_dyn(), lag.into_dyn()]
}

/// Bordered by infinities, one anti-diagonal after the other; moves from the finished sums; lengths
/// from the first cell on.
fn dtw(inputs: &Inputs, shape: &Shape) -> Vec<ArrayD<f64>> {
    let x = float::<Ix3>(inputs, "x");
    let x = if shape.option() == Some("negated") { -x } else { x };
    let (batch, n, m) = x.dim();
    let mut cost = Array1::zeros(batch);
    let mut moves = Array3::zeros((batch, n, m.next_multiple_of(16)));
    let mut length = Array1::zeros(batch);
    for (b, x) in x.outer_iter().enumerate() {
        let mut sums = Array2::from_elem((n + 1, m + 1), f64::INFINITY);
        sums[[0, 0]] = 0.0;
        for k in 0..n + m - 1 {
            for i in k.saturating_sub(m - 1)..n.min(k + 1) {
                let j = k - i;
                let least = sums[[i, j]].min(sums[[i, j + 1]]).min(sums[[i + 1, j]]);
                sums[[i + 1, j + 1]] = x[[i, j]] + least;
            }
            // Only the first cell may be entered from outside.
            sums[[0, 0]] = f64::INFINITY;
        }
        let mut lengths = Array2::<f64>::zeros((n + 1, m + 1));
        for ((i, j), _) in x.indexed_iter() {
            let before = [(i, j), (i, j + 1), (i + 1, j)];
            let of = before.map(|cell| sums[cell]);
            let first = (i, j) == (0, 0);
            // The first of the smallest, in the order diagonal, up, left.
            let code = (0..3).fold(0, |best, code| if of[code] < of[best] { code } else { best });
            moves[[b, i, j]] = if first { 3.0 } else { code as f64 };
            lengths[[i + 1, j + 1]] = lengths[before[code]] + 1.0;
        }
        cost[b] = sums[[n, m]];
        length[b] = lengths[[n, m]];
    }
    vec![cost.into_dyn(), moves.into_dyn(), length.into_dyn()]
}

fn kernel(name: &str) -> &'static Entry {
    ALL.iter().find(|entry| entry.name == name).expect("a registered kernel")
}

/// The outputs of a kernel's first strategy for given tensors.
fn outputs(name: &str, shape: &Shape, tensors: Vec<Tensor>) -> Vec<Array2<f64>> {
    let kernel = kernel(name).kernel;
    let inputs = Inputs::new(Params::new(), tensors);
    let (dtype, variant) = (kernel.spec().dtypes[0], &kernel.spec().variants[0]);
    let problem = Problem { shape, dtype, variant, inputs: &inputs, device: &[] };
    kernel.reference(&problem, &Rows::All)
}

fn ramp(dims: &[usize]) -> Tensor {
    let values = (0..dims.iter().product()).map(|i| i as f32).collect();
    Tensor::floats("x", Elem::F32, dims, values)
}

#[test]
fn resampling_to_the_same_length_copies_and_ramps_stay_ramps() {
    let none = || ["ticks", "times"].map(|name| Tensor::words(name, &[0, 0], Vec::new()));
    let stream = |u: usize| {
        let axes = [("b", 1), ("t", 33), ("u", u), ("f", 1)];
        let shape = Shape::new(&axes).tag("corners");
        let tensors = [ramp(&[1, 33, 1])].into_iter().chain(none()).collect();
        outputs("resample_linear", &shape, tensors).swap_remove(0)
    };
    assert!(stream(33).iter().enumerate().all(|(i, &y)| y == i as f64));
    assert!(stream(97).iter().enumerate().all(|(i, &y)| (y - i as f64 / 3.0).abs() < 1e-12));
    let image = |y: usize| {
        let shape = Shape::new(&[("h", 9), ("w", 1), ("c", 1), ("y", y), ("x", 1)]).tag("corners");
        outputs("resize_bilinear", &shape, vec![ramp(&[9, 1, 1])]).swap_remove(0)
    };
    assert!(image(9).iter().enumerate().all(|(i, &y)| y == i as f64));
    assert!(image(17).iter().enumerate().all(|(i, &y)| (y - i as f64 / 2.0).abs() < 1e-12));
}

#[test]
fn warping_a_stream_onto_itself_costs_nothing_and_transposing_nothing_changes() {
    let shape = |n, m| Shape::new(&[("b", 1), ("n", n), ("m", m)]);
    let distances = (0..400).map(|i| ((i / 20) as f32 - (i % 20) as f32).abs()).collect();
    let matrix = Tensor::floats("x", Elem::F32, &[1, 20, 20], distances);
    let own = outputs("dtw", &shape(20, 20), vec![matrix]);
    assert_eq!((own[0][[0, 0]], own[2][[0, 0]]), (0.0, 20.0));

    let entry = kernel("dtw");
    let variant = &entry.kernel.spec().variants[0];
    let generator = Generator::new(entry.kernel.spec().dtypes[0], variant, Distribution::Normal, 3);
    let inputs = entry.kernel.inputs(&shape(17, 31), &generator);
    let x = inputs.float::<Ix3>("x");
    let turned = x.permuted_axes([0, 2, 1]).iter().copied().collect();
    let turned = Tensor::floats("x", Elem::F32, &[1, 31, 17], turned);
    let there = outputs("dtw", &shape(17, 31), inputs.tensors.clone());
    let back = outputs("dtw", &shape(31, 17), vec![turned]);
    assert_eq!((&there[0], &there[2]), (&back[0], &back[2]));
}

#[test]
fn ties_on_a_path_go_to_the_diagonal() {
    // Where only smaller predecessors count, the path through zeros has 9 cells.
    let zeros = Tensor::floats("x", Elem::F32, &[1, 4, 6], vec![0.0; 24]);
    let shape = Shape::new(&[("b", 1), ("n", 4), ("m", 6)]);
    assert_eq!(outputs("dtw", &shape, vec![zeros])[2][[0, 0]], 6.0);
}
