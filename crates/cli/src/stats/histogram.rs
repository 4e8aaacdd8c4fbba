// SPDX-License-Identifier: Apache-2.0

//! How values are distributed.

/// Counts of values in buckets whose width grows with the values: none is wider than 1/128 of what is in it.
///
/// Of all values a `u64` can have, since what is in a file is anything: hdrhistogram, which `top` uses for times of up to a day,
/// tells of the largest as one less.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// Values below twice this number have a bucket each.
const FINE: u64 = 128;
/// 2^7 is [`FINE`]; each further power of two, up to 2^63, has as many buckets.
const BUCKETS: usize = (64 - 7 + 1) * 128;

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The smallest value that so many percent of the values do not exceed, or a little more; 0 if there are no values.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = u128::from(self.total) * u128::from(percent);
        let mut below = 0;
        let reached = self.counts.iter().position(|count| {
            below += u128::from(*count) * 100;
            *count > 0 && below >= rank
        });
        reached.map_or(0, |bucket| last_of(bucket).min(self.max))
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    let shift = (value | FINE).ilog2() - FINE.ilog2();
    // Less than the number of buckets.
    let bucket = u64::from(shift) * FINE + (value >> shift);
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / FINE).saturating_sub(1);
    let first = bucket - shift * FINE;
    (first << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let all = (0..100_000).chain(edges).chain([u64::MAX - 1, u64::MAX]);
        for value in all {
            let last = last_of(bucket(value));
            assert!(last >= value && last - value <= value / 128, "{value} {last}");
            assert_eq!(bucket(last), bucket(value));
            if let Some(next) = last.checked_add(1) {
                assert_eq!(bucket(next), bucket(value) + 1, "{value}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(50), 0);
        (1..=200).rev().for_each(|value| histogram.add(value));
        for (percent, expected) in [(0, 1), (1, 2), (50, 100), (90, 180), (99, 198), (100, 200)] {
            assert_eq!(histogram.percentile(percent), expected, "{percent}");
        }
        let mut histogram = Histogram::new();
        (0..1000).for_each(|value| histogram.add(value * 1_000_003));
        for (percent, exact) in [(50, 499_001_497), (99, 989_002_967), (100, 999_002_997)] {
            let found = histogram.percentile(percent);
            assert!(found >= exact && found - exact <= exact / 128, "{percent}: {found}");
        }
        assert_eq!(histogram.percentile(100), 999_002_997);
    }
}
