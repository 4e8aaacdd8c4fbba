// SPDX-License-Identifier: Apache-2.0

//! A single-producer ring that grows: the way of one thread's records to the flush thread.
//!
//! Records have positions, counted from 0 over the whole life of a lane. Each lies in a segment, at its position modulo
//! the segment's length. A full segment gets a successor of twice the length: the positions from its `start` on lie
//! there. Who is the producer is decided by `owned`; who is the consumer, by the lock around [`Reader`].
//!
//! # Why it is right
//! * *A record is read only when it is written.* The producer writes the slot, then stores `tail` with release; the
//!   consumer loads `tail` with acquire and reads below it only.
//! * *A slot is written only when it has been read.* The consumer reads the slot, then stores `head` with release; the
//!   producer loads `head` with acquire and writes position `p` of a segment of length `n` only if `p < head + n`, or if
//!   no position before was in that slot (`p < start + n`).
//! * *Producer and consumer agree on the segment.* A successor is linked before the first `tail` beyond its `start` is
//!   stored, and after the last slot of its predecessor was written.
//! * *The next producer goes on where the last one stopped.* It stops using the lane, then stores `owned` false with
//!   release; the next one exchanges it for true with acquire. `tail`, `events`, `queue_full` and `closed` have no other
//!   writer than the producer, which reads them back relaxed.

use std::sync::PoisonError;

use crate::budget::Grant;
use crate::record::Record;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, Padded};

/// Records in the first segment of a lane.
#[cfg(not(loom))]
pub(crate) const FIRST: u64 = 2048;
#[cfg(loom)]
pub(crate) const FIRST: u64 = 2;

/// A record, seen from two threads. Relaxed stores and loads of words are plain moves; the order comes from `tail` and
/// `head`.
type Slot = [AtomicU64; 4];

/// The part both sides share.
#[derive(Debug)]
pub(crate) struct Lane {
    producer: Padded<Producer>,
    consumer: Padded<Consumer>,
    owned: AtomicBool,
    /// Set once nobody will read it any more.
    orphaned: AtomicBool,
    reader: Mutex<Reader>,
}

/// Written by the producer. Every number only grows.
#[derive(Debug)]
struct Producer {
    /// Positions below have been written.
    tail: AtomicU64,
    /// Events ever written, as of the last change of producers.
    events: AtomicU64,
    /// Events that found no room.
    queue_full: AtomicU64,
    /// Events that came after the collector was closed.
    closed: AtomicU64,
}

/// Written by the consumer. Every number only grows.
#[derive(Debug)]
struct Consumer {
    /// Positions below have been read. Never beyond `tail`.
    head: AtomicU64,
    /// The events of the records below `head`; stored before `head`.
    events: AtomicU64,
}

/// What only the consumer uses.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The segment of position `head`, or a predecessor that has been read to its end.
    segment: Arc<Segment>,
}

#[derive(Debug)]
struct Segment {
    /// The length is a power of two.
    slots: Box<[Slot]>,
    /// The first position that lies here.
    start: u64,
    /// Set once, when this one is full.
    next: Mutex<Option<Arc<Self>>>,
    _grant: Grant,
}

/// The producer's side of a lane.
#[derive(Debug)]
pub(crate) struct Writer {
    lane: Arc<Lane>,
    segment: Arc<Segment>,
    /// What `tail` is; the position to write next.
    tail: u64,
    /// Positions below are free to write without a look at anything shared.
    limit: u64,
    /// Events ever written.
    events: u64,
}

/// How much a lane may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Events that may wait, where somebody has chosen.
    pub(crate) events: Option<u64>,
    /// Bytes of all lanes of the process.
    pub(crate) bytes: u64,
}

/// What became of a record that took the long way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Written.
    Kept,
    /// Written, and half of the room is taken.
    Crowded,
    /// Dropped for want of room, and counted.
    Dropped,
}

