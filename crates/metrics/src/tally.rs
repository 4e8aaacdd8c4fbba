// SPDX-License-Identifier: Apache-2.0

use std::ops::RangeInclusive;
use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind, Total};

use crate::exponential::{self, bucket};
use crate::{Buckets, KINDS, Named, TIMES};

/// Events folded into numbers that have not been published yet: one thread's own, so that folding is plain arithmetic.
///
/// Sums go on from zero when they pass 2<sup>64</sup>.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Of what was folded one by one, by kind.
    sums: [u64; KINDS],
    last: [u64; KINDS],
    /// Bit by kind: there is a last value.
    seen: u32,
    /// Of what came as totals, by kind.
    totals: [u64; KINDS],
    times: [Times; TIMES.len()],
    pub(crate) named: Vec<Named>,
    pub(crate) events: u64,
    pub(crate) aggregated: u64,
    pub(crate) dropped: u64,
}

/// The distribution of one kind.
#[derive(Clone, Debug)]
struct Times {
    buckets: Arc<Buckets>,
    classic: Box<[u64]>,
    zeros: u64,
    exponential: Box<[u64; exponential::BUCKETS]>,
    /// Where the exponential buckets are not all zero.
    lowest: usize,
    highest: usize,
}

impl Tally {
    /// A tally of nothing.
    pub fn new(buckets: Arc<Buckets>) -> Self {
        let times = TIMES.map(|_| Times::new(Arc::clone(&buckets)));
        let none = [0; KINDS];
        let (named, events, aggregated, dropped) = (Vec::new(), 0, 0, 0);
        Self { sums: none, last: none, seen: 0, totals: none, times, named, events, aggregated, dropped }
    }

    /// Adds an event.
    #[inline(always)]
    pub fn fold(&mut self, event: &Event<'_>) {
        self.events += 1;
        match event.kind() {
            Some(kind) if (kind.code() as usize) < KINDS => {
                let (at, value) = (kind.code() as usize, event.value());
                self.sums[at] = self.sums[at].wrapping_add(value);
                self.last[at] = value;
                self.seen |= 1 << at;
                if kind == TIMES[0] {
                    self.times[0].fold(value);
                } else if kind == TIMES[1] {
                    self.times[1].fold(value);
                }
            }
            _ => self.fold_named(event),
        }
    }

    /// Adds events of which only count and sum are left. They change counters, but neither last values nor distributions.
    pub fn fold_total(&mut self, total: &Total) {
        self.aggregated = self.aggregated.wrapping_add(total.count);
        match self.totals.get_mut(total.kind.code() as usize) {
            Some(sum) => *sum = sum.wrapping_add(low_half(total.sum)),
            None => self.dropped = self.dropped.wrapping_add(total.count),
        }
    }

    /// Whether nothing has been added since it was last emptied.
    pub const fn is_empty(&self) -> bool {
        self.events == 0 && self.aggregated == 0
    }

    /// By how much the counter of a kind grows.
    pub fn sum(&self, kind: Kind) -> u64 {
        let at = kind.code() as usize;
        self.sums.get(at).map_or(0, |sum| sum.wrapping_add(self.totals[at]))
    }

    /// The last value of a kind; `None` if there was none.
    pub fn last(&self, kind: Kind) -> Option<u64> {
        let at = kind.code() as usize;
        (at < KINDS && self.seen >> at & 1 == 1).then(|| self.last[at])
    }

    /// The distribution of a kind in classic buckets, not cumulative; `None` for a kind that has none.
    pub fn classic(&self, kind: Kind) -> Option<&[u64]> {
        TIMES.iter().position(|time| *time == kind).map(|at| &*self.times[at].classic)
    }

    /// The sum of the values in the distribution of a kind.
    pub fn distributed(&self, kind: Kind) -> u64 {
        self.sums.get(kind.code() as usize).copied().unwrap_or(0)
    }

    /// Values of a kind that were 0.
    pub fn zeros(&self, kind: Kind) -> u64 {
        TIMES.iter().position(|time| *time == kind).map_or(0, |at| self.times[at].zeros)
    }

    /// The distribution of a kind in [`exponential`] buckets that are not empty: which ones, and how many values.
    pub fn exponential(&self, kind: Kind) -> impl Iterator<Item = (usize, u64)> {
        let times = TIMES.iter().position(|time| *time == kind).map(|at| &self.times[at]);
        times.into_iter().flat_map(|times| {
            let counts = times.touched().map(|bucket| (bucket, times.exponential[bucket]));
            counts.filter(|(_, count)| *count > 0)
        })
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.sums = [0; KINDS];
        self.totals = [0; KINDS];
        self.seen = 0;
        self.times.iter_mut().for_each(Times::clear);
        self.named.clear();
        (self.events, self.aggregated, self.dropped) = (0, 0, 0);
    }

