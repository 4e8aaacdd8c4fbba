// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind, Total};

use crate::buckets::Places;
use crate::{Buckets, KINDS, Named, TIMES};

/// Events folded into numbers that have not been published yet: one thread's own, so that folding is plain arithmetic.
///
/// Sums go on from zero when they pass 2<sup>64</sup>.
#[derive(Clone)]
pub struct Tally {
    buckets: Arc<Buckets>,
    /// Of what was folded one by one, by kind.
    sums: [u64; KINDS],
    /// Never forgotten.
    last: [u64; KINDS],
    /// Of what came as totals, by kind.
    totals: [u64; KINDS],
    /// The way to a cell, and how many values of each of [`TIMES`] are in it.
    places: Arc<Places>,
    cells: Box<[[u64; TIMES.len()]]>,
    pub(crate) named: Vec<Named>,
    pub(crate) events: u64,
    pub(crate) aggregated: u64,
    pub(crate) dropped: u64,
}

impl Tally {
    /// A tally of nothing.
    pub fn new(buckets: Arc<Buckets>) -> Self {
        let (places, cells) = (Arc::clone(&buckets.places), vec![[0; TIMES.len()]; buckets.cells()].into());
        let none = [0; KINDS];
        let (named, events, aggregated, dropped) = (Vec::new(), 0, 0, 0);
        Self { buckets, sums: none, last: none, totals: none, places, cells, named, events, aggregated, dropped }
    }

    /// Adds an event.
    pub fn fold(&mut self, event: &Event<'_>) {
        if self.fold_known(event) {
            return;
        }
        self.events += 1;
        let value = event.value();
        match event.kind().map(|kind| kind.code() as usize) {
            // A time whose cell has to be searched for.
            Some(kind) if kind < KINDS => {
                self.add(kind, value);
                self.cells[self.buckets.cell(value)][kind & 1] += 1;
            }
            _ => self.dropped += Named::add(&mut self.named, &event.name().to_string(), 1, value),
        }
    }

    /// Adds an event if that is a matter of two dozen instructions, none of which can panic; if not, it is left alone, and
    /// this returns false.
    #[inline(always)]
    pub fn fold_known(&mut self, event: &Event<'_>) -> bool {
        const FIRST: usize = TIMES[0].code() as usize;
        const { assert!(TIMES[1].code() as usize == FIRST + 1 && FIRST.is_multiple_of(2)) };
        let kind = match event.kind() {
            Some(kind) if (kind.code() as usize) < KINDS => kind.code() as usize,
            _ => return false,
        };
        if kind & !1 == FIRST {
            match self.places.cell(event.value()).and_then(|cell| self.cells.get_mut(cell)) {
                Some(counts) => counts[kind & 1] += 1,
                None => return false,
            }
        }
        self.events += 1;
        self.add(kind, event.value());
        true
    }

    #[inline(always)]
    fn add(&mut self, kind: usize, value: u64) {
        self.sums[kind] = self.sums[kind].wrapping_add(value);
        self.last[kind] = value;
    }

    /// Adds events of which only count and sum are left. They change counters, but neither last values nor distributions.
    pub fn fold_total(&mut self, total: &Total) {
        self.aggregated = self.aggregated.wrapping_add(total.count);
        match self.totals.get_mut(total.kind.code() as usize) {
            Some(sum) => *sum = sum.wrapping_add(low_half(total.sum)),
            None => {
                let name = total.kind.to_string();
                let dropped = Named::add(&mut self.named, &name, total.count, low_half(total.sum));
                self.dropped = self.dropped.wrapping_add(dropped);
            }
        }
    }

    pub(crate) fn has_buckets(&self, buckets: &Arc<Buckets>) -> bool {
        Arc::ptr_eq(&self.buckets, buckets) || self.buckets == *buckets
    }

    /// The number of events since it was last emptied, totals not among them.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The number of events that came as totals since then.
    pub const fn aggregated(&self) -> u64 {
        self.aggregated
    }

    /// Of all these, the number of events that are in no sum: their name is one too many.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Events that have only a name, by name, in the order in which they appeared.
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// Whether nothing has been counted since it was last emptied.
    pub const fn is_empty(&self) -> bool {
        self.events == 0 && self.aggregated == 0
    }

    /// By how much the counter of a kind grows.
    pub fn sum(&self, kind: Kind) -> u64 {
        let at = kind.code() as usize;
        self.sums.get(at).map_or(0, |sum| sum.wrapping_add(self.totals[at]))
    }

    /// The last value of a kind, in this batch or an earlier one; 0 if there was none.
    pub fn last(&self, kind: Kind) -> u64 {
        self.last.get(kind.code() as usize).copied().unwrap_or(0)
    }

