//! A run as a GitHub table, for issues and pull requests.

use super::grid::{self, Grid, is_right};
use super::header;
use super::layout::clean;
use super::scaling::{self, Series};
use super::stages::StageLine;
use super::{axes, notes, trade, user};
use crate::record::Run;
use crate::units::NONE;

/// Times, rates and errors; the checks where nothing was timed.
pub fn table(run: &Run) -> String {
    let timed = run.rows.iter().any(|row| row.time.is_some());
    let notes = notes::notes(run);
    let grid = if timed { grid::times(run, &notes) } else { grid::checks(run) };
    let mut lines: Vec<String> =
        header::banners(run).iter().map(|text| format!("> **{}**\n", escape(text))).collect();
    let block = header::block(run);
    lines.extend(block.iter().map(|(label, text)| format!("- {label}: {}", escape(text))));
    lines.push(String::new());
    lines.extend(rows(&grid));
    lines.extend(growth(&scaling::series(run)));
    let further = [(trade::TITLE, trade::grid(run)), (axes::TITLE, axes::grid(run))];
    for (title, grid) in further {
        let Some(grid) = grid else { continue };
        lines.push(format!("\n{}\n", escape(title)));
        lines.extend(rows(&grid));
    }
    lines.push(format!("\n{}\n", header::totals(run)));
    lines.extend(notes.iter().map(|note| format!("- {}: {}", note.mark, escape(&note.text))));
    let remarks = notes::general(run).into_iter().chain(user::lines(run));
    lines.extend(remarks.map(|text| format!("- {}", escape(&text))));
    let text = lines.join("\n");
    format!("{}\n", text.trim_end())
}

fn rows(grid: &Grid) -> Vec<String> {
    let mut titles = vec!["kernel", "shape"];
    titles.extend(grid.columns.iter().map(|column| match column.title {
        "" => "notes",
        title => title,
    }));
    let right = grid.columns.iter().map(|column| if is_right(column) { "---:" } else { "---" });
    let rule: Vec<&str> = ["---", "---"].into_iter().chain(right).collect();
    let mut lines = vec![line(&titles), line(&rule)];
    for group in &grid.groups {
        for found in &group.lines {
            let model = group.model.as_ref().map_or(String::new(), |model| format!(" ({model})"));
            let shape = escape(&format!("{}{model}", group.shape));
            let mut fields = vec![escape(&group.kernel), shape];
            fields.extend(found.cells.iter().map(|cell| escape(cell.text.trim())));
            fields.resize(titles.len(), String::new());
            if let Some(words) = &found.words {
                // After the verdict where there are numbers, else where the first would be.
                let at = if found.cells.len() > 2 { titles.len() - 1 } else { 4 };
                let verdict = fields[at].clone();
                let colon = if verdict.is_empty() { "" } else { ": " };
                fields[at] = format!("{verdict}{colon}{}", escape(&words.text));
            }
            lines.push(line(&fields));
            lines.extend(found.stages.iter().map(|stage| stage_line(stage, titles.len())));
        }
    }
    lines
}

/// How time grows with work, for a sweep.
fn growth(series: &[Series]) -> Vec<String> {
    if series.is_empty() {
        return Vec::new();
    }
    let rule = scaling::TITLES.map(|_| "---");
    let mut lines = vec!["\nTime as work grows:\n".to_owned(), line(&scaling::TITLES), line(&rule)];
    lines.extend(series.iter().map(|series| line(&series.cells().map(|text| escape(&text)))));
    lines
}

/// A stage in the columns of its pipeline: the time under the time, the rest among the notes.
fn stage_line(stage: &StageLine, columns: usize) -> String {
    let StageLine { time, share, bytes, what } = stage;
    let mut fields = vec![String::new(); columns];
    fields[2] = format!("↳ {}", escape(what));
    fields[4] = escape(time);
    let share = if share == NONE { String::new() } else { format!("{share} of the stages, ") };
    fields[columns - 1] = escape(&format!("{share}{bytes}"));
    line(&fields)
}

pub(in crate::report) fn line<T: AsRef<str>>(fields: &[T]) -> String {
    let fields: Vec<&str> = fields.iter().map(AsRef::as_ref).collect();
    format!("| {} |", fields.join(" | "))
}

/// Text that stays text: one line, no cell ends, no tags, no emphasis.
pub(in crate::report) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in clean(text).chars() {
        if matches!(c, '\\' | '|' | '<' | '`' | '*' | '[') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, file};

    use super::*;
    use crate::record::fixture::{emulated_run, gpu_run, pipeline_run};

    /// Cell borders as GitHub finds them: an escaped character is none.
    fn borders(line: &str) -> usize {
        line.replace("\\\\", "").replace("\\|", "").matches('|').count()
    }

    #[test]
    fn a_run_is_one_table_with_a_line_per_cell() {
        assert_data_eq!(table(&gpu_run()), file!["snapshots/gpu.md"].raw());
    }

    #[test]
    fn a_pipeline_has_its_stages_under_its_row() {
        assert_data_eq!(table(&pipeline_run()), file!["snapshots/pipeline.md"].raw());
    }

    #[test]
    fn no_text_breaks_out_of_its_cell() {
        let mut run = emulated_run();
        run.rows[0].variant = "a|b\\|c\n| d".to_string();
        run.rows[2].reason = Some("see <a href=x>, `code` and *stars*\r\n\r\n# not a title".into());
        let text = table(&run);
        let from = text.lines().skip_while(|line| !line.starts_with('|'));
        let lines: Vec<&str> = from.take_while(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), run.rows.len() + 2);
        assert!(lines.iter().all(|line| borders(line) == borders(lines[0])), "{text}");
        assert!(text.contains("\\<a href=x>") && text.contains("\\*stars"), "{text}");
        assert!(text.starts_with("> **CPU-emulated: not comparable with GPUs**\n"), "{text}");
    }

    #[test]
    fn a_run_without_times_shows_its_checks() {
        let mut run = gpu_run();
        run.rows.iter_mut().for_each(|row| (row.time, row.rate) = (None, None));
        let text = table(&run);
        assert!(text.contains("| verified | verdict |"), "{text}");
        let wrong = "| wrong: G1: an error of 4.210e3 times its bound; element 1531";
        assert!(text.contains(wrong), "{text}");
    }
}
