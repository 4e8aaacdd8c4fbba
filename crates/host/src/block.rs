// SPDX-License-Identifier: Apache-2.0

//! The words of a lane's block: what both sides of a lane, and whoever finds its journal, know of it.
//!
//! Each line of 16 words has one writer. Positions count slots over the whole life of a lane.

use crate::record::{Expansion, Record, Slot};
use crate::sync::Words;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::pause;
use crate::totals::{self, Totals};

/// Positions below have been written. The producer's.
pub(crate) const TAIL: usize = 0;
/// Events that came after the collector was closed.
pub(crate) const CLOSED: usize = 2;
/// How often [`Losses`] have changed; its lowest bit tells which of the two copies holds.
const CHANGES: usize = 3;
/// Slots of records that were not kept, ever put beside.
const PUT: usize = 4;

/// Positions below have been read, and may be written again. The consumer's, never beyond [`TAIL`].
pub(crate) const HEAD: usize = 16;
/// The events of what was read.
pub(crate) const READ: usize = 17;
/// The time that was told last, in what was read.
pub(crate) const TIME: usize = 18;

/// How many segments are listed. The producer's.
pub(crate) const SEGMENTS: usize = 32;
/// For each segment the position it begins with, and where in the journal it lies, and its length in slots.
pub(crate) const SEGMENT: usize = 33;
/// Words of a segment's entry.
pub(crate) const SEGMENT_WORDS: usize = 3;
/// Doubling from the smallest on, no more fit any memory.
pub(crate) const MOST_SEGMENTS: usize = 40;

const COPIES: usize = 160;
const COPY: usize = 80;
/// Slots of records that are not kept, and not added up yet.
const FRESH: usize = COPIES + 2 * COPY;
const FRESH_SLOTS: u64 = if cfg!(loom) { 4 } else { 64 };
/// Words of a block.
#[cfg(not(loom))]
pub(crate) const WORDS: usize = 512;
#[cfg(loom)]
pub(crate) const WORDS: usize = FRESH + 2 * 4;

const _: () = assert!(COPIES >= SEGMENT + MOST_SEGMENTS * SEGMENT_WORDS);
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const _: () = assert!(COPY >= 4 + totals::WORDS && WORDS >= FRESH + 2 * FRESH_SLOTS as usize);

/// What a producer has not kept, and how far the lane was read by that.
///
/// A record that is not kept is put beside the others, which costs no more than keeping it; when there is no place
/// beside them, all are added up. That changes as a whole: it is written to the copy that does not hold, which then holds.
/// Who dies half way has changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// All events that found no room, or had to make some.
    pub(crate) totals: Totals,
    /// [`HEAD`], [`READ`] and [`TIME`] when the oldest records were last dropped.
    pub(crate) head: u64,
    pub(crate) read: u64,
    pub(crate) time: u64,
    /// Slots ever put beside that are added up.
    pub(crate) added: u64,
}

impl Losses {
    /// What they are now. Never waits for a producer that does nothing.
    pub(crate) fn of(block: &Words, expansion: &Expansion) -> Self {
        loop {
            // Acquire: the copy that this number names is complete.
            let changes = block[CHANGES].load(Ordering::Acquire);
            let copy = copy(changes);
            let mut words = [0; totals::WORDS];
            for (word, value) in words.iter_mut().zip(&block[copy + 4..]) {
                *word = value.load(Ordering::Relaxed);
            }
            let [head, read, time, added] = [0, 1, 2, 3].map(|at| block[copy + at].load(Ordering::Relaxed));
            let mut losses = Self { totals: Totals::from_words(words), head, read, time, added };
            // Acquire: the slots below.
            let fresh = block[PUT].load(Ordering::Acquire);
            while losses.added < fresh && fresh - added <= FRESH_SLOTS {
                let record = Record::read(slot(block, losses.added), || slot(block, losses.added + 1));
                expansion.add_up(&record, &mut losses.totals);
                losses.added += record.slots();
            }
            // Acquire, as a fence: if a word above is of a later change, the number below is later, too.
            fence(Ordering::Acquire);
            if block[CHANGES].load(Ordering::Relaxed) == changes {
                return losses;
            }
            pause();
        }
    }

