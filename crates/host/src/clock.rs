// SPDX-License-Identifier: Apache-2.0

//! The clocks: one that tells the time, as exactly as asked for, and one that never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use crate::settings::Timestamps;
use crate::ticker::Ticker;

/// Where the times of records come from.
#[derive(Debug)]
pub(crate) enum Clock {
    Precise,
    Coarse(Arc<Ticker>),
    /// Records carry no time.
    Batch,
}

/// What no word and no time ever is.
pub(crate) const NEVER: u64 = u64::MAX;
/// Somebody may be kept so long between looking at one clock and setting the other; who sets the system's clock back
/// means more.
const MOMENT_US: u64 = 100_000;
/// The word of clocks without one. It changes only in a forked child.
static NONE: AtomicU64 = AtomicU64::new(0);

impl Clock {
    /// The clock somebody chose; the precise one where a coarse one cannot be had.
    pub(crate) fn new(timestamps: Timestamps) -> Self {
        match timestamps {
            Timestamps::Precise => Self::Precise,
            Timestamps::Coarse => Ticker::shared().map_or(Self::Precise, Self::Coarse),
            Timestamps::Batch => Self::Batch,
        }
    }

    /// A word that changes when what [`read`](Self::read) said last is not true any more.
    pub(crate) fn word(&self) -> &'static AtomicU64 {
        match self {
            Self::Coarse(_) => Ticker::word(),
            Self::Precise | Self::Batch => &NONE,
        }
    }

    /// Microseconds since the Unix epoch, 0 for the time of the batch; and what the word is for as long as that is true.
    ///
    /// It does not go back behind the time `told` last, or [`NEVER`], unless the system's clock was set.
    pub(crate) fn read(&self, told: u64) -> (u64, u64) {
        match self {
            Self::Precise => (wall_us(), NEVER),
            Self::Coarse(ticker) => {
                let (now, word) = ticker.read();
                (not_before(told, now), word)
            }
            Self::Batch => (0, NONE.load(Ordering::Relaxed)),
        }
    }
}

/// `now`, or `told` if that is a moment later: of those that see to the coarse clock at the same time, the one that
/// looked at the system's first may be the last to set it.
fn not_before(told: u64, now: u64) -> u64 {
    if told.wrapping_sub(now) < MOMENT_US { told } else { now }
}

/// In a forked child, has nobody believe any more in what a clock has said.
pub(crate) fn forget() {
    Ticker::word().store(0, Ordering::Relaxed);
    NONE.fetch_add(1, Ordering::Relaxed);
}

/// Microseconds since the Unix epoch; 0 before it.
pub(crate) fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Nanoseconds on `CLOCK_MONOTONIC`, the clock of NIXL's `startTime`.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + nanos.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_back_only_with_the_clock_of_the_system() {
        let now = wall_us();
        for told in [now, now + 1, now + MOMENT_US - 1] {
            assert_eq!(not_before(told, now), told);
        }
        for told in [0, now - 1, now + MOMENT_US, NEVER] {
            assert_eq!(not_before(told, now), now);
        }
    }
}
