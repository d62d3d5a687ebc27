//! Dynamic time warping of a matrix of costs (Sakoe and Chiba, 1978), as between the tokens and
//! audio frames of Whisper: least cost, the move into every cell, cells on the path.
//!
//! Codes of moves: 0 diagonal, 1 up (from the row before), 2 left, 3 the first cell. Rows of codes
//! are filled up with zeros to whole words of sixteen.

use std::cmp::Ordering;

use ndarray::{Array2, Ix3};
use rayon::prelude::*;

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params};
use crate::kernel::{
    Buffer, Dispatch, Dtype, Elem, Kernel, Launch, Mutant, Need, Operand, Operands, Preset,
    Problem, Shape, Spec, Suits, Variant, Work, spill,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &Dtw;

struct Dtw;

/// Turns of all loops of one invocation in one dispatch of `serial`: llvmpipe leaves loops after
/// 65,535.
const MOST_TURNS: usize = 60_000;
/// Rows of `subgroup_rows` that are on their way at the same time.
const ROWS_AT_ONCE: usize = 8;
/// Rows one invocation of `wavefront` holds.
const MOST_ROWS: usize = 8;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant { turns: path_turns, ..Variant::new("serial", &[("WG", 8.0)]) },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        turns: path_turns,
        ..Variant::new("subgroup_rows", &[("WG", 8.0)])
    },
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            let (n, most) = (shape["n"], 256 * MOST_ROWS);
            (n > most).then(|| format!("n is {n}, a workgroup holds {most} rows"))
        },
        turns: path_turns,
        ..Variant::new("wavefront", &[("WG", 256.0)])
    },
];

/// A path is followed back in one loop; the rows before it are made in bands of fewer turns.
fn path_turns(shape: &Shape) -> usize {
    shape["n"] + shape["m"]
}

const MUTANTS: &[Mutant] = &[
    Mutant::new(
        "diagonal only if smaller",
        "diagonal <= up && diagonal <= left",
        "diagonal < up && diagonal < left",
    ),
    Mutant::new("sign ignored", "params.sign *", "1.0 *"),
    Mutant::new("left before up", "if (up <= left)", "if (up < left)"),
    Mutant::new("corner of the wrong column", "corner = over;", "corner = up;"),
    Mutant::new("diagonal of the wrong column", "Cursor(up, sum,", "Cursor(sum, sum,"),
    Mutant::new("corner of the wrong column in a subgroup", "corner = up.w;", "corner = up.z;"),
    Mutant::new("last row of eight not kept", "if (lane == 7u)", "if (lane == 6u)"),
    Mutant::new("code of the first row not left", "select(LEFT, FIRST, j == 0u)", "FIRST"),
    Mutant::new("path counted without its end", "var count = 1u;", "var count = 0u;"),
    Mutant::new("last word never written", "|| j + 1u == params.columns", ""),
    Mutant::new(
        "cost of the last row but one",
        "if (i + 1u == params.rows",
        "if (i + 2u == max(params.rows, 2u)",
    ),
];

const OPERANDS: &[Operand] = &[Operand::new("x", "b n m")];

