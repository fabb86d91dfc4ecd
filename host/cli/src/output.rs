//! What commands print: data as a table for people or as JSON for programs, on stdout; everything else on stderr.

use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use millrace_core::Result;
use serde::Serialize;

use crate::files;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: one JSON document
    Json,
}

/// Prints in the chosen format.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    format: Format,
}

impl Printer {
    /// A printer of this format.
    pub fn new(format: Format) -> Self {
        Printer { format }
    }

    /// The chosen format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints a command's result: `value` as JSON, or what `text` makes of it.
    pub fn data<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let mut line = match self.format {
            Format::Table => text(value),
            Format::Json => serde_json::to_string_pretty(value).expect("results have text keys only"),
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.raw(line.as_bytes())
    }

    /// Writes bytes to stdout as they are. A reader that has gone away (`| head`) is no failure.
    pub fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(files::failed("write to", Path::new("standard output"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Says something to the person, on stderr.
    pub fn note(&self, text: &str) {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(io::stderr(), "{}", printable(text));
    }
}

/// Text from pipelines (names, messages, rows, log lines): characters that a terminal would take for commands are
/// escaped.
pub fn printable(text: &str) -> String {
    escaped(text, |char| char.is_control() && !matches!(char, '\n' | '\t'))
}

/// The same for what has to stay on its line.
pub fn printable_line(text: &str) -> String {
    escaped(text, char::is_control)
}

fn escaped(text: &str, must: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if must(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// Side on which a column's texts are lined up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text in columns.
#[derive(Debug, Clone)]
pub struct Table {
    header: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(header: &[(&str, Align)]) -> Self {
        Table {
            header: header
                .iter()
                .map(|(title, align)| ((*title).to_owned(), *align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has a text for every column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a row has a cell for every column");
        self.rows.push(cells.iter().map(|cell| printable_line(cell)).collect());
    }

    /// The table as lines, columns two spaces apart, no spaces at ends of lines.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.header[column].0.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        let titles: Vec<String> = self.header.iter().map(|(title, _)| title.clone()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line += "  ";
                }
                let fill = " ".repeat(widths[column] - cell.chars().count());
                match self.header[column].1 {
                    Align::Left => line += &format!("{cell}{fill}"),
                    Align::Right => line += &format!("{fill}{cell}"),
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Names and values, one pair a line, values lined up.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_its_columns() {
        let mut table = Table::new(&[("name", Align::Left), ("rows", Align::Right)]);
        table.row(vec!["a".into(), "1,000".into()]);
        table.row(vec!["längere".into(), "7".into()]);
        assert_eq!(table.render(), "name      rows\na        1,000\nlängere      7\n");
    }

    #[test]
    fn cells_keep_to_their_line_and_give_no_commands() {
        let mut table = Table::new(&[("name", Align::Left)]);
        table.row(vec!["a\u{1b}[31m\nb\u{9b}".into()]);
        assert_eq!(table.render(), "name\na\\u{1b}[31m\\nb\\u{9b}\n");
    }

    #[test]
    fn pairs_line_up_their_values() {
        assert_eq!(pairs(&[("a", "1".into()), ("size", "2".into())]), "a     1\nsize  2\n");
    }
}
