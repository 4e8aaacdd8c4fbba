// SPDX-License-Identifier: Apache-2.0

//! One exporter, as the tee sees it: a queue, and a thread that empties it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nixl_telemetry_event::Allowlist;
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_sdk::{Agent, Error, Kind, Settings, Worker, info, warn};

use crate::feeder::{Feeder, Refusal};
use crate::list::Item;
use crate::queue::{Message, Pushed, Queue};
use crate::search;
use crate::settings::{ENABLED_METRICS, QUEUE_SIZE};

/// What all exporters of an agent are made with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) agent: String,
    /// The host's `NIXL_TELEMETRY_BUFFER_SIZE`.
    pub(crate) max_events: u64,
    pub(crate) search_path: SearchPath,
    /// Whether what is dropped is an event.
    pub(crate) reports_drops: bool,
    pub(crate) queue_size: u64,
}

/// One exporter.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    context: Arc<Context>,
    queue: Arc<Queue>,
    opened: Arc<OnceLock<Result<(), Refusal>>>,
    worker: Worker,
}

impl Context {
    /// That of an agent.
    ///
    /// # Errors
    /// If a setting does not fit.
    pub(crate) fn new(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let (enabled, _) = Allowlist::new(&settings.get(&ENABLED_METRICS)?.value);
        Ok(Self {
            agent: agent.name().to_owned(),
            max_events: agent.max_events_buffered(),
            search_path: search::path(settings)?,
            reports_drops: enabled.allows(Kind::TELEMETRY_EVENTS_DROPPED),
            queue_size: settings.get(&QUEUE_SIZE)?.value,
        })
    }
}

impl Child {
    /// Starts its thread, which opens it.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn start(item: Item, context: &Arc<Context>) -> Result<Self, Error> {
        let name = item.name.clone();
        let queue = Arc::new(Queue::new(context.queue_size));
        let opened = Arc::<OnceLock<_>>::default();
        let mut feeder = Feeder::new(item, Arc::clone(context), Arc::clone(&queue), Arc::clone(&opened));
        // The exporter ends with the feeder, that is, on the thread as well.
        let worker = Worker::start(&format!("nixl-tlm-tee-{name}"), Duration::ZERO, move |_| {
            feeder.run();
            Duration::MAX
        });
        let worker = worker.map_err(|error| format!("no thread for exporter {name}: {error}"))?;
        Ok(Self { name, context: Arc::clone(context), queue, opened, worker })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it is open or refused; `None` if that takes longer.
    pub(crate) fn opened(&self, until: Instant) -> Option<&Result<(), Refusal>> {
        self.worker.wait(self.worker.ask(), until);
        self.opened.get()
    }

    /// Puts a message into its queue. Never waits.
    pub(crate) fn push(&self, message: Message) {
        let (agent, name) = (&self.context.agent, &self.name);
        match self.queue.push(message) {
            Pushed::Taken { after } => {
                if after > 0 {
                    info!("tee of agent {agent}: exporter {name} has room again; {after} events were dropped");
                }
                self.worker.ask();
            }
            Pushed::Full => warn!(
                "tee of agent {agent}: exporter {name} has no room for more than {} events ({}): new ones are dropped",
                self.context.queue_size,
                QUEUE_SIZE.name()
            ),
            Pushed::StillFull | Pushed::Closed => {}
        }
    }

    /// Has it end as soon as it has what waits for it.
    pub(crate) fn ask_to_end(&self) {
        self.worker.end(Instant::now());
    }

    /// Waits until it has ended, or leaves it behind, and says what became of its events.
    pub(crate) fn end(&self, until: Instant) {
        let (agent, name) = (&self.context.agent, &self.name);
        let has_ended = self.worker.end(until);
        // What it does not have by now it does not get.
        self.queue.close();
        let counts = self.queue.counts();
        if !has_ended {
            warn!("tee of agent {agent}: exporter {name} does not end, and is left behind: {counts}");
        } else if counts.lost() > 0 {
            warn!("tee of agent {agent}: exporter {name} has ended: {counts}");
        } else {
            info!("tee of agent {agent}: exporter {name} has ended: {counts}");
        }
    }
}
