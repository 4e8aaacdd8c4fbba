// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use nixl_telemetry_event::{Allowlist, Generation, Kind};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_log::{error, warn};
use nixl_telemetry_settings::{Origin, Settings};

use crate::choose::{self, Context};
use crate::clock::Clock;
use crate::collector::Collector;
use crate::flusher::Flusher;
use crate::journal::{self, Journal};
use crate::ledger::Ledger;
use crate::lenient::Lenient;
use crate::memory::Memory;
use crate::outlet::Outlet;
use crate::record::Expansion;
use crate::settings::{
    BUFFER_SIZE, ENABLE, ENABLED_METRICS, EXPORTER, JOURNAL_DIR, MEMORY_BUDGET, ON_ERROR, OVERFLOW, OnError,
    RUN_INTERVAL, SHUTDOWN_TIMEOUT, TIMESTAMPS,
};
use crate::shared::{Inheritance, Shared};
use crate::staging::{self, Rules, Staging};
use crate::{Error, Sink, exit, fork};

/// What a [`Collector`] is made of.
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    agent: String,
    settings: Option<Settings>,
    capture_telemetry: bool,
    exporters: Vec<String>,
    sinks: Vec<(String, Box<dyn Sink>)>,
    search_path: Option<SearchPath>,
    generation: Generation,
}

/// What a forked child needs to make a collector like its parent's.
pub(crate) struct Recipe {
    agent: Arc<str>,
    settings: Settings,
    search_path: Option<SearchPath>,
    generation: Generation,
    /// Names of the sinks that are the parent's own.
    sinks: Vec<String>,
}

impl Builder {
    pub(crate) fn new(agent: String) -> Self {
        Self {
            agent,
            settings: None,
            capture_telemetry: false,
            exporters: Vec::new(),
            sinks: Vec::new(),
            search_path: None,
            generation: Generation::V1_5,
        }
    }

    /// Where settings get their values. Defaults to [`Settings::process`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Whether the program asks for telemetry where [`ENABLE`] is not set: NIXL's `captureTelemetry`.
    /// Defaults to false.
    pub fn capture_telemetry(mut self, capture: bool) -> Self {
        self.capture_telemetry = capture;
        self
    }

    /// Adds an exporter by name. With at least one, [`EXPORTER`] is not looked at.
    pub fn exporter(mut self, name: impl Into<String>) -> Self {
        self.exporters.push(name.into());
        self
    }

    /// Adds a sink of the program's own, besides the exporters the settings name. [`Counts`](crate::Counts) and log
    /// lines call it by `name`.
    pub fn sink(mut self, name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        self.sinks.push((name.into(), sink));
        self
    }

    /// Where plugins are looked for. Defaults to [`SearchPath::from_settings`].
    pub fn search_path(mut self, path: SearchPath) -> Self {
        self.search_path = Some(path);
        self
    }

