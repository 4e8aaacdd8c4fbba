// SPDX-License-Identifier: Apache-2.0

//! The flush thread.

use std::io;
use std::mem;
use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_thread::{Thread, spawn};

use crate::clock;
use crate::outlet::Outlet;
use crate::record::Record;
use crate::recorder::Shared;
use crate::staging::Drained;

/// The name of the thread, within the 15 bytes Linux keeps.
const NAME: &str = "nixl-tlm-flush";

/// What the flush thread owns.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    outlets: Vec<Outlet>,
    /// The room of the last batch's records, empty.
    records: Vec<Record>,
    /// The names of backend events, by number.
    names: Vec<Arc<str>>,
    /// The room of the last batch, empty.
    batch: Vec<Event<'static>>,
}

impl Flusher {
    pub(crate) fn new(shared: Arc<Shared>, outlets: Vec<Outlet>) -> Self {
        Self { shared, outlets, records: Vec::new(), names: Vec::new(), batch: Vec::new() }
    }

    /// Starts the thread.
    pub(crate) fn start(self) -> io::Result<Thread<()>> {
        spawn(NAME, move || self.run())
    }

    fn run(mut self) {
        while self.shared.staging.wait() && self.flush() {}
        for (index, outlet) in self.outlets.iter_mut().enumerate() {
            self.shared.ledger.destroying(index);
            outlet.destroy();
        }
        self.shared.ledger.finish();
    }

    /// Exports what is staged, batch by batch. False if nobody waits for this thread any more.
    fn flush(&mut self) -> bool {
        loop {
            match self.flush_batch() {
                Some(drained) if drained.is_last => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Exports one batch, to one exporter after another.
    fn flush_batch(&mut self) -> Option<Drained> {
        let Shared { staging, ledger, allowlist, .. } = &*self.shared;
        let report_drops = allowlist.allows(Kind::TELEMETRY_EVENTS_DROPPED);
        let drained = ledger.drain(staging, (&mut self.records, &mut self.names), report_drops)?;

        let now_us = clock::wall_us();
        let mut batch: Vec<Event<'_>> = mem::take(&mut self.batch);
        for record in self.records.drain(..) {
            staging.expansion().expand(&record, &self.names, now_us, &mut batch);
        }
        if report_drops && drained.dropped > 0 {
            batch.push(Event::new(Kind::TELEMETRY_EVENTS_DROPPED, drained.dropped).at(now_us));
        }
        if !batch.is_empty() {
            for (index, outlet) in self.outlets.iter_mut().enumerate() {
                if !ledger.settle(index, outlet.export(&batch)) {
                    return None;
                }
            }
        }
        self.batch = emptied(batch);
        ledger.complete(drained);
        Some(drained)
    }
}

/// The room of a batch, for the next one.
fn emptied(mut batch: Vec<Event<'_>>) -> Vec<Event<'static>> {
    batch.clear();
    // Collecting a vector of the same element in place keeps its allocation, and changes the lifetime.
    batch.into_iter().map(|_| unreachable!("the batch is empty")).collect()
}

#[cfg(test)]
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