    #[cold]
    #[inline(never)]
    fn fold_named(&mut self, event: &Event<'_>) {
        self.dropped += Named::add(&mut self.named, &event.name().to_string(), 1, event.value());
    }
}

/// All that a counter of 64 bits has room for.
#[expect(clippy::cast_possible_truncation, reason = "what is above 64 bits is to go")]
const fn low_half(sum: u128) -> u64 {
    sum as u64
}

impl Times {
    fn new(buckets: Arc<Buckets>) -> Self {
        let classic = vec![0; buckets.count()].into();
        let exponential = Box::new([0; exponential::BUCKETS]);
        Self { buckets, classic, zeros: 0, exponential, lowest: usize::MAX, highest: 0 }
    }

    #[inline(always)]
    fn fold(&mut self, value: u64) {
        self.classic[self.buckets.find(value)] += 1;
        if value == 0 {
            self.zeros += 1;
            return;
        }
        let bucket = bucket(value);
        self.exponential[bucket] += 1;
        self.lowest = self.lowest.min(bucket);
        self.highest = self.highest.max(bucket);
    }

    /// Empty if there is none: then the lowest is above the highest.
    fn touched(&self) -> RangeInclusive<usize> {
        self.lowest..=self.highest
    }

    fn clear(&mut self) {
        self.classic.fill(0);
        self.zeros = 0;
        if !self.touched().is_empty() {
            self.exponential[self.lowest..=self.highest].fill(0);
        }
        (self.lowest, self.highest) = (usize::MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_numbers() {
        let mut tally = Tally::new(Arc::new(Buckets::default()));
        assert!(tally.is_empty());
        for event in [
            Event::new(Kind::TX_BYTES, u64::MAX),
            Event::new(Kind::TX_BYTES, 3),
            Event::new(Kind::XFER_TIME, 0),
            Event::new(Kind::XFER_TIME, 11),
            Event::backend("ucx_retries", 4),
            Event::backend("ucx_retries", 5),
            Event::new(Kind::from_code(77), 1),
        ] {
            tally.fold(&event);
        }
        tally.fold_total(&Total { kind: Kind::XFER_TIME, count: 9, sum: 1000 });
        assert_eq!((tally.sum(Kind::TX_BYTES), tally.last(Kind::TX_BYTES)), (2, Some(3)), "it goes on from zero");
        assert_eq!((tally.sum(Kind::RX_BYTES), tally.last(Kind::RX_BYTES)), (0, None));
        assert_eq!((tally.sum(Kind::XFER_TIME), tally.distributed(Kind::XFER_TIME)), (1011, 11));
        assert_eq!(tally.last(Kind::XFER_TIME), Some(11));
        assert_eq!(tally.classic(Kind::XFER_TIME).unwrap()[..3], [1, 1, 0]);
        assert_eq!((tally.zeros(Kind::XFER_TIME), tally.classic(Kind::TX_BYTES)), (1, None));
        assert_eq!(tally.exponential(Kind::XFER_TIME).collect::<Vec<_>>(), [(bucket(11), 1)]);
        let named: Vec<(&str, u64)> = tally.named.iter().map(|named| (&*named.name, named.sum)).collect();
        assert_eq!(named, [("ucx_retries", 9), ("unknown_event_77", 1)]);
        assert_eq!((tally.events, tally.aggregated, tally.dropped), (7, 9, 0));

        tally.clear();
        assert!(tally.is_empty() && tally.named.is_empty());
        assert_eq!(
            (tally.sum(Kind::XFER_TIME), tally.last(Kind::XFER_TIME), tally.zeros(Kind::XFER_TIME)),
            (0, None, 0)
        );
        assert!(tally.classic(Kind::XFER_TIME).unwrap().iter().all(|count| *count == 0));
        assert_eq!(tally.exponential(Kind::XFER_TIME).count(), 0);
    }

    #[test]
    fn names_are_limited() {
        let mut tally = Tally::new(Arc::new(Buckets::default()));
        let long = "x".repeat(129);
        tally.fold(&Event::backend(&long, 1));
        for i in 0..100 {
            tally.fold(&Event::backend(&format!("name_{i}"), 1));
        }
        assert_eq!((tally.named.len(), tally.dropped, tally.events), (64, 37, 101));
    }
}