impl Segment {
    fn new(length: u64, start: u64, budget: u64) -> Option<Arc<Self>> {
        let grant = Grant::take(length.checked_mul(size_of::<Record>() as u64)?, budget)?;
        let length = usize::try_from(length).ok()?;
        let mut slots = Vec::new();
        // Out of memory is one more way of having no room.
        slots.try_reserve_exact(length).ok()?;
        slots.extend((0..length).map(|_| Slot::default()));
        Some(Arc::new(Self { slots: slots.into(), start, next: Mutex::new(None), _grant: grant }))
    }

    fn slot(&self, position: u64) -> &Slot {
        // The length is a power of two, and no index reaches it.
        #[expect(clippy::cast_possible_truncation, reason = "the mask is of the low bits only")]
        let index = position as usize & (self.slots.len() - 1);
        &self.slots[index]
    }

    fn length(&self) -> u64 {
        self.slots.len() as u64
    }

    fn next(&self) -> MutexGuard<'_, Option<Arc<Self>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// A lane, and its first writer. `None` if the budget has no room for one more.
    pub(crate) fn new(bounds: Bounds) -> Option<(Arc<Self>, Writer)> {
        let segment = Segment::new(FIRST, 0, bounds.bytes)?;
        let [tail, head, written, read, queue_full, closed] = [(); 6].map(|()| AtomicU64::new(0));
        let lane = Arc::new(Self {
            producer: Padded(Producer { tail, events: written, queue_full, closed }),
            consumer: Padded(Consumer { head, events: read }),
            owned: AtomicBool::new(true),
            orphaned: AtomicBool::new(false),
            reader: Mutex::new(Reader { segment: Arc::clone(&segment) }),
        });
        let writer = Writer { lane: Arc::clone(&lane), segment, tail: 0, limit: 0, events: 0 };
        Some((lane, writer))
    }

    /// A writer that goes on where the last one stopped, if that one has gone.
    pub(crate) fn adopt(lane: &Arc<Self>) -> Option<Writer> {
        // Acquire: everything the last owner wrote, as it stores false with release.
        lane.owned.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let mut segment = Arc::clone(&lane.reader().segment);
        loop {
            let Some(next) = segment.next().clone() else { break };
            segment = next;
        }
        let tail = lane.producer.0.tail.load(Ordering::Relaxed);
        let events = lane.producer.0.events.load(Ordering::Relaxed);
        Some(Writer { lane: Arc::clone(lane), segment, tail, limit: tail, events })
    }

    /// Positions below have been written.
    pub(crate) fn tail(&self) -> u64 {
        // Acquire: the slots below, and the successor of a full segment.
        self.producer.0.tail.load(Ordering::Acquire)
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.consumer.0.head.load(Ordering::Relaxed) == self.tail()
    }

    /// Events dropped for want of room.
    pub(crate) fn queue_full(&self) -> u64 {
        self.producer.0.queue_full.load(Ordering::Relaxed)
    }

    /// Events dropped because the collector was closed.
    pub(crate) fn closed(&self) -> u64 {
        self.producer.0.closed.load(Ordering::Relaxed)
    }

    /// Reads records before position `goal`, while `take` says so; `take` gets the record, and tells its number of
    /// events, or `None` to leave it. True if the goal is reached.
    pub(crate) fn read(&self, goal: u64, mut take: impl FnMut(Record) -> Option<u64>) -> bool {
        let mut reader = self.reader();
        let start = self.consumer.0.head.load(Ordering::Relaxed);
        let (mut head, mut events) = (start, self.consumer.0.events.load(Ordering::Relaxed));
        reader.each(start, goal, |record| {
            let taken = take(record);
            events += taken.unwrap_or(0);
            head += u64::from(taken.is_some());
            taken.is_some()
        });
        self.consumer.0.events.store(events, Ordering::Relaxed);
        // Release: the slots have been read, and the events above are told with them.
        self.consumer.0.head.store(head, Ordering::Release);
        head >= goal
    }

