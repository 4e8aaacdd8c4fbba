// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nixl_telemetry_event::{Kind, Status};

use crate::clock::NEVER;
use crate::lane::Writer;
use crate::record::{Record, Slot};
use crate::shared::Shared;
use crate::{Direction, Transfer, fork};

/// Takes the events of one agent from one place, at the lowest cost there is: see [`Collector::producer`].
///
/// A transfer is two stores into a ring of the producer's own and a third that tells of them; no lock, no clock, no
/// look-up of the thread. It may be sent to another thread, and goes on there. Its events are exported in their order.
///
/// [`Collector::producer`]: crate::Collector::producer
pub struct Producer {
    shared: Arc<Shared>,
    writer: Writer,
    /// Of a write and of a read: the events of a transfer that are enabled.
    events: [u64; 2],
    clock: &'static AtomicU64,
    /// What the clock's word is for as long as the time is still the one told last.
    seen: u64,
    /// The time told last.
    told: u64,
    /// How often this process had been forked.
    forks: u64,
}

impl Producer {
    /// `None` if there is no room for a ring.
    pub(crate) fn new(shared: Arc<Shared>) -> Option<Self> {
        let writer = shared.staging.attach()?;
        let expansion = shared.staging.expansion();
        let events = [Direction::Write, Direction::Read].map(|direction| expansion.of_transfer(direction));
        let (clock, forks) = (shared.clock.word(), fork::forks());
        Some(Self { shared, writer, events, clock, seen: NEVER, told: NEVER, forks })
    }

    /// Records a completed transfer: post time, transfer time, bytes and one request, in this order. Those of them
    /// that are enabled are kept all together, or dropped all together.
    #[inline]
    pub fn transfer(&mut self, transfer: Transfer) {
        if !self.try_transfer(transfer) {
            let Transfer { direction, bytes, post_time_us, transfer_time_us } = transfer;
            let record = match Record::compact(direction, bytes, transfer_time_us, post_time_us) {
                Some(first) => Record { first, second: None },
                None => Record::long(direction, bytes, transfer_time_us, post_time_us),
            };
            self.push_slowly(&record, self.events[direction as usize]);
        }
    }

    /// The same, if nothing stands in its way; false if it takes longer, in which case nothing was done. Never panics.
    #[inline]
    pub fn try_transfer(&mut self, transfer: Transfer) -> bool {
        let Transfer { direction, bytes, post_time_us, transfer_time_us } = transfer;
        let events = self.events[direction as usize];
        if events == 0 {
            return true;
        }
        let Some(slot) = Record::compact(direction, bytes, transfer_time_us, post_time_us) else { return false };
        self.try_push(slot, events)
    }

    /// Records a completed transfer whose post time was recorded before, as an event: NIXL up to 1.3 learns of the two at
    /// different moments.
    #[inline]
    pub fn transfer_after_post(&mut self, direction: Direction, bytes: u64, transfer_time_us: u64) {
        let record = Record::tail(direction, bytes, transfer_time_us);
        self.offer(&record, self.shared.staging.expansion().events(&record));
    }

    /// Records an event of any kind.
    #[inline]
    pub fn event(&mut self, kind: Kind, value: u64) {
        if self.shared.allowlist.allows(kind) {
            self.offer(&Record::event(kind, value), 1);
        }
    }

    /// Records one error. A status that is no error records nothing; NIXL aborts the process over it.
    pub fn error(&mut self, status: Status) {
        if let Some(kind) = status.kind() {
            self.event(kind, 1);
        }
    }

    /// Whether its collector is closed, so that nothing it records is kept.
    pub fn is_closed(&self) -> bool {
        self.shared.staging.is_closed()
    }

    /// Records whatever it is.
    #[inline]
    pub(crate) fn offer(&mut self, record: &Record, events: u64) {
        if events == 0 {
        } else if record.second.is_none() {
            self.push(record.first, events);
        } else {
            self.push_slowly(record, events);
        }
    }

    #[inline]
    fn push(&mut self, slot: Slot, events: u64) {
        if !self.try_push(slot, events) {
            self.push_slowly(&Record { first: slot, second: None }, events);
        }
    }

    #[inline]
    fn try_push(&mut self, slot: Slot, events: u64) -> bool {
        let is_pushed = self.clock.load(Ordering::Relaxed) == self.seen && self.writer.push(slot, events);
        if is_pushed {
            self.shared.staging.pushed();
        }
        is_pushed
    }

    #[cold]
    #[inline(never)]
    fn push_slowly(&mut self, record: &Record, events: u64) {
        if self.forks != fork::forks() {
            return self.move_on(record, events);
        }
        if self.shared.staging.drop_at_once(&mut self.writer, record, events) {
            return;
        }
        let (now, seen) = self.shared.clock.read(self.told);
        let time = (now != self.told).then(|| Record::time(now));
        if self.shared.staging.push(&mut self.writer, time, record, events) {
            (self.told, self.seen) = (now, seen);
        }
    }

    /// In a forked child: leaves the ring to the parent, and takes one of the collector that the child has instead.
    fn move_on(&mut self, record: &Record, events: u64) {
        let Some(heir) = self.shared.heir() else { return };
        match Self::new(Arc::clone(&heir)) {
            Some(producer) => {
                let Self { shared, writer, .. } = mem::replace(self, producer);
                // It is the parent's to give back.
                mem::forget(writer);
                mem::forget(shared);
                self.push_slowly(record, events);
            }
            None => heir.offer_in_common(record, events),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("agent", &self.shared.agent).finish_non_exhaustive()
    }
}
