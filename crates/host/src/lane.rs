// SPDX-License-Identifier: Apache-2.0

//! A single-producer ring that grows: the way of one thread's records to the flush thread.
//!
//! Slots have positions, counted from 0 over the whole life of a lane. Each lies in a segment, at its position modulo
//! the segment's length. A segment that is too small gets a successor of twice the length: the positions from its
//! `start` on lie there. Who is the producer is decided by `owned`; who is the consumer, by the lock around [`Reader`],
//! which a producer takes, too, where it has to drop the oldest.
//!
//! # Why it is right
//! * *A record is read only when it is written.* The producer writes the slots, then stores [`TAIL`] with release; the
//!   consumer loads it with acquire and reads below it only. All slots of a record become visible with one store.
//! * *A slot is written only when it has been read.* The consumer reads the slot, then stores [`HEAD`] with release; the
//!   producer loads that with acquire and writes position `p` of a segment of length `n` only if `p < head + n`, or if
//!   no position before was in that slot (`p < start + n`).
//! * *Producer and consumer agree on the segment.* A successor is linked before the first `tail` beyond its `start` is
//!   stored, and after the last slot of its predecessor was written.
//! * *The next producer goes on where the last one stopped.* It stops using the lane, then stores `owned` false with
//!   release; the next one exchanges it for true with acquire. The words of a block that are the producer's have no other
//!   writer than the producer, which reads them back relaxed.
//! * *Nothing is read twice.* Between reading and storing [`HEAD`] the lock is held.

use std::sync::{PoisonError, TryLockError};

use crate::block::{self, CLOSED, HEAD, Losses, READ, SEGMENT, SEGMENT_WORDS, SEGMENTS, TAIL, TIME};
use crate::memory::{Memory, Piece};
use crate::record::{Expansion, MOST_EVENTS, MOST_SLOTS, Record, Slot};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, pause};
use crate::totals::Totals;

/// Slots of the first segment of a lane.
#[cfg(not(loom))]
pub(crate) const FIRST: u64 = 512;
#[cfg(loom)]
pub(crate) const FIRST: u64 = 4;

/// Slots of a segment that is large enough to be emptied when half of it is taken. A smaller one is filled, and gets a
/// successor: that costs less than waking the flush thread all the time.
#[cfg(not(loom))]
const ROOMY: u64 = 4096;
#[cfg(loom)]
const ROOMY: u64 = 4;

/// Words of a block, and of the first segment.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const WORDS: [usize; 2] = [block::WORDS, 2 * FIRST as usize];

/// The part both sides share.
#[derive(Debug)]
pub(crate) struct Lane {
    block: Piece,
    owned: AtomicBool,
    /// Events ever written, as of the last change of producers. Not in the block, which a forked child may share.
    written: AtomicU64,
    reader: Mutex<Reader>,
}

/// What only the consumer uses.
#[derive(Debug)]
struct Reader {
    /// The segment of position `head`, or a predecessor that has been read to its end.
    segment: Arc<Segment>,
}

#[derive(Debug)]
struct Segment {
    /// Two words a slot; their number is a power of two.
    slots: Piece,
    /// The first position that lies here.
    start: u64,
    /// Set once, when this one is too small.
    next: Mutex<Option<Arc<Self>>>,
}

/// The producer's side of a lane.
#[derive(Debug)]
pub(crate) struct Writer {
    lane: Arc<Lane>,
    segment: Arc<Segment>,
    /// What [`TAIL`] is; the position to write next.
    tail: u64,
    /// Positions below are free to write without a look at anything shared.
    limit: u64,
    /// Events ever written.
    written: u64,
    /// The segment is to be emptied when half of it is taken.
    is_roomy: bool,
    /// The record that last found no room, if none has found any since.
    refused: Option<Refused>,
}

/// A record that found no room: where the head was, and how much it wanted.
#[derive(Clone, Copy, Debug)]
struct Refused {
    head: u64,
    slots: u64,
    events: u64,
}

/// What became of a record that took the long way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Written.
    Kept,
    /// Written, and half of the room is taken.
    Crowded,
    /// Not written: there is no room.
    Full,
}