    /// The number of events that wait.
    pub(crate) fn waiting(&self, events: impl Fn(&Record) -> u64) -> u64 {
        let mut reader = self.reader();
        let mut waiting = 0;
        reader.each(self.consumer.0.head.load(Ordering::Relaxed), self.tail(), |record| {
            waiting += events(&record);
            true
        });
        waiting
    }

    /// Nobody will read it any more.
    pub(crate) fn orphan(&self) {
        self.orphaned.store(true, Ordering::Relaxed);
    }

    /// Nothing in here can panic half way through a change.
    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Calls `see` with the records from `head` to `goal`, which is no more than the tail, while it returns true.
    fn each(&mut self, head: u64, goal: u64, mut see: impl FnMut(Record) -> bool) {
        let mut segment = Arc::clone(&self.segment);
        let mut end = segment.next().as_ref().map_or(u64::MAX, |next| next.start);
        for position in head..goal {
            while position >= end {
                let next = segment.next().clone();
                let Some(next) = next else { break };
                segment = next;
                end = segment.next().as_ref().map_or(u64::MAX, |next| next.start);
                // What was read to its end before this call is left for good.
                if position == head {
                    self.segment = Arc::clone(&segment);
                }
            }
            let slot = segment.slot(position);
            let record = [0, 1, 2, 3].map(|word| slot[word].load(Ordering::Relaxed));
            if !see(record) {
                break;
            }
        }
    }
}

