// SPDX-License-Identifier: Apache-2.0

//! The flush thread.

use std::io;
use std::mem;
use std::sync::Arc;

use nixl_telemetry_event::{BatchId, Event, Kind, Total};
use nixl_telemetry_loader::Batch;
use nixl_telemetry_log::warn;
use nixl_telemetry_thread::{Thread, spawn};

use crate::clock;
use crate::journal::Unfinished;
use crate::ledger::Outcome;
use crate::outlet::Outlet;
use crate::record::Slot;
use crate::shared::Shared;
use crate::staging::Drained;

/// The name of the thread, within the 15 bytes Linux keeps.
const NAME: &str = "nixl-tlm-flush";

/// What the flush thread owns.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    outlets: Vec<Outlet>,
    /// Which of them take totals.
    takes_totals: Vec<bool>,
    /// The room of the last batch's slots, empty.
    slots: Vec<Slot>,
    /// The names of backend events, by number.
    names: Vec<Arc<str>>,
    /// The room of the last batch, empty.
    events: Vec<Event<'static>>,
    totals: Vec<Total>,
    /// Whether all exporters take everything unseen.
    discards: bool,
    /// Whether what an exporter fails at is to stay in the journal.
    stops_at_failure: bool,
}

/// Which exporters do not have a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipients {
    /// The first; those before it have it.
    pub(crate) first: usize,
    /// Whether the first may have it, too: a process died while it took it.
    pub(crate) is_in_doubt: bool,
}

impl Recipients {
    const ALL: Self = Self { first: 0, is_in_doubt: false };
}

impl Flusher {
    pub(crate) fn new(shared: Arc<Shared>, outlets: Vec<Outlet>) -> Self {
        let takes_totals = outlets.iter().map(Outlet::takes_totals).collect();
        let discards = outlets.iter().all(Outlet::discards);
        let (slots, names, events, totals) = Default::default();
        Self { shared, outlets, takes_totals, slots, names, events, totals, discards, stops_at_failure: false }
    }

    /// The same for what a dead process left: nobody would notice a failure, so that it ends there.
    pub(crate) fn of_found(shared: Arc<Shared>, outlets: Vec<Outlet>) -> Self {
        Self { stops_at_failure: true, ..Self::new(shared, outlets) }
    }

    /// Starts the thread.
    pub(crate) fn start(self) -> io::Result<Thread<()>> {
        spawn(NAME, move || self.run())
    }

    fn run(mut self) {
        self.export_all(|_| {});
        let shared = Arc::clone(&self.shared);
        drop(self);
        if shared.ledger.finish()
            && let Some(journal) = shared.staging.journal()
            && let Err(error) = journal.remove()
        {
            warn!("agent {}: cannot remove the journal {}: {error}", shared.agent, journal.path().display());
        }
        shared.staging.finish();
    }

    /// Exports until the buffer is closed and empty, and destroys the exporters. False if it ended before.
    ///
    /// After each batch that all exporters have seen, `progress` is told how many events it had.
    pub(crate) fn export_all(&mut self, mut progress: impl FnMut(u64)) -> bool {
        let mut is_well = true;
        while is_well && self.shared.staging.wait() {
            is_well = self.flush(&mut progress);
        }
        for (index, outlet) in self.outlets.iter_mut().enumerate() {
            self.shared.ledger.destroying(index);
            outlet.destroy();
        }
        is_well
    }

    /// Exports what is staged, batch by batch. False if nobody waits for this thread any more.
    fn flush(&mut self, progress: &mut impl FnMut(u64)) -> bool {
        loop {
            let Some(drained) = self.flush_batch() else { return false };
            progress(drained.events);
            if drained.is_last {
                return true;
            }
        }
    }

