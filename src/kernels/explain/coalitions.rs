//! Sets of players or features, and how they are drawn.

use ndarray::ArrayViewD;

use crate::inputs::Tensor;
use crate::kernel::{Buffer, Dispatch, Elem, Launch, Need, Suits, Variant, spill};
use crate::rng;

/// One invocation factorises and one solves a column, or one workgroup does both for a column; or
/// all but the solving is done by subgroups of eight, whose invocations share what they load.
pub const VARIANTS: &[Variant] = &[
    Variant::new("thread", &[("WG", 8.0)]),
    Variant { suits: Suits::Gpu, ..Variant::new("group", &[("WG", 64.0)]) },
    Variant {
        suits: Suits::Cpu,
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        ..Variant::new("broadcast", &[("WG", 8.0)])
    },
];

/// `z[n, 2]`: 64 bits for each set.
pub fn tensor(sets: &[u64]) -> Tensor {
    let words = sets.iter().flat_map(|&set| [set as u32, (set >> 32) as u32]).collect();
    Tensor::words("z", &[sets.len(), 2], words)
}

/// 1 where the set holds the player.
pub fn bit(z: &ArrayViewD<u32>, row: usize, player: usize) -> f64 {
    f64::from(z[[row, player / 32]] >> (player % 32) & 1)
}

/// Each element by a coin.
pub fn coins(seed: u32, row: usize, elements: usize) -> u64 {
    let word = |half: u32| u64::from(rng::word(seed, 0xc011 + half, row as u32));
    (word(0) | word(1) << 32) & ((1 << elements) - 1)
}

/// A random set of the given size.
pub fn of_size(seed: u32, row: usize, elements: usize, size: usize) -> u64 {
    let key = |i: &usize| rng::word(seed, row as u32, *i as u32);
    let mut order: Vec<usize> = (0..elements).collect();
    order.sort_by_key(key);
    order[..size].iter().fold(0, |set, i| set | 1 << i)
}

/// The dispatches after the normal matrix is there: factor and solve, or both.
pub fn solve(variant: &Variant, columns: usize, m: usize) -> Vec<Dispatch> {
    let run = |entry, x: usize| Dispatch::new(entry, [x as u32, 1, 1]);
    match variant.name {
        "group" => vec![run("solve_group", columns)],
        name => vec![
            run(if name == "thread" { "factor" } else { "factor_rows" }, m.min(1)),
            run("solve_thread", columns.div_ceil(variant.constant("WG"))),
        ],
    }
}

/// Outputs, `m × m` scratch and dispatches: what comes first, the normal matrix, the right-hand
/// sides, the solution.
pub fn launch(
    variant: &Variant,
    outputs: Vec<Buffer>,
    mut scratch: Vec<Buffer>,
    mut dispatches: Vec<Dispatch>,
    m: usize,
) -> Launch {
    scratch.push(Buffer::new("gram", Elem::F32, m, m));
    if variant.name == "broadcast" {
        let blocks = m.div_ceil(8) as u32;
        let columns = outputs[0].rows.div_ceil(4) as u32;
        dispatches.push(Dispatch::new("normal_rows", [blocks, blocks, 1]));
        dispatches.push(Dispatch::new("side_rows", [blocks, columns, 1]));
    } else {
        let groups = (m * m).div_ceil(variant.constant("WG")) as u32;
        dispatches.push(Dispatch::new("normal", [groups, 1, 1]));
        let sides = spill(outputs[0].len().div_ceil(variant.constant("WG")));
        dispatches.push(Dispatch::new("sides", sides));
    }
    dispatches.extend(solve(variant, outputs[0].rows, m));
    Launch { outputs, scratch, dispatches }
}
