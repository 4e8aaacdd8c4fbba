// SPDX-License-Identifier: Apache-2.0

use std::sync::Arc;
use std::{fmt, iter};

use nixl_telemetry_event::{Kind, Status};

use crate::allowlist::Allowlist;
use crate::clock;
use crate::ledger::Ledger;
use crate::staging::{Record, Staging, Subject};
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
    pub fn transfer(&self, transfer: Transfer) {
        let (bytes, requests) = match transfer.direction {
            Direction::Write => (Kind::TX_BYTES, Kind::TX_REQUESTS_NUM),
            Direction::Read => (Kind::RX_BYTES, Kind::RX_REQUESTS_NUM),
        };
        self.group(&[
            (Kind::XFER_POST_TIME, transfer.post_time_us),
            (Kind::XFER_TIME, transfer.transfer_time_us),
            (bytes, transfer.bytes),
            (requests, 1),
        ]);
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
    pub fn backend(&self, name: &str, value: u64) {
        if self.shared.allowlist.allows_backend(name) {
            let timestamp_us = clock::wall_us();
            let record = Record { subject: Subject::Backend(name.into()), value, timestamp_us };
            self.shared.staging.offer(1, iter::once(record));
        }
    }

    /// Records an event of any kind.
    pub fn event(&self, kind: Kind, value: u64) {
        self.group(&[(kind, value)]);
    }

    /// Starts the clock of a transfer of `bytes` bytes in `descriptors` pieces. Call it before the backend's post call.
    pub fn start(&self, direction: Direction, bytes: u64, descriptors: u64) -> InFlight {
        InFlight::start(self.clone(), direction, bytes, descriptors)
    }

    /// What became of the events so far; works after the collector has gone, too.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.counts(&self.shared.staging)
    }

    /// Records the enabled ones of `events` together, at one time.
    fn group(&self, events: &[(Kind, u64)]) {
        let enabled = events.iter().filter(|(kind, _)| self.shared.allowlist.allows(*kind));
        let count = enabled.clone().count();
        if count > 0 {
            let timestamp_us = clock::wall_us();
            let record =
                |(kind, value): &(Kind, u64)| Record { subject: Subject::Kind(*kind), value: *value, timestamp_us };
            self.shared.staging.offer(count, enabled.map(record));
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("agent", &self.shared.agent).finish_non_exhaustive()
    }
}
