// SPDX-License-Identifier: Apache-2.0

//! The metrics of an agent while they change: one thread adds, any number of others look.
//!
//! The numbers are words under a sequence lock: a snapshot holds whole batches, and the one who adds never waits. Adding
//! takes a fraction of a microsecond.

use std::array;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use nixl_telemetry_event::Kind;

#[cfg(test)]
use crate::exponential;
use crate::words::{Changing, Reading, Words};
use crate::{Account, Buckets, KINDS, Named, Snapshot, TIMES, Tally};

/// The metrics of an agent, for whoever looks.
#[derive(Debug)]
pub struct Live {
    buckets: Arc<Buckets>,
    words: Words,
    places: Places,
    /// Beside the sequence lock, since they are not words. Who adds only tries the lock, and keeps what it has for the next
    /// batch if somebody looks at this moment.
    named: Mutex<Vec<Named>>,
    created_us: u64,
}

/// The one who adds to what is live.
#[derive(Debug)]
pub struct Publisher {
    live: Arc<Live>,
    /// Names that found the lock taken.
    waiting: Vec<Named>,
}

/// Where in the words things lie.
#[derive(Debug)]
struct Places {
    /// Of each histogram: its sum, and its cells.
    histograms: [(usize, Range<usize>); TIMES.len()],
    account: usize,
}

const GAUGES: usize = KINDS;
const HISTOGRAMS: usize = 2 * KINDS;
/// Events, aggregated, dropped, batches, last success.
const ACCOUNT: usize = 5;

impl Live {
    /// Metrics of nothing yet, and the one who may add to them. Counting begins at `created_us`, in microseconds since the
    /// Unix epoch.
    pub fn new(buckets: Arc<Buckets>, created_us: u64) -> (Publisher, Arc<Self>) {
        let cells = buckets.cells();
        let histograms = array::from_fn(|i| {
            let sum = HISTOGRAMS + i * (1 + cells);
            (sum, sum + 1..sum + 1 + cells)
        });
        let account = HISTOGRAMS + TIMES.len() * (1 + cells);
        let (places, end) = (Places { histograms, account }, account + ACCOUNT);
        let live = Self { buckets, words: Words::new(end), places, named: Mutex::default(), created_us };
        let live = Arc::new(live);
        (Publisher { live: Arc::clone(&live), waiting: Vec::new() }, live)
    }

    /// Copies the metrics as they are between two batches. Waits while one is being added.
    ///
    /// # Panics
    /// If the snapshot was made for another number of buckets.
    pub fn read(&self, snapshot: &mut Snapshot) {
        self.words.read(|words| self.copy(words, snapshot));
        snapshot.created_us = self.created_us;
        Named::copy(&self.named(), &mut snapshot.named);
    }

    fn copy(&self, words: Reading<'_>, snapshot: &mut Snapshot) {
        let word = |at: usize| words.get(at);
        snapshot.counters = array::from_fn(word);
        snapshot.gauges = array::from_fn(|kind| word(GAUGES + kind));
        for (histogram, (sum, cells)) in snapshot.histograms.iter_mut().zip(&self.places.histograms) {
            histogram.clear();
            histogram.sum = word(*sum);
            let counts = cells.clone().map(word);
            let cells = self.buckets.in_buckets().iter().zip(counts).filter(|(_, count)| *count > 0);
            cells.for_each(|(cell, count)| histogram.add(*cell, count));
        }
        let at = self.places.account;
        let [events, aggregated, dropped, batches, last_success_us] = array::from_fn(|i| word(at + i));
        let Account { failed, queued, .. } = Account::default();
        snapshot.account = Account { events, aggregated, dropped, failed, queued, batches, last_success_us };
    }

