// SPDX-License-Identifier: Apache-2.0

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines one call site may write within [`WINDOW`].
pub const BURST: u32 = 5;
/// The time after which a call site's budget is whole again.
pub const WINDOW: Duration = Duration::from_secs(30);

/// The budget of one call site.
#[derive(Debug)]
pub struct Site {
    // A lock is fine here: whoever gets this far is about to make a system call.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window_start: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Site {
    /// A site with its whole budget.
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { window_start: None, written: 0, left_out: 0 }) }
    }

    /// Whether a line may be written now; if so, how many were left out before it.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = state.window_start.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW);
        if fresh {
            state.window_start = Some(now);
            state.written = 0;
        }
        if state.written == BURST {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
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
        let start = Instant::now();
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
