//! The tables people read: one line per cell, grouped by kernel and shape, doubts at the end.

use super::grid::{self, Grid, Group, Line};
use super::header;
use super::layout::{Cell, Column, Fit, Style, clean, fit, truncate, wrap};
use super::scaling::{self, Series};
use super::stages::StageLine;
use super::{axes, notes, trade, user};
use crate::record::{Run, Status};
use crate::units::percent;

/// Cells stand below and inside their group.
const INDENT: usize = 2;
/// Labels of the header block are padded to this, the longest of them and a gap.
const LABEL: usize = 13;
/// Stages stand a little under the row of their pipeline.
const STAGE_INDENT: usize = 6;
/// A reason longer than this many lines is in the file.
const REASON_LINES: usize = 3;
/// Narrower pages than this would hold nothing.
const MIN_WIDTH: usize = 40;

/// Times, rates and errors of a run at most `width` columns wide; the checks where nothing was
/// timed.
pub fn table(run: &Run, colour: bool, width: usize) -> String {
    if !run.rows.is_empty() && run.rows.iter().all(|row| row.time.is_none()) {
        return checks(run, colour, width);
    }
    let notes = notes::notes(run);
    let mut page = Page::new(colour, width);
    page.header(run);
    let hidden = page.grid(&grid::times(run, &notes), run);
    page.scaling(&scaling::series(run));
    page.more(trade::TITLE, trade::grid(run), run);
    page.more(axes::TITLE, axes::grid(run), run);
    page.close(run);
    for note in &notes {
        page.hanging(&note.mark, Style::Warn, &note.text, 3);
    }
    for text in notes::general(run) {
        page.hanging("*", Style::Warn, &text, 3);
    }
    page.user(run);
    page.wrong(run);
    let confidence = run.rows.iter().find_map(|row| Some(row.time.as_ref()?.confidence));
    let interval = confidence.map_or(String::new(), |share| format!(" {}", percent(share)));
    let key = format!(
        "median and half its{interval} interval, data in cache; cold: data in memory; of peak: \
         ideal time over median; SQNR: signal over error; bound: largest error over its limit"
    );
    page.key(&key, &hidden);
    page.text()
}

/// Gates, errors and verdicts of a run at most `width` columns wide.
pub fn checks(run: &Run, colour: bool, width: usize) -> String {
    let mut page = Page::new(colour, width);
    page.header(run);
    let hidden = page.grid(&grid::checks(run), run);
    page.more(axes::TITLE, axes::grid(run), run);
    page.close(run);
    page.user(run);
    page.wrong(run);
    page.key(
        "G0: elements that must be exact and differ; G1 worst case, G1p likely, G2 RMS: observed \
         over allowed error, above 1 fails; verified: all output rows or a sample",
        &hidden,
    );
    page.text()
}

/// Lines so far, none wider than `width`.
struct Page {
    lines: Vec<String>,
    colour: bool,
    width: usize,
}

impl Page {
    fn new(colour: bool, width: usize) -> Self {
        Page { lines: Vec::new(), colour, width: width.max(MIN_WIDTH) }
    }

    fn header(&mut self, run: &Run) {
        for banner in header::banners(run) {
            self.line(&banner, Style::Warn);
        }
        for (label, text) in header::block(run) {
            self.hanging(label, Style::Dim, &text, LABEL);
        }
        self.lines.push(String::new());
    }

