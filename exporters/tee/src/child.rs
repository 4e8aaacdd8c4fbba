// SPDX-License-Identifier: Apache-2.0

//! One exporter, as the tee sees it: a queue, and a thread that empties it.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Allowlist, Generation};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_sdk::{Agent, Error, Kind, LogSite, Settings, Worker, log_on};

use crate::feeder::{Feeder, Refusal};
use crate::list::Item;
use crate::queue::{Counts, Limits, Message, Pushed, Queue};
use crate::search;
use crate::settings::{ENABLED_METRICS, QUEUE_BYTES, QUEUE_SIZE};

/// What all exporters of an agent are made with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) agent: String,
    /// The host's `NIXL_TELEMETRY_BUFFER_SIZE`.
    pub(crate) max_events: u64,
    /// The generation of the NIXL that is the host, if one is: plugins beside it are made for it.
    pub(crate) generation: Option<Generation>,
    pub(crate) search_path: SearchPath,
    /// Whether what is dropped is an event.
    pub(crate) reports_drops: bool,
    pub(crate) limits: Limits,
}

/// One exporter.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    context: Arc<Context>,
    queue: Arc<Queue>,
    opened: Arc<OnceLock<Result<(), Refusal>>>,
    /// None for one that is off because there was no thread to be had.
    worker: Option<Worker>,
    /// For what it has to say again and again.
    log: LogSite,
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
            generation: agent.generation(),
            search_path: search::path(settings)?,
            reports_drops: enabled.allows(Kind::TELEMETRY_EVENTS_DROPPED),
            limits: Limits { events: settings.get(&QUEUE_SIZE)?.value, bytes: settings.get(&QUEUE_BYTES)?.value },
        })
    }
}

impl Child {
    /// Starts its thread, which opens it.
    pub(crate) fn start(item: Item, context: &Arc<Context>) -> Self {
        Self::start_on(item, context, |name, mut feeder| {
            // The exporter ends with the feeder, that is, on the thread as well.
            Worker::start(name, Duration::ZERO, move |_| {
                feeder.run();
                Duration::MAX
            })
        })
    }

    /// Starts it on the thread that this makes; if there is none to be had, it is off.
    fn start_on(item: Item, context: &Arc<Context>, start: impl FnOnce(&str, Feeder) -> io::Result<Worker>) -> Self {
        let name = item.name.clone();
        let queue = Arc::new(Queue::new(context.limits));
        let opened = Arc::<OnceLock<_>>::default();
        let feeder = Feeder::new(item, Arc::clone(context), Arc::clone(&queue), Arc::clone(&opened));
        let worker = start(&format!("nixl-tlm-tee-{name}"), feeder);
        let worker = worker.map_err(|error| {
            let refusal = Refusal::Broken(format!("there is no thread for it: {error}"));
            refusal.tell(&context.agent, &name);
            queue.close();
            // Nobody else sets it, since there is no thread.
            let _ = opened.set(Err(refusal));
        });
        Self { name, context: Arc::clone(context), queue, opened, worker: worker.ok(), log: LogSite::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it is open or refused; `None` if that takes longer.
    pub(crate) fn opened(&self, until: Instant) -> Option<&Result<(), Refusal>> {
        if let Some(worker) = &self.worker {
            worker.wait(worker.ask(), until);
        }
        self.opened.get()
    }

    /// Puts a message into its queue. Never waits.
    pub(crate) fn push(&self, message: Message) {
        let (agent, name) = (&self.context.agent, &self.name);
        match self.queue.push(message) {
            Pushed::Taken { after } => {
                if after > 0 {
                    let again = "has room again";
                    log_on!(
                        &self.log,
                        Info,
                        "tee of agent {agent}: exporter {name} {again}; {after} events were dropped"
                    );
                }
                if let Some(worker) = &self.worker {
                    worker.ask();
                }
            }
            Pushed::FullOfEvents => self.tell_full(self.context.limits.events, "events", QUEUE_SIZE.name()),
            Pushed::FullOfBytes => self.tell_full(self.context.limits.bytes, "bytes", QUEUE_BYTES.name()),
            Pushed::StillFull | Pushed::Closed => {}
        }
    }

    fn tell_full(&self, limit: u64, unit: &str, setting: &str) {
        let (agent, name) = (&self.context.agent, &self.name);
        let problem = format!("has no room for more than {limit} {unit} ({setting}): new events are dropped");
        log_on!(&self.log, Warn, "tee of agent {agent}: exporter {name} {problem}");
    }

    /// Has it end as soon as it has what waits for it.
    pub(crate) fn ask_to_end(&self) {
        if let Some(worker) = &self.worker {
            worker.end(Instant::now());
        }
    }

    /// Waits until it has ended, or leaves it behind.
    pub(crate) fn end(&self, until: Instant) -> Ending {
        let is_left = self.worker.as_ref().is_some_and(|worker| !worker.end(until));
        // What it does not have by now it does not get.
        self.queue.close();
        Ending { name: self.name.clone(), is_left, counts: self.queue.counts() }
    }
}

/// How an exporter ended, and what became of its events.
#[derive(Debug)]
pub(crate) struct Ending {
    name: String,
    /// It did not end in time.
    is_left: bool,
    counts: Counts,
}

impl Ending {
    /// Whether it lost events, or did not end.
    pub(crate) fn is_bad(&self) -> bool {
        self.is_left || self.counts.lost() > 0
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_left { ", which does not end and is left behind" } else { "" };
        write!(f, "{}{how}: {}", self.name, self.counts)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use nixl_telemetry_sdk::{Dialect, Total, Value as _};

    use super::*;
    use crate::list::List;

    #[test]
    fn one_without_a_thread_is_off() {
        let context = Arc::new(Context {
            agent: "a".to_owned(),
            max_events: 4096,
            generation: None,
            search_path: SearchPath::default(),
            reports_drops: true,
            limits: Limits { events: 10, bytes: 1000 },
        });
        let item = List::from_env(OsStr::new("csv"), Dialect::default()).unwrap().0.remove(0);
        let child = Child::start_on(item, &context, |name, _| Err(io::Error::other(format!("no {name}"))));
        let refusal = Refusal::Broken("there is no thread for it: no nixl-tlm-tee-csv".to_owned());
        let now = Instant::now();
        assert_eq!(child.opened(now), Some(&Err(refusal)));
        let totals = [Total { kind: Kind::TX_BYTES, count: 1, sum: 1 }; 3].into();
        child.push(Message::Totals { totals, time_us: 1 });
        child.ask_to_end();
        let ending = child.end(now);
        assert_eq!(ending.to_string(), "csv: 3 taken = 0 exported + 3 dropped");
        assert!(ending.is_bad() && !ending.is_left);
    }
}
