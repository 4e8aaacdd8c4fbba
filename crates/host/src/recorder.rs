// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;

use nixl_telemetry_event::{Kind, Status};

use crate::record::Record;
use crate::shared::Shared;
use crate::{Counts, InFlight, local};

/// Takes the events of one agent, from any thread.
///
/// Cheap to clone. It may outlive its collector; what it records then is dropped and counted as closed.
///
/// Nothing here fails or waits for an exporter. Events of kinds that
/// [`ENABLED_METRICS`](crate::settings::ENABLED_METRICS) leaves out cost a comparison and are counted nowhere.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

/// A completed transfer, seen from the agent that initiated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which way the bytes went.
    pub direction: Direction,
    /// Bytes of the whole request.
    pub bytes: u64,
    /// Microseconds from the start until the backend's post call returned.
    pub post_time_us: u64,
    /// Microseconds from the start until completion was observed.
    pub transfer_time_us: u64,
}

/// Which way the bytes of a transfer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From this agent: `agent_tx_…`.
    Write,
    /// To this agent: `agent_rx_…`.
    Read,
}

impl Recorder {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Records a completed transfer: post time, transfer time, bytes and one request, in this order. Those of them
    /// that are enabled are kept all together, or dropped all together.
    #[inline]
    pub fn transfer(&self, transfer: Transfer) {
        if self.shared.staging.expansion().of_transfer(transfer.direction) > 0
            && !local::with(&self.shared, |producer| producer.transfer(transfer))
        {
            let Transfer { direction, bytes, post_time_us, transfer_time_us } = transfer;
            self.offer_in_common(&Record::long(direction, bytes, transfer_time_us, post_time_us));
        }
    }

    /// Records a completed transfer whose post time was recorded before, as an event: NIXL up to 1.3 learns of the two at
    /// different moments.
    pub fn transfer_after_post(&self, direction: Direction, bytes: u64, transfer_time_us: u64) {
        self.offer(&Record::tail(direction, bytes, transfer_time_us));
    }

    /// Whether anything of a transfer that way is recorded: whether one of its four events is enabled.
    pub fn keeps_transfers(&self, direction: Direction) -> bool {
        self.shared.staging.expansion().of_transfer(direction) > 0
    }

    /// Records that this many bytes were registered by one call.
    pub fn memory_registered(&self, bytes: u64) {
        self.event(Kind::MEMORY_REGISTERED, bytes);
    }

    /// Records that this many bytes were deregistered by one call.
    pub fn memory_deregistered(&self, bytes: u64) {
        self.event(Kind::MEMORY_DEREGISTERED, bytes);
    }

    /// Records one error. A status that is no error records nothing; NIXL aborts the process over it.
    pub fn error(&self, status: Status) {
        if let Some(kind) = status.kind() {
            self.event(kind, 1);
        }
    }

    /// Records an event of a backend, under its own name of any length. Not every exporter can take it.
    ///
    /// Looking up the name takes a lock, and each name is kept as long as the collector: names are for sorts of events,
    /// not for numbering them.
    pub fn backend(&self, name: &str, value: u64) {
        // The child of a fork has names of its own.
        let Some(shared) = self.shared.here() else { return };
        if shared.allowlist.allows_backend(name) {
            let number = shared.staging.name(name);
            self.offer(&Record::backend(number, value));
        }
    }

    /// Records an event of any kind.
    pub fn event(&self, kind: Kind, value: u64) {
        if self.shared.allowlist.allows(kind) {
            self.offer(&Record::event(kind, value));
        }
    }

    /// Starts the clock of a transfer of `bytes` bytes in `descriptors` pieces. Call it before the backend's post call.
    pub fn start(&self, direction: Direction, bytes: u64, descriptors: u64) -> InFlight {
        InFlight::start(self.clone(), direction, bytes, descriptors)
    }

    /// What became of the events so far; works after the collector has gone, too.
    pub fn counts(&self) -> Counts {
        self.shared.here().map(|shared| shared.counts()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn producer_for_tests(&self) -> crate::Producer {
        crate::Producer::new(Arc::clone(&self.shared)).expect("there is room")
    }

    #[cfg(test)]
    pub(crate) fn urge_for_tests(&self) {
        self.shared.staging.urge();
    }

    fn offer(&self, record: &Record) {
        let events = self.shared.staging.expansion().events(record);
        if events > 0 && !local::with(&self.shared, |producer| producer.offer(record, events)) {
            self.offer_in_common(record);
        }
    }

    #[cold]
    fn offer_in_common(&self, record: &Record) {
        if let Some(shared) = self.shared.here() {
            shared.offer_in_common(record, shared.staging.expansion().events(record));
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("agent", &self.shared.agent).finish_non_exhaustive()
    }
}
