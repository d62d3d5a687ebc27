//! Which inputs of a kernel may come from files, and how their dimensions give the shape.

use crate::shape::Shape;

/// A dimension that the kernel computes.
const TOTAL: &str = "T";

/// One input that a file can take the place of.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// What `--input` calls it.
    pub name: &'static str,
    /// What the kernel calls the tensor it draws.
    pub tensor: &'static str,
    /// Dimensions, outermost first and apart by spaces: an axis of the shape, a number, `2^m`, or
    /// axes joined by `+` or `*`, which give none of them but have to fit, as `T` has, which the
    /// kernel computes. A shape without an axis of a sum counts it as 0.
    pub dims: &'static str,
    /// The option without which the kernel has no such input.
    pub option: Option<&'static str>,
    /// No value is below zero: a variance, a weight.
    pub nonnegative: bool,
}

impl Operand {
    pub const fn new(name: &'static str, dims: &'static str) -> Self {
        Operand { name, tensor: name, dims, option: None, nonnegative: false }
    }

    /// For a tensor that has another name in the kernel.
    pub const fn drawn_as(self, tensor: &'static str) -> Self {
        Operand { tensor, ..self }
    }

    pub const fn nonnegative(self) -> Self {
        Operand { nonnegative: true, ..self }
    }

    pub const fn with_option(self, option: &'static str) -> Self {
        Operand { option: Some(option), ..self }
    }
}

/// All such inputs of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    list: &'static [Operand],
    /// Why there are none.
    none: &'static str,
    /// Options about the generated values, or that arrange them otherwise.
    generated: &'static [&'static str],
    /// Axes that a shape leaves out where they are equal to another one, as in `("g", "h")`, and
    /// the order of all axes.
    implied: &'static [(&'static str, &'static str)],
    order: &'static [&'static str],
    refuses: fn(&Shape) -> Option<String>,
    /// The size of a dimension `T`.
    total: fn(&Shape) -> usize,
}

/// Why tensors do not make a shape: what is wrong, what was expected, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\n{expected}\n{next}")]
pub struct Misfit {
    pub problem: String,
    pub expected: String,
    pub next: String,
}

/// An operand and the dimensions it comes with.
pub type Sized<'a> = (&'a Operand, &'a [usize]);

impl Operands {
    pub const fn of(list: &'static [Operand]) -> Self {
        let refuses: fn(&Shape) -> Option<String> = |_| None;
        let total: fn(&Shape) -> usize = |_| 0;
        Operands { list, none: "", generated: &[], implied: &[], order: &[], refuses, total }
    }

    /// For a kernel that takes none, and why.
    pub const fn none(why: &'static str) -> Self {
        Operands { none: why, ..Operands::of(&[]) }
    }