/// Records that were read, while nobody else can read; see [`Lane::read`].
#[must_use = "what is not taken will be read again"]
pub(crate) struct Reading<'a> {
    lane: &'a Lane,
    reader: MutexGuard<'a, Reader>,
    /// What [`HEAD`], [`READ`] and [`TIME`] become.
    head: u64,
    read: u64,
    time: u64,
}

impl Segment {
    fn new(length: u64, start: u64, piece: Option<Piece>) -> Option<Arc<Self>> {
        let slots = piece?;
        debug_assert_eq!(slots.words.len() as u64, 2 * length);
        Some(Arc::new(Self { slots, start, next: Mutex::new(None) }))
    }

    fn grown(length: u64, start: u64, memory: &Memory) -> Option<Arc<Self>> {
        Self::new(length, start, memory.take(usize::try_from(length.checked_mul(2)?).ok()?))
    }

    /// The two words of a position; never `None`.
    #[inline]
    fn pair(&self, position: u64) -> Option<&[AtomicU64; 2]> {
        let pairs = self.slots.words.as_chunks::<2>().0;
        // The number of pairs is a power of two, and no index reaches it: there is no code for that on the way of a record.
        #[expect(clippy::cast_possible_truncation, reason = "the mask is of the low bits only")]
        pairs.get(position as usize & pairs.len().wrapping_sub(1))
    }

    #[inline]
    fn slot(&self, position: u64) -> Slot {
        let Some([first, second]) = self.pair(position) else { return Slot::default() };
        [first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)]
    }

    fn length(&self) -> u64 {
        self.slots.words.len() as u64 / 2
    }

    fn next(&self) -> MutexGuard<'_, Option<Arc<Self>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next one begins; beyond everything if there is none.
    fn end(&self) -> u64 {
        self.next().as_ref().map_or(u64::MAX, |next| next.start)
    }
}

impl Lane {
    /// A lane, and its first writer. `None` if the budget has no room for one more, or there is no memory.
    pub(crate) fn new(memory: &Memory) -> Option<(Arc<Self>, Writer)> {
        Self::of(memory.take_two(WORDS, false)?)
    }

    /// The same, whatever the budget.
    pub(crate) fn new_anyway(memory: &Memory) -> Option<(Arc<Self>, Writer)> {
        Self::of(memory.take_two(WORDS, true)?)
    }

    fn of([block, slots]: [Piece; 2]) -> Option<(Arc<Self>, Writer)> {
        let segment = Segment::new(FIRST, 0, Some(slots))?;
        let reader = Mutex::new(Reader { segment: Arc::clone(&segment) });
        let lane = Arc::new(Self { block, owned: AtomicBool::new(true), written: AtomicU64::new(0), reader });
        lane.list(&segment);
        let writer = Writer {
            lane: Arc::clone(&lane),
            segment,
            tail: 0,
            limit: 0,
            written: 0,
            is_roomy: FIRST >= ROOMY,
            refused: None,
        };
        Some((lane, writer))
    }

    /// A lane that a dead process left: its block, and its segments, each with the position it begins with. It has no
    /// writer, and never will. `taken` is what head, read events and time became with the last batch, if that tells.
    /// `None` if the numbers do not fit each other.
    pub(crate) fn found(
        block: Piece,
        segments: Vec<(u64, Piece)>,
        taken: Option<[u64; 3]>,
        expansion: &Expansion,
    ) -> Option<Arc<Self>> {
        let word = |word: usize| block.words[word].load(Ordering::Relaxed);
        let losses = Losses::of(&block.words, expansion);
        if !losses.totals.are_likely() || word(CLOSED) >= 1 << 48 {
            return None;
        }
        // It may have died between telling that it had taken or dropped records, and making their room free.
        for [head, read, time] in [Some([losses.head, losses.read, losses.time]), taken].into_iter().flatten() {
            if head > word(HEAD) {
                for (at, value) in [(HEAD, head), (READ, read), (TIME, time)] {
                    block.words[at].store(value, Ordering::Relaxed);
                }
            }
        }
        let (head, tail) = (word(HEAD), word(TAIL));
        let mut segments = segments.into_iter();
        let (start, slots) = segments.next()?;
        let first = Segment::new(slots.words.len() as u64 / 2, start, Some(slots))?;
        let mut last = Arc::clone(&first);
        // What waits in a segment lies between the head, or its start, and the next one's start, or the tail.
        let fits = |segment: &Segment, end: u64| {
            let begin = head.max(segment.start);
            end <= begin || end - begin <= segment.length()
        };
        for (start, slots) in segments {
            if start < last.start || !fits(&last, start) {
                return None;
            }
            let next = Segment::new(slots.words.len() as u64 / 2, start, Some(slots))?;
            *last.next() = Some(Arc::clone(&next));
            last = next;
        }
        if first.start != 0 || head > tail || tail < last.start || !fits(&last, tail) {
            return None;
        }
        let (owned, written) = (AtomicBool::new(true), AtomicU64::new(0));
        Some(Arc::new(Self { block, owned, written, reader: Mutex::new(Reader { segment: first }) }))
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
        let (tail, written) = (lane.word(TAIL), lane.written.load(Ordering::Relaxed));
        let is_roomy = segment.length() >= ROOMY;
        Some(Writer { lane: Arc::clone(lane), segment, tail, limit: tail, written, is_roomy, refused: None })
    }

