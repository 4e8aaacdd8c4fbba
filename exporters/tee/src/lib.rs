// SPDX-License-Identifier: Apache-2.0

//! Feeds several exporters through the one place NIXL has for one: `NIXL_TELEMETRY_EXPORTER=tee`,
//! `NIXL_TELEMETRY_TEE=prometheus,jsonl@1/100,csv:agent_err_*`.
//!
//! To NIXL it is an exporter, to its exporters a host. A batch is copied once, and each exporter gets it from a queue of its
//! own, on a thread of its own, which also opens and ends it. So one that panics, fails, waits or never returns costs its own
//! events and no one else's.
//!
//! * [`list`]: what the setting says; [`search`]: where plugins are looked for.
//! * [`child`]: one exporter, as the tee sees it; [`queue`]: what waits for it; [`feeder`]: what its thread does;
//!   [`sampler`]: which transfers it gets.

#![forbid(unsafe_code)]

mod child;
mod feeder;
mod list;
mod queue;
mod sampler;
mod search;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nixl_telemetry_event::Allowlist;
use nixl_telemetry_sdk::{
    Agent, Batch, Describe, Error, Exporter, Kind, Settings, Total, error, export_plugin, now_us, warn,
};
use nixl_telemetry_settings::{ON_ERROR, OnError};

use crate::child::{Child, Context};
use crate::queue::Message;
use crate::settings::{ENABLED_METRICS, OPEN_TIMEOUT, QUEUE_SIZE, SHUTDOWN_TIMEOUT, TEE};

/// The exporters of one agent.
struct Tee {
    children: Vec<Child>,
    shutdown_timeout: Duration,
}

impl Exporter for Tee {
    const SETTINGS: &'static [&'static dyn Describe] = &[&TEE, &QUEUE_SIZE, &OPEN_TIMEOUT, &SHUTDOWN_TIMEOUT];
    // Those that take none are told how many events there are behind them.
    const TOTALS: bool = true;

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let list = settings.get(&TEE)?.value;
        let context = Context {
            agent: agent.name().to_owned(),
            max_events: agent.max_events_buffered(),
            search_path: search::path(settings)?,
            reports_drops: Allowlist::new(&settings.get(&ENABLED_METRICS)?.value)
                .0
                .allows(Kind::TELEMETRY_EVENTS_DROPPED),
            queue_size: settings.get(&QUEUE_SIZE)?.value,
        };
        let open_timeout = settings.get(&OPEN_TIMEOUT)?.value.duration();
        let shutdown_timeout = settings.get(&SHUTDOWN_TIMEOUT)?.value.duration();
        // Somebody who misspells it learns of it from the adapter.
        let needs_all = settings.get(&ON_ERROR).is_ok_and(|found| found.value == OnError::Fail);

        let until = Instant::now() + open_timeout;
        let context = Arc::new(context);
        let mut children = Vec::new();
        for item in list.0 {
            let name = item.name.clone();
            match Child::start(item, &context) {
                Ok(child) => children.push(child),
                Err(error) if needs_all => return Err(format!("exporter {name}: no thread: {error}").into()),
                Err(error) => error!("tee of agent {}: exporter {name} is off: no thread: {error}", context.agent),
            }
        }
        let mut is_any_open = false;
        for child in &children {
            match child.opened(until) {
                None if needs_all => {
                    return Err(format!("exporter {} did not open within {open_timeout:?}", child.name()).into());
                }
                None => {
                    warn!(
                        "tee of agent {}: exporter {} did not open within {open_timeout:?}; its events wait",
                        context.agent,
                        child.name()
                    );
                    is_any_open = true;
                }
                // That another process of the node already serves the address is no mistake: NIXL 1.5 goes on, too.
                Some(Err(refusal)) if needs_all && !refusal.is_taken => {
                    return Err(format!("exporter {}: {}", child.name(), refusal.cause).into());
                }
                Some(Err(_)) => {}
                Some(Ok(())) => is_any_open = true,
            }
        }
        if !is_any_open {
            return Err("none of its exporters could be opened".into());
        }
        Ok(Self { children, shutdown_timeout })
    }

    fn export(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        self.hand_out(&Message::Events(Arc::new(batch.keep())));
        Ok(())
    }

    fn totals(&mut self, totals: &[Total]) -> Result<(), Error> {
        self.hand_out(&Message::Totals { totals: totals.into(), time_us: now_us() });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        // All at once, so that the time is not that of one after another.
        self.children.iter().for_each(Child::ask_to_end);
        let until = Instant::now() + self.shutdown_timeout;
        self.children.iter().for_each(|child| child.end(until));
        Ok(())
    }
}

impl Tee {
    /// What becomes of it is each exporter's own affair: nothing of that is a failure of the batch.
    fn hand_out(&self, message: &Message) {
        self.children.iter().for_each(|child| child.push(message.clone()));
    }
}

export_plugin!("tee", Tee);