    /// Adds a record. Only the producer does.
    pub(crate) fn add(block: &Words, record: &Record, expansion: &Expansion) {
        let put = block[PUT].load(Ordering::Relaxed);
        let added = block[copy(block[CHANGES].load(Ordering::Relaxed)) + 3].load(Ordering::Relaxed);
        if put + record.slots() - added > FRESH_SLOTS {
            Self::of(block, expansion).become_of(block);
        }
        for (position, slot) in (put..).zip([record.first].into_iter().chain(record.second)) {
            let place = place(position);
            block[place].store(slot[0], Ordering::Relaxed);
            block[place + 1].store(slot[1], Ordering::Relaxed);
        }
        // Release: the slots.
        block[PUT].store(put + record.slots(), Ordering::Release);
    }

    /// Makes them so. Only the producer does.
    pub(crate) fn become_of(&self, block: &Words) {
        let changes = block[CHANGES].load(Ordering::Relaxed);
        // Release, as a fence: whoever sees one of the words below also sees the number that does not name this copy.
        fence(Ordering::Release);
        let copy = copy(changes + 1);
        for (word, value) in block[copy + 4..].iter().zip(self.totals.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        for (at, value) in [self.head, self.read, self.time, self.added].into_iter().enumerate() {
            block[copy + at].store(value, Ordering::Relaxed);
        }
        // Release: the copy is complete.
        block[CHANGES].store(changes + 1, Ordering::Release);
        // And whoever sees a slot that is put in the place of one that was added up also sees that number.
        fence(Ordering::Release);
    }
}

fn copy(changes: u64) -> usize {
    COPIES + if changes & 1 == 0 { 0 } else { COPY }
}

fn place(position: u64) -> usize {
    let slot = (position % FRESH_SLOTS) as usize;
    FRESH + 2 * slot
}

fn slot(block: &Words, position: u64) -> Slot {
    let place = place(position);
    [0, 1].map(|word| block[place + word].load(Ordering::Relaxed))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use nixl_telemetry_event::{Allowlist, Kind};

    use super::*;
    use crate::Direction;

    #[test]
    fn losses_are_seen_as_a_whole() {
        const RECORDS: u64 = 200_000;
        let expansion = Expansion::new(&Allowlist::All);
        let block = Words::anonymous(WORDS).unwrap();
        let done = AtomicBool::new(false);
        assert_eq!(Losses::of(&block, &expansion), Losses::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=RECORDS {
                    match number % 3 {
                        0 => Losses::add(&block, &Record::event(Kind::XFER_TIME, 3), &expansion),
                        1 => Losses::add(&block, &Record::long(Direction::Read, 5, 3, 7), &expansion),
                        _ => {
                            let mut losses = Losses::of(&block, &expansion);
                            losses.totals.add(Some(Kind::XFER_TIME), 3);
                            losses = Losses { head: number, read: number, time: number, ..losses };
                            losses.become_of(&block);
                        }
                    }
                }
                done.store(true, Ordering::Relaxed);
            });
            let (mut last, mut looks) = (0, 0u64);
            while !done.load(Ordering::Relaxed) {
                let seen = Losses::of(&block, &expansion);
                let of =
                    |kind| seen.totals.iter().find(|total| total.kind == kind).map_or((0, 0), |t| (t.count, t.sum));
                let (records, sum) = of(Kind::XFER_TIME);
                assert_eq!(sum, 3 * u128::from(records));
                let (long, sums) =
                    (of(Kind::RX_BYTES).0, [Kind::RX_BYTES, Kind::XFER_POST_TIME].map(|kind| of(kind).1));
                assert_eq!((long, sums), (records.div_ceil(3), [5, 7].map(|value| value * u128::from(long))));
                assert!(seen.head <= records && seen.head + 3 > records);
                assert!(records >= last);
                (last, looks) = (records, looks + 1);
            }
            assert!(looks > 0);
        });
        let all = Losses::of(&block, &expansion);
        assert_eq!(all.totals.events(), RECORDS + 3 * RECORDS.div_ceil(3));
    }
}