impl Kernel for Dtw {
    fn spec(&self) -> Spec {
        Spec {
            summary: "find the cheapest monotone path through a matrix of costs",
            difficulties: &[3],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            // `Edges` are zeros: nothing but ties.
            inputs: &[
                Distribution::Normal,
                Distribution::Integers,
                Distribution::Ties,
                Distribution::Edges,
            ],
            operands: Operands::of(OPERANDS),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => vec![
                of(1, 1, 1),
                of(2, 1, 9),
                of(2, 9, 1),
                of(3, 10, 20),
                of(9, 32, 16),
                of(3, 17, 21).tag("negated"),
                of(1, 123, 400),
                of(1, 300, 33),
                of(0, 4, 6),
                // More rows than one dispatch of `serial` goes through.
                of(1, 31_000, 2),
            ],
            Preset::Models => vec![
                of(1, 448, 1500).from("Whisper-large tokens and frames"),
                of(24, 50, 500).from("MulT MOSEI text and audio"),
            ],
            Preset::Sweep => [64, 128, 256, 512, 1024, 2048]
                .into_iter()
                .flat_map(|n| [1, 8, 64].map(|b| (b, n)))
                // One f32 binding holds 128 MiB.
                .filter(|(b, n)| b * n * n * 4 <= 128 << 20)
                .map(|(b, n)| of(b, n, n))
                .collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (b, n, m) = (shape["b"], shape["n"], shape["m"]);
        let x = match generator.distribution {
            Distribution::Edges => generator.filled("x", &[b, n, m], |_| 0.0),
            _ => generator.data("x", &[b, n, m]),
        };
        let params = Params::new().size("batch", b).size("rows", n).size("columns", m);
        let params = params.size("words", m.div_ceil(16)).real("sign", sign(shape));
        Inputs::new(params, vec![x])
    }

    fn launch(&self, shape: &Shape, _dtype: Dtype, variant: &Variant) -> Launch {
        let (b, n, m, lanes) = (shape["b"], shape["n"], shape["m"], variant.constant("WG"));
        let run = |entry, grid| Dispatch::new(entry, grid);
        let each = spill(b.div_ceil(lanes));
        let banded = |rows, entry, grid| -> Vec<Dispatch> {
            let of = |constants| Dispatch { constants, ..run(entry, grid) };
            bands(n, rows).map(of).collect()
        };
        // The test that ends a loop counts as a turn.
        let mut dispatches = match variant.name {
            "serial" => banded((MOST_TURNS / (m.div_ceil(16) + 2)).max(1), "serial", each),
            "subgroup_rows" => {
                let entry = if m % 4 == 0 { "subgroup_rows4" } else { "subgroup_rows" };
                let eights = (MOST_TURNS / (m.div_ceil(4) + ROWS_AT_ONCE + 1)).max(1);
                banded(eights * ROWS_AT_ONCE, entry, spill(b))
            }
            _ => {
                let rows = n.div_ceil(lanes) as f64;
                vec![Dispatch { constants: vec![("ROWS", rows)], ..run("wavefront", spill(b)) }]
            }
        };
        let above = match variant.name {
            "serial" => Some(Buffer::new("above", Elem::F32, m, b)),
            "subgroup_rows" => Some(Buffer::new("above", Elem::F32, b, m.next_multiple_of(4))),
            _ => None,
        };
        dispatches.push(run("trace", each));
        Launch {
            outputs: vec![
                Buffer::new("cost", Elem::F32, b, 1),
                Buffer::new("moves", Elem::U2, b * n, m.next_multiple_of(16)),
                Buffer::new("length", Elem::U32, b, 1),
            ],
            scratch: above.into_iter().collect(),
            dispatches,
        }
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, n, m) = (shape["b"], shape["n"], shape["m"]);
        Work::new(b * n * m, b * n * m * dtype.bytes() + b * n * m.div_ceil(16) * 4 + 8 * b)
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        dtw(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        dtw(problem, rows)
    }
}

fn of(b: usize, n: usize, m: usize) -> Shape {
    Shape::new(&[("b", b), ("n", n), ("m", m)])
}

/// Of `n` rows those of every dispatch, at most `rows`, as override constants.
fn bands(n: usize, rows: usize) -> impl Iterator<Item = Vec<(&'static str, f64)>> {
    let begins = (0..n).step_by(rows);
    begins.map(move |begin| vec![("BEGIN", begin as f64), ("END", n.min(begin + rows) as f64)])
}

const DIAGONAL: u8 = 0;
const UP: u8 = 1;
const LEFT: u8 = 2;
const FIRST: u8 = 3;
/// Added to a code that devices may decide differently.
const OPEN: u8 = 4;

/// One matrix: its least cost and the move into every cell.
struct Warp<S> {
    cost: S,
    moves: Vec<u8>,
}

/// The move among three predecessors, marked where rounding may decide.
fn decide<S: Scalar>(diagonal: S, up: S, left: S) -> u8 {
    let at_most = |a: S, b: S| a.order(b).map(|order| order != Ordering::Greater);
    let best = match (at_most(diagonal, up), at_most(diagonal, left)) {
        (Some(true), Some(true)) => return DIAGONAL,
        (Some(false), _) | (_, Some(false)) => at_most(up, left),
        _ => None,
    };
    match best {
        Some(true) => UP,
        Some(false) => LEFT,
        None if diagonal.value() <= up.value() && diagonal.value() <= left.value() => {
            DIAGONAL + OPEN
        }
        None if up.value() <= left.value() => UP + OPEN,
        None => LEFT + OPEN,
    }
}

/// With the tag `negated` the matrix holds similarities, and the path is the one of most of them.
fn sign(shape: &Shape) -> f32 {
    if shape.option() == Some("negated") { -1.0 } else { 1.0 }
}

fn warp<S: Scalar>(problem: &Problem, matrix: usize) -> Warp<S> {
    let (n, m) = (problem.shape["n"], problem.shape["m"]);
    let x = problem.inputs.float::<Ix3>("x");
    let sign = sign(problem.shape);
    let mut above = vec![S::zero(); m];
    let mut moves = Vec::with_capacity(n * m);
    for i in 0..n {
        let (mut diagonal, mut left) = (S::zero(), S::zero());
        for (j, above) in above.iter_mut().enumerate() {
            let up = *above;
            let (before, code) = match (i, j) {
                (0, 0) => (S::zero(), FIRST),
                (0, _) => (left, LEFT),
                (_, 0) => (up, UP),
                _ => (diagonal.min(up).min(left), decide(diagonal, up, left)),
            };
            left = before + S::exact(f64::from(sign * x[[matrix, i, j]]));
            diagonal = up;
            *above = left;
            moves.push(code);
        }
    }
    Warp { cost: above[m - 1], moves }
}

/// Cells on the path back from the last one, and whether an open decision lies on it.
fn path(n: usize, m: usize, code: impl Fn(usize, usize) -> u8) -> (usize, bool) {
    let (mut i, mut j, mut count, mut open) = (n - 1, m - 1, 1, false);
    while i + j > 0 && count < n + m {
        let code = code(i, j);
        open |= code >= OPEN;
        i = i.saturating_sub(usize::from(code % OPEN != LEFT));
        j = j.saturating_sub(usize::from(code % OPEN != UP));
        count += 1;
    }
    (count, open)
}

fn dtw<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let (b, n, m) = (problem.shape["b"], problem.shape["n"], problem.shape["m"]);
    let mut needed: Vec<usize> = rows.of(b * n).iter().map(|row| row / n).collect();
    needed.extend(rows.of(b));
    needed.sort_unstable();
    needed.dedup();
    let warps: Vec<Warp<S>> = needed.par_iter().map(|&matrix| warp(problem, matrix)).collect();
    let of = |matrix: usize| &warps[needed.binary_search(&matrix).expect("a needed matrix")];
    let cost = by_rows(rows, b, 1, |matrix, mut cost| cost[0] = of(matrix).cost);
    let moves = by_rows(rows, b * n, m.next_multiple_of(16), |row, mut moves| {
        let codes = &of(row / n).moves[row % n * m..][..m];
        for (out, &code) in moves.iter_mut().zip(codes) {
            let value = f64::from(code % OPEN);
            *out = if code >= OPEN { S::undetermined(value) } else { S::exact(value) };
        }
    });
    let length = by_rows(rows, b, 1, |matrix, mut length| {
        // The device's own moves, verified by themselves, leave nothing open.
        let device = problem
            .device
            .get(1)
            .map(|answer| (0..n).map(|i| answer.row(matrix * n + i)).collect::<Vec<_>>());
        let (count, open) = match &device {
            Some(codes) => path(n, m, |i, j| codes[i][j] as u8),
            None => path(n, m, |i, j| of(matrix).moves[i * m + j]),
        };
        let count = count as f64;
        length[0] = if open { S::undetermined(count) } else { S::exact(count) };
    });
    vec![cost, moves, length]
}
