//! False-discovery control over a suite.

/// Which hypotheses the step-up procedure of Benjamini and Hochberg (1995) rejects at rate `q`:
/// all up to the largest p-value that is at most its rank times `q / m`.
pub fn benjamini_hochberg(p: &[f64], q: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let below = |rank: usize| p[order[rank]] <= (rank + 1) as f64 * q / p.len() as f64;
    let rejected = (0..p.len()).rev().find(|&rank| below(rank)).map_or(0, |rank| rank + 1);
    let mut found = vec![false; p.len()];
    order[..rejected].iter().for_each(|&i| found[i] = true);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the paper, table 1: of 15 p-values the procedure rejects four at 5 %.
    const PUBLISHED: [f64; 15] = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
        0.5719, 0.6528, 0.7590, 1.0,
    ];

    #[test]
    fn the_published_example_rejects_four() {
        let found = benjamini_hochberg(&PUBLISHED, 0.05);
        assert_eq!(found.iter().filter(|&&rejected| rejected).count(), 4);
        assert!(found[..4].iter().all(|&rejected| rejected));
    }

    #[test]
    fn a_p_value_above_its_own_line_is_carried_by_a_larger_one() {
        // Lines 0.0125, 0.025, 0.0375, 0.05: the first three fail theirs, the fourth meets it.
        assert_eq!(benjamini_hochberg(&[0.05, 0.049, 0.048, 0.047], 0.05), [true; 4]);
        assert_eq!(benjamini_hochberg(&[0.051, 0.049, 0.048, 0.047], 0.05), [false; 4]);
    }

    #[test]
    fn order_does_not_matter_and_one_is_never_rejected() {
        assert_eq!(benjamini_hochberg(&[1.0, 0.02, 1.0], 0.05), [false; 3]);
        assert_eq!(benjamini_hochberg(&[1.0, 0.01, 1.0], 0.05), [false, true, false]);
        assert_eq!(benjamini_hochberg(&[], 0.05), [false; 0]);
        assert_eq!(benjamini_hochberg(&[0.05], 0.05), [true]);
    }
}