    /// The release of NIXL this stands in for, whose ring files `BUFFER` writes. Defaults to the newest.
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self
    }

    /// Creates the exporters and starts the flush thread, or returns `None` if telemetry is off.
    ///
    /// Telemetry is on if [`ENABLE`] says so, or if it is not set and the program
    /// [asks](Self::capture_telemetry). It is also off, after an ERROR line, if the system gives no thread.
    ///
    /// # Errors
    /// * [`Error::InvalidAgentName`] if the name is empty, whether or not telemetry is on.
    /// * Only if [`ON_ERROR`] is `fail`: the first setting that is malformed, the first
    ///   exporter that cannot be had, or the want of a thread. An exporter whose address is taken is no error, as in
    ///   NIXL 1.5: it gets a WARN line, and its events are dropped.
    pub fn build(self) -> Result<Option<Collector>, Error> {
        if self.agent.is_empty() {
            return Err(Error::InvalidAgentName);
        }
        let mut settings = self.settings.unwrap_or_else(|| Settings::process().clone());
        if !self.exporters.is_empty() {
            settings = settings.with_override(EXPORTER.name(), self.exporters.join(","));
        }
        let agent: Arc<str> = self.agent.into();
        let mut lenient = Lenient::new(&agent, settings);
        if !is_on(&agent, &mut lenient, self.capture_telemetry)? {
            return Ok(None);
        }
        let recipe = Recipe {
            agent: Arc::clone(&agent),
            settings: lenient.settings().clone(),
            search_path: self.search_path,
            generation: self.generation,
            sinks: self.sinks.iter().map(|(name, _)| name.clone()).collect(),
        };
        let sinks = self.sinks.into_iter().map(|(name, sink)| (name, Some(sink)));
        match recipe.make(&mut lenient, sinks) {
            Ok(shared) => Ok(Some(Collector::new(shared))),
            Err(error @ (Error::Thread(_) | Error::Memory)) if lenient.policy() != OnError::Fail => {
                error!("agent {agent}: {error}; telemetry is off");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Recipe {
    /// A collector with these sinks, started.
    fn make(
        self,
        lenient: &mut Lenient<'_>,
        sinks: impl Iterator<Item = (String, Option<Box<dyn Sink>>)>,
    ) -> Result<Arc<Shared>, Error> {
        fork::watch();
        let agent = &self.agent;
        let (buffer_size, is_bound) = buffer_size(lenient)?;
        let interval = lenient.get(&RUN_INTERVAL)?.duration();
        let allowlist = allowlist(agent, &lenient.get(&ENABLED_METRICS)?);
        let clock = Clock::new(lenient.get(&TIMESTAMPS)?);
        let overflow = lenient.get(&OVERFLOW)?;
        let budget = lenient.get(&MEMORY_BUDGET)?;
        let shutdown_timeout = lenient.get(&SHUTDOWN_TIMEOUT)?.duration();

        let reports_drops = allowlist.allows(Kind::TELEMETRY_EVENTS_DROPPED);
        let has_sinks = !self.sinks.is_empty();
        let search_path = self.search_path.clone();
        let context = Context {
            agent: Arc::clone(agent),
            buffer_size,
            search_path,
            generation: self.generation,
            reports_drops,
            has_sinks,
            needs_all: false,
        };
        let mut exporters = choose::choose(context, lenient)?;
        for (name, sink) in sinks {
            let problem = sink.is_none().then(|| "belongs to the process that was forked".to_owned());
            exporters.push((Outlet::new(Arc::clone(agent), name, sink), problem));
        }
        let ledger = Ledger::new(exporters.iter().map(|(outlet, problem)| (outlet.name().to_owned(), problem.clone())));
        let outlets: Vec<_> = exporters.into_iter().map(|(outlet, _)| outlet).collect();

        let expansion = Expansion::new(&allowlist);
        let journal = journal(agent, lenient, &outlets, (expansion, reports_drops))?;
        let origin = journal.as_ref().map_or_else(journal::new_origin, |journal| journal.origin());
        let journal = journal.map(Arc::new);
        let discard = |error| {
            // Nobody will ever look for what is in it: nothing.
            journal.as_ref().map(|journal| journal.remove());
            error
        };
        let rules = Rules {
            expansion,
            bound: is_bound.then_some(buffer_size),
            overflow,
            batch: buffer_size.min(staging::MOST_EVENTS),
            interval,
            memory: Memory { budget, journal: journal.clone() },
        };
        let shared = Arc::new(Shared {
            agent: Arc::clone(agent),
            origin,
            allowlist,
            reports_drops,
            clock,
            staging: Staging::new(rules).ok_or(Error::Memory).map_err(discard)?,
            ledger,
            shutdown_timeout,
            thread: Mutex::new(None),
            process: process::id(),
            inheritance: Inheritance::of(self),
        });
        let names = outlets.iter().map(|outlet| outlet.name().to_owned()).collect();
        let thread = Flusher::new(Arc::clone(&shared), outlets).start().map_err(Error::Thread).map_err(discard)?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        exit::watch(&shared, names);
        Ok(shared)
    }

    /// The collector of a forked child. What cannot be had costs its events, whatever the settings say: there is nobody
    /// who could be told.
    pub(crate) fn inherit(&self) -> Option<Arc<Shared>> {
        let settings = self.settings.clone().with_override(ON_ERROR.name(), "degrade");
        let Self { agent, search_path, generation, sinks, .. } = self;
        let recipe = Self {
            agent: Arc::clone(agent),
            settings: settings.clone(),
            search_path: search_path.clone(),
            generation: *generation,
            sinks: sinks.clone(),
        };
        let mut lenient = Lenient::new(agent, settings);
        match recipe.make(&mut lenient, sinks.iter().map(|name| (name.clone(), None))) {
            Ok(shared) => Some(shared),
            Err(error) => {
                error!("agent {agent}: {error}; this forked process has no telemetry");
                None
            }
        }
    }
}

/// The journal somebody asks for, if it can be had.
fn journal(
    agent: &str,
    lenient: &mut Lenient<'_>,
    outlets: &[Outlet],
    (expansion, reports_drops): (Expansion, bool),
) -> Result<Option<Journal>, Error> {
    let Some(found) = lenient.find(&JOURNAL_DIR)? else { return Ok(None) };
    let exporters: Vec<_> = outlets.iter().map(Outlet::name).collect();
    let refused = match Journal::create(&found.value, agent, &exporters, expansion, reports_drops) {
        Ok(journal) => return Ok(Some(journal)),
        Err(refused) => refused,
    };
    let what = format!("is {} ({})", found.value.display(), found.origin);
    let error = Error::Journal { setting: JOURNAL_DIR.name(), what, cause: refused.to_string() };
    if lenient.policy() == OnError::Fail {
        return Err(error);
    }
    error!("agent {agent}: {error}; events that wait are lost if the process dies");
    Ok(None)
}

fn is_on(agent: &str, lenient: &mut Lenient<'_>, capture: bool) -> Result<bool, Error> {
    let Some(found) = lenient.find(&ENABLE)? else { return Ok(capture) };
    if capture && !found.value {
        warn!("agent {agent}: the program asks for telemetry, but {} is off ({})", ENABLE.name(), found.origin);
    }
    Ok(found.value)
}

/// The setting, and whether somebody made it.
fn buffer_size(lenient: &mut Lenient<'_>) -> Result<(u64, bool), Error> {
    let found = lenient.find(&BUFFER_SIZE)?;
    Ok(match found {
        Some(found) => (found.value, found.origin != Origin::Default),
        None => (lenient.get(&BUFFER_SIZE)?, false),
    })
}

fn allowlist(agent: &str, setting: &str) -> Allowlist {
    let (allowlist, idle) = Allowlist::new(setting);
    for pattern in idle {
        warn!("agent {agent}: {} has {pattern:?}, which no event of the agent matches", ENABLED_METRICS.name());
    }
    allowlist
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks: Vec<&str> = self.sinks.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Builder")
            .field("agent", &self.agent)
            .field("capture_telemetry", &self.capture_telemetry)
            .field("exporters", &self.exporters)
            .field("sinks", &sinks)
            .field("search_path", &self.search_path)
            .finish_non_exhaustive()
    }
}
