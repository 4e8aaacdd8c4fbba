// SPDX-License-Identifier: Apache-2.0

//! The buffer between the threads that record and the one that flushes.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Event, Kind};

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) subject: Subject,
    pub(crate) value: u64,
    pub(crate) timestamp_us: u64,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Kind(Kind),
    /// A backend event, with its whole name.
    Backend(Box<str>),
}

impl Record {
    pub(crate) fn event(&self) -> Event<'_> {
        let event = match &self.subject {
            Subject::Kind(kind) => Event::new(*kind, self.value),
            Subject::Backend(name) => Event::backend(name, self.value),
        };
        event.at(self.timestamp_us)
    }
}

/// A bounded queue. When it is full it drops the newest, and counts them.
///
/// Any thread [`offer`](Self::offer)s; one thread [`wait`](Self::wait)s and [`drain`](Self::drain)s.
#[derive(Debug)]
pub(crate) struct Staging {
    capacity: usize,
    /// So many events do not wait for the interval.
    crowd: usize,
    interval: Duration,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Of the two buffers, the one being filled; the flush thread has the other.
    records: Vec<Record>,
    /// Events that ever found room.
    accepted: u64,
    queue_full: u64,
    /// The part of `queue_full` that no drain has told yet.
    untold: u64,
    closed_drops: u64,
    shutdown_timeout: u64,
    closed: bool,
    /// Somebody asked for a flush now.
    urged: bool,
    sleep: Sleep,
}

/// What the flush thread waits for. Only a sleeper is woken, and once: waking costs a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sleep {
    #[default]
    Awake,
    UntilSomething,
    UntilDeadline,
}

/// What [`Staging::drain`] tells besides the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Events dropped for want of room since the last drain.
    pub(crate) dropped: u64,
    /// Events ever offered in time, all of which have now been drained or told as dropped.
    pub(crate) offered: u64,
}

/// The buffer's part of [`Counts`](crate::Counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StagingCounts {
    pub(crate) produced: u64,
    pub(crate) waiting: u64,
    pub(crate) queue_full: u64,
    pub(crate) closed: u64,
    pub(crate) shutdown_timeout: u64,
}

impl Staging {
    /// So many events are given their room at once; more grow it when they come, up to the capacity.
    const ROOM: usize = 1 << 16;

