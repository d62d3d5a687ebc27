//! Token embedding with optional learned positions, as in the text towers of CLIP and the Q-Former.

use std::ops::Range;

use ndarray::{Array2, Ix2};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Operand, Operands, Preset, Problem,
    Shape, Slice, Spec, Suits, Variant, Window, Work, cut, refuses_ragged, refuses_uncut, spill,
};
use crate::reference::{Rows, by_rows};
use crate::rng;

pub const KERNEL: &dyn Kernel = &EmbeddingLookup;

struct EmbeddingLookup;

/// Most slices of the vocabulary that `slices8` takes one after the other.
const SLICES: usize = 8;

const VARIANTS: &[Variant] = &[
    Variant {
        refuses: |shape| refuses_uncut(shape["v"] * shape["d"]),
        ..Variant::new("slices8", &[("WG", 64.0)])
    },
    Variant::new("scalar", &[("WG", 64.0)]),
    Variant {
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("vector", &[("WG", 64.0)])
    },
    Variant {
        suits: Suits::Cpu,
        refuses: |shape| refuses_ragged(shape, "d"),
        ..Variant::new("row", &[("WG", 8.0)])
    },
];

const MUTANTS: &[Mutant] = &[
    Mutant::new("ids counted from one", "let id = ids[token];", "let id = ids[token] - 1u;"),
    Mutant::new("one id beyond the table", "id < params.rows", "id <= params.rows"),
    Mutant::new("known left out for unknown ids", "select(0u, 1u, is_known)", "1u"),
    Mutant::new("position of the whole batch", "token % params.tokens", "token % params.count"),
    Mutant::new("last vector of a row", "i < width; i += WG", "i + 1u < width; i += WG"),
    Mutant::new("position of the first token", "let place = token % params.tokens * width", {
        "let place = token * 0u"
    }),
    Mutant::new("positions left out", "else if (POSITIONS)", "else if (false)"),
    Mutant::new("last id of a slice left out", "id < params.end", "id + 1u < params.end"),
    Mutant::new("unknown ids left to the last slice", "params.first == 0u", "params.first != 0u"),
    Mutant::new("every slice read from its start", "(id - params.first)", "id"),
    Mutant::new("last column dropped", "i >= params.d)", "i + 1u >= params.d)"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("table", "v d"), Operand::new("positions", "t d").with_option("positions")];

impl Kernel for EmbeddingLookup {
    fn spec(&self) -> Spec {
        Spec {
            summary: "look up the rows of token ids, zero for unknown ones, plus their positions",
            difficulties: &[1, 5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            // Copies must survive whatever their bits are.
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Subnormal],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => smoke(),
            Preset::Models => vec![
                of(64, 77, 49_408, 512).tag("positions").from("CLIP ViT-B/32 text"),
                of(64, 32, 30_522, 768).tag("positions").from("BLIP-2 Q-Former text"),
                of(64, 64, 32_000, 768).tag("positions").from("SigLIP-B/16 text"),
                of(64, 77, 49_408, 512).from("CLIP ViT-B/32 text, without positions"),
                of(64, 77, 49_408, 768).tag("positions").from("CLIP ViT-L/14-336 text"),
            ],
            Preset::Sweep => {
                (4..=15).step_by(2).map(|log2| of(1, 1 << log2, 32_768, 512)).collect()
            }
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, t, v, d) = (shape["b"], shape["t"], shape["v"], shape["d"]);
        let params = Params::new().size("tokens", t).size("count", b * t);
        let places = if has_positions(shape) { [t, d] } else { [1, 1] };
        Inputs::new(
            params.size("rows", v).size("d", d).size("first", 0).size("end", v),
            vec![
                Tensor::words("ids", &[b * t], ids(shape)),
                generator.data("table", &[v, d]),
                generator.data("positions", &places),
            ],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (count, d) = (shape["b"] * shape["t"], shape["d"]);
        let entry = match variant.name {
            "slices8" if d.is_multiple_of(4) => "vector",
            "slices8" => "scalar",
            name => name,
        };
        let each = if entry == "scalar" { 1 } else { 4 };
        let [y, z, _] = spill(count);
        let columns = (d / each).div_ceil(variant.constant("WG")) as u32;
        let grid = if entry == "row" { spill(count) } else { [columns, y, z] };
        let output = Buffer::new("y", dtype.storage(), count, d);
        let mut launch = Launch::single(output, grid);
        launch.outputs.push(Buffer::new("known", Elem::U32, count, 1));
        launch.dispatches[0].entry = entry;
        let launch = launch.with_constant("POSITIONS", f64::from(u8::from(has_positions(shape))));
        if variant.name == "slices8" { over_slices(launch, shape, dtype) } else { launch }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (t, d, count) = (shape["t"], shape["d"], shape["b"] * shape["t"]);
        let known = ids(shape).iter().filter(|&&id| (id as usize) < shape["v"]).count();
        let positions = usize::from(has_positions(shape));
        let elements = known * d + count * d + positions * t * d;
        Work::new(positions * known * d, dtype.bytes() * elements + 8 * count)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        embedding_lookup(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        embedding_lookup(problem, rows)
    }
}

/// The dispatch once for each slice of the table: the tokens whose ids lie in it.
fn over_slices(mut launch: Launch, shape: &Shape, dtype: Dtype) -> Launch {
    let (v, d) = (shape["v"], shape["d"]);
    let slices = cut(v, SLICES, &[d * dtype.bytes()]);
    if slices.len() == 1 {
        return launch;
    }
    let whole = launch.dispatches.remove(0);
    let over = |ids: Range<usize>| {
        let windows = vec![Window { buffer: "table", elements: ids.start * d..ids.end * d }];
        let params = vec![("first", ids.start), ("end", ids.end)];
        Dispatch { slice: Slice { windows, params }, ..whole.clone() }
    };
    launch.dispatches = slices.into_iter().map(over).collect();
    launch
}

/// `b` texts of `t` tokens from a vocabulary of `v` rows, each `d` wide.
fn of(b: usize, t: usize, v: usize, d: usize) -> Shape {
    Shape::new(&[("b", b), ("t", t), ("v", v), ("d", d)])
}

fn smoke() -> Vec<Shape> {
    let plain = [(1, 1, 1, 1), (2, 31, 40, 30), (3, 33, 257, 64), (2, 3, 5, 770), (1, 0, 9, 8)];
    // More rows than one grid dimension holds, and a table without any.
    let more = [(1, 65_537, 7, 4), (2, 3, 0, 8)];
    let placed = [(2, 31, 40, 30), (3, 33, 257, 64)];
    let plain = plain.into_iter().chain(more).map(|(b, t, v, d)| of(b, t, v, d));
    let placed = placed.map(|(b, t, v, d)| of(b, t, v, d).tag("positions"));
    placed.into_iter().chain(plain).collect()
}

fn has_positions(shape: &Shape) -> bool {
    shape.option() == Some("positions")
}

/// Drawn from the whole table; of every eleven one is the first beyond it and one far beyond.
fn ids(shape: &Shape) -> Vec<u32> {
    let rows = shape["v"] as u32;
    let id = |token: u32| match token % 11 {
        3 => rows,
        7 => u32::MAX - token,
        _ => rng::word(1, 0x1d5, token).checked_rem(rows).unwrap_or(token),
    };
    (0..(shape["b"] * shape["t"]) as u32).map(id).collect()
}

fn embedding_lookup<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (t, v, d) = (problem.shape["t"], problem.shape["v"], problem.shape["d"]);
    let count = problem.shape["b"] * t;
    let ids = problem.inputs.words("ids");
    let table = problem.inputs.float::<Ix2>("table");
    let positions = problem.inputs.float::<Ix2>("positions");
    let is_known = |token: usize| (ids[token] as usize) < v;
    let exact = |value: f32| S::exact(f64::from(value));
    let y = by_rows(rows, count, d, |token, mut y| {
        if !is_known(token) {
            return;
        }
        let row = table.row(ids[token] as usize);
        for i in 0..d {
            y[i] = match has_positions(problem.shape) {
                true => (exact(row[i]) + exact(positions[[token % t, i]])).store(problem.storage()),
                false => exact(row[i]),
            };
        }
    });
    let known = by_rows(rows, count, 1, |token, mut known| {
        known[0] = S::exact(f64::from(u8::from(is_known(token))));
    });
    vec![y, known]
}
