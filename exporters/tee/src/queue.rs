// SPDX-License-Identifier: Apache-2.0

//! What waits for one exporter, and what became of the rest.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nixl_telemetry_sdk::{KeptBatch, Total};

/// What a host hands over, shared by all exporters it is for.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The events of a batch.
    Events(Arc<KeptBatch>),
    /// What there was no room for, counted and added up.
    Totals {
        totals: Arc<[Total]>,
        /// When the tee got them, in microseconds since the Unix epoch.
        time_us: u64,
    },
}

impl Message {
    /// How many things it is: events, or totals.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Events(batch) => batch.len() as u64,
            Self::Totals { totals, .. } => totals.len() as u64,
        }
    }

    /// Memory it takes, as if it was in one queue only.
    fn bytes(&self) -> u64 {
        // Its place in a queue, which may be twice as long as it has to be, and the counters of an `Arc`.
        let place = 2 * size_of::<Self>() + 2 * size_of::<usize>();
        let content = match self {
            Self::Events(batch) => batch.bytes(),
            Self::Totals { totals, .. } => size_of_val::<[Total]>(totals),
        };
        (place + content) as u64
    }
}

/// A queue from the host's thread to the exporter's, bounded, which nobody ever waits for.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    limits: Limits,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events, a total being one of them.
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    is_closed: bool,
    /// Memory of what waits, what is in the exporter's hands included.
    bytes: u64,
    /// Dropped since it was full.
    refused: u64,
    counts: Counts,
}

/// What became of the events and totals that came for one exporter, a total being one of them:
/// `taken = exported + filtered + sampled + failed + unsupported + dropped + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All that came.
    pub(crate) taken: u64,
    /// Those the exporter took.
    pub(crate) exported: u64,
    /// Those no pattern fits.
    pub(crate) filtered: u64,
    /// Those of transfers that were not chosen.
    pub(crate) sampled: u64,
    /// Those the exporter failed at.
    pub(crate) failed: u64,
    /// Those the exporter's form of events cannot hold.
    pub(crate) unsupported: u64,
    /// Those that found no room, no exporter, or no time.
    pub(crate) dropped: u64,
    /// Those in the queue, and in the exporter's hands.
    pub(crate) waiting: u64,
}

/// What [`Queue::push`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits now. So many were dropped since it was full, which is over: half of the room is free again.
    Taken { after: u64 },
    /// There is no room for more events, for the first time since half of it was free.
    FullOfEvents,
    /// Nor is there for more bytes.
    FullOfBytes,
    /// As before.
    StillFull,
    /// Nobody takes anything any more.
    Closed,
}

impl Queue {
    /// One in which so much may wait; one batch may always.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { state: Mutex::default(), limits }
    }

    /// Puts a message behind the others, or drops it.
    pub(crate) fn push(&self, message: Message) -> Pushed {
        let (len, size) = (message.len(), message.bytes());
        let mut state = self.lock();
        let State { messages, is_closed, bytes, refused, counts } = &mut *state;
        counts.taken += len;
        if *is_closed {
            counts.dropped += len;
            return Pushed::Closed;
        }
        let too_many = counts.waiting.saturating_add(len) > self.limits.events;
        if !messages.is_empty() && (too_many || bytes.saturating_add(size) > self.limits.bytes) {
            counts.dropped += len;
            *refused += len;
            return match (*refused == len, too_many) {
                (false, _) => Pushed::StillFull,
                (true, true) => Pushed::FullOfEvents,
                (true, false) => Pushed::FullOfBytes,
            };
        }
        // Not as soon as there is room for one more: that would be so after each.
        let is_half_free = counts.waiting <= self.limits.events / 2 && *bytes <= self.limits.bytes / 2;
        counts.waiting += len;
        *bytes += size;
        messages.push_back(message);
        Pushed::Taken { after: if is_half_free { std::mem::take(refused) } else { 0 } }
    }

    /// The oldest message. What became of it is to be [settled](Self::settle).
    pub(crate) fn pop(&self) -> Option<Message> {
        self.lock().messages.pop_front()
    }

    /// Says what became of a message that was popped.
    pub(crate) fn settle(&self, message: &Message, became: &Counts) {
        let mut state = self.lock();
        state.bytes -= message.bytes();
        let counts = &mut state.counts;
        counts.exported += became.exported;
        counts.filtered += became.filtered;
        counts.sampled += became.sampled;
        counts.failed += became.failed;
        counts.unsupported += became.unsupported;
        counts.dropped += became.dropped;
        counts.waiting -= became.settled();
    }

    /// Drops what waits and whatever comes.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let messages = std::mem::take(&mut state.messages);
        let left: u64 = messages.iter().map(Message::len).sum();
        state.bytes -= messages.iter().map(Message::bytes).sum::<u64>();
        state.counts.waiting -= left;
        state.counts.dropped += left;
        drop(state);
        // Which may free them: not under the lock.
        drop(messages);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Those that do not wait any more.
    pub(crate) fn settled(&self) -> u64 {
        self.exported + self.filtered + self.sampled + self.failed + self.unsupported + self.dropped
    }

    /// Those that were meant for the exporter and have not reached it.
    pub(crate) fn lost(&self) -> u64 {
        self.failed + self.unsupported + self.dropped + self.waiting
    }
}

