//! Codes of eight bits. Our codes have a sign: where those of a case do not, codes and zero points
//! are 128 less.

use fusebench::kernel::{Dtype, Elem};
use ndarray::{ArrayD, Dimension, IxDyn};

use super::{Checked, Outcome, checked};
use crate::case::Case;
use crate::common::lab::{Ask, Element, Lab, Run};
use crate::outside::Outside;
use crate::proto::{Array, Kind};

/// What is added to our codes to give those of a type; types of fewer bits need nothing.
fn offset(kind: Kind) -> f64 {
    if kind.integer() == Some((8, false)) { 128.0 } else { 0.0 }
}

/// For each scale the elements it holds for, as flat positions of `x`: all, those of an index
/// along the axis, or a block of them.
fn spans(case: &Case, x: &Array, scale: &Array) -> Vec<Vec<usize>> {
    let mut spans = vec![Vec::new(); scale.values.len()];
    let axis = case.axis(1, x.values.ndim());
    let block = case.int("block_size", 0) as usize;
    let places = ArrayD::from_shape_vec(scale.values.raw_dim(), (0..spans.len()).collect());
    let places = places.expect("one number for each scale");
    for (flat, (mut index, _)) in x.values.indexed_iter().enumerate() {
        let span = match (block, spans.len()) {
            (0, 1) => 0,
            (0, _) => index[axis],
            _ => {
                index[axis] /= block;
                places[IxDyn(index.slice())]
            }
        };
        spans[span].push(flat);
    }
    spans
}

/// The zero points, one for each scale.
fn zeros(case: &Case, count: usize) -> Vec<f64> {
    match case.input(2) {
        Some(zero) if zero.values.len() == count => zero.values.iter().copied().collect(),
        Some(zero) => panic!("{}: {} zero points for {count} scales", case.name, zero.values.len()),
        None => vec![0.0; count],
    }
}

/// Puts elements that came span by span where they belong.
fn scattered(elements: &[Element], spans: &[Vec<usize>], dims: &[usize]) -> ArrayD<Element> {
    let mut whole = vec![Element::default(); elements.len()];
    for (&at, &element) in spans.iter().flatten().zip(elements) {
        whole[at] = element;
    }
    ArrayD::from_shape_vec(IxDyn(dims), whole).expect("its size")
}

/// Codes of a type under one scale and zero point by every strategy, without what fills words up.
pub fn given_scale(
    lab: &Lab,
    kind: Kind,
    values: &[f64],
    scale: f32,
    zero: f64,
) -> Vec<(Run, Vec<Element>)> {
    let ask = Ask::new("compress/quantize_int8", Elem::F32, &[("m", 1), ("k", values.len())])
        .dtype(Dtype::I8)
        .tag("fixed")
        .tensor("x", values.iter().copied())
        .real("scale", scale)
        .real("inverse", scale.recip())
        .real("zero", (zero - offset(kind)) as f32);
    let codes = |run: Run| {
        let codes = run.outputs[2].iter().take(values.len());
        let codes = codes.map(|element| element.plus(offset(kind))).collect();
        (run, codes)
    };
    lab.run(&ask).into_iter().map(codes).collect()
}

/// A run for each scale, which is given beforehand.
pub fn quantize(lab: &Lab, case: &Case) -> Outcome {
    let (x, scale, y) = (case.needed(0), case.needed(1), case.output(0).expect("y"));
    match y.kind.integer() {
        None => return Err(Outside::Minifloat),
        Some((16.., _)) => return Err(Outside::WideCodes),
        Some((..8, _)) => return Err(Outside::GivenScales),
        Some(_) => {}
    }
    let spans = spans(case, x, scale);
    let values = x.values.as_slice().expect("row-major");
    let mut all: Vec<(Run, Vec<Element>)> = Vec::new();
    for ((span, &scale), zero) in spans.iter().zip(&scale.values).zip(zeros(case, spans.len())) {
        let own: Vec<f64> = span.iter().map(|&at| values[at]).collect();
        let runs = given_scale(lab, y.kind, &own, scale as f32, zero);
        if all.is_empty() {
            all = runs;
            continue;
        }
        all.iter_mut().zip(runs).for_each(|((_, codes), (_, more))| codes.extend(more));
    }
    let dims = x.values.shape();
    let of = |(run, codes): (Run, Vec<Element>)| {
        checked("quantize_int8", &run, 0, scattered(&codes, &spans, dims))
    };
    Ok(all.into_iter().map(of).collect())
}

/// One row with a computed scale and zero point, both of which must agree too.
pub fn quantize_dynamic(lab: &Lab, case: &Case) -> Outcome {
    let x = case.needed(0);
    let len = x.values.len();
    let ask = Ask::new("compress/quantize_int8", Elem::F32, &[("m", 1), ("k", len)])
        .dtype(Dtype::I8)
        .tag("zero_point")
        .tensor("x", x.values.iter().copied());
    let of = |run: &Run| -> Vec<Checked> {
        let codes: Vec<Element> = run.outputs[2][..len].iter().map(|e| e.plus(128.0)).collect();
        let codes = ArrayD::from_shape_vec(x.values.raw_dim(), codes).expect("its size");
        let scalar =
            |output: usize, by: f64| ArrayD::from_elem(IxDyn(&[]), run.outputs[output][0].plus(by));
        vec![
            checked("quantize_int8", run, 0, codes),
            checked("quantize_int8", run, 1, scalar(0, 0.0)),
            checked("quantize_int8", run, 2, scalar(1, 128.0)),
        ]
    };
    Ok(lab.run(&ask).iter().flat_map(of).collect())
}

/// A row for each scale; codes of fewer than eight bits are codes of eight.
pub fn dequantize(lab: &Lab, case: &Case) -> Outcome {
    let (x, scale, y) = (case.needed(0), case.needed(1), case.output(0).expect("y"));
    match x.kind.integer() {
        None => return Err(Outside::Minifloat),
        Some((16.., _)) => return Err(Outside::WideCodes),
        Some(_) => {}
    }
    let spans = spans(case, x, scale);
    let (m, k) = (spans.len(), spans[0].len());
    let values = x.values.as_slice().expect("row-major");
    let row = |span: &Vec<usize>| {
        assert_eq!(span.len(), k, "{}: every scale has as many elements", case.name);
        let mut codes: Vec<f64> = span.iter().map(|&at| values[at] - offset(x.kind)).collect();
        codes.resize(k.next_multiple_of(4), 0.0);
        codes
    };
    let word = |zero: f64| f64::from((zero - offset(x.kind)) as i32 as u32);
    let ask = Ask::new("compress/dequantize_int8", super::storage(y), &[("m", m), ("k", k)])
        .dtype(Dtype::I8)
        .tag("zero_point")
        .tensor("q", spans.iter().flat_map(row))
        .tensor("s", scale.values.iter().copied())
        .tensor("z", zeros(case, m).into_iter().map(word));
    let of = |run: &Run| {
        let elements = scattered(&run.outputs[0], &spans, x.values.shape());
        checked("dequantize_int8", run, 0, elements)
    };
    Ok(lab.run(&ask).iter().map(of).collect())
}
