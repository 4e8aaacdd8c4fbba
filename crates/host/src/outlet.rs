// SPDX-License-Identifier: Apache-2.0

//! A sink that cannot hurt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nixl_telemetry_loader::Batch;
use nixl_telemetry_log::{error, panic_text, warn};

use crate::Sink;
use crate::ledger::Outcome;

/// An exporter by name: a sink, or the place of one that is unavailable.
pub(crate) struct Outlet {
    agent: Arc<str>,
    name: String,
    sink: Option<Box<dyn Sink>>,
    takes_totals: bool,
    discards: bool,
}

impl Outlet {
    pub(crate) fn new(agent: Arc<str>, name: String, sink: Option<Box<dyn Sink>>) -> Self {
        let takes_totals = sink.as_ref().is_some_and(|sink| sink.takes_totals());
        let discards = sink.as_ref().is_some_and(|sink| sink.discards());
        Self { agent, name, sink, takes_totals, discards }
    }

    /// Whether it takes all events unseen.
    pub(crate) fn discards(&self) -> bool {
        self.discards
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn takes_totals(&self) -> bool {
        self.takes_totals
    }

    /// Hands the batch to the sink. After a panic there is no sink any more.
    pub(crate) fn export(&mut self, batch: &Batch<'_>) -> Outcome {
        let events = batch.events.len() as u64;
        let counted: u64 = batch.totals.iter().map(|total| total.count).sum();
        let all = events + counted;
        let Some(sink) = &mut self.sink else { return Outcome { unavailable: all, ..Outcome::default() } };
        // The sink is not used again after a panic, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| sink.export_batch(batch))) {
            Ok(done) => {
                // A sink that cannot count spoils no account.
                let exported = done.accepted.min(events);
                let unsupported = done.unsupported.min(events - exported);
                let aggregated = done.aggregated.min(counted);
                let failed = all - exported - unsupported - aggregated;
                if failed > 0 {
                    let why = done.first_failure.as_deref().unwrap_or("no reason given");
                    warn!("agent {}: exporter {} failed at {failed} of {all} events: {why}", self.agent, self.name);
                }
                Outcome { exported, failed, unsupported, aggregated, ..Outcome::default() }
            }
            Err(payload) => {
                let problem = format!("panicked: {}", panic_text(payload));
                error!("agent {}: exporter {} {problem}; its events are dropped from now on", self.agent, self.name);
                self.destroy();
                Outcome { failed: all, problem: Some(problem), ..Outcome::default() }
            }
        }
    }

    /// Drops the sink.
    pub(crate) fn destroy(&mut self) {
        let sink = self.sink.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(sink))) {
            error!("agent {}: exporter {} panicked at its end: {}", self.agent, self.name, panic_text(payload));
        }
    }
}
