//! Bilinear resize of images and position embeddings `[height, width, channels]`.
//!
//! Tags: none for pixel centres (ONNX Resize `half_pixel`), `corners` for aligned corners,
//! `antialias` for the triangle filter of Pillow and of torch's `antialias=True`.

use std::ops::Range;

use ndarray::{Array2, Ix3};

use super::steps::place;
use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Spec, Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &ResizeBilinear;

struct ResizeBilinear;

const VARIANTS: &[Variant] = &[
    Variant { refuses: refuses_tall, ..Variant::new("scalar", &[("WG", 64.0)]) },
    Variant {
        refuses: |shape| refuses_tall(shape).or_else(|| refuses_ragged(shape["c"])),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        suits: Suits::Cpu,
        refuses: refuses_strip,
        ..Variant::new("strip", &[("WG", 8.0), ("COLUMNS", 32.0)])
    },
];

/// An invocation of `strip` makes all rows that lie between two of the image, 32 columns of them;
/// llvmpipe lets it make 65,535 turns.
const MAX_ENLARGEMENT: usize = 1_000;

/// Only enlargements load a pixel more than once.
fn refuses_strip(shape: &Shape) -> Option<String> {
    let (h, w, c, rows, columns) = (shape["h"], shape["w"], shape["c"], shape["y"], shape["x"]);
    if shape.option() == Some("antialias") || rows < h || columns < w {
        return Some("not an enlargement: nothing is loaded twice".to_owned());
    }
    let groups = (h * c / 4).div_ceil(8).max(columns.div_ceil(32));
    if groups > 65_535 {
        return Some(format!("{groups} workgroups in one dimension, the limit is 65535"));
    }
    let times = rows.div_ceil(h);
    let steep = || format!("{times} rows for each of the image, one invocation makes 1000");
    refuses_ragged(c).or_else(|| (times > MAX_ENLARGEMENT).then(steep))
}

fn refuses_ragged(c: usize) -> Option<String> {
    (!c.is_multiple_of(4)).then(|| format!("c is {c}, no multiple of four"))
}

/// A grid row for each image row.
fn refuses_tall(shape: &Shape) -> Option<String> {
    let most = shape["h"].max(shape["y"]);
    (most > 65_535).then(|| format!("{most} workgroups in one dimension, the limit is 65535"))
}

const MUTANTS: &[Mutant] = &[
    Mutant::new("no shift by half a pixel", "twice - min(twice, u)", "twice"),
    Mutant::new("corners one pixel apart", "max(u - 1u, 1u)", "u"),
    Mutant::new("width for height", "place(wid.y, params.height,", "place(wid.y, params.width,"),
    Mutant::new("row below left out", "weight(down) *", "0.0 * weight(down) *"),
    Mutant::new("weight of the row below from the row above", "deep, down)", "down - deep, down)"),
    Mutant::new("strip one column short", "min(first + COLUMNS,", "min(first + COLUMNS - 1u,"),
    Mutant::new("pixels not moved on", "above_left = above_right;", ""),
    Mutant::new(
        "rows begin one late",
        "first_from(upper, p.height",
        "first_from(upper + 1u, p.height",
    ),
    Mutant::new("triangle of an enlarged image", "2u * max(t, u)", "2u * u"),
    Mutant::new(
        "last element under the triangle dropped",
        "(centre + reach + u - 1u)",
        "(centre + reach - u - 1u)",
    ),
    Mutant::new(
        "first element under the triangle dropped",
        "begin / (2u * u) + 1u, 0u",
        "begin / (2u * u) + 2u, 1u",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "h w c")];

