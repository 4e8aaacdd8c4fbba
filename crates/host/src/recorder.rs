// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;

use nixl_telemetry_event::{Kind, Status};

use crate::allowlist::Allowlist;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::record;
use crate::staging::Staging;
use crate::{Counts, InFlight};

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

/// What a collector, its recorders and its flush thread have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) agent: Arc<str>,
    pub(crate) allowlist: Allowlist,
    pub(crate) clock: Clock,
    pub(crate) staging: Staging,
    pub(crate) ledger: Ledger,
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
        let Shared { clock, staging, .. } = &*self.shared;
        staging.offer(&record::transfer(&transfer, clock.now_us()));
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
        let Shared { allowlist, clock, staging, .. } = &*self.shared;
        if allowlist.allows_backend(name) {
            staging.offer_backend(name, value, clock.now_us());
        }
    }

    /// Records an event of any kind.
    pub fn event(&self, kind: Kind, value: u64) {
        let Shared { allowlist, clock, staging, .. } = &*self.shared;
        if allowlist.allows(kind) {
            staging.offer(&record::event(kind, value, clock.now_us()));
        }
    }

    /// Starts the clock of a transfer of `bytes` bytes in `descriptors` pieces. Call it before the backend's post call.
    pub fn start(&self, direction: Direction, bytes: u64, descriptors: u64) -> InFlight {
        InFlight::start(self.clone(), direction, bytes, descriptors)
    }

    /// What became of the events so far; works after the collector has gone, too.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.counts(&self.shared.staging)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("agent", &self.shared.agent).finish_non_exhaustive()
    }
}
