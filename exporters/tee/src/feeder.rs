// SPDX-License-Identifier: Apache-2.0

//! What the thread of an exporter does: opens it, and hands it what waits.

use std::sync::{Arc, OnceLock};

use nixl_telemetry_event::{Event, Kind, Total};
use nixl_telemetry_loader::{Batch, CreateError, Exported, Exporter, Form, Plugin};
use nixl_telemetry_sdk::{KeptBatch, LogSite, info, log_on, warn};

use crate::child::Context;
use crate::list::Item;
use crate::queue::{Counts, Message, Queue};
use crate::sampler::Sampler;

/// Why there is no exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The address it serves is taken: by another process of the node, mostly.
    Taken(String),
    /// Anything else.
    Broken(String),
}

impl Refusal {
    /// Says so, always: it is said once for an exporter.
    pub(crate) fn tell(&self, agent: &str, name: &str) {
        let problem = "is off, its events are dropped";
        let site = LogSite::new();
        match self {
            Self::Taken(cause) => log_on!(&site, Warn, "tee of agent {agent}: exporter {name} {problem}: {cause}"),
            Self::Broken(cause) => log_on!(&site, Error, "tee of agent {agent}: exporter {name} {problem}: {cause}"),
        }
    }
}

/// An exporter, and its share of what its agent does.
pub(crate) struct Feeder {
    item: Item,
    context: Arc<Context>,
    queue: Arc<Queue>,
    opened: Arc<OnceLock<Result<(), Refusal>>>,
    exporter: Option<Exporter>,
    sampler: Sampler,
    /// Events it has failed at since it last took some.
    failed: u64,
    /// For what it has to say again and again.
    log: LogSite,
}

impl Feeder {
    pub(crate) fn new(
        item: Item,
        context: Arc<Context>,
        queue: Arc<Queue>,
        opened: Arc<OnceLock<Result<(), Refusal>>>,
    ) -> Self {
        let sampler = Sampler::new(item.one_of);
        Self { item, context, queue, opened, exporter: None, sampler, failed: 0, log: LogSite::new() }
    }

    /// Hands over all that waits, and before the first time opens the exporter.
    pub(crate) fn run(&mut self) {
        if self.opened.get().is_none() {
            self.open();
        }
        let Some(mut exporter) = self.exporter.take() else { return };
        while let Some(message) = self.queue.pop() {
            let became = match &message {
                Message::Events(batch) => self.export(&mut exporter, batch),
                Message::Totals { totals, time_us } => self.export_totals(&mut exporter, totals, *time_us),
            };
            self.queue.settle(&message, &became);
        }
        self.exporter = Some(exporter);
    }

    fn open(&mut self) {
        let (agent, name) = (&self.context.agent, &self.item.name);
        for pattern in &self.item.idle {
            warn!("tee of agent {agent}: exporter {name} has {pattern:?}, which no event of an agent matches");
        }
        let result = match self.create() {
            Ok(exporter) => {
                let file = exporter.plugin().path().display();
                info!("tee of agent {agent}: exporter {name} is open, from {file}");
                self.exporter = Some(exporter);
                Ok(())
            }
            Err(refusal) => {
                refusal.tell(agent, name);
                self.queue.close();
                Err(refusal)
            }
        };
        // Only this thread sets it, once.
        let _ = self.opened.set(result);
    }

    fn create(&self) -> Result<Exporter, Refusal> {
        let Context { agent, max_events, generation, search_path, .. } = &*self.context;
        let plugin = Plugin::find(&self.item.name, search_path).map_err(|error| Refusal::Broken(error.to_string()))?;
        let plugin = plugin.presumed_for(*generation);
        let refuse = |problem: &str| Err(Refusal::Broken(format!("{}: {problem}", plugin.path().display())));
        // The list says so, but a file may have any name. One that negotiates has a name in its plugin object.
        if plugin.form() == Form::Rich && plugin.declared_name() == "tee" {
            return refuse("it is a tee, which would open itself again: expected another exporter");
        }
        // It may have taken so long to load that nobody waits any more for what it would make: a file, a port.
        if self.queue.is_closed() {
            return refuse("its agent has ended before it was open");
        }
        let exporter = plugin.create_exporter(agent, *max_events).map_err(|error| {
            let refusal = if matches!(error, CreateError::BindFailed(_)) { Refusal::Taken } else { Refusal::Broken };
            refusal(format!("{}: {error}", plugin.path().display()))
        })?;
        if exporter.takes_totals() && self.item.one_of.get() > 1 {
            let rate = self.item.one_of;
            let problem = format!("it shows sums, which would be wrong of one of {rate} transfers: expected no rate");
            return Err(Refusal::Broken(problem));
        }
        Ok(exporter)
    }

    /// Hands over the events of a batch that are for this exporter.
    fn export(&mut self, exporter: &mut Exporter, batch: &KeptBatch) -> Counts {
        let mut became = Counts::default();
        let mut events = Vec::with_capacity(batch.len());
        for event in batch {
            if !self.item.filter.allows_event(&event) {
                became.filtered += 1;
            } else if !self.sampler.keeps(&event) {
                became.sampled += 1;
            } else {
                events.push(event);
            }
        }
        if !events.is_empty() {
            let done = exporter.export_batch(&Batch { events: &events, totals: &[], id: batch.id() });
            self.note(&done);
            became.exported = done.accepted;
            became.failed = done.failed;
            became.unsupported = done.unsupported;
        }
        became
    }

    /// Hands over totals of kinds that are for this exporter; to one that takes none, as an event that says how many events
    /// there are behind them.
    fn export_totals(&mut self, exporter: &mut Exporter, totals: &[Total], time_us: u64) -> Counts {
        let filter = &self.item.filter;
        let wanted: Vec<Total> = totals.iter().filter(|total| filter.allows(total.kind)).copied().collect();
        let all = totals.len() as u64;
        let is_told =
            exporter.takes_totals() || self.context.reports_drops && filter.allows(Kind::TELEMETRY_EVENTS_DROPPED);
        if wanted.is_empty() || !is_told {
            return Counts { filtered: all, ..Counts::default() };
        }
        let done = if exporter.takes_totals() {
            exporter.export_batch(&Batch { events: &[], totals: &wanted, id: None })
        } else {
            let dropped = wanted.iter().fold(0_u64, |sum, total| sum.saturating_add(total.count));
            exporter.export(&[Event::new(Kind::TELEMETRY_EVENTS_DROPPED, dropped).at(time_us)])
        };
        self.note(&done);
        let told = wanted.len() as u64;
        let filtered = all - told;
        if done.failed + done.aggregates_failed > 0 {
            Counts { filtered, failed: told, ..Counts::default() }
        } else {
            Counts { filtered, exported: told, ..Counts::default() }
        }
    }

    /// Says once that the exporter fails, and once that it is well again.
    fn note(&mut self, done: &Exported) {
        let (agent, name) = (&self.context.agent, &self.item.name);
        let failed = done.failed + done.aggregates_failed;
        if failed > 0 && self.failed == 0 {
            let why = done.first_failure.as_ref().map_or_else(|| "no reason given".to_owned(), ToString::to_string);
            log_on!(&self.log, Warn, "tee of agent {agent}: exporter {name} failed at {failed} events: {why}");
        } else if failed == 0 && self.failed > 0 {
            let before = self.failed;
            log_on!(&self.log, Info, "tee of agent {agent}: exporter {name} takes events again; it failed at {before}");
            self.failed = 0;
        }
        self.failed += failed;
    }
}
