// SPDX-License-Identifier: Apache-2.0

//! Between the threads that record and the one that flushes: a lane for each thread, and who sleeps.
//!
//! # Waking
//! Waking costs a system call, so only a sleeper is woken, and only if it has to be: by the first record after it found
//! nothing, and by one that fills half of a lane. A thread that records and one that goes to sleep each write and then
//! read what the other wrote, and one of them must see the other:
//!
//! * *Half a lane*, which is rare, has a sequentially consistent fence between the two on both sides.
//! * *The first record* may not cost a fence each time. The compiler keeps its store before its load, and the processor
//!   makes a store visible in far less time than [`GRACE`], so the sleeper looks once more after that time, before it
//!   sleeps for good. Loom, which knows no time, gets a fence.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lane::{Bounds, Lane, Pushed, Writer};
use crate::local;
use crate::record::{self, Expansion, Record};
use crate::sync::Padded;
use crate::sync::atomic::{AtomicBool, AtomicU8, fence};

/// Between finding nothing and sleeping for good.
const GRACE: Duration = Duration::from_millis(10);

/// What the flush thread does: works, or sleeps until there is something, or until its deadline.
const AWAKE: u8 = 0;
const UNTIL_SOMETHING: u8 = 1;
const UNTIL_DEADLINE: u8 = 2;

/// The lanes of one collector. Any thread [`offer`](Self::offer)s; one thread [`wait`](Self::wait)s and
/// [`drain`](Self::drain)s.
pub(crate) struct Staging {
    /// Its number, which no other collector of the process ever has.
    id: u64,
    expansion: Expansion,
    bounds: Bounds,
    /// Events in one batch.
    batch: u64,
    interval: Duration,
    /// Read by every record, written when the flush thread falls asleep or is woken.
    sleep: Padded<AtomicU8>,
    /// Half of some lane is taken.
    is_crowded: Padded<AtomicBool>,
    is_closed: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    lanes: Vec<crate::sync::Arc<Lane>>,
    names: Names,
    /// How far each lane is read in the pass under way; of lanes added since, nothing.
    goals: Vec<u64>,
    /// Passes ever begun, the one under way included.
    passes: u64,
    in_pass: bool,
    /// Events ever drained.
    drained: u64,
    /// Events dropped by threads for which there was no lane.
    homeless: u64,
    homeless_closed: u64,
    /// Drops that a drain has told.
    told: u64,
    shutdown_timeout: u64,
    closed: bool,
    /// The last pass has begun.
    last: bool,
    /// Nothing will be drained any more.
    ended: bool,
    /// Somebody asked for a flush now.
    urged: bool,
}

/// Names of backend events, each with a number.
#[derive(Default)]
struct Names {
    numbers: HashMap<Arc<str>, u64>,
    names: Vec<Arc<str>>,
}