    /// Positions below have been written.
    pub(crate) fn tail(&self) -> u64 {
        // Acquire: the slots below, and the successor of a segment that is too small.
        self.block.words[TAIL].load(Ordering::Acquire)
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.word(HEAD) == self.tail()
    }

    /// Whether everything before `goal` has been read.
    pub(crate) fn is_read_to(&self, goal: u64) -> bool {
        self.word(HEAD) >= goal
    }

    /// What was not kept.
    pub(crate) fn losses(&self, expansion: &Expansion) -> Losses {
        Losses::of(&self.block.words, expansion)
    }

    /// Events dropped because the collector was closed.
    pub(crate) fn closed(&self) -> u64 {
        self.word(CLOSED)
    }

    /// Lets others have its part of the budget: nobody records any more.
    pub(crate) fn give_back(&self) {
        self.block.give_back();
        let mut segment = Some(Arc::clone(&self.reader().segment));
        while let Some(this) = segment {
            this.slots.give_back();
            segment = this.next().clone();
        }
    }

    /// Where it lies in the journal, if there is one.
    pub(crate) fn offset(&self) -> u64 {
        self.block.offset
    }

    /// Reads records before position `goal`, while `take` says so; `take` gets a record, its time and its position, and tells
    /// its number of events, or `None` to leave it. What was read counts as read once [`Reading::done`] is called.
    pub(crate) fn read(&self, goal: u64, take: impl FnMut(&Record, u64, u64) -> Option<u64>) -> Reading<'_> {
        self.read_with(self.reader(), goal, take)
    }

    fn read_with<'a>(
        &'a self,
        reader: MutexGuard<'a, Reader>,
        goal: u64,
        mut take: impl FnMut(&Record, u64, u64) -> Option<u64>,
    ) -> Reading<'a> {
        let start = self.word(HEAD);
        let mut reading = Reading { head: start, read: self.word(READ), time: self.word(TIME), lane: self, reader };
        // In registers while it goes on: this is all that the flush thread does for most records.
        let Reading { mut head, mut read, mut time, .. } = reading;
        let mut segment = Arc::clone(&reading.reader.segment);
        while head < goal {
            let end = segment.end();
            if head >= end {
                let Some(next) = segment.next().clone() else { break };
                segment = next;
                // What was read to its end before this call is left for good.
                if head == start {
                    reading.reader.segment = Arc::clone(&segment);
                }
                continue;
            }
            let is_over = loop {
                let record = Record::read(segment.slot(head), || segment.slot(head + 1));
                match record.told_time() {
                    Some(told) => time = told,
                    None => {
                        let Some(events) = take(&record, time, head) else { break true };
                        read = read.wrapping_add(events);
                    }
                }
                head += record.slots();
                if head >= goal.min(end) {
                    break false;
                }
            };
            if is_over {
                break;
            }
        }
        (reading.head, reading.read, reading.time) = (head, read, time);
        reading
    }

    /// The number of events that wait, and what was not kept.
    pub(crate) fn standing(&self, expansion: &Expansion) -> (u64, Totals) {
        let mut waiting = 0;
        // Not taken. While nobody else reads, none of these becomes one that is not kept.
        let reading = self.read(self.tail(), |record, _, _| {
            waiting += expansion.events(record);
            Some(0)
        });
        let lost = self.losses(expansion).totals;
        drop(reading);
        (waiting, lost)
    }

    fn word(&self, word: usize) -> u64 {
        self.block.words[word].load(Ordering::Relaxed)
    }

    /// Notes where a segment lies, for whoever finds the journal.
    fn list(&self, segment: &Segment) {
        let words = &self.block.words;
        let listed = self.word(SEGMENTS);
        let entry = usize::try_from(listed).map_or(usize::MAX, |at| SEGMENT.saturating_add(at * SEGMENT_WORDS));
        let values = [segment.start, segment.slots.offset, segment.length()];
        if listed < block::MOST_SEGMENTS as u64 {
            for (word, value) in words[entry..].iter().zip(values) {
                word.store(value, Ordering::Relaxed);
            }
            // Release: the entry is complete.
            words[SEGMENTS].store(listed + 1, Ordering::Release);
        }
    }

    /// Nothing in here can panic half way through a change.
    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if nobody reads, or not for long.
    fn try_reader(&self) -> Option<MutexGuard<'_, Reader>> {
        const TRIES: usize = if cfg!(loom) { 1 } else { 1000 };
        for _ in 0..TRIES {
            match self.reader.try_lock() {
                Ok(reader) => return Some(reader),
                Err(TryLockError::Poisoned(reader)) => return Some(reader.into_inner()),
                Err(TryLockError::WouldBlock) => pause(),
            }
        }
        None
    }
}

