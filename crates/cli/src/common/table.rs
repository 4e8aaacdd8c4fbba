// SPDX-License-Identifier: Apache-2.0

//! Text in columns.

use crate::common::terminal::{Stream, Style, paint};

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Rows of cells under a heading, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Side); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [(&'static str, Side); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// All lines, indented by two, without a line feed after the last.
    pub(crate) fn render(&self) -> String {
        self.render_for(Stream::Out)
    }

    /// The same for either stream.
    pub(crate) fn render_for(&self, stream: Stream) -> String {
        let heading = self.columns.map(|(title, _)| title.to_owned());
        let mut widths = heading.each_ref().map(|cell| cell.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut lines = vec![paint(stream, Style::Strong, &self.line(&heading, &widths))];
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths)));
        lines.join("\n")
    }

    fn line(&self, cells: &[String; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for ((cell, (_, side)), width) in cells.iter().zip(self.columns).zip(widths) {
            line.push_str("  ");
            line.push_str(&match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new([("name", Side::Left), ("n", Side::Right)]);
        assert_eq!(table.render(), "  name  n");
        table.row(["a".to_owned(), "1000".to_owned()]);
        table.row(["longest".to_owned(), "7".to_owned()]);
        table.row(["é".to_owned(), String::new()]);
        assert_eq!(table.render(), "  name        n\n  a        1000\n  longest     7\n  é");
    }
}
