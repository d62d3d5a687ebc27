use super::*;
use crate::record::comparison_fixture::comparison;

/// A comparison with these verdicts only.
fn with(verdicts: &[(Verdict, Reason)]) -> Comparison {
    let mut found = comparison();
    let template = found.rows[4].clone();
    let row = |&(verdict, reason): &(Verdict, Reason)| ComparedRow {
        verdict: Some(verdict),
        reason: Some(reason),
        ..template.clone()
    };
    found.rows = verdicts.iter().map(row).collect();
    found
}

const SAME: (Verdict, Reason) = (Verdict::Same, Reason::Equivalent);
const SLOWER: (Verdict, Reason) = (Verdict::Slower, Reason::Evidence);
const WRONG: (Verdict, Reason) = (Verdict::Wrong, Reason::Failed);
const UNCLEAR: (Verdict, Reason) = (Verdict::Unclear, Reason::Straddles);
const DEFAULT: [FailOn; 2] = [FailOn::Wrong, FailOn::Slower];

fn code(found: &Comparison, fail_on: &[FailOn]) -> u8 {
    exit(found, fail_on, false, false).code()
}

#[test]
fn fine_is_0() {
    let fine = [
        SAME,
        (Verdict::Faster, Reason::Evidence),
        (Verdict::New, Reason::OneSided),
        (Verdict::Gone, Reason::OneSided),
        UNCLEAR,
    ];
    assert_eq!(code(&with(&fine), &DEFAULT), 0);
}

#[test]
fn a_finding_is_1() {
    assert_eq!(code(&with(&[SAME, SLOWER]), &DEFAULT), 1);
    assert_eq!(code(&with(&[SAME, (Verdict::Slower, Reason::Confirmed)]), &DEFAULT), 1);
    assert_eq!(code(&with(&[SAME, WRONG]), &DEFAULT), 1);
    assert_eq!(code(&with(&[SAME, WRONG]), &[FailOn::Slower]), 0);
    assert_eq!(code(&with(&[SAME, SLOWER]), &[FailOn::Wrong]), 0);
}

#[test]
fn a_change_of_accuracy_is_1_only_where_asked() {
    let mut found = with(&[SAME]);
    found.rows[0].accuracy_changed = vec![AccuracyChange::default()];
    assert_eq!(code(&found, &DEFAULT), 0);
    assert_eq!(code(&found, &[FailOn::AccuracyChange]), 1);
}

#[test]
fn a_device_beyond_recovery_is_3() {
    assert_eq!(exit(&with(&[SAME]), &DEFAULT, false, true).code(), 3);
    assert_eq!(exit(&with(&[SLOWER]), &DEFAULT, false, true).code(), 1);
}

#[test]
fn nothing_compared_is_4() {
    let mut found = with(&[SAME]);
    (found.rows[0].verdict, found.rows[0].status) = (None, Status::Skipped);
    assert_eq!(code(&found, &DEFAULT), 4);
    assert_eq!(code(&found, &[FailOn::None]), 4);
}

#[test]
fn unclear_is_5_only_where_asked() {
    let asked = [FailOn::Wrong, FailOn::Slower, FailOn::Unclear];
    assert_eq!(code(&with(&[SAME, UNCLEAR]), &asked), 5);
    assert_eq!(code(&with(&[SAME, UNCLEAR, SLOWER]), &asked), 1);
    let mut invalid = with(&[SAME]);
    invalid.control.as_mut().unwrap().valid = false;
    assert_eq!((code(&invalid, &asked), code(&invalid, &DEFAULT)), (5, 0));
}

#[test]
fn an_interrupt_is_130_whatever_was_found() {
    assert_eq!(exit(&with(&[WRONG, UNCLEAR]), &DEFAULT, true, true).code(), 130);
}

#[test]
fn fail_on_none_silences_1_and_5_and_nothing_else() {
    let none = [FailOn::None, FailOn::Slower, FailOn::Unclear];
    assert_eq!(code(&with(&[WRONG, SLOWER, UNCLEAR]), &none), 0);
    assert_eq!(exit(&with(&[SLOWER]), &none, true, false).code(), 130);
    assert_eq!(exit(&with(&[SLOWER]), &none, false, true).code(), 3);
}

#[test]
fn a_failed_control_takes_back_what_samples_said_and_nothing_else() {
    let identical = (Verdict::Same, Reason::Identical);
    let mut found = with(&[SLOWER, SAME, identical, WRONG]);
    distrust(&mut found.rows, Reason::Control);
    let verdicts: Vec<_> = found.rows.iter().map(|row| (row.verdict, row.reason)).collect();
    let unclear = (Some(Verdict::Unclear), Some(Reason::Control));
    let kept = |(verdict, reason): (Verdict, Reason)| (Some(verdict), Some(reason));
    assert_eq!(verdicts, [unclear, unclear, kept(identical), kept(WRONG)]);
}

#[test]
fn what_does_not_recur_is_unconfirmed() {
    let faster = (Verdict::Faster, Reason::Evidence);
    let control = (Verdict::Unclear, Reason::Control);
    let mut found = with(&[SLOWER, SAME, faster, UNCLEAR, WRONG, control]);
    confirm::apply(&mut found.rows);
    let reasons: Vec<_> = found.rows.iter().map(|row| row.reason.unwrap()).collect();
    assert_eq!(reasons[0], Reason::Confirmed);
    assert_eq!(reasons[1..4], [Reason::Unconfirmed; 3]);
    assert_eq!(reasons[4..], [Reason::Failed, Reason::Control]);
    assert_eq!(found.count(Verdict::Slower), 1);
    assert_eq!(code(&found, &DEFAULT), 1);
}

#[test]
fn the_cells_to_confirm_are_the_slower_ones() {
    assert_eq!(confirm::slower(&comparison()), ["b/v/f16/r257d1408"]);
    let previous = comparison();
    let mut here = previous.environment.clone();
    assert!(confirm::same_machine(&previous, &here).is_ok());
    here.fingerprint.push('0');
    assert_eq!(confirm::same_machine(&previous, &here).unwrap_err().exit, Exit::Usage);
}

#[test]
fn unlike_environments_are_named_and_like_ones_are_not() {
    let base = comparison().environment;
    let mut head = base.clone();
    head.fusebench.version = "9.9.9".to_owned();
    head.fusebench.commit = "another".to_owned();
    assert_eq!(differences(&base, &head), [""; 0]);
    head.device.driver_info = "575.2".to_owned();
    head.fusebench.measure_version += 1;
    assert_eq!(differences(&base, &head), ["driver version", "measure version"]);
}

#[test]
fn the_last_bit_of_an_error_figure_counts() {
    let base = crate::record::fixture::gpu_run().rows[0].accuracy.clone().expect("verified");
    assert_eq!(changes(&base, &base), []);
    let head = Accuracy { nmse: f64::from_bits(base.nmse.to_bits() + 1), ..base.clone() };
    let found = changes(&base, &head);
    assert_eq!((found.len(), found[0].metric.as_str()), (1, "nmse"));
}