impl Reading<'_> {
    /// How far it came.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The events of all that was ever read.
    pub(crate) fn events(&self) -> u64 {
        self.read
    }

    /// The time that was told last.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    /// Makes the room of what was read free.
    pub(crate) fn done(self) {
        let words = &self.lane.block.words;
        words[READ].store(self.read, Ordering::Relaxed);
        words[TIME].store(self.time, Ordering::Relaxed);
        // Release: the slots have been read, and the two words above are told with it.
        words[HEAD].store(self.head, Ordering::Release);
    }
}

impl Writer {
    /// Writes a record of one slot and so many events, if that needs no look at anything shared.
    #[inline]
    pub(crate) fn push(&mut self, slot: Slot, events: u64) -> bool {
        let is_free = self.tail < self.limit;
        if is_free {
            self.write(slot);
            self.publish(events);
        }
        is_free
    }

    /// Writes a record of so many events, after the time if one is given, where there is room: in the segment, or else in
    /// a bigger one. No more than `bound` events may wait. The next records, at most `chunk`, may be pushed.
    pub(crate) fn push_slowly(
        &mut self,
        (time, record): (Option<Slot>, &Record),
        events: u64,
        bound: Option<u64>,
        (memory, chunk): (&Memory, u64),
    ) -> Pushed {
        let head = self.head();
        let waiting = self.waiting();
        let slots = u64::from(time.is_some()) + record.slots();
        debug_assert!(slots <= MOST_SLOTS);
        if bound.is_some_and(|bound| waiting.saturating_add(events) > bound)
            || !self.has_room(head, slots) && !self.grow(memory)
        {
            self.refused = Some(Refused { head, slots: record.slots(), events });
            return Pushed::Full;
        }
        self.refused = None;
        for slot in time.into_iter().chain([record.first]).chain(record.second) {
            self.write(slot);
        }
        self.publish(events);
        if self.look_ahead(head, waiting + events, bound, chunk) { Pushed::Crowded } else { Pushed::Kept }
    }