    /// Takes one batch, and hands it to one exporter after another.
    fn flush_batch(&mut self) -> Option<Drained> {
        let Shared { staging, ledger, reports_drops, .. } = &*self.shared;
        let time_us = clock::wall_us();
        debug_assert!(self.slots.is_empty());
        // In a journal a batch is written down, whoever sees it.
        let is_seen = staging.journal().is_some() || !self.discards;
        let into = (time_us, is_seen.then_some(&mut self.slots), &mut self.names);
        let drained = ledger.drain(staging, into, (&self.takes_totals, *reports_drops))?;
        self.hand_over(&drained, time_us, Recipients::ALL)?;
        self.shared.ledger.complete(drained);
        Some(drained)
    }

    /// Exports the batch that a dead process did not finish. False if that failed.
    pub(crate) fn export_unfinished(&mut self, batch: Unfinished, names: Vec<Arc<str>>) -> bool {
        let Shared { staging, ledger, reports_drops, .. } = &*self.shared;
        self.names = names;
        self.slots = batch.slots;
        let events = staging.expansion().count(&self.slots);
        let drained = Drained { number: batch.number, events, lost: batch.totals, pass: 0, is_last: true };
        ledger.enter_found(&drained, batch.to.first, (&self.takes_totals, *reports_drops));
        self.hand_over(&drained, batch.time_us, batch.to).is_some()
    }

    /// Hands the batch whose slots are there to its recipients. `None` if nobody waits for this thread any more, or an
    /// exporter failed where that must not be.
    fn hand_over(&mut self, drained: &Drained, time_us: u64, to: Recipients) -> Option<()> {
        let Shared { staging, ledger, reports_drops, .. } = &*self.shared;
        let journal = staging.journal();
        let mut events: Vec<Event<'_>> = mem::take(&mut self.events);
        if !self.discards {
            staging.expansion().expand(&self.slots, &self.names, time_us, &mut events);
        }
        self.slots.clear();
        self.totals.clear();
        self.totals.extend(drained.lost.iter());
        let recorded = events.len();
        for (index, outlet) in self.outlets.iter_mut().enumerate().skip(to.first) {
            events.truncate(recorded);
            if outlet.discards() {
                let report = u64::from(*reports_drops && drained.dropped(true) > 0);
                let (exported, aggregated) = (drained.events + report, drained.told(true));
                if !ledger.settle(index, Outcome { exported, aggregated, ..Outcome::default() }) {
                    return None;
                }
                continue;
            }
            let dropped = drained.dropped(outlet.takes_totals());
            if *reports_drops && dropped > 0 {
                events.push(Event::new(Kind::TELEMETRY_EVENTS_DROPPED, dropped).at(time_us));
            }
            let totals = if outlet.takes_totals() { &self.totals[..] } else { &[] };
            if events.is_empty() && totals.is_empty() {
                continue;
            }
            let mut id = BatchId::new(self.shared.origin, drained.number);
            if to.is_in_doubt && index == to.first {
                id = id.repeated();
            }
            if let Some(memo) = journal.and_then(|journal| journal.memo(index)) {
                id = id.with_memo(memo);
            }
            journal.inspect(|journal| journal.exporting(index));
            let outcome = outlet.export(&Batch { events: &events, totals, id: Some(id) });
            let is_lost = self.stops_at_failure && outcome.failed > 0;
            if !ledger.settle(index, outcome) || is_lost {
                return None;
            }
            journal.inspect(|journal| journal.exported(index));
        }
        journal.inspect(|journal| journal.done());
        self.events = emptied(events);
        Some(())
    }
}

/// The room of a batch, for the next one.
fn emptied(mut batch: Vec<Event<'_>>) -> Vec<Event<'static>> {
    batch.clear();
    // Collecting a vector of the same element in place keeps its allocation, and changes the lifetime.
    batch.into_iter().map(|_| unreachable!("the batch is empty")).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_batch_keeps_its_room() {
        let batch = vec![Event::new(Kind::TX_BYTES, 1); 100];
        let room = batch.as_ptr();
        let batch = emptied(batch);
        assert_eq!((batch.len(), batch.capacity(), batch.as_ptr()), (0, 100, room));
    }

    #[test]
    fn linux_keeps_the_whole_name() {
        assert!(NAME.len() <= 15);
    }
}
