//! Normalisations and softmax: an axis that is not the last one is brought there and back.

use super::{Checked, Outcome, checked, first, flat, permuted, restored, storage, with_last};
use crate::case::Case;
use crate::common::lab::{Ask, Lab};
use crate::outside::Outside;

/// Everything from the axis on is one row.
fn rows(case: &Case) -> (usize, usize) {
    let dims = case.needed(0).values.shape();
    let axis = case.axis(-1, dims.len());
    (dims[..axis].iter().product(), dims[axis..].iter().product())
}

pub fn layer_norm(lab: &Lab, case: &Case) -> Outcome {
    let (x, (r, d)) = (case.needed(0), rows(case));
    let ask = Ask::new("normalize/layer_norm", storage(x), &[("r", r), ("d", d)])
        .tensor("x", flat(x.values.view()))
        .tensor("g", flat(case.needed(1).values.view()))
        .tensor("b", flat(case.needed(2).values.view()))
        .real("eps", case.float("epsilon", 1e-5));
    Ok(first("layer_norm", &lab.run(&ask), x.values.shape()))
}

pub fn rms_norm(lab: &Lab, case: &Case) -> Outcome {
    let (x, (r, d)) = (case.needed(0), rows(case));
    let ask = Ask::new("normalize/rms_norm", storage(x), &[("r", r), ("d", d)])
        .tensor("x", flat(x.values.view()))
        .tensor("g", flat(case.needed(1).values.view()))
        .real("eps", case.float("epsilon", 1e-5));
    Ok(first("rms_norm", &lab.run(&ask), x.values.shape()))
}

pub fn group_norm(lab: &Lab, case: &Case) -> Outcome {
    Ok(in_groups(lab, case, case.int("num_groups", 1) as usize))
}

/// A group for each channel.
pub fn instance_norm(lab: &Lab, case: &Case) -> Outcome {
    Ok(in_groups(lab, case, case.needed(0).values.shape()[1]))
}

fn in_groups(lab: &Lab, case: &Case, groups: usize) -> Vec<Checked> {
    let x = case.needed(0);
    let dims = x.values.shape();
    let axes = [("n", dims[0]), ("c", dims[1]), ("l", dims[2..].iter().product()), ("g", groups)];
    let ask = Ask::new("normalize/group_norm", storage(x), &axes)
        .tensor("x", flat(x.values.view()))
        .tensor("g", flat(case.needed(1).values.view()))
        .tensor("b", flat(case.needed(2).values.view()))
        .real("eps", case.float("epsilon", 1e-5));
    first("group_norm", &lab.run(&ask), dims)
}

pub fn batch_norm(lab: &Lab, case: &Case) -> Outcome {
    if case.int("training_mode", 0) == 1 {
        return Err(Outside::BatchStatistics);
    }
    let x = case.needed(0);
    let dims = x.values.shape();
    let axes = [("n", dims[0]), ("c", dims[1]), ("l", dims[2..].iter().product())];
    let ask = Ask::new("normalize/batch_norm", storage(x), &axes)
        .tensor("x", flat(x.values.view()))
        .tensor("g", flat(case.needed(1).values.view()))
        .tensor("b", flat(case.needed(2).values.view()))
        .tensor("mean", flat(case.needed(3).values.view()))
        .tensor("variance", flat(case.needed(4).values.view()))
        .real("eps", case.float("epsilon", 1e-5));
    Ok(first("batch_norm", &lab.run(&ask), dims))
}

pub fn softmax(lab: &Lab, case: &Case) -> Outcome {
    Ok(along_axis(lab, case, "normalize/softmax", "n"))
}

pub fn lp_normalization(lab: &Lab, case: &Case) -> Outcome {
    match case.int("p", 2) {
        2 => Ok(along_axis(lab, case, "normalize/l2_normalize", "d")),
        _ => Err(Outside::SumOfMagnitudes),
    }
}

fn along_axis(lab: &Lab, case: &Case, kernel: &'static str, width: &'static str) -> Vec<Checked> {
    let x = case.needed(0);
    let order = with_last(x.values.ndim(), case.axis(-1, x.values.ndim()));
    let turned = permuted(&x.values, &order);
    let n = turned.shape()[order.len() - 1];
    let ask = Ask::new(kernel, storage(x), &[("r", turned.len() / n), (width, n)])
        .tensor("x", flat(turned.view()));
    let runs = lab.run(&ask);
    let of = |run| checked(kernel, run, 0, restored(&run.array(0, turned.shape()), &order));
    runs.iter().map(of).collect()
}
