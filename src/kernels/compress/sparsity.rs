//! The 2:4 pattern on the host: what prunes weights for kernels that read them compressed.

use ndarray::ArrayView2;

use crate::kernel::Elem;

use super::codes::padded;

/// Groups of four in a row of k.
pub fn groups(k: usize) -> usize {
    k.div_ceil(4)
}

/// Positions in a row, filled up to whole words.
pub fn positions(k: usize) -> usize {
    padded(2 * groups(k), Elem::U2)
}

/// The two positions of largest magnitude in a group, ascending; of equal ones the first. Positions
/// beyond the group stand for zeros.
pub fn survivors(group: &[f32]) -> [usize; 2] {
    let size = |at: usize| group.get(at).map_or(0.0, |w| w.abs());
    let mut order = [0, 1, 2, 3];
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
    let (first, second) = (order[0].min(order[1]), order[0].max(order[1]));
    [first, second]
}

/// Survivors and their positions, row by row.
pub fn prune(w: ArrayView2<f32>) -> (Vec<f32>, Vec<i8>) {
    let (n, k) = w.dim();
    let mut values = Vec::with_capacity(2 * n * groups(k));
    let mut places = vec![0_i8; n * positions(k)];
    for (row, weights) in w.rows().into_iter().enumerate() {
        for (group, four) in weights.to_vec().chunks(4).enumerate() {
            for (slot, at) in survivors(four).into_iter().enumerate() {
                values.push(four.get(at).copied().unwrap_or(0.0));
                places[row * positions(k) + 2 * group + slot] = at as i8;
            }
        }
    }
    (values, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_two_stay_and_of_equal_ones_the_first() {
        assert_eq!(survivors(&[1.0, -3.0, 2.0, 0.5]), [1, 2]);
        assert_eq!(survivors(&[1.0, -1.0, 1.0, -1.0]), [0, 1]);
        assert_eq!(survivors(&[0.0, 1.0, 2.0, -2.0]), [2, 3]);
        assert_eq!(survivors(&[5.0]), [0, 1], "the rest of a short group is zero");
    }

    #[test]
    fn rows_are_padded_to_whole_words() {
        let w = ndarray::arr2(&[[1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0]]);
        let (values, places) = prune(w.view());
        assert_eq!(values, [3.0, 4.0, 5.0, 0.0, 5.0, 4.0, 1.0, 0.0]);
        assert_eq!(
            (places.len(), &places[..4], &places[16..20]),
            (32, &[2, 3, 0, 1][..], &[0, 1, 0, 1][..])
        );
    }
}
