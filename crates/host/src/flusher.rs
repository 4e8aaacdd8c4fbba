// SPDX-License-Identifier: Apache-2.0

//! The flush thread.

use std::io;
use std::mem;
use std::sync::Arc;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_thread::{Thread, spawn};

use crate::clock;
use crate::outlet::Outlet;
use crate::recorder::Shared;
use crate::staging::Record;

/// The name of the thread, within the 15 bytes Linux keeps.
const NAME: &str = "nixl-tlm-flush";

/// What the flush thread owns.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    outlets: Vec<Outlet>,
    /// The buffer that is not being filled.
    records: Vec<Record>,
    /// The room of the last batch, empty.
    batch: Vec<Event<'static>>,
}

impl Flusher {
    pub(crate) fn new(shared: Arc<Shared>, outlets: Vec<Outlet>) -> Self {
        let records = shared.staging.second_buffer();
        Self { shared, outlets, records, batch: Vec::new() }
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

    /// Exports what is staged, to one exporter after another. False if nobody waits for this thread any more.
    fn flush(&mut self) -> bool {
        let Shared { staging, ledger, allowlist, .. } = &*self.shared;
        let report_drops = allowlist.allows(Kind::TELEMETRY_EVENTS_DROPPED);
        let Some(drained) = ledger.drain(staging, &mut self.records, report_drops) else { return false };

        let mut batch: Vec<Event<'_>> = mem::take(&mut self.batch);
        batch.extend(self.records.iter().map(Record::event));
        if report_drops && drained.dropped > 0 {
            batch.push(Event::new(Kind::TELEMETRY_EVENTS_DROPPED, drained.dropped).at(clock::wall_us()));
        }
        if !batch.is_empty() {
            for (index, outlet) in self.outlets.iter_mut().enumerate() {
                if !ledger.settle(index, outlet.export(&batch)) {
                    return false;
                }
            }
        }
        self.batch = emptied(batch);
        self.records.clear();
        ledger.complete(drained);
        true
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
