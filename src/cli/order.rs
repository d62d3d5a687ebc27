//! In which order a run times its cells: its time may be up before their end.

use crate::rng;
use crate::suite::Item;

/// Positions of the cells, shuffled by the seed within rounds of shapes and, within those, of
/// precisions: the first shape of every kernel at its first precision comes before anything else.
pub fn timed(cells: &[Item], mut positions: Vec<usize>, seed: u32) -> Vec<usize> {
    let rounds = rounds(cells);
    positions.sort_by_key(|&position| (rounds[position], rng::word(seed, 0x0c31, position as u32)));
    positions
}

/// For each cell how many shapes of its kernel come before its own, and how many precisions of its
/// kernel among the cells of that shape.
fn rounds(cells: &[Item]) -> Vec<(usize, usize)> {
    let mut rounds = Vec::new();
    for kernel in cells.chunk_by(|a, b| a.name() == b.name()) {
        let shapes = kernel.chunk_by(|a, b| a.shape() == b.shape());
        for (round, shape) in shapes.enumerate() {
            let mut known = Vec::new();
            rounds.extend(shape.iter().map(|cell| {
                let dtype = cell.dtype();
                if !known.contains(&dtype) {
                    known.push(dtype);
                }
                let precision = known.iter().position(|&one| one == dtype);
                (round, precision.expect("just put there"))
            }));
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Preset;
    use crate::suite::items;

    #[test]
    fn a_run_cut_short_has_seen_every_kernel() {
        let cells = items(Preset::Models);
        let mut kernels: Vec<String> = cells.iter().map(Item::name).collect();
        kernels.dedup();
        let is_first = |cell: &&Item| {
            let of_kernel = cells.iter().find(|one| one.name() == cell.name());
            let first = of_kernel.expect("its own at least");
            (first.shape(), first.dtype()) == (cell.shape(), cell.dtype())
        };
        let order = timed(&cells, (0..cells.len()).collect(), 1);
        let begin = order.iter().map(|&position| &cells[position]).take_while(is_first);
        let mut seen: Vec<String> = begin.map(Item::name).collect();
        seen.sort();
        seen.dedup();
        kernels.sort();
        assert_eq!(seen, kernels);
    }

    #[test]
    fn every_cell_has_its_place_and_the_seed_decides_it() {
        let cells = items(Preset::Models);
        let all: Vec<usize> = (0..cells.len()).collect();
        let (one, two) = (timed(&cells, all.clone(), 1), timed(&cells, all.clone(), 2));
        assert_ne!(one, two);
        for mut order in [one, two] {
            order.sort_unstable();
            assert_eq!(order, all);
        }
    }
}
