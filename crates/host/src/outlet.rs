// SPDX-License-Identifier: Apache-2.0

//! A sink that cannot hurt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nixl_telemetry_event::Event;
use nixl_telemetry_log::{error, panic_text, warn};

use crate::Sink;
use crate::ledger::Outcome;

/// An exporter by name: a sink, or the place of one that is unavailable.
pub(crate) struct Outlet {
    agent: Arc<str>,
    name: String,
    sink: Option<Box<dyn Sink>>,
}

impl Outlet {
    pub(crate) fn new(agent: Arc<str>, name: String, sink: Option<Box<dyn Sink>>) -> Self {
        Self { agent, name, sink }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Hands the batch to the sink. After a panic there is no sink any more.
    pub(crate) fn export(&mut self, batch: &[Event<'_>]) -> Outcome {
        let events = batch.len() as u64;
        let Some(sink) = &mut self.sink else { return Outcome { unavailable: events, ..Outcome::default() } };
        // The sink is not used again after a panic, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| sink.export(batch))) {
            Ok(done) => {
                // A sink that cannot count spoils no account.
                let exported = done.accepted.min(events);
                let unsupported = done.unsupported.min(events - exported);
                let failed = events - exported - unsupported;
                if failed > 0 {
                    let why = done.first_failure.as_deref().unwrap_or("no reason given");
                    warn!("agent {}: exporter {} failed at {failed} of {events} events: {why}", self.agent, self.name);
                }
                Outcome { exported, failed, unsupported, ..Outcome::default() }
            }
            Err(payload) => {
                let problem = format!("panicked: {}", panic_text(payload));
                error!("agent {}: exporter {} {problem}; its events are dropped from now on", self.agent, self.name);
                self.destroy();
                Outcome { failed: events, problem: Some(problem), ..Outcome::default() }
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
