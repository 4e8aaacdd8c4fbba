// SPDX-License-Identifier: Apache-2.0

//! Where things lie in a store.
//!
//! A store is an array of words of 64 bits, little-endian as are all machines NIXL runs on. The first 850 are NIXL
//! 1.5's own, schema 1, and are all NIXL knows; it reads longer files as well. What follows is this exporter's: a mark,
//! a counter that is odd while a batch is being written, and what NIXL's part has no room for.

use std::ops::Range;

use nixl_telemetry_sdk::metrics::{KINDS, Named, TIMES, exponential};

/// `NIXLMPS1`; stored last, so that a store that has it is complete.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"NIXLMPS1");
/// Schema 1 in the low half of its word, 21 slots in the high half.
pub(crate) const SCHEMA: u64 = 1 | (KINDS as u64) << 32;
/// The most bounds of a histogram.
pub(crate) const MOST_BOUNDS: usize = 32;

/// The most bytes of extra labels.
pub(crate) const MOST_LABEL_BYTES: usize = 1024;

pub(crate) const MAGIC_AT: usize = 0;
pub(crate) const SCHEMA_AT: usize = 1;
pub(crate) const PID: usize = 2;
/// `CLOCK_MONOTONIC` of the last change, in nanoseconds.
pub(crate) const HEARTBEAT: usize = 3;
pub(crate) const INSTANCE: usize = 4;
pub(crate) const BOUND_COUNT: usize = 5;
/// Texts end with a zero, so that each is a byte shorter than its place.
pub(crate) const AGENT: Range<usize> = 6..38;
pub(crate) const HOSTNAME: Range<usize> = 38..54;
pub(crate) const RANK: Range<usize> = 54..62;
pub(crate) const BOUNDS: Range<usize> = 62..94;
pub(crate) const COUNTERS: usize = 94;
pub(crate) const GAUGES: usize = COUNTERS + KINDS;
const BUCKETS: usize = GAUGES + KINDS;
pub(crate) const SUMS: usize = BUCKETS + KINDS * (MOST_BOUNDS + 1);
/// The words NIXL knows.
pub(crate) const NIXL_WORDS: usize = SUMS + KINDS;

/// The buckets of a kind: one for each bound, then that of what is above them all.
pub(crate) const fn buckets(kind: usize) -> usize {
    BUCKETS + kind * (MOST_BOUNDS + 1)
}

/// `NIXLMPT1`, the first word of what NIXL does not know.
pub(crate) const TAIL_MAGIC: u64 = u64::from_le_bytes(*b"NIXLMPT1");

pub(crate) const TAIL_MAGIC_AT: usize = NIXL_WORDS;
/// Odd while a batch is being written.
pub(crate) const SEQUENCE: usize = NIXL_WORDS + 1;
/// When counting began, in microseconds since the Unix epoch.
pub(crate) const CREATED: usize = NIXL_WORDS + 2;
/// Events, aggregated, dropped, batches, time of the last batch in microseconds since the Unix epoch.
pub(crate) const ACCOUNT: Range<usize> = NIXL_WORDS + 3..NIXL_WORDS + 8;
/// Names that are in use.
pub(crate) const NAME_COUNT: usize = NIXL_WORDS + 8;
/// Extra labels: name, zero, value, zero, and so on.
pub(crate) const LABELS: Range<usize> = NIXL_WORDS + 9..NIXL_WORDS + 9 + MOST_LABEL_BYTES / 8;
/// All words but those of names and exponential histograms.
pub(crate) const FIXED_WORDS: usize = LABELS.end;
/// A name, the events of that name, the sum of their values.
const NAME_WORDS: usize = Named::LONGEST.div_ceil(8) + 1 + 2;
pub(crate) const EXPONENTIAL: usize = FIXED_WORDS + Named::MOST * NAME_WORDS;
/// All words of a store of this exporter.
pub(crate) const WORDS: usize = EXPONENTIAL + TIMES.len() * (1 + exponential::BUCKETS);

/// The place of a name: its text, then its events and their sum.
pub(crate) const fn name(number: usize) -> Range<usize> {
    let start = FIXED_WORDS + number * NAME_WORDS;
    start..start + NAME_WORDS
}

/// Where the exponential histogram of one of [`TIMES`] begins: zeros, then buckets.
pub(crate) const fn exponential(time: usize) -> usize {
    EXPONENTIAL + time * (1 + exponential::BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nixl_s_part_is_where_nixl_has_it() {
        assert_eq!(MAGIC, 0x3153_504d_4c58_494e);
        let bytes =
            [AGENT.start, HOSTNAME.start, RANK.start, BOUNDS.start, COUNTERS, GAUGES, BUCKETS, SUMS, NIXL_WORDS];
        assert_eq!(bytes.map(|word| word * 8), [48, 304, 432, 496, 752, 920, 1088, 6632, 6800]);
        assert_eq!((AGENT.len() * 8, HOSTNAME.len() * 8, RANK.len() * 8, BOUNDS.len()), (256, 128, 64, 32));
        assert_eq!((buckets(6) * 8, buckets(7) * 8), (1088 + 6 * 33 * 8, 1088 + 7 * 33 * 8));
    }

    #[test]
    fn nothing_overlaps_behind_it() {
        assert_eq!((ACCOUNT.start, ACCOUNT.end, LABELS.start), (CREATED + 1, NAME_COUNT, NAME_COUNT + 1));
        assert_eq!(LABELS.len() * 8, 1024);
        assert_eq!((name(0).start, name(Named::MOST - 1).end), (LABELS.end, exponential(0)));
        assert_eq!(exponential(1) + 1 + exponential::BUCKETS, WORDS);
        const { assert!((NAME_WORDS - 2) * 8 > Named::LONGEST) };
    }
}
