// SPDX-License-Identifier: Apache-2.0

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Lines one call site may write within [`WINDOW`].
pub const BURST: u32 = 5;
/// The time after which a call site's budget is whole again.
pub const WINDOW: Duration = Duration::from_secs(30);

/// The budget of one call site.
///
/// There is no lock in it: in a forked child one that another thread held would be held forever.
#[derive(Debug)]
pub struct Site {
    /// When the window began, in milliseconds since whatever the caller counts from, and behind that, in [`LINES`] bits, how
    /// many lines were written in it. 0 before the first.
    window: AtomicU64,
    left_out: AtomicU64,
}

/// Bits for the lines of a window.
const LINES: u32 = 8;
const _: () = assert!(BURST < 1 << LINES);

impl Site {
    /// A site with its whole budget.
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written now, by a clock that never goes back; if so, how many were left out before it.
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let admitted = self.window.fetch_update(Relaxed, Relaxed, |window| {
            let (began, written) = (window >> LINES, window & ((1 << LINES) - 1));
            if written == 0 || u128::from(now.saturating_sub(began)) >= WINDOW.as_millis() {
                return Some(now << LINES | 1);
            }
            (written < u64::from(BURST)).then_some(window + 1)
        });
        if admitted.is_err() {
            self.left_out.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Relaxed))
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rest_is_counted() {
        let site = Site::new();
        let start = Duration::from_secs(1);
        for _ in 0..BURST {
            assert_eq!(site.admit(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(site.admit(start + WINDOW / 2), None);
        }
        assert_eq!(site.admit(start + WINDOW), Some(1000));
        assert_eq!(site.admit(start + WINDOW), Some(0));
    }
}
