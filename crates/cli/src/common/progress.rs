// SPDX-License-Identifier: Apache-2.0

//! How far something is, on standard error.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::common::terminal::{Stream, is_terminal};

/// How often the line is redrawn on a terminal.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where nobody watches it being redrawn.
const LINES_EVERY: Duration = Duration::from_secs(2);
const BAR: usize = 12;
/// What surely fits into a line, so that it can be drawn over.
const WIDTH: usize = 78;

/// One line that is redrawn on a terminal, and lines now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Line {
    terminal: bool,
    next: Duration,
}

impl Line {
    pub(crate) fn new() -> Self {
        let terminal = is_terminal(Stream::Err);
        Self { terminal, next: if terminal { Duration::ZERO } else { LINES_EVERY } }
    }

    /// Shows this text, so long after the beginning, if it is time to.
    pub(crate) fn show(&mut self, elapsed: Duration, text: impl FnOnce() -> String) {
        if elapsed < self.next {
            return;
        }
        let text: String = text().chars().take(WIDTH).collect();
        // There is nowhere to report a failure of this.
        if self.terminal {
            self.next = elapsed + DRAWN_EVERY;
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        } else {
            self.next = elapsed + LINES_EVERY;
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// The line goes away, also if what it is about failed.
impl Drop for Line {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Of what there is to do, this part as a bar.
pub(crate) fn bar(fraction: f64) -> String {
    let full = (0..BAR).filter(|&cell| (cell as f64) < fraction * BAR as f64).count();
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        let table = [(0.0, 0), (0.01, 1), (0.5, 6), (0.96, 12), (1.0, 12)];
        for (fraction, full) in table {
            assert_eq!(bar(fraction), format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full)), "{fraction}");
        }
    }
}
