//! What a reader has to know about rows on tensors of a user.

use super::layout::clean;
use crate::record::{ConvertedInput, Run};

/// One line on each way the tensors were converted, and one where gates did not decide.
pub(super) fn lines(run: &Run) -> Vec<String> {
    let accuracies = || run.rows.iter().filter_map(|row| row.accuracy.as_ref());
    let mut lines: Vec<String> = Vec::new();
    for accuracy in accuracies().filter(|accuracy| !accuracy.converted.is_empty()) {
        let parts: Vec<String> = accuracy.converted.iter().map(words).collect();
        let line = format!("your tensors on their way in: {}", parts.join(", "));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if !lines.is_empty() {
        lines.push("errors in the table start from the converted values".into());
    }
    if accuracies().any(|accuracy| accuracy.report_only) {
        lines.push("--allow-nonfinite: the gates report and decide nothing".into());
    }
    lines
}

/// `w f64 to f16 at 73.6 dB`.
fn words(input: &ConvertedInput) -> String {
    let cost = input.sqnr_db.map_or("exact".to_owned(), |db| format!("at {db:.1} dB"));
    let (name, from, to) = (clean(&input.input), clean(&input.from), clean(&input.to));
    format!("{name} {from} to {to} {cost}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture::gpu_run;

    #[test]
    fn the_cost_of_conversion_stands_apart_and_once() {
        let mut run = gpu_run();
        assert_eq!(lines(&run), [""; 0]);
        for accuracy in run.rows.iter_mut().filter_map(|row| row.accuracy.as_mut()) {
            let input = |name: &str, sqnr_db| ConvertedInput {
                input: name.to_owned(),
                from: "f64".to_owned(),
                to: "f16".to_owned(),
                sqnr_db,
                predicted_sqnr_db: None,
            };
            accuracy.converted = vec![input("x", Some(73.64)), input("b", None)];
            accuracy.report_only = true;
        }
        let lines = lines(&run);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].ends_with("x f64 to f16 at 73.6 dB, b f64 to f16 exact"), "{lines:?}");
        assert!(lines[2].contains("decide nothing"), "{lines:?}");
    }
}
