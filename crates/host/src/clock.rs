// SPDX-License-Identifier: Apache-2.0

//! The clocks: one that tells the time, as exactly as asked for, and one that never goes back.

use std::sync::Arc;
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

impl Clock {
    /// The clock somebody chose; the precise one where a coarse one cannot be had.
    pub(crate) fn new(timestamps: Timestamps) -> Self {
        match timestamps {
            Timestamps::Precise => Self::Precise,
            Timestamps::Coarse => Ticker::shared().map_or(Self::Precise, Self::Coarse),
            Timestamps::Batch => Self::Batch,
        }
    }

    /// Microseconds since the Unix epoch; 0 for the time of the batch.
    #[inline]
    pub(crate) fn now_us(&self) -> u64 {
        match self {
            Self::Precise => wall_us(),
            Self::Coarse(ticker) => ticker.now_us(),
            Self::Batch => 0,
        }
    }
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