    /// Leaves out shapes with these options.
    pub const fn without(self, options: &'static [&'static str]) -> Self {
        Operands { generated: options, ..self }
    }

    /// Axes that may be left out of a shape, and the order when they are not.
    pub const fn implying(
        self,
        implied: &'static [(&'static str, &'static str)],
        order: &'static [&'static str],
    ) -> Self {
        Operands { implied, order, ..self }
    }

    /// What a shape must fulfil besides; the reason why it does not.
    pub const fn refusing(self, refuses: fn(&Shape) -> Option<String>) -> Self {
        Operands { refuses, ..self }
    }

    /// What a dimension `T` is: a total that axes alone do not say.
    pub const fn deriving(self, total: fn(&Shape) -> usize) -> Self {
        Operands { total, ..self }
    }

    pub fn list(&self) -> &'static [Operand] {
        self.list
    }

    /// Why there are none, where there are none.
    pub fn why_none(&self) -> Option<&'static str> {
        self.list.is_empty().then_some(self.none)
    }

    /// # Errors
    /// When the kernel has no such input.
    pub fn find(&self, kernel: &str, name: &str) -> Result<&'static Operand, Misfit> {
        if let Some(operand) = self.list.iter().find(|operand| operand.name == name) {
            return Ok(operand);
        }
        let problem = format!("--input {name}: {kernel} takes no such tensor");
        let expected = match self.why_none() {
            Some(why) => format!("it takes none from files: {why}"),
            None => format!("it takes {}", self.described()),
        };
        let next = "choose kernels that have it with a FILTER; `fusebench list` says which";
        Err(Misfit { problem, expected, next: next.to_owned() })
    }

    /// `x (m × k), w (n × k), b (n)`.
    pub fn described(&self) -> String {
        let one = |operand: &Operand| format!("{} ({})", operand.name, dims_text(operand.dims));
        self.list.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Whether a shape with this option is made of tensors like these.
    pub fn suit(&self, option: Option<&str>, operands: &[&Operand]) -> bool {
        let generated = option.is_some_and(|option| self.generated.contains(&option));
        let has = |operand: &&Operand| operand.option.is_none() || operand.option == option;
        !generated && operands.iter().all(has)
    }

    /// The dimensions of an operand at a shape.
    ///
    /// # Panics
    /// When they name an axis that the shape does not have: a bug in the kernel's file.
    pub fn dims(&self, operand: &Operand, shape: &Shape) -> Vec<usize> {
        let size = |token| self.evaluate(token, shape);
        let size = |token| size(token).unwrap_or_else(|| panic!("{shape} has no {token}"));
        operand.dims.split(' ').map(size).collect()
    }

    /// The shape that tensors of these dimensions make; axes that none of them gives stay as they
    /// are in `shape`.
    ///
    /// # Errors
    /// When a tensor has another number of dimensions, or two of them give an axis two sizes.
    pub fn fit(&self, kernel: &str, shape: &Shape, given: &[Sized]) -> Result<Shape, Misfit> {
        let mut solved: Vec<Solved> = Vec::new();
        for &(operand, dims) in given {
            let wanted: Vec<&str> = operand.dims.split(' ').collect();
            if wanted.len() != dims.len() {
                return Err(rank(kernel, operand, dims));
            }
            for (at, (token, &size)) in wanted.into_iter().zip(dims).enumerate() {
                let Some((axis, size)) = solve(token, size) else { continue };
                let new = Solved { axis, size, operand, at };
                match solved.iter().find(|known| known.axis == axis) {
                    Some(known) if known.size != size => {
                        return Err(conflict(kernel, known, &new));
                    }
                    Some(_) => {}
                    None => solved.push(new),
                }
            }
        }
        let shape = self.resized(shape, &solved);
        for &(operand, dims) in given {
            for (at, token) in operand.dims.split(' ').enumerate() {
                if self.evaluate(token, &shape) != Some(dims[at]) {
                    return Err(unfit(kernel, operand, (at, token), dims, &shape));
                }
            }
        }
        match (self.refuses)(&shape) {
            None => Ok(shape),
            Some(why) => Err(Misfit {
                problem: format!("{kernel} cannot have the shape {shape}: {why}"),
                expected: "its axes are those of the tensors, and of the preset where none \
                           gives one"
                    .to_owned(),
                next: "give tensors of other sizes, or choose another preset shape with a FILTER"
                    .to_owned(),
            }),
        }
    }

    /// The shape with the solved axes; implied ones appear only where they differ.
    fn resized(&self, shape: &Shape, solved: &[Solved]) -> Shape {
        let size = |axis: &str| {
            let known = solved.iter().find(|known| known.axis == axis).map(|known| known.size);
            known.or_else(|| size_of(shape, axis))
        };
        if self.implied.is_empty() {
            let axes = shape.axes().iter().map(|&(axis, old)| (axis, size(axis).unwrap_or(old)));
            return shape.with_axes(axes.collect());
        }
        let differs = |axis: &str, own: usize| {
            let implied = self.implied.iter().find(|(left_out, _)| *left_out == axis);
            implied.is_none_or(|&(_, by)| size(by) != Some(own))
        };
        let axes = self.order.iter().filter_map(|&axis| Some((axis, size(axis)?)));
        shape.with_axes(axes.filter(|&(axis, own)| differs(axis, own)).collect())
    }

    /// The size that a dimension has in a shape.
    fn evaluate(&self, token: &str, shape: &Shape) -> Option<usize> {
        let implied = |axis: &str| {
            let (_, by) = self.implied.iter().find(|(left_out, _)| *left_out == axis)?;
            size_of(shape, by)
        };
        let of = |axis: &str| size_of(shape, axis).or_else(|| implied(axis));
        if token == TOTAL {
            Some((self.total)(shape))
        } else if let Ok(number) = token.parse() {
            Some(number)
        } else if let Some(axis) = token.strip_prefix("2^") {
            1_usize.checked_shl(of(axis)?.try_into().ok()?)
        } else if token.contains('+') {
            Some(token.split('+').filter_map(of).sum())
        } else {
            token.split('*').try_fold(1_usize, |product, axis| product.checked_mul(of(axis)?))
        }
    }
}

