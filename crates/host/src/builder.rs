// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;

use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_log::{error, warn};
use nixl_telemetry_settings::{Origin, Settings};

use crate::allowlist::Allowlist;
use crate::choose::{self, Context};
use crate::clock::Clock;
use crate::collector::Collector;
use crate::lane::Bounds;
use crate::ledger::Ledger;
use crate::lenient::Lenient;
use crate::outlet::Outlet;
use crate::record::Expansion;
use crate::recorder::Shared;
use crate::settings::{
    BUFFER_SIZE, ENABLE, ENABLED_METRICS, EXPORTER, MEMORY_BUDGET, OnError, RUN_INTERVAL, SHUTDOWN_TIMEOUT, TIMESTAMPS,
};
use crate::staging::Staging;
use crate::{Error, Sink};

/// What a [`Collector`] is made of.
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    agent: String,
    settings: Option<Settings>,
    capture_telemetry: bool,
    exporters: Vec<String>,
    sinks: Vec<(String, Box<dyn Sink>)>,
    search_path: Option<SearchPath>,
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

    /// Creates the exporters and starts the flush thread, or returns `None` if telemetry is off.
    ///
    /// Telemetry is on if [`ENABLE`] says so, or if it is not set and the program
    /// [asks](Self::capture_telemetry). It is also off, after an ERROR line, if the system gives no thread.
    ///
    /// # Errors
    /// * [`Error::InvalidAgentName`] if the name is empty, whether or not telemetry is on.
    /// * Only if [`ON_ERROR`](crate::settings::ON_ERROR) is `fail`: the first setting that is malformed, the first
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

        let (buffer_size, is_bound) = buffer_size(&mut lenient)?;
        let interval = lenient.get(&RUN_INTERVAL)?.duration();
        let allowlist = allowlist(&agent, &lenient.get(&ENABLED_METRICS)?);
        let bounds = Bounds { events: is_bound.then_some(buffer_size), bytes: lenient.get(&MEMORY_BUDGET)? };
        let staging = Staging::new(Expansion::new(&allowlist), bounds, buffer_size, interval);
        let clock = Clock::new(lenient.get(&TIMESTAMPS)?);
        let shutdown_timeout = lenient.get(&SHUTDOWN_TIMEOUT)?.duration();

        let has_sinks = !self.sinks.is_empty();
        let context = Context { agent: Arc::clone(&agent), buffer_size, search_path: self.search_path, has_sinks };
        let mut exporters = choose::choose(context, &mut lenient)?;
        for (name, sink) in self.sinks {
            exporters.push((Outlet::new(Arc::clone(&agent), name, Some(sink)), None));
        }
        let ledger = Ledger::new(exporters.iter().map(|(outlet, problem)| (outlet.name().to_owned(), problem.clone())));
        let outlets = exporters.into_iter().map(|(outlet, _)| outlet).collect();
        let shared = Shared { agent: Arc::clone(&agent), allowlist, clock, staging, ledger };
        match Collector::start(shared, outlets, shutdown_timeout) {
            Ok(collector) => Ok(Some(collector)),
            Err(error) if lenient.policy() == OnError::Fail => Err(error),
            Err(error) => {
                error!("agent {agent}: {error}; telemetry is off");
                Ok(None)
            }
        }
    }
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
