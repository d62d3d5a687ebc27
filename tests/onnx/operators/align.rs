//! Resizing, cropping and selecting.

use fusebench::kernel::Elem;
use ndarray::{ArrayD, Axis};

use super::{Checked, Outcome, checked, permuted, restored, storage, with_last};
use crate::case::Case;
use crate::common::lab::{Ask, Element, Lab, Run};
use crate::outside::Outside;

/// The tag of the kernel that has the semantics of the case.
fn resize_tag(case: &Case) -> Result<Option<&'static str>, Outside> {
    match case.text("mode", "nearest").as_str() {
        "linear" => {}
        "cubic" => return Err(Outside::Cubic),
        _ => return Err(Outside::Nearest),
    }
    let (from, to) = (case.needed(0).values.shape(), case.output(0).expect("y").values.shape());
    if let Some(scales) = case.input(2) {
        let whole =
            |((&scale, &from), &to): ((&f64, &usize), &usize)| scale * from as f64 == to as f64;
        if !scales.values.iter().zip(from).zip(to).all(whole) {
            return Err(Outside::FractionalSize);
        }
    }
    let soft = case.int("antialias", 0) == 1;
    if soft && case.int("exclude_outside", 0) == 0 {
        return Err(Outside::EdgeRepeated);
    }
    match case.text("coordinate_transformation_mode", "half_pixel").as_str() {
        "half_pixel" | "half_pixel_symmetric" => Ok(soft.then_some("antialias")),
        "pytorch_half_pixel" if !to[2..].contains(&1) => Ok(soft.then_some("antialias")),
        "pytorch_half_pixel" => Err(Outside::FirstPixel),
        "align_corners" if !soft => Ok(Some("corners")),
        _ => Err(Outside::Crop),
    }
}

/// One channel, and four copies of it for the strategy that reads four at once.
pub fn resize(lab: &Lab, case: &Case) -> Outcome {
    let tag = resize_tag(case)?;
    let (x, y) = (case.needed(0), case.output(0).expect("y").values.shape());
    let dims = x.values.shape();
    let mut all = Vec::new();
    for channels in [1, 4] {
        let axes = [("h", dims[2]), ("w", dims[3]), ("c", channels), ("y", y[2]), ("x", y[3])];
        let copies = x.values.iter().flat_map(|&value| vec![value; channels]);
        let ask = Ask::new("align/resize_bilinear", storage(x), &axes).tensor("x", copies);
        let runs = lab.run(&match tag {
            Some(tag) => ask.tag(tag),
            None => ask,
        });
        for run in &runs {
            let images = run.array(0, &[y[0], y[1], y[2], y[3], channels]);
            for image in images.axis_iter(Axis(4)) {
                all.push(checked("resize_bilinear", run, 0, image.to_owned()));
            }
        }
    }
    Ok(all)
}

/// Two axes change at most; the others become channels.
pub fn center_crop_pad(lab: &Lab, case: &Case) -> Outcome {
    let (x, y) = (case.needed(0), case.output(0).expect("y").values.shape());
    let dims = x.values.shape();
    let mut order: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis] != y[axis]).collect();
    assert_eq!(order.len(), 2, "{}", case.name);
    order.extend((0..dims.len()).filter(|&axis| dims[axis] == y[axis]));
    let turned = permuted(&x.values, &order);
    let at = |i: usize| y[order[i]];
    let channels = order[2..].iter().map(|&axis| dims[axis]).product();
    let size = turned.shape();
    let axes = [("h", size[0]), ("w", size[1]), ("c", channels), ("y", at(0)), ("x", at(1))];
    let bits = turned.iter().map(|&value| f64::from((value as f32).to_bits()));
    let runs = lab.run(&Ask::new("align/center_crop_pad", Elem::F32, &axes).tensor("x", bits));
    let number = |word: f64| f64::from(f32::from_bits(word as u32));
    let of = |run: &Run| {
        let dims: Vec<usize> = order.iter().map(|&axis| y[axis]).collect();
        let image = run.array(0, &dims).mapv(|mut element| {
            element.device = number(element.device);
            element.reference.value = number(element.reference.value);
            element
        });
        checked("center_crop_pad", run, 0, restored(&image, &order))
    };
    Ok(runs.iter().map(of).collect())
}

/// Integers that f32 holds exactly; the smallest are the largest of the negated.
pub fn top_k(lab: &Lab, case: &Case) -> Outcome {
    let x = case.needed(0);
    let order = with_last(x.values.ndim(), case.axis(-1, x.values.ndim()));
    let smallest = case.int("largest", 1) == 0;
    let signed = |value: &f64| if smallest { -value } else { *value };
    let turned = permuted(&x.values, &order);
    assert!(turned.iter().all(|&value| f64::from(value as f32) == value), "{}", case.name);
    let (n, k) = (turned.shape()[order.len() - 1], case.needed(1).values.sum() as usize);
    let axes = [("r", turned.len() / n), ("n", n), ("k", k)];
    let ask = Ask::new("relate/top_k", Elem::F32, &axes).tensor("x", turned.iter().map(signed));
    let mut dims = turned.shape().to_vec();
    *dims.last_mut().expect("an axis") = k;
    let runs = lab.run(&ask);
    let output = |run: &Run, output: usize| -> ArrayD<Element> {
        let elements = run.array(output, &dims);
        let negate = smallest && output == 0;
        restored(&elements.mapv(|e| if negate { e.negated() } else { e }), &order)
    };
    let of = |run: &Run| [0, 1].map(|at| checked("top_k", run, at, output(run, at)));
    Ok(runs.iter().flat_map(of).collect::<Vec<Checked>>())
}
