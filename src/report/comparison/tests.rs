use snapbox::{assert_data_eq, file};

use super::super::layout::clean;
use super::*;
use crate::compare::{Reason, Verdict};
use crate::record::comparison_fixture::comparison;

fn command() -> Command {
    Command { base: "main".to_string(), head: "my kernels".to_string() }
}

#[test]
fn a_comparison_is_a_table_worst_first() {
    let text = table(&comparison(), Some(&command()), false, 100);
    assert_data_eq!(text, file!["../snapshots/comparison.txt"].raw());
}

#[test]
fn a_comparison_is_a_summary_for_a_pull_request() {
    assert_data_eq!(markdown(&comparison()), file!["../snapshots/comparison.md"].raw());
}

#[test]
fn no_line_is_wider_than_the_page_and_colour_changes_no_text() {
    for width in [60, 80, 100, 140] {
        let plain = table(&comparison(), Some(&command()), false, width);
        for line in plain.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        let painted = table(&comparison(), Some(&command()), true, width);
        let stripped: String =
            painted.split('\x1b').enumerate().fold(String::new(), |text, (n, part)| {
                let part = if n == 0 { part } else { part.split_once('m').map_or("", |p| p.1) };
                text + part
            });
        assert_eq!(clean(&stripped), clean(&plain));
    }
}

#[test]
fn every_unclear_row_prints_the_next_command() {
    let reasons = [
        Reason::Straddles,
        Reason::TooFew,
        Reason::Clock,
        Reason::Control,
        Reason::Unconfirmed,
        Reason::Environment,
        Reason::TimerQuantised,
        Reason::BaseWrong,
        Reason::Interrupted,
    ];
    for reason in reasons {
        let mut found = comparison();
        found.rows.retain(|row| row.verdict == Some(Verdict::Unclear));
        found.rows[0].reason = Some(reason);
        let text = table(&found, Some(&command()), false, 100);
        let advice = text.contains("fusebench ") || text.contains("the same again");
        assert!(advice, "{reason:?}: {text}");
    }
}

#[test]
fn an_invalid_control_stands_out() {
    let mut found = comparison();
    found.control.as_mut().unwrap().valid = false;
    assert!(table(&found, None, false, 100).contains("this run says nothing"));
    assert!(markdown(&found).contains("> **"));
}

#[test]
fn a_summary_stays_below_sixty_kilobytes_and_counts_what_it_leaves_out() {
    let mut found = comparison();
    let template = found.rows[2].clone();
    for n in 0..2_000 {
        let mut row = template.clone();
        row.id = format!("a_kernel_of_long_name/variant/f16/b1h12q32k257d64n{n}");
        found.rows.push(row);
    }
    let text = markdown(&found);
    assert!(text.len() < 60_000, "{} bytes", text.len());
    let shown = text.lines().filter(|line| line.starts_with("| ")).count();
    assert!(text.contains(" rows left out to stay below 60 kB"), "{text}");
    let said = " rows left out to stay below 60 kB; the result file has them all.";
    let dropped = text.lines().find_map(|line| line.strip_suffix(said));
    let dropped: usize = dropped.expect("a count").parse().expect("a number");
    // Two tables have a title and a rule each; rows of one side only are not shown.
    let tables = text.matches("| verdict |").count();
    assert_eq!(shown - 2 * tables + dropped, found.rows.len() - 2, "{dropped} dropped");
    assert!(text.trim_end().ends_with("</details>"));
}

#[test]
fn no_text_of_a_driver_breaks_out_of_the_summary() {
    let mut found = comparison();
    found.rows[0].why = Some("see <a href=x> | `code`\n# title".to_string());
    let text = markdown(&found);
    assert!(text.contains("see \\<a href=x> \\| \\`code\\` # title"), "{text}");
}