    /// The table; returns the titles of the columns it had no room for.
    fn grid(&mut self, grid: &Grid, run: &Run) -> Vec<&'static str> {
        let lines = grid.groups.iter().flat_map(|group| &group.lines);
        let rows = lines.map(|line| line.cells.as_slice());
        let fit = fit(&grid.columns, rows, INDENT, self.width);
        if grid.groups.iter().any(|group| group.lines.iter().any(|line| line.cells.len() > 2)) {
            let titles: Vec<_> =
                grid.columns.iter().map(|c| Cell::styled(c.title, Style::Dim)).collect();
            self.fitted(&fit, grid, &titles);
        }
        for group in &grid.groups {
            self.group(group, run.environment.device.emulated);
            for line in &group.lines {
                self.cell(&fit, grid, line);
                line.stages.iter().for_each(|stage| self.stage(stage));
            }
        }
        fit.hidden
    }

    /// A further table under its title, where there is one.
    fn more(&mut self, title: &str, grid: Option<Grid>, run: &Run) {
        let Some(grid) = grid else { return };
        self.lines.push(String::new());
        for text in wrap(title, self.width, REASON_LINES) {
            self.line(&text, Style::Bold);
        }
        self.grid(&grid, run);
    }

    fn group(&mut self, group: &Group, emulated: bool) {
        let mut text = format!("{}  {}", group.kernel, group.shape);
        if let Some(model) = &group.model {
            text = format!("{text}  {model}");
        }
        if emulated {
            text.push_str("  (CPU-emulated)");
        }
        self.line(&text, Style::Bold);
    }

    /// The numbers, then in words what is wrong with them or why there are none.
    fn cell(&mut self, fit: &Fit, grid: &Grid, line: &Line) {
        let Some(words) = &line.words else {
            return self.fitted(fit, grid, &line.cells);
        };
        let start = fit.offset(2, INDENT).min(self.width / 2);
        let mut wrapped = wrap(&words.text, self.width - start, REASON_LINES).into_iter();
        if line.cells.len() > 2 {
            self.fitted(fit, grid, &line.cells);
        } else {
            // Nothing but the names is on this line, so the words share it.
            let names = fit.line(&grid.columns, &line.cells, INDENT, false);
            let names = truncate(&names, start - 1);
            let text = words.style.paint(&wrapped.next().unwrap_or_default(), self.colour);
            self.lines.push(format!("{names:<start$}{text}"));
        }
        for text in wrapped {
            let text = words.style.paint(&text, self.colour);
            self.lines.push(format!("{:start$}{text}", ""));
        }
    }

    fn stage(&mut self, line: &StageLine) {
        let StageLine { time, share, bytes, what } = line;
        let text = format!("{time:>10} {share:>6} {bytes:>10}  {what}");
        let text = truncate(&text, self.width - STAGE_INDENT);
        self.lines.push(format!("{:STAGE_INDENT$}{}", "", Style::Dim.paint(&text, self.colour)));
    }

    /// A line of columns; where even the indispensable ones are too wide, it is cut off.
    fn fitted(&mut self, fit: &Fit, grid: &Grid, cells: &[Cell]) {
        let plain = fit.line(&grid.columns, cells, INDENT, false);
        if plain.chars().count() > self.width {
            return self.lines.push(truncate(&plain, self.width));
        }
        self.lines.push(fit.line(&grid.columns, cells, INDENT, self.colour));
    }

    /// How time grows with work, under the rows of a sweep.
    fn scaling(&mut self, series: &[Series]) {
        if series.is_empty() {
            return;
        }
        let columns: Vec<Column> =
            scaling::TITLES.iter().map(|title| Column::left(title)).collect();
        let lines: Vec<Vec<Cell>> =
            series.iter().map(|series| series.cells().map(Cell::new).to_vec()).collect();
        let fit = fit(&columns, lines.iter().map(Vec::as_slice), INDENT, self.width);
        self.lines.push(String::new());
        self.line("time as work grows", Style::Bold);
        let titles: Vec<Cell> = columns.iter().map(|column| Cell::new(column.title)).collect();
        self.line(&fit.line(&columns, &titles, INDENT, false), Style::Dim);
        for cells in &lines {
            self.line(&fit.line(&columns, cells, INDENT, false), Style::Plain);
        }
        let key = "knee: work below which a fixed cost rules; growth: time over work beyond it";
        self.line(key, Style::Dim);
    }

    fn close(&mut self, run: &Run) {
        self.lines.push(String::new());
        self.line(&header::totals(run), Style::Bold);
    }

    fn user(&mut self, run: &Run) {
        for text in user::lines(run) {
            self.hanging("*", Style::Warn, &text, 3);
        }
    }

    /// The next step where there is something wrong to look at.
    fn wrong(&mut self, run: &Run) {
        let Some(row) = run.rows.iter().find(|row| row.status == Status::Wrong) else { return };
        let text = format!("look at a wrong result alone: fusebench check '{}'", clean(&row.id));
        self.hanging("!", Style::Bad, &text, 3);
    }

    fn key(&mut self, key: &str, hidden: &[&str]) {
        self.lines.push(String::new());
        for text in wrap(key, self.width, REASON_LINES) {
            self.line(&text, Style::Dim);
        }
        if !hidden.is_empty() {
            let text = format!("no room for: {}", hidden.join(", "));
            self.line(&text, Style::Dim);
        }
    }

    /// A label, then text wrapped beside it.
    fn hanging(&mut self, label: &str, style: Style, text: &str, indent: usize) {
        let lines = wrap(text, self.width.saturating_sub(indent), REASON_LINES);
        for (index, text) in lines.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let space = indent.saturating_sub(label.chars().count());
            let label = style.paint(label, self.colour);
            self.lines.push(format!("{label}{:space$}{text}", ""));
        }
    }

    fn line(&mut self, text: &str, style: Style) {
        self.lines.push(style.paint(&truncate(text, self.width), self.colour));
    }

    fn text(self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