/// An axis as a tensor gives it.
struct Solved<'a> {
    axis: &'static str,
    size: usize,
    operand: &'a Operand,
    /// Which dimension of the tensor.
    at: usize,
}

/// The axis that a dimension is, with its size.
fn solve(token: &'static str, size: usize) -> Option<(&'static str, usize)> {
    match token.strip_prefix("2^") {
        Some(axis) if size.is_power_of_two() => Some((axis, size.ilog2() as usize)),
        Some(_) => None,
        None if token == TOTAL => None,
        None if token.contains(['+', '*']) || token.parse::<usize>().is_ok() => None,
        None => Some((token, size)),
    }
}

fn size_of(shape: &Shape, axis: &str) -> Option<usize> {
    shape.axes().iter().find(|(name, _)| *name == axis).map(|&(_, size)| size)
}

fn dims_text(dims: &str) -> String {
    dims.replace(' ', " × ")
}

fn sizes_text(dims: &[usize]) -> String {
    let sizes: Vec<String> = dims.iter().map(usize::to_string).collect();
    if sizes.is_empty() { "a single value".to_owned() } else { sizes.join(" × ") }
}

fn rank(kernel: &str, operand: &Operand, dims: &[usize]) -> Misfit {
    let (name, wanted) = (operand.name, operand.dims.split(' ').count());
    Misfit {
        problem: format!("--input {name}: the tensor has {} dimensions: {}", dims.len(), {
            sizes_text(dims)
        }),
        expected: format!("{kernel} takes {name} with {wanted}: {}", dims_text(operand.dims)),
        next: format!("reshape it with numpy.reshape, or leave {kernel} out with a FILTER"),
    }
}

fn conflict(kernel: &str, known: &Solved, new: &Solved) -> Misfit {
    let one = |solved: &Solved| {
        let (name, dims) = (solved.operand.name, dims_text(solved.operand.dims));
        format!("{} in {name} (dimension {} of {dims})", solved.size, solved.at + 1)
    };
    Misfit {
        problem: format!("--input {} and --input {} do not fit", known.operand.name, {
            new.operand.name
        }),
        expected: format!("{} of {kernel} is {} and {}", new.axis, one(known), one(new)),
        next: "give tensors of one layer; transpose where two axes are swapped".to_owned(),
    }
}

fn unfit(
    kernel: &str,
    operand: &Operand,
    (at, token): (usize, &str),
    dims: &[usize],
    shape: &Shape,
) -> Misfit {
    let (name, whole) = (operand.name, dims_text(operand.dims));
    Misfit {
        problem: format!(
            "--input {name}: dimension {} is {}, which is not {token} at the shape {shape}",
            at + 1,
            dims[at]
        ),
        expected: format!("{kernel} takes {name} as {whole}"),
        next: "axes that no tensor gives are those of the preset shape: choose another one with \
               a FILTER, or give the other tensors too"
            .to_owned(),
    }
}

#[cfg(test)]
#[path = "operands_tests.rs"]
mod tests;