/// What [`Staging::drain`] tells besides the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Events the records stand for.
    pub(crate) events: u64,
    /// Events dropped for want of room since the last drain.
    pub(crate) dropped: u64,
    /// The pass this drain belongs to.
    pub(crate) pass: u64,
    /// Whether the pass ends with it: everything recorded before its beginning has been drained.
    pub(crate) is_last: bool,
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
    /// A buffer whose batches have `batch` events, unless one record alone stands for more.
    pub(crate) fn new(expansion: Expansion, bounds: Bounds, batch: u64, interval: Duration) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            expansion,
            bounds,
            batch,
            interval,
            sleep: Padded(AtomicU8::new(AWAKE)),
            is_crowded: Padded(AtomicBool::new(false)),
            is_closed: AtomicBool::new(false),
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// The number of this buffer.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What its records mean.
    pub(crate) fn expansion(&self) -> &Expansion {
        &self.expansion
    }

    /// Takes a record on the calling thread's lane, or counts its events as dropped.
    #[inline]
    pub(crate) fn offer(&self, record: &Record) {
        let events = self.expansion.events(record);
        if events > 0 {
            local::with(self, |writer| match writer {
                Some(writer) => {
                    if writer.push(record, events) {
                        self.wake_sleeper();
                    } else {
                        self.offer_slowly(writer, record, events);
                    }
                }
                None => self.refuse(events),
            });
        }
    }

    /// Takes an event of a backend.
    pub(crate) fn offer_backend(&self, name: &str, value: u64, time_us: u64) {
        let number = self.lock().names.number(name);
        self.offer(&record::backend(number, value, time_us));
    }

    /// Wakes the flush thread if it sleeps because there was nothing.
    #[inline]
    fn wake_sleeper(&self) {
        #[cfg(not(loom))]
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        if self.sleep.0.load(Ordering::Relaxed) == UNTIL_SOMETHING {
            self.rouse();
        }
    }

    #[cold]
    fn offer_slowly(&self, writer: &mut Writer, record: &Record, events: u64) {
        if self.is_closed.load(Ordering::Relaxed) {
            return writer.count_closed(events);
        }
        let pushed = writer.push_slowly(record, events, self.bounds);
        if pushed == Pushed::Crowded {
            // Release: the record is there when the flag is.
            self.is_crowded.0.store(true, Ordering::Release);
        }
        fence(Ordering::SeqCst);
        let sleep = self.sleep.0.load(Ordering::Relaxed);
        if sleep == UNTIL_SOMETHING || sleep == UNTIL_DEADLINE && pushed == Pushed::Crowded {
            self.rouse();
        }
    }

    /// Counts events of a thread for which the budget has no lane.
    #[cold]
    fn refuse(&self, events: u64) {
        let mut state = self.lock();
        if state.closed {
            state.homeless_closed += events;
        } else {
            state.homeless += events;
            drop(state);
            if self.sleep.0.load(Ordering::Relaxed) == UNTIL_SOMETHING {
                self.rouse();
            }
        }
    }

    #[cold]
    fn rouse(&self) {
        // Under the lock it is not between looking and sleeping; and of many only one has to make the call.
        let state = self.lock();
        let was = self.sleep.0.swap(AWAKE, Ordering::Relaxed);
        drop(state);
        if was != AWAKE {
            self.wake.notify_one();
        }
    }

    /// A lane for the calling thread: one whose thread has gone, or a new one.
    pub(crate) fn attach(&self) -> Option<Writer> {
        let mut state = self.lock();
        if let Some(writer) = state.lanes.iter().find_map(Lane::adopt) {
            return Some(writer);
        }
        let (lane, writer) = Lane::new(self.bounds)?;
        state.lanes.push(lane);
        Some(writer)
    }

    /// Waits until it is time for a pass of drains; false if there will be none any more.
    ///
    /// It is time when the interval has passed since this method saw something to drain, when half of a lane is taken,
    /// when somebody urges, and when the buffer is closed.
    pub(crate) fn wait(&self) -> bool {
        let state = self.wait_for_something(self.lock());
        let mut state = self.wait_for_deadline(state);
        self.sleep.0.store(AWAKE, Ordering::Relaxed);
        if state.closed && (state.last || state.is_idle()) {
            state.ended = true;
        }
        state.last = state.closed;
        !state.ended
    }

    fn wait_for_something<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let mut has_looked = false;
        loop {
            self.sleep.0.store(UNTIL_SOMETHING, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if state.closed || state.urged || !state.is_idle() {
                return state;
            }
            if has_looked {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.wake.wait_timeout(state, GRACE).unwrap_or_else(PoisonError::into_inner).0;
            }
            has_looked = !has_looked;
        }
    }

    fn wait_for_deadline<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let deadline = Instant::now().checked_add(self.interval);
        loop {
            self.sleep.0.store(UNTIL_DEADLINE, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if state.closed || state.urged || self.is_crowded.0.load(Ordering::Relaxed) {
                return state;
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return state,
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes the records of the next batch, and the names that are new.
    ///
    /// A pass takes what was there at its beginning, in as many batches as that needs, lane by lane.
    pub(crate) fn drain(&self, records: &mut Vec<Record>, names: &mut Vec<Arc<str>>) -> Drained {
        debug_assert!(records.is_empty());
        let mut state = self.lock();
        if !state.in_pass {
            state.in_pass = true;
            state.passes += 1;
            state.urged = false;
            // Acquire: who set it has written its records, so the tails below are beyond them.
            self.is_crowded.0.swap(false, Ordering::AcqRel);
            state.goals = state.lanes.iter().map(|lane| lane.tail()).collect();
        }
        let mut events = 0;
        let is_last = state.lanes.iter().zip(&state.goals).all(|(lane, goal)| {
            lane.read(*goal, |record| {
                let more = self.expansion.events(&record);
                (events == 0 || events + more <= self.batch).then(|| {
                    events += more;
                    records.push(record);
                    more
                })
            })
        });
        state.in_pass = !is_last;
        state.drained += events;
        let dropped = state.untold();
        state.told += dropped;
        let known = names.len();
        names.extend_from_slice(&state.names.names[known..]);
        Drained { events, dropped, pass: state.passes, is_last }
    }

    /// Ends the wait for the interval. Returns the pass after which everything recorded so far has been drained.
    pub(crate) fn urge(&self) -> u64 {
        let mut state = self.lock();
        state.urged = !state.is_idle();
        self.wake.notify_one();
        state.passes + u64::from(state.urged)
    }

    /// Takes nothing any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.is_closed.store(true, Ordering::Relaxed);
        drop(state);
        self.wake.notify_one();
    }

    /// Drops what is left, at the end of the time for the last flush.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let mut left = 0;
        for lane in &state.lanes {
            lane.read(lane.tail(), |record| {
                let events = self.expansion.events(&record);
                left += events;
                Some(events)
            });
        }
        state.shutdown_timeout += left;
        state.ended = true;
        left
    }

    pub(crate) fn counts(&self) -> StagingCounts {
        let state = self.lock();
        let left = state.lanes.iter().map(|lane| lane.waiting(|record| self.expansion.events(record))).sum();
        // What was written after the last pass will never be read: it came when the buffer was closed.
        let (waiting, late) = if state.ended { (0, left) } else { (left, 0) };
        let queue_full = state.queue_full();
        let closed = late + state.homeless_closed + state.lanes.iter().map(|lane| lane.closed()).sum::<u64>();
        let shutdown_timeout = state.shutdown_timeout;
        let produced = state.drained + shutdown_timeout + waiting + queue_full + closed;
        StagingCounts { produced, waiting, queue_full, closed, shutdown_timeout }
    }

    /// Nothing in here can panic half way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue_full(&self) -> u64 {
        self.homeless + self.lanes.iter().map(|lane| lane.queue_full()).sum::<u64>()
    }

    fn untold(&self) -> u64 {
        self.queue_full() - self.told
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_empty()) && self.untold() == 0
    }
}

