// SPDX-License-Identifier: Apache-2.0

//! The help that lies over the screen.

use super::{PLAIN, STRONG};
use crate::top::canvas::Canvas;
use crate::top::ui::KEYS;

/// What the columns are.
const COLUMNS: [(&str, &str); 8] = [
    ("XFER/s", "completed transfers per second, over a refresh, a second at least"),
    ("RX/s TX/s", "bytes per second that the agent's reads brought, and its writes sent"),
    ("transfer", "of the last minute: time from the post until completion was seen"),
    ("post", "of the last minute: time until the call that posts returned"),
    ("ERRORS", "all that was seen, with what waited in the file; red: some are new"),
    ("DROPPED", "events for which the agent had no room"),
    ("LOST", "events overwritten before they were read here; + for at least"),
    ("RING", "unconsumed events, of those there is room for; FULL: new ones are refused"),
];

/// Where the explanations begin.
const TEXTS: u16 = 14;

/// As wide as the longest line.
const WIDTH: u16 = 94;

pub(crate) fn draw(canvas: &mut Canvas<'_>) {
    let lines: Vec<(&str, &str)> = KEYS.into_iter().chain([("", "")]).chain(COLUMNS).collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX) + 2;
    let (x, y) = (canvas.width().saturating_sub(WIDTH) / 2, canvas.height().saturating_sub(height) / 2);
    let mut part = canvas.part(x, y, WIDTH, height);
    part.clear();
    let (width, height) = (part.width(), part.height());
    let rule = "─".repeat(usize::from(width.saturating_sub(2)));
    part.put(0, 0, &format!("┌{rule}┐"), PLAIN);
    for y in 1..height.saturating_sub(1) {
        part.put(0, y, "│", PLAIN);
        part.put_right(width, y, "│", PLAIN);
    }
    part.put(0, height - 1, &format!("└{rule}┘"), PLAIN);
    let mut inner = part.part(2, 1, width.saturating_sub(4), height.saturating_sub(2));
    for (y, (key, text)) in (0..).zip(lines) {
        inner.put(0, y, key, STRONG);
        inner.put(TEXTS, y, text, PLAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::canvas;

    #[test]
    fn every_line_fits() {
        for (key, text) in KEYS.into_iter().chain(COLUMNS) {
            assert!(canvas::width(key) < TEXTS, "{key}");
            assert!(canvas::width(text) + TEXTS + 4 <= WIDTH, "{text}: {}", canvas::width(text) + TEXTS + 4);
        }
    }
}
