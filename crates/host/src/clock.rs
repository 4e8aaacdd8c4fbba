// SPDX-License-Identifier: Apache-2.0

//! The two clocks: one that tells the time and one that never goes back.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

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
