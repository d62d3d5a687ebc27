//! The pages themselves are in `snapshots/`; `SNAPSHOTS=overwrite cargo test` writes them anew.

use snapbox::{assert_data_eq, file};

use super::*;
use crate::record::fixture::{emulated_run, gpu_run, pipeline_run};

fn assert_fits(text: &str, width: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= width, "wider than {width}: {line}");
        assert_eq!(line, line.trim_end(), "trailing space");
    }
}

/// The text without ANSI codes.
fn bare(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut bare = parts.next().unwrap_or_default().to_string();
    parts.for_each(|part| bare.push_str(part.split_once('m').expect("a closed code").1));
    bare
}

#[test]
fn a_run_on_a_gpu_reads_well_at_100_columns() {
    assert_data_eq!(table(&gpu_run(), false, 100), file!["snapshots/gpu.txt"].raw());
}

#[test]
fn a_pipeline_shows_its_stages_and_what_each_precision_gains() {
    assert_data_eq!(table(&pipeline_run(), false, 100), file!["snapshots/pipeline.txt"].raw());
}

#[test]
fn an_emulated_run_says_so_above_and_beside_its_numbers() {
    let text = table(&emulated_run(), false, 100);
    assert!(text.starts_with("CPU-emulated: not comparable with GPUs\n"), "{text}");
    assert_data_eq!(text, file!["snapshots/emulated.txt"].raw());
}

#[test]
fn checks_show_every_gate_and_the_verdict() {
    assert_data_eq!(checks(&gpu_run(), false, 100), file!["snapshots/checks.txt"].raw());
}

#[test]
fn a_run_without_times_is_shown_by_its_checks() {
    let mut run = gpu_run();
    for row in &mut run.rows {
        (row.time, row.rate) = (None, None);
    }
    let text = table(&run, false, 100);
    assert!(text.contains("verdict") && !text.contains("peaks"), "{text}");
}

#[test]
fn no_line_is_wider_than_asked_even_with_long_names() {
    for mut run in [gpu_run(), emulated_run(), pipeline_run()] {
        for width in 40..150 {
            assert_fits(&table(&run, false, width), width);
            assert_fits(&checks(&run, false, width), width);
        }
        for row in &mut run.rows {
            row.variant = "a_strategy_with_a_name_beyond_reason".to_string();
            row.model = Some("a model ".repeat(30));
            row.reason = row.reason.as_ref().map(|reason| reason.replace(' ', "_").repeat(5));
        }
        run.environment.device.name = "x".repeat(300);
        for width in [1, 40, 60, 100] {
            assert_fits(&table(&run, false, width), width.max(40));
            assert_fits(&checks(&run, false, width), width.max(40));
        }
    }
}

#[test]
fn a_narrow_page_names_the_columns_it_leaves_out() {
    let text = table(&gpu_run(), false, 80);
    assert!(text.contains("no room for: bound, cold"), "{text}");
    assert!(!table(&gpu_run(), false, 100).contains("no room"), "100 columns hold everything");
}

#[test]
fn colour_adds_nothing_but_colour() {
    for run in [gpu_run(), emulated_run()] {
        for page in [table, checks] {
            let coloured = page(&run, true, 100);
            assert!(coloured.contains("\x1b[1;31m"), "the wrong cell is red");
            assert_eq!(bare(&coloured), page(&run, false, 100));
        }
    }
}

#[test]
fn advice_knows_the_device_and_the_flags_that_were_used() {
    let advice = |run: &Run| {
        let text = table(run, false, 200);
        text.lines().find(|line| line.contains("interval up to")).unwrap_or_default().to_string()
    };
    let mut run = gpu_run();
    assert!(advice(&run).contains("lock clocks (nvidia-smi -lgc …), or pass --max-time 10"));
    run.environment.arguments.push("--max-time=30".to_string());
    assert!(advice(&run).ends_with("lock clocks (nvidia-smi -lgc …), or pass a longer --max-time"));
    run.environment.device.vendor_id = 0x1002;
    assert!(advice(&run).contains("programs, lock clocks, or"));
    assert!(advice(&emulated_run()).contains("close other programs, or pass"));
}

#[test]
fn a_doubt_about_many_cells_is_told_once() {
    let mut run = gpu_run();
    for row in &mut run.rows {
        if let (Some(rate), Some(time)) = (&mut row.rate, &mut row.time) {
            rate.fraction_of_peak = Some(1.31);
            time.notes = vec![format!("throttled {:.2}", time.median * 1e4)];
        }
    }
    let text = table(&run, false, 120);
    let told = |words: &str| text.matches(words).count();
    let over = "over peak, up to 131 % (6 cells): the byte model or the probe is wrong";
    assert_eq!(told(over), 1, "{text}");
    assert_eq!(told("and the like (6 cells)"), 1, "{text}");
}

#[test]
fn odd_runs_still_make_a_page() {
    let mut run = Run { complete: false, rows: Vec::new(), ..gpu_run() };
    let text = table(&run, false, 100);
    assert!(text.starts_with("incomplete: stopped after 0 cells\n"), "{text}");
    assert!(text.contains("\nno cells\n"), "{text}");
    run.environment.timer.quantised = true;
    run.rows = gpu_run().rows[..1].to_vec();
    let row = &mut run.rows[0];
    (row.rate, row.accuracy) = (None, None);
    row.time.as_mut().unwrap().cold_median = None;
    row.variant = "evil\x1b[2J\nname".to_string();
    let text = table(&run, false, 100);
    assert!(text.contains("short cells stay UNCLEAR"), "{text}");
    assert!(text.contains("evil [2J name") && !text.contains('\x1b'), "{text}");
    assert!(!text.contains("NaN") && text.contains("–"), "{text}");
}