    fn named(&self) -> MutexGuard<'_, Vec<Named>> {
        // Adding to a list of sums leaves nothing half done.
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_named(&self) -> Option<MutexGuard<'_, Vec<Named>>> {
        match self.named.try_lock() {
            Ok(named) => Some(named),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Publisher {
    /// Adds a batch and empties it. `now_us` is the time, in microseconds since the Unix epoch.
    ///
    /// # Panics
    /// If the tally was made for other buckets.
    pub fn publish(&mut self, tally: &mut Tally, now_us: u64) {
        let Self { live, waiting } = self;
        assert!(tally.has_buckets(&live.buckets), "the tally has other buckets");
        waiting.append(&mut tally.named);
        if !waiting.is_empty()
            && let Some(mut named) = live.try_named()
        {
            tally.dropped += Named::move_all(waiting, &mut named);
        }
        live.words.change(|words| add(&live.places, words, tally, now_us));
        tally.clear();
    }

    /// Adds the names that found somebody looking, and waits until he has looked; for who has nothing more to publish.
    pub fn finish(&mut self) {
        let Self { live, waiting } = self;
        if waiting.is_empty() {
            return;
        }
        let dropped = Named::move_all(waiting, &mut live.named());
        live.words.change(|words| words.add(live.places.account + 2, dropped));
    }

    /// What is added to.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

fn add(places: &Places, words: Changing<'_>, tally: &Tally, now_us: u64) {
    for kind in Kind::ALL {
        let at = kind.code() as usize;
        words.add(at, tally.sum(kind));
        words.set(GAUGES + at, tally.last(kind));
    }
    for (kind, (sum, _)) in TIMES.into_iter().zip(&places.histograms) {
        words.add(*sum, tally.distributed(kind));
    }
    for (cell, counts) in tally.cells() {
        for ((_, cells), count) in places.histograms.iter().zip(counts) {
            if count > 0 {
                words.add(cells.start + cell, count);
            }
        }
    }
    let counts = [tally.events, tally.aggregated, tally.dropped, 1];
    counts.into_iter().enumerate().for_each(|(i, count)| words.add(places.account + i, count));
    words.set(places.account + 4, now_us);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nixl_telemetry_event::Event;
    use proptest::prelude::*;

    use super::*;
    use crate::buckets::whole;

    fn event(kind: u32, value: u64) -> Event<'static> {
        Event::new(Kind::from_code(kind), value)
    }

    proptest! {
        #[test]
        fn a_snapshot_is_a_replay(batches in proptest::collection::vec(
            proptest::collection::vec((0_u32..24, prop_oneof![any::<u64>(), 0_u64..5000]), 0..50), 0..8,
        )) {
            let buckets = Arc::new(Buckets::default());
            let (mut publisher, live) = Live::new(Arc::clone(&buckets), 7);
            let mut tally = Tally::new(Arc::clone(&buckets));
            for batch in &batches {
                batch.iter().for_each(|(kind, value)| tally.fold(&event(*kind, *value)));
                publisher.publish(&mut tally, 9);
            }
            let mut snapshot = Snapshot::new(buckets);
            live.read(&mut snapshot);
            let events = batches.concat();
            for kind in Kind::ALL {
                let values: Vec<u64> = events.iter().filter(|(k, _)| *k == kind.code()).map(|(_, value)| *value).collect();
                let sum = values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
                prop_assert_eq!(snapshot.counter(kind), sum);
                prop_assert_eq!(snapshot.gauge(kind), values.last().copied().unwrap_or(0));
                if let Some(histogram) = snapshot.histogram(kind) {
                    prop_assert_eq!((histogram.count(), histogram.sum), (values.len() as u64, sum));
                    let below = |bound: u64| values.iter().filter(|value| **value <= bound).count() as u64;
                    let mut count = 0;
                    for (bound, in_bucket) in histogram.buckets.bounds().iter().zip(&histogram.classic) {
                        count += in_bucket;
                        prop_assert_eq!(count, below(whole(*bound)));
                    }
                    let found = histogram.exponential.as_ref().unwrap();
                    let mut count = found.zeros;
                    for (bucket, in_bucket) in found.counts.iter().enumerate() {
                        count += in_bucket;
                        prop_assert_eq!(count, below(exponential::upper_bound(bucket)));
                    }
                }
            }
            let unknown: u64 = events.iter().filter(|(kind, _)| *kind > 20).fold(0, |sum, (_, value)| sum.wrapping_add(*value));
            prop_assert_eq!(snapshot.named.iter().fold(0, |sum: u64, named| sum.wrapping_add(named.sum)), unknown);
            let expected = Account {
                events: events.len() as u64,
                batches: batches.len() as u64,
                last_success_us: if batches.is_empty() { 0 } else { 9 },
                ..Account::default()
            };
            prop_assert_eq!((snapshot.account, snapshot.created_us), (expected, 7));
        }
    }

    /// Readers at full speed see whole batches only.
    #[test]
    fn batches_are_seen_whole() {
        let buckets = Arc::new(Buckets::default());
        let (mut publisher, live) = Live::new(Arc::clone(&buckets), 0);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut snapshot = Snapshot::new(Arc::clone(&buckets));
                        let (mut looks, mut last) = (0_u64, 0);
                        while last < 20_000 {
                            live.read(&mut snapshot);
                            looks += 1;
                            let batches = snapshot.account.batches;
                            assert!(batches >= last, "it goes back from {last} to {batches}");
                            last = batches;
                            assert_eq!(snapshot.counter(Kind::TX_BYTES), 10 * batches);
                            assert_eq!(snapshot.counter(Kind::XFER_TIME), 3 * batches);
                            assert_eq!(snapshot.gauge(Kind::XFER_TIME), batches.min(2));
                            let histogram = snapshot.histogram(Kind::XFER_TIME).unwrap();
                            assert_eq!((histogram.count(), histogram.sum), (2 * batches, 3 * batches));
                            let found = histogram.exponential.as_ref().unwrap();
                            assert_eq!(found.counts.iter().sum::<u64>(), 2 * batches);
                        }
                        looks
                    })
                })
                .collect();
            let mut tally = Tally::new(Arc::clone(&buckets));
            for batch in 0..20_000_u64 {
                tally.fold(&Event::new(Kind::TX_BYTES, 10));
                tally.fold(&Event::new(Kind::XFER_TIME, if batch == 0 { 2 } else { 1 }));
                tally.fold(&Event::new(Kind::XFER_TIME, if batch == 0 { 1 } else { 2 }));
                publisher.publish(&mut tally, 1);
            }
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
    }

    #[test]
    fn names_wait_while_somebody_looks() {
        let buckets = Arc::new(Buckets::default());
        let (mut publisher, live) = Live::new(Arc::clone(&buckets), 0);
        let mut tally = Tally::new(Arc::clone(&buckets));
        let looking = live.named();
        for _ in 0..3 {
            tally.fold(&Event::backend("ucx_retries", 2));
            publisher.publish(&mut tally, 1);
        }
        drop(looking);
        let mut snapshot = Snapshot::new(buckets);
        live.read(&mut snapshot);
        assert!(snapshot.named.is_empty());
        publisher.publish(&mut tally, 1);
        live.read(&mut snapshot);
        assert_eq!(snapshot.named, [Named { name: "ucx_retries".into(), events: 3, sum: 6 }]);
        // Nor are those lost that wait when nothing more comes.
        let looking = live.named();
        for i in 0..Named::MOST {
            tally.fold(&Event::backend(&format!("name_{i}"), 1));
        }
        publisher.publish(&mut tally, 1);
        drop(looking);
        publisher.finish();
        live.read(&mut snapshot);
        assert_eq!((snapshot.named.len(), snapshot.account.dropped), (Named::MOST, 1));
    }

    #[test]
    fn names_do_not_wait_for_one_who_panicked() {
        let buckets = Arc::new(Buckets::default());
        let (mut publisher, live) = Live::new(Arc::clone(&buckets), 0);
        let panics = || {
            let _looking = live.named();
            panic!("on purpose");
        };
        assert!(thread::scope(|scope| scope.spawn(panics).join()).is_err());
        let mut tally = Tally::new(Arc::clone(&buckets));
        tally.fold(&Event::backend("ucx_retries", 2));
        publisher.publish(&mut tally, 1);
        let mut snapshot = Snapshot::new(buckets);
        live.read(&mut snapshot);
        assert_eq!(snapshot.named, [Named { name: "ucx_retries".into(), events: 1, sum: 2 }]);
    }
}
