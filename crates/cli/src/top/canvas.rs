// SPDX-License-Identifier: Apache-2.0

//! Writing into a part of the screen, at places that may not be there.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

/// A part of the screen. What does not fit is cut off, whatever its size.
#[derive(Debug)]
pub(crate) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl<'a> Canvas<'a> {
    /// All of it.
    pub(crate) fn new(buffer: &'a mut Buffer) -> Self {
        Self { area: buffer.area, buffer }
    }

    pub(crate) fn width(&self) -> u16 {
        self.area.width
    }

    pub(crate) fn height(&self) -> u16 {
        self.area.height
    }

    /// The part that begins there and is so large, or as large as can be.
    pub(crate) fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Canvas<'_> {
        let (x, y) = (x.min(self.area.width), y.min(self.area.height));
        let (width, height) = (width.min(self.area.width - x), height.min(self.area.height - y));
        Canvas { buffer: self.buffer, area: Rect { x: self.area.x + x, y: self.area.y + y, width, height } }
    }

    /// Writes a text in one line, and tells where it ends.
    pub(crate) fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        if x >= self.area.width || y >= self.area.height {
            return x;
        }
        let width = usize::from(self.area.width - x);
        let (end, _) = self.buffer.set_stringn(self.area.x + x, self.area.y + y, text, width, style);
        end - self.area.x
    }

    /// Writes a text with its end at `x`.
    pub(crate) fn put_right(&mut self, x: u16, y: u16, text: &str, style: Style) {
        self.put(x.saturating_sub(width(text)), y, text, style);
    }

    /// Changes the style of a line.
    pub(crate) fn restyle(&mut self, y: u16, style: Style) {
        let line = self.part(0, y, u16::MAX, 1).area;
        self.buffer.set_style(line, style);
    }

    /// Makes it blank.
    pub(crate) fn clear(&mut self) {
        for position in self.area.positions() {
            self.buffer[position].reset();
        }
    }
}

/// Cells that a text takes.
pub(crate) fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// The text, cut off with `…` if it takes more cells than these.
pub(crate) fn shorten(text: &str, cells: u16) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        short.push(character);
        if width(&short) >= cells {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// What is in a buffer, as lines of text.
pub(crate) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // Wide characters have the cells behind them, too.
            x += width(symbol).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 2));
        let mut canvas = Canvas::new(&mut buffer);
        assert_eq!(canvas.put(4, 0, "abc", Style::new()), 6);
        assert_eq!(canvas.put(6, 0, "x", Style::new()), 6);
        canvas.put(0, 2, "x", Style::new());
        canvas.put_right(3, 1, "日本", Style::new());
        canvas.restyle(7, Style::new());
        let mut part = canvas.part(1, 1, 50, 50);
        assert_eq!((part.width(), part.height()), (5, 1));
        part.put(4, 0, "yz", Style::new());
        assert_eq!(text(&buffer), "    ab\n日本 y\n");
        Canvas::new(&mut buffer).part(0, 0, 5, 1).clear();
        assert_eq!(text(&buffer), "     b\n日本 y\n");
        let mut canvas = Canvas::new(&mut buffer);
        let mut part = canvas.part(9, 9, 9, 9);
        part.put(0, 0, "x", Style::new());
        part.clear();
        assert_eq!((part.width(), part.height()), (0, 0));
    }

    #[test]
    fn names_are_shortened() {
        let table = [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("abc", 1, "…"),
            ("abc", 0, "…"),
            ("", 0, ""),
        ];
        for (text, cells, expected) in table {
            assert_eq!(shorten(text, cells), expected, "{text} in {cells}");
        }
    }
}