    /// Says up to where records may be pushed. True if half of the room is taken.
    fn look_ahead(&mut self, head: u64, waiting: u64, bound: Option<u64>, chunk: u64) -> bool {
        let first = head.max(self.segment.start);
        // The record that fills half the room comes the long way again, and then the first that finds none.
        let (half, end) = (first + self.segment.length() / 2, first + self.segment.length());
        let mut is_crowded = self.is_roomy && self.tail >= half;
        self.limit = if self.is_roomy && !is_crowded { half - 1 } else { end };
        if let Some(bound) = bound {
            let half = bound.div_ceil(2);
            let left = if waiting >= half { bound - waiting } else { half - 1 - waiting };
            is_crowded |= waiting >= half;
            self.limit = self.limit.min(self.tail.saturating_add(left / MOST_EVENTS));
        }
        self.limit = self.limit.min(self.tail.saturating_add(chunk));
        is_crowded
    }

    /// Drops the oldest records until there is room for one of so many slots and events; false if somebody else is
    /// reading all the time, or there never is room for so many.
    pub(crate) fn drop_oldest(&mut self, slots: u64, events: u64, bound: Option<u64>, expansion: &Expansion) -> bool {
        if bound.is_some_and(|bound| events > bound) {
            return false;
        }
        let lane = Arc::clone(&self.lane);
        let Some(reader) = lane.try_reader() else { return false };
        let mut losses = lane.losses(expansion);
        let mut waiting = self.waiting();
        let reading = lane.read_with(reader, self.tail, |record, _, head| {
            let is_over = bound.is_some_and(|bound| waiting + events > bound);
            if !is_over && self.has_room(head, slots) {
                return None;
            }
            let dropped = expansion.events(record);
            expansion.add_up(record, &mut losses.totals);
            waiting -= dropped;
            Some(dropped)
        });
        Losses { head: reading.head(), read: reading.events(), time: reading.time(), ..losses }
            .become_of(&lane.block.words);
        reading.done();
        true
    }

    /// Whether nothing has been read since a record found no room that wanted no more than this one.
    pub(crate) fn is_still_full(&self, record: &Record, events: u64) -> bool {
        self.refused.is_some_and(|refused| {
            refused.head == self.lane.word(HEAD) && refused.slots <= record.slots() && refused.events <= events
        })
    }

    /// Adds up a record that is not kept.
    pub(crate) fn lose(&mut self, record: &Record, expansion: &Expansion) {
        Losses::add(&self.lane.block.words, record, expansion);
    }

    /// Counts events as dropped because the collector is closed.
    pub(crate) fn count_closed(&mut self, events: u64) {
        self.lane.block.words[CLOSED].store(self.lane.word(CLOSED) + events, Ordering::Relaxed);
    }

    fn head(&self) -> u64 {
        // Acquire: slots below have been read, and the words that are told with it.
        self.lane.block.words[HEAD].load(Ordering::Acquire)
    }

    /// The events that wait, as of the head that was looked at last.
    fn waiting(&self) -> u64 {
        self.written - self.lane.word(READ)
    }

    fn has_room(&self, head: u64, slots: u64) -> bool {
        self.tail + slots <= head.max(self.segment.start) + self.segment.length()
    }

    fn grow(&mut self, memory: &Memory) -> bool {
        let length = self.segment.length().saturating_mul(2);
        let Some(next) = Segment::grown(length, self.tail, memory) else {
            // There is no more to be had than this.
            self.is_roomy = true;
            return false;
        };
        self.lane.list(&next);
        *self.segment.next() = Some(Arc::clone(&next));
        self.segment = next;
        self.is_roomy = length >= ROOMY;
        true
    }

    #[inline]
    fn write(&mut self, slot: Slot) {
        if let Some([first, second]) = self.segment.pair(self.tail) {
            first.store(slot[0], Ordering::Relaxed);
            second.store(slot[1], Ordering::Relaxed);
        }
        self.tail += 1;
    }

