//! Whether an answer is right: held to the reference of fusebench's kernel, whoever gave it.

use fusebench::accuracy::{Noise, Tracked, UNIT_F32, choose_rows, judge};
use fusebench::inputs::Inputs;
use fusebench::kernel::Problem;
use fusebench::reference::Rows;
use fusebench::suite::Cell;

/// Operations spent on the reference by each strategy; rows are sampled where all need more.
const REFERENCE_FLOPS: f64 = 2e7;

/// The rows of a case that answers are held to, with how far each element may be off.
pub struct Reference {
    rows: Rows,
    outputs: Vec<Output>,
}

struct Output {
    rows: usize,
    cols: usize,
    expected: Vec<Tracked>,
}

impl Reference {
    /// Others round in an order that nobody knows, so that each element may be off as far as under
    /// the strategy that may be off furthest, and by one rounding where our formula happens to
    /// copy. What computes nothing has to be exact.
    pub fn new(cells: &[Cell], inputs: &Inputs, seed: u32) -> Self {
        let first = &cells[0];
        let (work, total) = (first.work(), first.rows());
        let cost = (work.flops + work.bytes) / total.max(1) as f64;
        let rows = choose_rows(total, cost, REFERENCE_FLOPS, seed);
        let tracked = |cell: &Cell| {
            let Cell { shape, dtype, variant, .. } = cell;
            let problem = Problem { shape, dtype: *dtype, variant, inputs, device: &[] };
            cell.entry.kernel.tracked(&problem, &rows)
        };
        let buffers = first.launch().outputs;
        let mut outputs: Vec<Output> = buffers
            .iter()
            .zip(tracked(first))
            .map(|(buffer, expected)| Output {
                rows: buffer.rows,
                cols: buffer.cols,
                expected: expected.into_iter().collect(),
            })
            .collect();
        let rounding = if work.flops > 0.0 { UNIT_F32 } else { 0.0 };
        for element in outputs.iter_mut().flat_map(|output| &mut output.expected) {
            element.worst = element.worst.max(rounding * element.value.abs());
        }
        for cell in &cells[1..] {
            for (output, other) in outputs.iter_mut().zip(tracked(cell)) {
                for (known, other) in output.expected.iter_mut().zip(other) {
                    known.worst = known.worst.max(other.worst);
                }
            }
        }
        Reference { rows, outputs }
    }

    /// What is wrong with an answer, if anything. It may leave later outputs out.
    pub fn fault(&self, answer: &[Vec<f32>]) -> Option<String> {
        if answer.is_empty() {
            return Some("no answer".to_owned());
        }
        answer.iter().zip(&self.outputs).find_map(|(values, output)| self.compare(values, output))
    }

    fn compare(&self, values: &[f32], output: &Output) -> Option<String> {
        let Output { rows, cols, expected } = output;
        if values.len() != rows * cols {
            return Some(format!("{} values, not {rows} × {cols}", values.len()));
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Some(format!("element {index} is not finite"));
        }
        let elements = self.rows.of(*rows).into_iter().flat_map(|row| row * cols..(row + 1) * cols);
        let origin: Vec<usize> = elements.collect();
        let device: Vec<f64> = origin.iter().map(|&index| f64::from(values[index])).collect();
        // Only the worst case holds for every order of rounding.
        let judgement = judge(&device, expected, &origin, Noise::Repeating);
        match judgement.failure {
            Some(fault) => Some(fault.why),
            None if judgement.gates.is_empty() => Some("no gate could have failed".to_owned()),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use fusebench::inputs::Distribution;

    use super::*;
    use crate::cases::cases;

    fn reference(id: &str) -> (Reference, Vec<f32>) {
        let case = cases(id).remove(0);
        let inputs = case.cells()[0].inputs(Distribution::Normal, 1);
        let all = case.cells();
        let reference = Reference::new(&all, &inputs, 1);
        let problem = Problem {
            shape: &case.shape,
            dtype: all[0].dtype,
            variant: all[0].variant,
            inputs: &inputs,
            device: &[],
        };
        let exact = case.entry.kernel.reference(&problem, &Rows::All).remove(0);
        (reference, exact.iter().map(|&value| value as f32).collect())
    }

    #[test]
    fn the_exact_answer_rounded_is_right_and_one_corrupted_element_is_not() {
        for id in ["softmax/r384", "l2_normalize/r4096", "linear/m1n"] {
            let (reference, mut answer) = reference(id);
            assert_eq!(reference.fault(std::slice::from_ref(&answer)), None, "{id}");
            let last = answer.len() - 1;
            answer[last] *= 1.125;
            let fault = reference.fault(std::slice::from_ref(&answer));
            assert!(fault.as_ref().is_some_and(|why| why.contains("G1")), "{id}: {fault:?}");
        }
    }

    #[test]
    fn a_copy_must_be_bit_exact() {
        let (reference, mut answer) = reference("concat");
        assert_eq!(reference.fault(std::slice::from_ref(&answer)), None);
        answer[0] = f32::from_bits(answer[0].to_bits() ^ 1);
        assert!(reference.fault(&[answer]).is_some_and(|why| why.contains("G0")));
    }

    #[test]
    fn who_computes_may_round_where_ours_copies_and_no_more() {
        let (reference, mut answer) = reference("resize_bilinear");
        answer[0] = f32::from_bits(answer[0].to_bits() ^ 1);
        assert_eq!(reference.fault(std::slice::from_ref(&answer)), None);
        answer[0] *= 1.0 + 1e-5;
        assert!(reference.fault(&[answer]).is_some_and(|why| why.contains("G1")));
    }

    #[test]
    fn answers_of_the_wrong_size_and_without_a_number_are_wrong() {
        let (reference, mut answer) = reference("softmax/r384");
        assert!(reference.fault(&[]).is_some());
        assert!(reference.fault(&[answer[1..].to_vec()]).is_some_and(|why| why.contains("384")));
        answer[7] = f32::NAN;
        assert!(reference.fault(&[answer]).is_some_and(|why| why.contains("element 7")));
    }
}