    pub(crate) fn new(capacity: u64, interval: Duration) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let state = State { records: Self::buffer(capacity), ..State::default() };
        Self { capacity, crowd: capacity.div_ceil(2), interval, state: Mutex::new(state), wake: Condvar::new() }
    }

    /// The other buffer, for [`drain`](Self::drain).
    pub(crate) fn second_buffer(&self) -> Vec<Record> {
        Self::buffer(self.capacity)
    }

    fn buffer(capacity: usize) -> Vec<Record> {
        Vec::with_capacity(capacity.min(Self::ROOM))
    }

    /// Takes all of `group`, which has `count` records, or none of it.
    pub(crate) fn offer(&self, count: usize, group: impl IntoIterator<Item = Record>) {
        let mut state = self.lock();
        if state.closed {
            state.closed_drops += count as u64;
            return;
        }
        // Out of memory is one more way of having no room.
        if count > self.capacity - state.records.len() || state.records.try_reserve(count).is_err() {
            state.queue_full += count as u64;
            state.untold += count as u64;
        } else {
            state.records.extend(group);
            state.accepted += count as u64;
        }
        let wake = match state.sleep {
            Sleep::Awake => false,
            Sleep::UntilSomething => true,
            Sleep::UntilDeadline => state.records.len() >= self.crowd,
        };
        if wake {
            state.sleep = Sleep::Awake;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits until it is time to drain; false if there will be nothing to drain any more.
    ///
    /// It is time when the interval has passed since this method saw something to drain, when the queue is half full,
    /// when somebody urges, and when the queue is closed.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.is_idle() && !state.closed {
            state.sleep = Sleep::UntilSomething;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let deadline = Instant::now().checked_add(self.interval);
        while !(state.closed || state.urged || state.records.len() >= self.crowd) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            state.sleep = Sleep::UntilDeadline;
            state = match left {
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.sleep = Sleep::Awake;
        !(state.closed && state.is_idle())
    }

    /// Exchanges the filled buffer for `records`, which is empty.
    pub(crate) fn drain(&self, records: &mut Vec<Record>) -> Drained {
        debug_assert!(records.is_empty());
        let mut state = self.lock();
        mem::swap(&mut state.records, records);
        state.urged = false;
        Drained { dropped: mem::take(&mut state.untold), offered: state.offered() }
    }

    /// Ends the wait for the interval. Returns [`Drained::offered`] as it would be now.
    pub(crate) fn urge(&self) -> u64 {
        let mut state = self.lock();
        state.urged = !state.is_idle();
        self.wake.notify_one();
        state.offered()
    }

    /// Takes nothing any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Drops what is left, at the end of the time for the last flush.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let left = mem::take(&mut state.records).len() as u64;
        state.shutdown_timeout += left;
        left
    }

    pub(crate) fn counts(&self) -> StagingCounts {
        let state = self.lock();
        StagingCounts {
            produced: state.offered() + state.closed_drops,
            waiting: state.records.len() as u64,
            queue_full: state.queue_full,
            closed: state.closed_drops,
            shutdown_timeout: state.shutdown_timeout,
        }
    }

    /// Nothing in here can panic half way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn offered(&self) -> u64 {
        self.accepted + self.queue_full
    }

    fn is_idle(&self) -> bool {
        self.records.is_empty() && self.untold == 0
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn staging(capacity: u64) -> Staging {
        Staging::new(capacity, Duration::from_secs(3600))
    }

    fn record(value: u64) -> Record {
        Record { subject: Subject::Kind(Kind::TX_BYTES), value, timestamp_us: 1 }
    }

    fn offer(staging: &Staging, values: &[u64]) {
        staging.offer(values.len(), values.iter().map(|value| record(*value)));
    }

    /// Asserts what the next drain gives and tells.
    fn check_drain(staging: &Staging, values: &[u64], dropped: u64) {
        let mut records = Vec::new();
        let drained = staging.drain(&mut records);
        assert_eq!(records.iter().map(|record| record.value).collect::<Vec<_>>(), values);
        assert_eq!(drained.dropped, dropped);
    }

    #[test]
    fn what_fits_is_kept_in_order_and_the_rest_is_counted() {
        let staging = staging(5);
        check_drain(&staging, &[], 0);
        offer(&staging, &[1]);
        offer(&staging, &[2, 3]);
        offer(&staging, &[4, 5, 6]);
        offer(&staging, &[]);
        offer(&staging, &[7, 8]);
        offer(&staging, &[9]);
        check_drain(&staging, &[1, 2, 3, 7, 8], 4);
        check_drain(&staging, &[], 0);
        offer(&staging, &[1, 2, 3, 4, 5]);
        offer(&staging, &[6, 7, 8, 9, 10, 11]);
        check_drain(&staging, &[1, 2, 3, 4, 5], 6);
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.queue_full, counts.waiting), (20, 10, 0));
    }

    #[test]
    fn two_buffers_alternate_and_never_grow() {
        let staging = staging(8);
        let mut records = staging.second_buffer();
        let mut seen = Vec::new();
        for round in 0..200 {
            offer(&staging, &[round; 8]);
            staging.drain(&mut records);
            assert_eq!(records, vec![record(round); 8]);
            if !seen.contains(&records.as_ptr()) {
                seen.push(records.as_ptr());
            }
            assert_eq!(records.capacity(), 8);
            records.clear();
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_capacity_beyond_memory_is_only_a_number() {
        let staging = staging(u64::MAX);
        offer(&staging, &[1, 2]);
        check_drain(&staging, &[1, 2], 0);
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Record>(), 32);
    }

    #[test]
    fn closing_ends_the_wait_and_the_taking() {
        let staging = staging(8);
        offer(&staging, &[1]);
        staging.close();
        offer(&staging, &[2, 3]);
        assert!(staging.wait());
        check_drain(&staging, &[1], 0);
        assert!(!staging.wait());
        assert_eq!(staging.counts().closed, 2);
    }

    #[test]
    fn drops_without_events_are_something_to_drain() {
        let staging = Staging::new(2, Duration::ZERO);
        offer(&staging, &[1, 2, 3, 4]);
        assert!(staging.wait());
        check_drain(&staging, &[], 4);
    }

    #[test]
    fn half_a_queue_and_an_urge_end_the_wait() {
        let staging = staging(8);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| staging.wait());
            (0..4).for_each(|value| offer(&staging, &[value]));
            assert!(waiter.join().unwrap());
            check_drain(&staging, &[0, 1, 2, 3], 0);

            let waiter = scope.spawn(|| staging.wait());
            offer(&staging, &[4]);
            assert_eq!(staging.urge(), 5);
            assert!(waiter.join().unwrap());
            check_drain(&staging, &[4], 0);
        });
    }

    #[test]
    fn what_is_abandoned_is_counted() {
        let staging = staging(8);
        offer(&staging, &[1, 2, 3]);
        assert_eq!((staging.abandon(), staging.abandon()), (3, 0));
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.shutdown_timeout, counts.waiting), (3, 3, 0));
    }
}
