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
}

/// A queue from the host's thread to the exporter's, bounded, which nobody ever waits for.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    limit: u64,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    is_closed: bool,
    /// Dropped since the last that was taken.
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
    /// It waits now. So many were dropped just before.
    Taken { after: u64 },
    /// There is no room, for the first time since there was some.
    Full,
    /// There is still no room.
    StillFull,
    /// Nobody takes anything any more.
    Closed,
}

impl Queue {
    /// One in which so many events may wait; one batch may always.
    pub(crate) fn new(limit: u64) -> Self {
        Self { state: Mutex::default(), limit }
    }

    /// Puts a message behind the others, or drops it.
    pub(crate) fn push(&self, message: Message) -> Pushed {
        let len = message.len();
        let mut state = self.lock();
        let State { messages, is_closed, refused, counts } = &mut *state;
        counts.taken += len;
        if *is_closed {
            counts.dropped += len;
            return Pushed::Closed;
        }
        if !messages.is_empty() && counts.waiting.saturating_add(len) > self.limit {
            counts.dropped += len;
            *refused += len;
            return if *refused == len { Pushed::Full } else { Pushed::StillFull };
        }
        counts.waiting += len;
        messages.push_back(message);
        Pushed::Taken { after: std::mem::take(refused) }
    }

    /// The oldest message. What became of it is to be [settled](Self::settle).
    pub(crate) fn pop(&self) -> Option<Message> {
        self.lock().messages.pop_front()
    }

    /// Says what became of a message that was popped.
    pub(crate) fn settle(&self, became: &Counts) {
        let mut state = self.lock();
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
        state.counts.waiting -= left;
        state.counts.dropped += left;
        drop(state);
        // Which may free them: not under the lock.
        drop(messages);
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

    #[test]
    fn what_finds_no_room_is_dropped_and_everything_is_counted() {
        let queue = Queue::new(10);
        // One message may be larger than all there is room for.
        assert_eq!(queue.push(totals(12)), Pushed::Taken { after: 0 });
        assert_eq!([1, 2].map(|number| queue.push(totals(number))), [Pushed::Full, Pushed::StillFull]);
        assert_eq!(queue.pop().unwrap().len(), 12);
        // It is in somebody's hands, and takes room nevertheless, but not from the first that waits.
        assert_eq!(queue.push(totals(4)), Pushed::Taken { after: 3 });
        assert_eq!(queue.push(totals(1)), Pushed::Full);
        queue.settle(&Counts {
            exported: 3,
            filtered: 2,
            sampled: 1,
            failed: 4,
            unsupported: 1,
            dropped: 1,
            ..Counts::default()
        });
        assert_eq!(queue.push(totals(6)), Pushed::Taken { after: 1 });
        assert_eq!(queue.push(totals(1)), Pushed::Full);
        let text =
            "27 taken = 3 exported + 2 filtered + 1 not sampled + 4 failed + 1 unsupported + 6 dropped + 10 waiting";
        assert_eq!(queue.counts().to_string(), text);
        queue.close();
        assert_eq!((queue.push(totals(1)), queue.pop().is_none()), (Pushed::Closed, true));
        let counts = queue.counts();
        assert_eq!((counts.taken, counts.settled(), counts.waiting, counts.lost()), (28, 28, 0, 22));
    }
}
