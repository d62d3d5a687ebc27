//! Which rows of a large output are verified.

use crate::reference::Rows;
use crate::rng;

/// Rows always worth checking are few, so a sample never needs to be smaller.
const MIN_ROWS: usize = 8;

/// All rows when `total × cost_per_row` fits the budget (same unit, any); otherwise the first, the
/// last, and one random row from each of equally long strata, so that a wrong run of rows as long
/// as two strata cannot be missed.
pub fn choose_rows(total: usize, cost_per_row: f64, budget: f64, seed: u32) -> Rows {
    let affordable = (budget / cost_per_row.max(f64::MIN_POSITIVE)) as usize;
    if affordable >= total || total <= MIN_ROWS {
        return Rows::All;
    }
    let strata = affordable.max(MIN_ROWS) - 2;
    let inside = total - 2;
    let mut rows = vec![0];
    rows.extend((0..strata).map(|stratum| {
        let (start, end) = (stratum * inside / strata, (stratum + 1) * inside / strata);
        let offset = rng::word(seed, 0x5a3d, stratum as u32) as usize % (end - start).max(1);
        1 + start + offset
    }));
    rows.push(total - 1);
    rows.dedup();
    Rows::Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_outputs_are_verified_whole() {
        assert_eq!(choose_rows(100, 1.0, 100.0, 1), Rows::All);
        assert_eq!(choose_rows(5, 1e12, 1.0, 1), Rows::All);
    }

    #[test]
    fn a_sample_holds_both_ends_and_leaves_no_long_gap() {
        let Rows::Some(rows) = choose_rows(10_000, 1.0, 102.0, 3) else { panic!("sampled") };
        assert_eq!((rows[0], *rows.last().unwrap()), (0, 9_999));
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 200));
        assert!((100..=102).contains(&rows.len()), "{} rows", rows.len());
    }

    #[test]
    fn seeds_choose_different_rows() {
        let of = |seed| choose_rows(10_000, 1.0, 100.0, seed);
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), of(1));
    }
}
