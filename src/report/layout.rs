//! Text in columns: widths, wrapping, and colour that only repeats what the words say.

/// What a piece of text is, for those who see colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Style {
    /// The text between this style's ANSI codes, or as it is.
    pub fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Style::Plain => return text.to_string(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "1;31",
        };
        if !colour || text.is_empty() {
            return text.to_string();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One field of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    pub text: String,
    pub style: Style,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Cell { text: text.into(), style: Style::Plain }
    }

    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Cell { text: text.into(), style }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    pub title: &'static str,
    pub align: Align,
    /// Columns with a higher number go first where the width does not suffice; 0 always stays.
    pub expendable: u8,
}

impl Column {
    pub const fn left(title: &'static str) -> Self {
        Column { title, align: Align::Left, expendable: 0 }
    }

    pub const fn right(title: &'static str) -> Self {
        Column { title, align: Align::Right, expendable: 0 }
    }

    pub const fn expendable(mut self, rank: u8) -> Self {
        self.expendable = rank;
        self
    }
}

/// Spaces between two columns.
pub const GAP: usize = 2;

/// Columns narrow enough for the width, and how wide each is.
pub struct Fit {
    pub widths: Vec<usize>,
    shown: Vec<usize>,
    /// Titles of the columns that did not fit.
    pub hidden: Vec<&'static str>,
}

/// Chooses the columns that fit into `width` characters after `indent`.
pub fn fit<'a>(
    columns: &[Column],
    rows: impl Iterator<Item = &'a [Cell]>,
    indent: usize,
    width: usize,
) -> Fit {
    let mut widths: Vec<usize> =
        columns.iter().map(|column| column.title.chars().count()).collect();
    for row in rows {
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = (*column).max(cell.text.chars().count());
        }
    }
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let mut hidden = Vec::new();
    let taken = |shown: &[usize]| indent + shown.iter().map(|at| widths[*at] + GAP).sum::<usize>();
    while taken(&shown) > width + GAP {
        let weakest = shown.iter().copied().max_by_key(|at| columns[*at].expendable);
        let Some(weakest) = weakest.filter(|at| columns[*at].expendable > 0) else { break };
        shown.retain(|at| *at != weakest);
        hidden.push(columns[weakest].title);
    }
    Fit { widths, shown, hidden }
}

impl Fit {
    /// One line of the table, padded before it is painted, without trailing spaces.
    pub fn line(&self, columns: &[Column], cells: &[Cell], indent: usize, colour: bool) -> String {
        let mut line = " ".repeat(indent);
        let mut pending = 0;
        for at in self.shown.iter().copied().filter(|at| *at < cells.len()) {
            let cell = &cells[at];
            let space = self.widths[at].saturating_sub(cell.text.chars().count());
            let (before, after) = match columns[at].align {
                Align::Left => (0, space),
                Align::Right => (space, 0),
            };
            if cell.text.is_empty() {
                pending += self.widths[at] + GAP;
                continue;
            }
            line.push_str(&" ".repeat(pending + before));
            line.push_str(&cell.style.paint(&cell.text, colour));
            pending = after + GAP;
        }
        line
    }

    /// Where the column after the first `n` begins.
    pub fn offset(&self, n: usize, indent: usize) -> usize {
        indent + self.shown.iter().take(n).map(|at| self.widths[*at] + GAP).sum::<usize>()
    }
}

/// One line without control characters, which a driver's name or message may hold.
pub fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `width` characters, the last one `…` where something is missing.
pub fn truncate(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Lines of at most `width` characters, broken between words but not at U+00A0, which becomes a
/// space; what does not fit into `max_lines` ends in `…`.
pub fn wrap(text: &str, width: usize, max_lines: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split([' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        let room = lines.last().map_or(0, |line| width.saturating_sub(line.chars().count()));
        let full = lines.len() >= max_lines;
        match lines.last_mut() {
            Some(line) if word.chars().count() < room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if full => {
                line.push_str(" …");
                break;
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines.iter().map(|line| truncate_end(line, width).replace('\u{a0}', " ")).collect()
}

/// As [`truncate`], keeping a `…` that is already there.
fn truncate_end(line: &str, width: usize) -> String {
    let body = line.strip_suffix(" …");
    match body {
        Some(body) if line.chars().count() > width => truncate(&format!("{body}…"), width),
        _ => truncate(line, width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_between_words_and_says_when_something_is_missing() {
        assert_eq!(wrap("one two three four", 9, 9), ["one two", "three", "four"]);
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "three …"]);
        assert_eq!(wrap("one two threes four", 8, 2), ["one two", "threes …"]);
        assert_eq!(wrap("a pneumonoultra", 8, 3), ["a", "pneumon…"]);
        assert_eq!(wrap("aaa b\u{a0}c\u{a0}d", 8, 3), ["aaa", "b c d"]);
        assert_eq!(wrap("", 8, 3), [""; 0]);
        for width in 8..30 {
            for line in wrap("the quick brown fox jumped over the lazy dog", width, 2) {
                assert!(line.chars().count() <= width, "{line:?}");
            }
        }
    }

    #[test]
    fn cut_text_keeps_to_its_width_in_characters_not_bytes() {
        assert_eq!(truncate("µµµµ", 4), "µµµµ");
        assert_eq!(truncate("µµµµµ", 4), "µµµ…");
        assert_eq!(clean("two\nlines\x1b[31m"), "two lines [31m");
    }

    #[test]
    fn columns_go_by_rank_until_the_rest_fits() {
        let columns = [
            Column::left("name"),
            Column::right("a").expendable(1),
            Column::right("b").expendable(2),
        ];
        let row = [Cell::new("x"), Cell::new("11"), Cell::styled("222", Style::Bad)];
        let at = |width| fit(&columns, [&row[..]].into_iter(), 2, width);
        assert_eq!(at(15).line(&columns, &row, 2, false), "  x     11  222");
        assert_eq!(at(14).line(&columns, &row, 2, false), "  x     11");
        assert_eq!(at(14).hidden, ["b"]);
        assert_eq!(at(1).hidden, ["b", "a"]);
        assert_eq!(at(15).line(&columns, &row, 2, true), "  x     11  \x1b[1;31m222\x1b[0m");
    }
}