impl Kernel for ResizeBilinear {
    fn spec(&self) -> Spec {
        Spec {
            summary: "resize an image bilinearly, plain or antialiased",
            difficulties: &[1, 3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Offset],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(16, 16, 8, 24, 24),
                of(24, 24, 8, 16, 16),
                of(5, 7, 3, 3, 11),
                of(1, 1, 3, 4, 5),
                of(1, 1, 4, 5, 70),
                of(3, 33, 4, 257, 33),
                of(6, 5, 3, 6, 5),
                of(4, 4, 4, 0, 4),
                of(5, 7, 3, 3, 11).tag("corners"),
                of(9, 4, 4, 1, 1).tag("corners"),
                of(7, 5, 4, 31, 67).tag("corners"),
                of(24, 24, 8, 16, 16).tag("antialias"),
                of(5, 7, 3, 3, 11).tag("antialias"),
                of(33, 31, 3, 7, 5).tag("antialias"),
            ],
            Preset::Models => vec![
                of(16, 16, 1024, 24, 24).from("CLIP ViT-L/14 position embedding to 336"),
                of(480, 640, 3, 224, 224).from("CLIP ViT-B/32 input"),
                of(480, 640, 3, 224, 224).tag("antialias").from("CLIP ViT-B/32 input"),
                of(480, 640, 3, 336, 336).tag("antialias").from("CLIP ViT-L/14-336 input"),
            ],
            Preset::Sweep => [128, 256, 512, 1024]
                .into_iter()
                .flat_map(|n| {
                    let up = of(n, n, 4, 2 * n, 2 * n);
                    [up, of(2 * n, 2 * n, 4, n, n), of(2 * n, 2 * n, 4, n, n).tag("antialias")]
                })
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (h, w, c) = (shape["h"], shape["w"], shape["c"]);
        let params = Params::new().size("height", h).size("width", w).size("c", c);
        Inputs::new(
            params.size("rows", shape["y"]).size("columns", shape["x"]),
            vec![generator.data("x", &[h, w, c])],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (h, c, rows, columns) = (shape["h"], shape["c"], shape["y"], shape["x"]);
        let vectors = variant.name == "vector";
        let invocations = columns * c / if vectors { 4 } else { 1 };
        let lanes = variant.constant("WG");
        let across = invocations.div_ceil(lanes) as u32;
        let run = |entry, rows: usize| Dispatch::new(entry, [across, rows as u32, 1]);
        let soft = shape.option() == Some("antialias");
        let dispatches = match (soft, vectors) {
            _ if variant.name == "strip" => {
                let strips = columns.div_ceil(variant.constant("COLUMNS"));
                let pairs = (h * c / 4).div_ceil(lanes);
                vec![Dispatch::new("strip", [pairs as u32, strips as u32, 1])]
            }
            (false, _) => vec![run(variant.name, rows)],
            (true, false) => vec![run("shrink_rows", h), run("shrink_columns", rows)],
            (true, true) => vec![run("shrink_rows4", h), run("shrink_columns4", rows)],
        };
        let launch = Launch {
            outputs: vec![Buffer::new("y", dtype.storage(), rows, columns * c)],
            scratch: vec![Buffer::new("wide", Elem::F32, if soft { h } else { 0 }, columns * c)],
            dispatches,
        };
        let corners = shape.option() == Some("corners");
        launch.with_constant("CORNERS", f64::from(u8::from(corners)))
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (h, w, c, rows, columns) = (shape["h"], shape["w"], shape["c"], shape["y"], shape["x"]);
        let bytes = dtype.bytes() * c * (h * w + rows * columns);
        if shape.option() != Some("antialias") {
            return Work::new(9 * rows * columns * c, bytes);
        }
        let taps = |n: usize, t: usize, u: usize| -> usize {
            n * (0..u).map(|j| 2 * span(j, t, u).len() + 1).sum::<usize>()
        };
        let flops = c * (taps(h, w, columns) + taps(columns, h, rows));
        Work::new(flops, bytes + 8 * h * columns * c)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        resize(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        resize(problem, rows)
    }
}

fn of(h: usize, w: usize, c: usize, y: usize, x: usize) -> Shape {
    Shape::new(&[("h", h), ("w", w), ("c", c), ("y", y), ("x", x)])
}

/// The elements of `t` under the triangle around output `j` of `u`.
fn span(j: usize, t: usize, u: usize) -> Range<usize> {
    let inside = |&i: &usize| share(i, j, t, u) > 0;
    let first = (0..t).find(inside).expect("an element next to the centre");
    first..(first..t).take_while(inside).last().expect("the first one") + 1
}

/// The weight of element `i`, zero outside the triangle; distances are in 1/(2u) of an element.
fn share(i: usize, j: usize, t: usize, u: usize) -> usize {
    let distance = ((2 * i + 1) * u).abs_diff((2 * j + 1) * t);
    (2 * t.max(u)).saturating_sub(distance)
}

fn resize<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (c, rows_out, columns) = (problem.shape["c"], problem.shape["y"], problem.shape["x"]);
    let soft = problem.shape.option() == Some("antialias");
    vec![by_rows(rows, rows_out, columns * c, |row, mut y| {
        let values = if soft { triangle_row(problem, row) } else { plain_row(problem, row) };
        for (out, value) in y.iter_mut().zip::<Vec<S>>(values) {
            *out = value.store(problem.storage());
        }
    })]
}

fn plain_row<S: Scalar>(problem: &Problem, row: usize) -> Vec<S> {
    let shape = problem.shape;
    let corners = shape.option() == Some("corners");
    let x = problem.inputs.float::<Ix3>("x");
    let between = |low: S, num: usize, den: usize, high: &dyn Fn() -> S| {
        let weight = S::exact(num as f64) / S::exact(den as f64);
        if num == 0 { low } else { low + weight * (high() - low) }
    };
    let down = place(row, shape["h"], shape["y"], corners);
    let mut values = Vec::new();
    for column in 0..shape["x"] {
        let right = place(column, shape["w"], shape["x"], corners);
        for i in 0..shape["c"] {
            let at = |y: usize, x_at: usize| S::exact(f64::from(x[[y, x_at, i]]));
            let across = |y: usize| {
                between(at(y, right.index), right.num, right.den, &|| at(y, right.index + 1))
            };
            let lower = || across(down.index + 1);
            values.push(between(across(down.index), down.num, down.den, &lower));
        }
    }
    values
}

fn triangle_row<S: Scalar>(problem: &Problem, row: usize) -> Vec<S> {
    let shape = problem.shape;
    let (h, w, c) = (shape["h"], shape["w"], shape["c"]);
    let (rows, columns) = (shape["y"], shape["x"]);
    let x = problem.inputs.float::<Ix3>("x");
    let down = span(row, h, rows);
    let total = |span: Range<usize>, j, t, u| {
        S::exact(span.map(|i| share(i, j, t, u)).sum::<usize>() as f64)
    };
    let mut values = Vec::new();
    for column in 0..columns {
        let right = span(column, w, columns);
        for i in 0..c {
            let across = |y: usize| {
                let taps = right.clone();
                let taps = taps.map(|at| (share(at, column, w, columns) as f32, x[[y, at, i]]));
                S::dot(taps, right.len()) / total(right.clone(), column, w, columns)
            };
            let terms = down.clone().map(|y| S::exact(share(y, row, h, rows) as f64) * across(y));
            values.push(S::sum(terms, down.len()) / total(down.clone(), row, h, rows));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles_hold_what_the_shader_visits() {
        for (t, u) in
            [(16_usize, 24_usize), (24, 16), (5, 3), (7, 11), (33, 7), (31, 5), (1, 4), (640, 224)]
        {
            for j in 0..u {
                let (centre, reach) = ((2 * j + 1) * t, 2 * t.max(u));
                let first = centre.checked_sub(reach + u).map_or(0, |past| past / (2 * u) + 1);
                let end = ((centre + reach + u - 1) / (2 * u)).min(t);
                assert_eq!(span(j, t, u), first..end, "output {j} of {t} to {u}");
            }
        }
    }
}
