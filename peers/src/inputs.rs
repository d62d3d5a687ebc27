//! Inputs as those take them who have no notion of fusebench's.

use fusebench::inputs::Inputs;
use ndarray::{Array2, ArrayView2, Axis, Ix2, concatenate};

/// The modalities of `concat` that have any features.
pub fn all_features(inputs: &Inputs) -> Vec<ArrayView2<'_, f32>> {
    let all = ["x0", "x1", "x2", "x3", "x4", "x5"].map(|name| inputs.float::<Ix2>(name));
    all.into_iter().filter(|features| !features.is_empty()).collect()
}

/// The table of `embedding_lookup` with one row of zeros more, which stands for every unknown
/// token, and an id for each token.
pub fn known_rows(inputs: &Inputs) -> (Array2<f32>, Vec<i32>) {
    let table = inputs.float::<Ix2>("table");
    let unknown = table.nrows();
    let zeros = Array2::zeros((1, table.ncols()));
    let table = concatenate(Axis(0), &[table, zeros.view()]).expect("rows of one width");
    let ids = inputs.words("ids");
    let known = |&id: &u32| (id as usize).min(unknown) as i32;
    (table, ids.iter().map(known).collect())
}

#[cfg(test)]
mod tests {
    use fusebench::inputs::Distribution;

    use super::*;
    use crate::cases::cases;

    fn inputs(id: &str) -> Inputs {
        cases(id).remove(0).cells()[0].inputs(Distribution::Normal, 1)
    }

    #[test]
    fn unknown_tokens_take_a_row_of_zeros() {
        let inputs = inputs("embedding_lookup");
        let (table, ids) = known_rows(&inputs);
        let words = inputs.words("ids");
        let unknown = words.iter().position(|&id| id as usize >= 49_408).expect("some are");
        assert_eq!(ids[unknown], 49_408);
        assert!(table.row(49_408).iter().all(|&value| value == 0.0));
        let known = words.iter().position(|&id| id < 49_408).expect("most are");
        assert_eq!(ids[known] as u32, words[[known]]);
        assert!(ids.iter().all(|&id| (id as usize) < table.nrows()));
    }

    #[test]
    fn modalities_without_features_are_left_out() {
        let inputs = inputs("concat");
        let widths: Vec<usize> = all_features(&inputs).iter().map(|part| part.ncols()).collect();
        assert_eq!(widths, [1024; 4]);
    }
}
