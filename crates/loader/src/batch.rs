// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::{BatchId, Event, Total};

/// One batch with all a host may say about it, for [`Exporter::export_batch`](crate::Exporter::export_batch).
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// The events, in order. With an identity there must not be more than [`BatchId::MOST_EVENTS`], so that the exporter
    /// can take them as one; an exporter made with this project's sdk that gets more is not told which batch they are.
    pub events: &'a [Event<'a>],
    /// What was counted and added up where there was no room for single events: other events than those above. Ignored
    /// unless [`Exporter::takes_totals`](crate::Exporter::takes_totals).
    pub totals: &'a [Total],
    /// Which batch this is. Only negotiated plugins are told.
    pub id: Option<BatchId<'a>>,
}
