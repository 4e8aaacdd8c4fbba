// SPDX-License-Identifier: Apache-2.0

//! How far the demo is, on standard error.

use std::io::{self, Write as _};
use std::time::Duration;

use nixl_telemetry_traffic::workload::Progress;

use crate::common::human;
use crate::common::terminal::{Stream, is_terminal};

/// How often a line is written where nobody watches it being redrawn.
const LINES_EVERY: Duration = Duration::from_secs(2);
const BAR: usize = 12;
/// What surely fits into a line, so that it can be drawn over.
const WIDTH: usize = 78;

/// One line that is redrawn on a terminal, and lines now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Line {
    terminal: bool,
    limit: Option<Duration>,
    told: Duration,
}

impl Line {
    /// For a run that ends after this time at the latest.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { terminal: is_terminal(Stream::Err), limit, told: Duration::ZERO }
    }

    /// Shows how far the run is, and more that is known about it.
    pub(crate) fn show(&mut self, progress: &Progress, more: &str) {
        let text = text(progress, self.limit, more);
        // There is nowhere to report a failure of this.
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        } else if progress.elapsed >= self.told + LINES_EVERY {
            self.told = progress.elapsed;
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// The line goes away, also if the run failed.
impl Drop for Line {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn text(progress: &Progress, limit: Option<Duration>, more: &str) -> String {
    let rate = human::rate(progress.bytes, progress.elapsed);
    let done = human::count(progress.done);
    format!("{} {done} transfers  {rate}{more}", bar(fraction(progress, limit))).chars().take(WIDTH).collect()
}

/// How much of the transfers or of the time is over, whichever is nearer to its end.
fn fraction(progress: &Progress, limit: Option<Duration>) -> f64 {
    let of_transfers = progress.done as f64 / progress.total.max(1) as f64;
    let of_time = limit.map_or(0.0, |limit| progress.elapsed.as_secs_f64() / limit.as_secs_f64());
    of_transfers.max(of_time).min(1.0)
}

fn bar(fraction: f64) -> String {
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
