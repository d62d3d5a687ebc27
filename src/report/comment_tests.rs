use snapbox::{assert_data_eq, file};

use super::*;
use crate::record::fixture::{emulated_run, gpu_run};

/// The run with its rows repeated under other names until there are `n`.
fn large(n: usize) -> Run {
    let mut run = gpu_run();
    let rows = run.rows.clone();
    run.rows = (0..n)
        .map(|at| {
            let mut row = rows[at % rows.len()].clone();
            row.id = format!("{}_{at}", row.id);
            row.reason = row.reason.map(|reason| format!("{reason} {at}"));
            row
        })
        .collect();
    run
}

#[test]
fn a_run_is_a_comment_with_the_wrong_first() {
    assert_data_eq!(of_run(&gpu_run()), file!["snapshots/comment.md"].raw());
}

#[test]
fn five_thousand_rows_fit_and_the_rest_is_counted() {
    let run = large(5_000);
    let text = of_run(&run);
    assert!(text.len() <= LIMIT_BYTES, "{} bytes", text.len());
    assert!(text.len() > LIMIT_BYTES * 9 / 10, "room is left: {} bytes", text.len());
    let wrong = run.rows.iter().filter(|row| row.status == Status::Wrong).count();
    let shown = text.lines().filter(|line| line.starts_with("| wrong |")).count();
    assert!(shown > 50, "{shown} of {wrong}");
    assert!(text.contains("more, in the result file"), "what is left out is counted");
    assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
    assert_eq!(text.matches("<details>").count(), 2, "every table is named");
}

#[test]
fn rows_shown_and_rows_left_out_are_all_rows() {
    for n in [1, 9, 10, 11, 400, 1_000, 5_000] {
        let run = large(n);
        let failed = failures(&run).rows.len();
        let text = of_run(&run);
        let shown =
            text.lines().filter(|line| ["| wr", "| er"].iter().any(|s| line.starts_with(s)));
        let shown = shown.count();
        let head = text.split("<details>").next().expect("a part");
        let more = head.lines().find_map(|line| line.strip_prefix("and ")?.split(' ').next());
        let left_out: usize = more.map_or(0, |more| more.parse().expect("a number"));
        assert_eq!(shown + left_out, failed, "{n} rows");
    }
}

#[test]
fn text_from_a_file_stays_text() {
    let mut run = emulated_run();
    run.rows[3].reason = Some("@octocat <img src=x> | `x` [a](b)\n### no".to_owned());
    run.environment.device.name = "x".repeat(100_000);
    let text = of_run(&run);
    assert!(text.len() < 10_000, "{} bytes", text.len());
    assert!(!text.contains("@octocat") && !text.contains("\n### no"), "{text}");
    assert!(text.contains("\\<img src=x> \\| \\`x\\` \\[a](b)"), "{text}");
    assert!(text.contains("CPU-emulated"), "{text}");
}

#[test]
fn a_run_without_rows_says_so() {
    let mut run = gpu_run();
    run.rows.clear();
    let text = of_run(&run);
    assert!(text.contains("no cells") && !text.contains('|'), "{text}");
}
