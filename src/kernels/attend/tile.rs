//! What a workgroup of cross-attention's `subgroup_tile` takes at a time.

use super::pairs::Pairs;
use crate::kernel::turns;

/// Invocations of a workgroup. More of them would share a tile, but wait for each other longer.
pub const LANES: usize = 64;
/// Queries that an invocation multiplies by what it loads.
pub const OCTET: usize = 8;
/// More queries than this leave no room for keys.
const MAX_OCTETS: usize = 8;
/// As many keys as the usual subgroup has invocations.
const MAX_KEYS: usize = 32;
/// Workgroup memory that every device has.
const MEMORY_BYTES: usize = 16_352;

pub struct Tile {
    /// Eights of queries.
    pub octets: usize,
    /// Keys, an even number.
    pub keys: usize,
    /// Turns of the loops of an invocation over one tile, where subgroups are small.
    inner: [usize; 5],
    /// Keys in all.
    all: usize,
}

impl Tile {
    /// As many queries as there are invocations to hold their sums, eight rows of four columns
    /// each, and then as many keys of `bytes` an element as fit.
    pub fn of(pairs: &Pairs, bytes: usize, lanes: usize) -> Self {
        let &Pairs { q, k, d, e, .. } = pairs;
        let most = (4 * lanes / e.max(4)).clamp(1, MAX_OCTETS);
        let octets = q.div_ceil(OCTET).clamp(1, most);
        // Weights of a key, and what is known of each row, are f32.
        let weights = 4 * OCTET * octets;
        let key = 4 * bytes * ((d.max(e) / 4) | 1) + weights;
        let fitting = ((MEMORY_BYTES - 3 * weights) / key).min(MAX_KEYS);
        let keys = fitting - fitting % 2;
        let fill = |width: usize| (keys * width / 4).div_ceil(lanes);
        let products = (octets * keys / 2).div_ceil(lanes) * d / 4;
        let inner = [fill(d), fill(e), products, keys, 2 * octets * keys.div_ceil(4)];
        Tile { octets, keys, inner, all: k }
    }

    pub fn queries(&self) -> usize {
        OCTET * self.octets
    }

    pub fn turns(&self) -> usize {
        turns(self.all.div_ceil(self.keys), &self.inner)
    }

    #[cfg(test)]
    fn bytes(&self, pairs: &Pairs, bytes: usize) -> usize {
        let quads = 2 * self.octets;
        self.keys * ((pairs.d.max(pairs.e) / 4) | 1) * 4 * bytes + (self.keys + 3) * quads * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Shape;

    #[test]
    fn a_tile_fits_and_has_an_invocation_for_every_sum() {
        for (q, width) in [(9, 4), (1, 64), (32, 64), (448, 64), (448, 80), (64, 96), (64, 128)] {
            for bytes in [2, 4] {
                let shape = [("b", 1), ("h", 1), ("q", q), ("k", 99), ("d", width)];
                let pairs = Pairs::of(&Shape::new(&shape));
                let tile = Tile::of(&pairs, bytes, LANES);
                assert!(tile.octets * width / 4 <= LANES && tile.queries() < q + OCTET);
                assert!(tile.bytes(&pairs, bytes) <= MEMORY_BYTES, "{width}");
                assert!(tile.keys >= 24 && tile.keys <= MAX_KEYS, "{} of {width}", tile.keys);
            }
        }
    }
}