    #[inline]
    fn publish(&mut self, events: u64) {
        self.written += events;
        if let Some(tail) = self.lane.block.words.get(TAIL) {
            // Release: the slots, and the segment they lie in.
            tail.store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lane.written.store(self.written, Ordering::Relaxed);
        // Release: all this writer did, for the next one.
        self.lane.owned.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::thread;

    use nixl_telemetry_event::{Allowlist, Kind};
    use proptest::prelude::*;

    use super::*;
    use crate::Direction;
    use crate::memory::PLENTY;

    /// More than any chunk.
    const ALL: u64 = u64::MAX;

    fn all() -> Expansion {
        Expansion::new(&Allowlist::All)
    }

    /// A record that tells `value`, in one slot or two, of one event or four.
    fn record(value: u64, is_long: bool) -> Record {
        if is_long {
            Record::long(Direction::Write, value, !value, value / 3)
        } else {
            Record::event(Kind::TX_BYTES, value)
        }
    }

    /// What [`record`] was made of; asserts that it is whole.
    fn value(record: &Record) -> u64 {
        let Some([third, value]) = record.second else { return record.first[0] };
        assert_eq!((record.first[0], third), (!value, value / 3));
        value
    }

    /// Writes the record in either way.
    fn write(writer: &mut Writer, record: &Record, bound: Option<u64>, memory: &Memory) -> bool {
        let events = all().events(record);
        record.second.is_none() && writer.push(record.first, events)
            || writer.push_slowly((None, record), events, bound, (memory, ALL)) != Pushed::Full
    }

    /// Reads to the tail.
    fn read(lane: &Lane) -> Vec<u64> {
        let mut values = Vec::new();
        let reading = lane.read(lane.tail(), |record, _, _| {
            values.push(value(record));
            Some(all().events(record))
        });
        reading.done();
        values
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Steps: write so many records, read so many, let another thread go on, or look without taking.
        #[test]
        fn a_lane_is_a_bounded_queue(
            bound in prop::option::of(4..9000u64),
            grows in prop::option::of(0..9u64),
            drops_oldest in any::<bool>(),
            steps in prop::collection::vec((0..5u8, 1..3000u64, any::<bool>()), 1..40),
        ) {
            // The budget is the whole process's, so a small one cannot be exact here; it only has to be obeyed.
            let memory = Memory { budget: grows.map_or(u64::MAX, |steps| (FIRST * 16) << steps), ..PLENTY };
            let Some((lane, mut writer)) = Lane::new(&memory) else { return Ok(()) };
            let (mut model, mut waiting, mut next, mut lost) = (VecDeque::new(), 0, 0, 0);
            for (step, count, is_long) in steps {
                match step {
                    0 | 1 => for _ in 0..count {
                        let new = record(next, is_long);
                        let events = all().events(&new);
                        let mut kept = write(&mut writer, &new, bound, &memory);
                        if !kept && drops_oldest {
                            prop_assert!(writer.drop_oldest(MOST_SLOTS, events, bound, &all()));
                            while lost < lane.losses(&all()).totals.events() {
                                let (_, dropped) = model.pop_front().expect("only what was there is dropped");
                                waiting -= dropped;
                                lost += dropped;
                            }
                            kept = write(&mut writer, &new, bound, &memory);
                            prop_assert!(kept);
                        }
                        if memory.budget == u64::MAX && !drops_oldest {
                            prop_assert_eq!(kept, bound.is_none_or(|bound| waiting + events <= bound));
                        } else if kept {
                            prop_assert!(bound.is_none_or(|bound| waiting + events <= bound));
                        }
                        if kept {
                            model.push_back((next, events));
                            waiting += events;
                        } else {
                            writer.lose(&new, &all());
                            lost += events;
                        }
                        next += 1;
                    },
                    2 => {
                        let mut left = count;
                        let reading = lane.read(lane.tail(), |record, _, _| {
                            left = left.checked_sub(1)?;
                            let (expected, events) = model.pop_front().expect("no more than was written");
                            assert_eq!(value(record), expected);
                            waiting -= events;
                            Some(events)
                        });
                        reading.done();
                        prop_assert!(left == 0 || model.is_empty());
                    }
                    3 => {
                        prop_assert!(Lane::adopt(&lane).is_none());
                        drop(writer);
                        writer = Lane::adopt(&lane).expect("its writer has gone");
                    }
                    _ => {
                        let mut seen = model.iter();
                        drop(lane.read(lane.tail(), |record, _, _| {
                            assert_eq!(Some(value(record)), seen.next().map(|(value, _)| *value));
                            Some(7)
                        }));
                        prop_assert!(seen.next().is_none());
                    }
                }
                let (standing, totals) = lane.standing(&all());
                prop_assert_eq!((standing, totals.events()), (waiting, lost));
                prop_assert_eq!(lane.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn two_threads_keep_the_order_while_the_lane_grows() {
        const RECORDS: u64 = 300_000;
        let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
        let mut values = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || {
                (0..RECORDS)
                    .for_each(|value| assert!(write(&mut writer, &record(value, value % 7 == 0), None, &PLENTY)));
            });
            while (values.len() as u64) < RECORDS {
                values.extend(read(&lane));
            }
        });
        assert!(values.into_iter().eq(0..RECORDS));
    }

    /// The producer takes the part of the consumer, while that is at work.
    #[test]
    fn the_oldest_are_dropped_once_and_the_rest_is_in_order() {
        const RECORDS: u64 = 300_000;
        let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
        let none = Memory { budget: 0, ..PLENTY };
        let mut values = Vec::new();
        thread::scope(|scope| {
            let producer = scope.spawn(move || {
                for value in 0..RECORDS {
                    let record = record(value, value % 5 == 0);
                    let events = all().events(&record);
                    while !write(&mut writer, &record, Some(900), &none) {
                        writer.drop_oldest(MOST_SLOTS, events, Some(900), &all());
                    }
                }
            });
            while !producer.is_finished() {
                values.extend(read(&lane));
            }
            values.extend(read(&lane));
        });
        assert!(values.is_sorted_by(|one, next| one < next));
        let events: u64 = values.iter().map(|value| if value % 5 == 0 { 4 } else { 1 }).sum();
        let all_events = RECORDS + 3 * RECORDS.div_ceil(5);
        assert_eq!(events + lane.losses(&all()).totals.events(), all_events);
        assert_eq!(values.last(), Some(&(RECORDS - 1)));
    }

    #[test]
    fn many_threads_take_over_from_each_other() {
        const TURNS: u64 = 2000;
        let (lane, writer) = Lane::new(&PLENTY).unwrap();
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
                        assert!(write(&mut writer, &record(thread * TURNS + turn, turn % 2 == 0), None, &PLENTY));
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
        // Small segments before it are filled without a word.
        let before = ROOMY - FIRST;
        let (_lane, mut writer) = Lane::new(&PLENTY).unwrap();
        for value in 0..before + ROOMY {
            let record = record(value, false);
            let crowded = !writer.push(record.first, 1)
                && writer.push_slowly((None, &record), 1, None, (&PLENTY, ALL)) == Pushed::Crowded;
            assert_eq!(crowded, value == before + ROOMY / 2 - 1, "{value}");
        }
    }

    #[test]
    fn where_nothing_grows_half_of_a_small_ring_tells() {
        let memory = Memory { budget: 0, ..PLENTY };
        let (lane, mut writer) = Lane::new_anyway(&memory).unwrap();
        let mut write = |value| {
            let record = record(value, false);
            if writer.push(record.first, 1) {
                return Pushed::Kept;
            }
            writer.push_slowly((None, &record), 1, None, (&memory, ALL))
        };
        assert!((0..FIRST).all(|value| write(value) == Pushed::Kept));
        assert_eq!(write(0), Pushed::Full);
        read(&lane);
        let crowded = (0..FIRST).position(|value| write(value) == Pushed::Crowded);
        assert_eq!(crowded, Some(usize::try_from(FIRST / 2).unwrap() - 1));
    }

    #[test]
    fn after_a_chunk_comes_the_long_way() {
        let (_lane, mut writer) = Lane::new(&PLENTY).unwrap();
        let record = record(1, false);
        let slowly = (0..100).filter(|_| {
            let is_slow = !writer.push(record.first, 1);
            is_slow && writer.push_slowly((None, &record), 1, None, (&PLENTY, 9)) != Pushed::Full
        });
        assert_eq!(slowly.count(), 10);
    }

    #[test]
    fn time_is_told_to_whoever_reads_on() {
        let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
        for (time, value) in [(Some(5), 1), (None, 2), (Some(6), 3)] {
            let time = time.map(Record::time);
            assert_ne!(writer.push_slowly((time, &record(value, true)), 4, None, (&PLENTY, ALL)), Pushed::Full);
        }
        let mut seen = Vec::new();
        for goal in [lane.tail(), u64::MAX] {
            let reading = lane.read(goal.min(lane.tail()), |record, time, _| {
                seen.push((value(record), time));
                (value(record) != 2 || seen.len() > 2).then_some(4)
            });
            reading.done();
        }
        assert_eq!(seen, [(1, 5), (2, 5), (2, 5), (3, 6)]);
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test --release -p nixl-telemetry-host --lib models`
#[cfg(all(test, loom))]
mod models {
    use loom::thread;
    use nixl_telemetry_event::{Allowlist, Kind};

    use super::*;
    use crate::memory::PLENTY;

    const NONE: Memory = Memory { budget: 0, ..PLENTY };

    /// All interleavings with at most two preemptions, which is where the bugs of such code are found.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(body);
    }

    fn all() -> Expansion {
        Expansion::new(&Allowlist::All)
    }

    fn record(value: u64) -> Record {
        Record::event(Kind::TX_BYTES, value)
    }

    fn write(writer: &mut Writer, value: u64, bound: Option<u64>, memory: &Memory) -> bool {
        let record = record(value);
        writer.push(record.first, 1)
            || writer.push_slowly((None, &record), 1, bound, (memory, u64::MAX)) != Pushed::Full
    }

    fn read(lane: &Lane, values: &mut Vec<u64>) {
        let reading = lane.read(lane.tail(), |record, _, _| {
            assert_eq!(record.first[1], record.first[1] | 5);
            values.push(record.first[0]);
            Some(1)
        });
        reading.done();
    }

    /// Six records go through segments of four and eight, while they are read.
    #[test]
    fn growth() {
        model(|| {
            let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
            let producer =
                thread::spawn(move || (1..=6).for_each(|value| assert!(write(&mut writer, value, None, &PLENTY))));
            let mut values = Vec::new();
            read(&lane, &mut values);
            read(&lane, &mut values);
            producer.join().unwrap();
            read(&lane, &mut values);
            assert_eq!(values, [1, 2, 3, 4, 5, 6]);
        });
    }

    /// Slots are used again, and what finds no room is added up.
    #[test]
    fn wrap_and_overflow() {
        model(|| {
            let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
            let producer = thread::spawn(move || {
                let mut kept = Vec::new();
                for value in 1..=5 {
                    if write(&mut writer, value, Some(2), &NONE) {
                        kept.push(value);
                    } else {
                        writer.lose(&record(value), &all());
                    }
                }
                kept
            });
            let mut values = Vec::new();
            read(&lane, &mut values);
            let lost = lane.losses(&all());
            assert!(lost.totals.events() <= 5);
            read(&lane, &mut values);
            let kept = producer.join().unwrap();
            read(&lane, &mut values);
            assert_eq!(values, kept);
            assert_eq!(lane.losses(&all()).totals.events() + kept.len() as u64, 5);
        });
    }

    /// The producer drops the oldest while the consumer reads: each record is read or dropped, once.
    #[test]
    fn the_oldest_give_way() {
        model(|| {
            let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
            let producer = thread::spawn(move || {
                let mut refused = 0;
                for value in 1..=4 {
                    if !write(&mut writer, value, Some(2), &NONE)
                        && !(writer.drop_oldest(1, 1, Some(2), &all()) && write(&mut writer, value, Some(2), &NONE))
                    {
                        writer.lose(&record(value), &all());
                        refused += 1;
                    }
                }
                refused
            });
            let mut values = Vec::new();
            read(&lane, &mut values);
            producer.join().unwrap();
            read(&lane, &mut values);
            assert!(values.is_sorted_by(|one, next| one < next));
            assert_eq!(values.len() as u64 + lane.losses(&all()).totals.events(), 4);
            assert_eq!(lane.standing(&all()).0, 0);
        });
    }

    /// A thread ends and another goes on, while the lane is read.
    #[test]
    fn exit_and_reuse() {
        model(|| {
            let (lane, mut writer) = Lane::new(&PLENTY).unwrap();
            let first = thread::spawn(move || assert!(write(&mut writer, 1, None, &PLENTY)));
            let other = Arc::clone(&lane);
            let second = thread::spawn(move || {
                Lane::adopt(&other).map(|mut writer| assert!(write(&mut writer, 2, None, &PLENTY))).is_some()
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