impl Names {
    fn number(&mut self, name: &str) -> u64 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (name, number): (Arc<str>, _) = (name.into(), self.names.len() as u64);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // So that threads let go of their lanes.
        self.lock().lanes.iter().for_each(|lane| lane.orphan());
    }
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nixl_telemetry_event::Kind;

    use super::*;
    use crate::allowlist::Allowlist;

    fn staging(capacity: u64, interval: Duration) -> Staging {
        let bounds = Bounds { events: Some(capacity), bytes: u64::MAX };
        Staging::new(Expansion::new(&Allowlist::All), bounds, capacity, interval)
    }

    fn offer(staging: &Staging, values: impl IntoIterator<Item = u64>) {
        values.into_iter().for_each(|value| staging.offer(&record::event(Kind::TX_BYTES, value, 1)));
    }

    /// Asserts what the next drain gives and tells.
    fn check_drain(staging: &Staging, values: &[u64], dropped: u64) {
        let mut records = Vec::new();
        let drained = staging.drain(&mut records, &mut Vec::new());
        assert_eq!(records.iter().map(|record| record[0]).collect::<Vec<_>>(), values);
        assert_eq!((drained.events, drained.dropped), (values.len() as u64, dropped));
    }

    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn what_fits_is_kept_in_order_and_the_rest_is_counted() {
        let staging = staging(5, NEVER);
        check_drain(&staging, &[], 0);
        offer(&staging, 1..=9);
        check_drain(&staging, &[1, 2, 3, 4, 5], 4);
        check_drain(&staging, &[], 0);
        offer(&staging, 1..=11);
        check_drain(&staging, &[1, 2, 3, 4, 5], 6);
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.queue_full, counts.waiting), (20, 10, 0));
    }

    #[test]
    fn a_capacity_beyond_memory_is_only_a_number() {
        let staging = staging(u64::MAX, NEVER);
        offer(&staging, [1, 2]);
        check_drain(&staging, &[1, 2], 0);
    }

    #[test]
    fn a_pass_ends_with_what_was_there_at_its_beginning() {
        let bounds = Bounds { events: None, bytes: u64::MAX };
        let staging = Staging::new(Expansion::new(&Allowlist::All), bounds, 2, NEVER);
        let drain = || {
            let mut records = Vec::new();
            let drained = staging.drain(&mut records, &mut Vec::new());
            (records.iter().map(|record| record[0]).collect::<Vec<_>>(), drained.pass, drained.is_last)
        };
        offer(&staging, 1..=3);
        assert_eq!(drain(), (vec![1, 2], 1, false));
        offer(&staging, [4]);
        assert_eq!(staging.urge(), 2);
        assert_eq!(drain(), (vec![3], 1, true));
        assert_eq!(drain(), (vec![4], 2, true));
        assert_eq!(staging.urge(), 2);
    }

    #[test]
    fn closing_ends_the_wait_and_the_taking() {
        let staging = staging(8, NEVER);
        offer(&staging, [1]);
        staging.close();
        assert!(staging.wait());
        check_drain(&staging, &[1], 0);
        assert!(!staging.wait());
        // However many: those that still find room, and those that do not.
        offer(&staging, 0..100);
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.closed, counts.queue_full, counts.waiting), (101, 100, 0, 0));
    }

    #[test]
    fn drops_without_events_are_something_to_drain() {
        let staging = staging(2, Duration::ZERO);
        let transfer = [1, 2, 3, 0];
        staging.offer(&transfer);
        assert!(staging.wait());
        check_drain(&staging, &[], 4);
    }

    #[test]
    fn without_memory_for_a_lane_events_are_dropped() {
        let bounds = Bounds { events: None, bytes: 0 };
        let staging = Staging::new(Expansion::new(&Allowlist::All), bounds, 8, Duration::ZERO);
        offer(&staging, [1, 2, 3]);
        assert!(staging.wait());
        check_drain(&staging, &[], 3);
        staging.close();
        offer(&staging, [4]);
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.queue_full, counts.closed), (4, 3, 1));
    }

    #[test]
    fn half_a_queue_and_an_urge_end_the_wait() {
        let staging = staging(8, NEVER);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| staging.wait());
            offer(&staging, 0..4);
            assert!(waiter.join().unwrap());
            check_drain(&staging, &[0, 1, 2, 3], 0);

            let waiter = scope.spawn(|| staging.wait());
            offer(&staging, [4]);
            assert_eq!(staging.urge(), 2);
            assert!(waiter.join().unwrap());
            check_drain(&staging, &[4], 0);
        });
    }

    #[test]
    fn what_is_abandoned_is_counted() {
        let staging = staging(8, NEVER);
        offer(&staging, [1, 2, 3]);
        assert_eq!((staging.abandon(), staging.abandon()), (3, 0));
        let counts = staging.counts();
        assert_eq!((counts.produced, counts.shutdown_timeout, counts.waiting), (3, 3, 0));
    }

    #[test]
    fn the_lane_of_a_thread_that_has_gone_is_used_again() {
        let staging = staging(1 << 20, NEVER);
        for value in 0..100 {
            thread::scope(|scope| {
                // Joined for real: a scope ends before the thread's locals are destroyed.
                scope.spawn(|| offer(&staging, [value])).join().unwrap();
            });
        }
        let mut records = Vec::new();
        staging.drain(&mut records, &mut Vec::new());
        assert_eq!(records.iter().map(|record| record[0]).sum::<u64>(), 4950);
        assert!(staging.lock().lanes.len() < 10);
    }
}