    /// The sum of the values in the distribution of a kind: what came as totals is not among them.
    pub fn distributed(&self, kind: Kind) -> u64 {
        self.sums.get(kind.code() as usize).copied().unwrap_or(0)
    }

    /// The distribution of a kind: how many values, of which classic bucket, and of which [`exponential`] one, if they were
    /// not 0. A bucket can come several times. Nothing for a kind that has no distribution.
    ///
    /// [`exponential`]: crate::exponential
    pub fn distribution(&self, kind: Kind) -> impl Iterator<Item = (u64, usize, Option<usize>)> {
        let at = TIMES.iter().position(|time| *time == kind);
        let cells = at.into_iter().flat_map(|at| self.cells().map(move |(cell, counts)| (cell, counts[at])));
        cells.filter(|(_, count)| *count > 0).map(|(cell, count)| {
            let bucket = self.buckets.in_buckets()[cell];
            (count, usize::from(bucket.classic), bucket.exponential.map(usize::from))
        })
    }

    /// The cells that are not empty, and how many values of each of [`TIMES`] are in them.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, [u64; TIMES.len()])> {
        // Most are empty: they are passed over many at a time.
        const AT_ONCE: usize = 16;
        let chunks = self.cells.chunks(AT_ONCE).enumerate().filter(|(_, chunk)| !is_zero(chunk));
        chunks.flat_map(|(at, chunk)| {
            chunk.iter().copied().enumerate().map(move |(i, counts)| (at * AT_ONCE + i, counts))
        })
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.sums = [0; KINDS];
        self.totals = [0; KINDS];
        self.cells.fill([0; TIMES.len()]);
        self.named.clear();
        (self.events, self.aggregated, self.dropped) = (0, 0, 0);
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("sums", &self.sums).field("last", &self.last).finish_non_exhaustive()
    }
}

fn is_zero(chunk: &[[u64; TIMES.len()]]) -> bool {
    chunk.as_flattened().iter().fold(0, |any, count| any | count) == 0
}

/// All that a counter of 64 bits has room for.
#[expect(clippy::cast_possible_truncation, reason = "what is above 64 bits is to go")]
const fn low_half(sum: u128) -> u64 {
    sum as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exponential::bucket;

    #[test]
    fn events_become_numbers() {
        let mut tally = Tally::new(Arc::new(Buckets::default()));
        assert!(tally.is_empty());
        for event in [
            Event::new(Kind::TX_BYTES, u64::MAX),
            Event::new(Kind::TX_BYTES, 3),
            Event::new(Kind::XFER_TIME, 0),
            Event::new(Kind::XFER_TIME, 11),
            Event::new(Kind::XFER_POST_TIME, 26),
            Event::backend("ucx_retries", 4),
            Event::backend("ucx_retries", 5),
            Event::new(Kind::from_code(77), 1),
        ] {
            tally.fold(&event);
        }
        tally.fold_total(&Total { kind: Kind::XFER_TIME, count: 9, sum: 1000 });
        tally.fold_total(&Total { kind: Kind::from_code(77), count: 2, sum: 30 });
        assert_eq!((tally.sum(Kind::TX_BYTES), tally.last(Kind::TX_BYTES)), (2, 3), "it goes on from zero");
        assert_eq!((tally.sum(Kind::RX_BYTES), tally.last(Kind::RX_BYTES)), (0, 0));
        assert_eq!((tally.sum(Kind::XFER_TIME), tally.distributed(Kind::XFER_TIME)), (1011, 11));
        let distribution = |kind| tally.distribution(kind).collect::<Vec<_>>();
        assert_eq!(distribution(Kind::XFER_TIME), [(1, 0, None), (1, 1, Some(bucket(11)))]);
        assert_eq!(distribution(Kind::XFER_POST_TIME), [(1, 2, Some(bucket(26)))]);
        assert_eq!(distribution(Kind::TX_BYTES), []);
        let named: Vec<(&str, u64)> = tally.named().iter().map(|named| (&*named.name, named.sum)).collect();
        assert_eq!(named, [("ucx_retries", 9), ("unknown_event_77", 31)]);
        assert_eq!((tally.events(), tally.aggregated(), tally.dropped()), (8, 11, 0));

        tally.clear();
        assert!(tally.is_empty() && tally.named.is_empty());
        assert_eq!((tally.sum(Kind::XFER_TIME), tally.last(Kind::XFER_TIME)), (0, 11), "the last value stays");
        assert_eq!(tally.distribution(Kind::XFER_TIME).count(), 0);
    }

    #[test]
    fn names_are_limited() {
        let mut tally = Tally::new(Arc::new(Buckets::default()));
        let long = "x".repeat(129);
        tally.fold(&Event::backend(&long, 1));
        for i in 0..100 {
            tally.fold(&Event::backend(&format!("name_{i}"), 1));
        }
        assert_eq!((tally.named.len(), tally.dropped), (64, 37));
    }
}
