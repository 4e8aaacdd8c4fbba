// SPDX-License-Identifier: Apache-2.0

//! What takes events: the trait, the one that discards, and plugins.

use nixl_telemetry_event::Event;
use nixl_telemetry_loader::{Batch, Exporter};

/// Where a collector's events go.
///
/// All calls come from one thread, the collector's flush thread, one after another. The sink is dropped there too,
/// after its last batch, unless the collector could not be created. While a call lasts, no sink of this collector gets
/// events, and what finds no room in the buffer meanwhile is dropped: slow work belongs on a thread of the sink's own.
///
/// A sink that panics is dropped and gets nothing any more; the other sinks do.
pub trait Sink: Send {
    /// Takes one batch, which is never empty, in the order each thread recorded its events. They are valid during the call
    /// only.
    ///
    /// If the collector had no room for some events, and their kind is enabled, the last event of the batch is
    /// `agent_telemetry_events_dropped` with their number: those that [totals](Self::takes_totals) do not tell of.
    fn export(&mut self, batch: &[Event<'_>]) -> Exported;

    /// Whether it wants [`Batch::totals`], the exact sums of what had no room, which then counts as told and not as
    /// dropped. Must always be the same. Defaults to false.
    fn takes_totals(&self) -> bool {
        false
    }

    /// Whether it looks at nothing it is given, and takes everything: then it is given nothing, which saves making it. Must
    /// always be the same. Defaults to false.
    fn discards(&self) -> bool {
        false
    }

    /// Takes one batch with its totals and its identity; it may have no events then. Defaults to [`export`](Self::export)
    /// with its events.
    fn export_batch(&mut self, batch: &Batch<'_>) -> Exported {
        self.export(batch.events)
    }
}

/// What a sink did with a batch.
///
/// The counts should add up to the length of the batch; what is missing counts as failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Exported {
    /// Events taken.
    pub accepted: u64,
    /// Events refused, or lost to an error.
    pub failed: u64,
    /// Events of a sort the sink can never take.
    pub unsupported: u64,
    /// Events that the totals it took stand for.
    pub aggregated: u64,
    /// Events that totals it refused or lost stand for.
    pub aggregates_failed: u64,
    /// What went wrong first, for the log.
    pub first_failure: Option<String>,
}

impl Exported {
    /// All of `batch` was taken.
    pub fn all(batch: &[Event<'_>]) -> Self {
        Self { accepted: batch.len() as u64, ..Self::default() }
    }

    /// All of `batch` was taken, totals included.
    pub fn whole(batch: &Batch<'_>) -> Self {
        let aggregated = batch.totals.iter().map(|total| total.count).sum();
        Self { aggregated, ..Self::all(batch.events) }
    }
}

/// The sink that discards everything: `NIXL_TELEMETRY_EXPORTER=NOP`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nop;

impl Sink for Nop {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        Exported::all(batch)
    }

    fn takes_totals(&self) -> bool {
        true
    }

    fn discards(&self) -> bool {
        true
    }

    fn export_batch(&mut self, batch: &Batch<'_>) -> Exported {
        Exported::whole(batch)
    }
}

impl Sink for Exporter {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        Sink::export_batch(self, &Batch { events: batch, ..Batch::default() })
    }

    fn takes_totals(&self) -> bool {
        // The method of the exporter itself, not this one.
        Exporter::takes_totals(self)
    }

    fn export_batch(&mut self, batch: &Batch<'_>) -> Exported {
        let done = Exporter::export_batch(self, batch);
        Exported {
            accepted: done.accepted,
            failed: done.failed,
            unsupported: done.unsupported,
            aggregated: done.aggregated,
            aggregates_failed: done.aggregates_failed,
            first_failure: done.first_failure.map(|failure| failure.to_string()),
        }
    }
}