/// The sum, without what is zero.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} taken = {} exported", self.taken, self.exported)?;
        let others = [
            (self.filtered, "filtered"),
            (self.sampled, "not sampled"),
            (self.failed, "failed"),
            (self.unsupported, "unsupported"),
            (self.dropped, "dropped"),
            (self.waiting, "waiting"),
        ];
        others
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(number, what)| write!(f, " + {number} {what}"))
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::Kind;

    use super::*;

    fn totals(number: usize) -> Message {
        Message::Totals { totals: vec![Total { kind: Kind::TX_BYTES, count: 5, sum: 6 }; number].into(), time_us: 7 }
    }

    fn limits(events: u64, bytes: u64) -> Limits {
        Limits { events, bytes }
    }

    fn exported(message: &Message) -> Counts {
        Counts { exported: message.len(), ..Counts::default() }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_everything_is_counted() {
        let queue = Queue::new(limits(10, u64::MAX));
        // One message may be larger than all there is room for.
        assert_eq!(queue.push(totals(12)), Pushed::Taken { after: 0 });
        assert_eq!([1, 2].map(|number| queue.push(totals(number))), [Pushed::FullOfEvents, Pushed::StillFull]);
        let first = queue.pop().unwrap();
        // It is in somebody's hands, and takes room nevertheless, but not from the first that waits.
        assert_eq!(queue.push(totals(4)), Pushed::Taken { after: 0 });
        assert_eq!(queue.push(totals(1)), Pushed::StillFull);
        let became =
            Counts { exported: 3, filtered: 2, sampled: 1, failed: 4, unsupported: 1, dropped: 1, ..Counts::default() };
        queue.settle(&first, &became);
        assert_eq!(queue.push(totals(6)), Pushed::Taken { after: 4 });
        assert_eq!(queue.push(totals(1)), Pushed::FullOfEvents);
        let text =
            "27 taken = 3 exported + 2 filtered + 1 not sampled + 4 failed + 1 unsupported + 6 dropped + 10 waiting";
        assert_eq!(queue.counts().to_string(), text);
        queue.close();
        assert_eq!((queue.push(totals(1)), queue.pop().is_none()), (Pushed::Closed, true));
        let counts = queue.counts();
        assert_eq!((counts.taken, counts.settled(), counts.waiting, counts.lost()), (28, 28, 0, 22));
        assert_eq!((queue.is_closed(), queue.lock().bytes), (true, 0));
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_hands_counts() {
        let size = totals(1).bytes();
        assert!(size >= size_of::<Total>() as u64 && totals(2).bytes() == size + size_of::<Total>() as u64);
        let queue = Queue::new(limits(u64::MAX, 4 * size));
        let push = || queue.push(totals(1));
        assert_eq!([(); 4].map(|()| push()), [Pushed::Taken { after: 0 }; 4]);
        assert_eq!([push(), push()], [Pushed::FullOfBytes, Pushed::StillFull]);
        let settle = |message: Message| queue.settle(&message, &exported(&message));
        let first = queue.pop().unwrap();
        assert_eq!(push(), Pushed::StillFull);
        settle(first);
        assert_eq!(push(), Pushed::Taken { after: 0 });
        assert_eq!(queue.counts().waiting, 4);
    }

    /// An exporter that takes one whenever one comes is not told of at each.
    #[test]
    fn there_is_room_again_when_half_of_it_is_free() {
        let queue = Queue::new(limits(10, u64::MAX));
        let pushed = |number: usize| (0..number).map(|_| queue.push(totals(1))).collect::<Vec<_>>();
        let settle = |number: usize| {
            for message in (0..number).map(|_| queue.pop().unwrap()) {
                queue.settle(&message, &exported(&message));
            }
        };
        let taken = Pushed::Taken { after: 0 };
        assert_eq!(pushed(11)[10], Pushed::FullOfEvents);
        for _ in 0..100 {
            settle(1);
            assert_eq!(pushed(2), [taken, Pushed::StillFull]);
        }
        settle(4);
        assert_eq!(pushed(1), [taken]);
        settle(2);
        assert_eq!(pushed(2), [Pushed::Taken { after: 101 }, taken]);
        assert_eq!(pushed(4).last(), Some(&Pushed::FullOfEvents));
    }
}