impl Writer {
    /// Writes a record of so many events, if that needs no look at anything shared.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record, events: u64) -> bool {
        let is_free = self.tail < self.limit;
        if is_free {
            self.write(record, events);
        }
        is_free
    }

    /// Writes a record, or drops it if there is no room: none in the segment, and none for a bigger one.
    #[cold]
    pub(crate) fn push_slowly(&mut self, record: &Record, events: u64, bounds: Bounds) -> Pushed {
        // Acquire: slots below have been read, and the events with them.
        let head = self.lane.consumer.0.head.load(Ordering::Acquire);
        let waiting = self.events - self.lane.consumer.0.events.load(Ordering::Relaxed);
        let is_over = bounds.events.is_some_and(|bound| waiting.saturating_add(events) > bound);
        if is_over || !self.has_room(head) && !self.grow(bounds.bytes) {
            let full = &self.lane.producer.0.queue_full;
            full.store(full.load(Ordering::Relaxed) + events, Ordering::Relaxed);
            return Pushed::Dropped;
        }
        self.write(record, events);
        let waiting = waiting + events;
        let (mut is_crowded, first) = (false, head.max(self.segment.start));
        // The record that fills half the room comes this way again, and then the first that finds none.
        let half = first + self.segment.length() / 2;
        if self.tail >= half {
            is_crowded = true;
            self.limit = first + self.segment.length();
        } else {
            self.limit = half - 1;
        }
        if let Some(bound) = bounds.events {
            let half = bound.div_ceil(2);
            let left = if waiting >= half { bound - waiting } else { half - 1 - waiting };
            is_crowded |= waiting >= half;
            self.limit = self.limit.min(self.tail.saturating_add(left / crate::record::MOST_EVENTS));
        }
        if is_crowded { Pushed::Crowded } else { Pushed::Kept }
    }

    /// Counts events as dropped because the collector is closed.
    pub(crate) fn count_closed(&mut self, events: u64) {
        let closed = &self.lane.producer.0.closed;
        closed.store(closed.load(Ordering::Relaxed) + events, Ordering::Relaxed);
    }

    /// Whether nobody will read what is written here.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.lane.orphaned.load(Ordering::Relaxed)
    }

    fn has_room(&self, head: u64) -> bool {
        self.tail < head.max(self.segment.start) + self.segment.length()
    }

    fn grow(&mut self, budget: u64) -> bool {
        let length = self.segment.length().saturating_mul(2);
        let Some(next) = Segment::new(length, self.tail, budget) else { return false };
        *self.segment.next() = Some(Arc::clone(&next));
        self.segment = next;
        true
    }

    #[inline]
    fn write(&mut self, record: &Record, events: u64) {
        let slot = self.segment.slot(self.tail);
        for (word, value) in slot.iter().zip(record) {
            word.store(*value, Ordering::Relaxed);
        }
        self.tail += 1;
        self.events += events;
        // Release: the slot, and the segment it lies in.
        self.lane.producer.0.tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lane.producer.0.events.store(self.events, Ordering::Relaxed);
        // Release: all this writer did, for the next one.
        self.lane.owned.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const PLENTY: Bounds = Bounds { events: None, bytes: u64::MAX };

    /// Writes the record in either way.
    fn write(writer: &mut Writer, value: u64, events: u64, bounds: Bounds) -> bool {
        let record = [value, !value, value / 3, events];
        writer.push(&record, events) || writer.push_slowly(&record, events, bounds) != Pushed::Dropped
    }

    /// Reads to the tail, asserting that records are whole.
    fn read(lane: &Lane) -> Vec<u64> {
        let mut values = Vec::new();
        lane.read(lane.tail(), |[value, not, third, events]| {
            assert_eq!((not, third), (!value, value / 3));
            values.push(value);
            Some(events)
        });
        values
    }

    proptest! {
        /// Steps: write so many records of so many events, read so many, or let another thread go on.
        #[test]
        fn a_lane_is_a_bounded_queue(
            bound in prop::option::of(1..9000u64),
            bytes in prop::option::of(0..9u64),
            steps in prop::collection::vec((0..3u8, 1..3000u64, 1..=4u64), 1..40),
        ) {
            // The budget is the whole process's, so a small one cannot be exact here; it only has to be obeyed.
            let bytes = bytes.map_or(u64::MAX, |steps| (FIRST * 32) << steps);
            let bounds = Bounds { events: bound, bytes };
            let Some((lane, mut writer)) = Lane::new(bounds) else { return Ok(()) };
            let (mut model, mut waiting, mut next, mut dropped) = (VecDeque::new(), 0, 0, 0);
            for (step, count, events) in steps {
                match step {
                    0 => for _ in 0..count {
                        let kept = write(&mut writer, next, events, bounds);
                        if bytes == u64::MAX {
                            prop_assert_eq!(kept, bound.is_none_or(|bound| waiting + events <= bound));
                        } else if kept {
                            prop_assert!(bound.is_none_or(|bound| waiting + events <= bound));
                        }
                        if kept {
                            model.push_back((next, events));
                            waiting += events;
                        } else {
                            dropped += events;
                        }
                        next += 1;
                    },
                    1 => {
                        let mut left = count;
                        lane.read(lane.tail(), |[value, .., events]| {
                            left = left.checked_sub(1)?;
                            assert_eq!(model.pop_front(), Some((value, events)));
                            waiting -= events;
                            Some(events)
                        });
                        prop_assert!(left == 0 || model.is_empty());
                    }
                    _ => {
                        prop_assert!(Lane::adopt(&lane).is_none());
                        drop(writer);
                        writer = Lane::adopt(&lane).expect("its writer has gone");
                    }
                }
                prop_assert_eq!(lane.waiting(|record| record[3]), waiting);
                prop_assert_eq!(lane.queue_full(), dropped);
                prop_assert_eq!(lane.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn two_threads_keep_the_order_while_the_lane_grows() {
        const EVENTS: u64 = 300_000;
        let (lane, mut writer) = Lane::new(PLENTY).unwrap();
        let mut values = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || (0..EVENTS).for_each(|value| assert!(write(&mut writer, value, 1, PLENTY))));
            while (values.len() as u64) < EVENTS {
                values.extend(read(&lane));
            }
        });
        assert!(values.into_iter().eq(0..EVENTS));
    }

    #[test]
    fn many_threads_take_over_from_each_other() {
        const TURNS: u64 = 2000;
        let (lane, writer) = Lane::new(PLENTY).unwrap();
        drop(writer);
        let mut values = Vec::new();
        thread::scope(|scope| {
            for thread in 0..8u64 {
                let lane = &lane;
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        let mut writer = loop {
                            match Lane::adopt(lane) {
                                Some(writer) => break writer,
                                None => thread::yield_now(),
                            }
                        };
                        assert!(write(&mut writer, thread * TURNS + turn, 1, PLENTY));
                    }
                });
            }
            while (values.len() as u64) < 8 * TURNS {
                values.extend(read(&lane));
                thread::yield_now();
            }
        });
        for thread in 0..8 {
            let own = values.iter().copied().filter(|value| value / TURNS == thread);
            assert!(own.eq(thread * TURNS..(thread + 1) * TURNS));
        }
    }

    #[test]
    fn the_record_that_fills_half_tells() {
        let (_lane, mut writer) = Lane::new(PLENTY).unwrap();
        for value in 0..FIRST {
            let record = [value; 4];
            let crowded = !writer.push(&record, 1) && writer.push_slowly(&record, 1, PLENTY) == Pushed::Crowded;
            assert_eq!(crowded, value == FIRST / 2 - 1, "{value}");
        }
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test --release -p nixl-telemetry-host --lib models`
#[cfg(all(test, loom))]
mod models {
    use loom::thread;

    use super::*;

    const PLENTY: Bounds = Bounds { events: None, bytes: u64::MAX };

    /// All interleavings with at most two preemptions, which is where the bugs of such code are found.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(body);
    }

    fn write(writer: &mut Writer, value: u64, bounds: Bounds) -> bool {
        let record = [value, value, value, value];
        writer.push(&record, 1) || writer.push_slowly(&record, 1, bounds) != Pushed::Dropped
    }

    fn read(lane: &Lane, values: &mut Vec<u64>) {
        lane.read(lane.tail(), |record| {
            assert_eq!(record, [record[0]; 4]);
            values.push(record[0]);
            Some(1)
        });
    }

    /// Four records go through segments of two and four, while they are read.
    #[test]
    fn growth() {
        model(|| {
            let (lane, mut writer) = Lane::new(PLENTY).unwrap();
            let producer = thread::spawn(move || (1..=4).for_each(|value| assert!(write(&mut writer, value, PLENTY))));
            let mut values = Vec::new();
            read(&lane, &mut values);
            read(&lane, &mut values);
            producer.join().unwrap();
            read(&lane, &mut values);
            assert_eq!(values, [1, 2, 3, 4]);
        });
    }

    /// Slots are used again, and what finds no room is counted.
    #[test]
    fn wrap_and_overflow() {
        model(|| {
            let bounds = Bounds { events: Some(2), bytes: u64::MAX };
            let (lane, mut writer) = Lane::new(bounds).unwrap();
            let producer = thread::spawn(move || (1..=4).filter(|value| write(&mut writer, *value, bounds)).collect());
            let mut values = Vec::new();
            read(&lane, &mut values);
            read(&lane, &mut values);
            let kept: Vec<u64> = producer.join().unwrap();
            read(&lane, &mut values);
            assert_eq!(values, kept);
            assert_eq!(lane.queue_full() + kept.len() as u64, 4);
        });
    }

    /// A thread ends and another goes on, while the lane is read.
    #[test]
    fn exit_and_reuse() {
        model(|| {
            let (lane, mut writer) = Lane::new(PLENTY).unwrap();
            let first = thread::spawn(move || assert!(write(&mut writer, 1, PLENTY)));
            let other = Arc::clone(&lane);
            let second = thread::spawn(move || {
                Lane::adopt(&other).map(|mut writer| assert!(write(&mut writer, 2, PLENTY))).is_some()
            });
            let mut values = Vec::new();
            read(&lane, &mut values);
            first.join().unwrap();
            let went_on = second.join().unwrap();
            read(&lane, &mut values);
            assert_eq!(values, if went_on { vec![1, 2] } else { vec![1] });
        });
    }
}
