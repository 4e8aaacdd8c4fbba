// SPDX-License-Identifier: Apache-2.0

//! Feeds several exporters through the one place NIXL has for one: `NIXL_TELEMETRY_EXPORTER=tee`,
//! `NIXL_TELEMETRY_TEE=prometheus,jsonl@1/100,csv:agent_err_*`.
//!
//! To NIXL it is an exporter, to its exporters a host. A batch is copied once, and each exporter gets it from a queue of its
//! own, on a thread of its own, which also opens and ends it. So one that panics, fails, waits or never returns costs its own
//! events and no one else's.
//!
//! * `list`: what the setting says; `search`: where plugins are looked for.
//! * `child`: one exporter, as the tee sees it; `queue`: what waits for it; `feeder`: what its thread does; `sampler`: which
//!   transfers it gets.

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

use nixl_telemetry_sdk::{
    Agent, Batch, Describe, Error, Exporter, LogSite, Settings, Total, export_plugin, log_on, now_us,
};
use nixl_telemetry_settings::{ON_ERROR, OnError};

use crate::child::{Child, Context, Ending};
use crate::feeder::Refusal;
use crate::queue::Message;
use crate::settings::{DAY, OPEN_TIMEOUT, QUEUE_BYTES, QUEUE_SIZE, SHUTDOWN_TIMEOUT, TEE};

/// The exporters of one agent.
struct Tee {
    agent: String,
    children: Vec<Child>,
    shutdown_timeout: Duration,
}

impl Exporter for Tee {
    const SETTINGS: &'static [&'static dyn Describe] =
        &[&TEE, &QUEUE_SIZE, &QUEUE_BYTES, &OPEN_TIMEOUT, &SHUTDOWN_TIMEOUT];
    // Those that take none are told how many events there are behind them.
    const TOTALS: bool = true;

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let list = settings.get(&TEE)?.value;
        let context = Arc::new(Context::new(agent, settings)?);
        let open_timeout = settings.get(&OPEN_TIMEOUT)?.value.duration().min(DAY);
        let shutdown_timeout = settings.get(&SHUTDOWN_TIMEOUT)?.value.duration().min(DAY);
        // Who misspells it learns of that from the sdk.
        let needs_all = settings.get(&ON_ERROR).is_ok_and(|found| found.value == OnError::Fail);

        let until = Instant::now() + open_timeout;
        let children: Vec<_> = list.0.into_iter().map(|item| Child::start(item, &context)).collect();
        let mut is_broken = true;
        for child in &children {
            let problem = match child.opened(until) {
                // That another process of the node already serves the address is no mistake: NIXL 1.5 goes on, too.
                Some(Ok(()) | Err(Refusal::Taken(_))) => None,
                Some(Err(Refusal::Broken(cause))) => Some(cause.clone()),
                None => {
                    let problem = format!("it did not open within {open_timeout:?}");
                    let (agent, name) = (agent.name(), child.name());
                    log_on!(&LogSite::new(), Warn, "tee of agent {agent}: exporter {name}: {problem}; its events wait");
                    is_broken = false;
                    Some(problem)
                }
            };
            match problem {
                Some(problem) if needs_all => return Err(format!("exporter {}: {problem}", child.name()).into()),
                Some(_) => {}
                None => is_broken = false,
            }
        }
        if is_broken {
            Err("none of its exporters could be opened".into())
        } else {
            Ok(Self { agent: agent.name().to_owned(), children, shutdown_timeout })
        }
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
        let endings: Vec<_> = self.children.iter().map(|child| child.end(until)).collect();
        let (agent, all) = (&self.agent, endings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        // Always: no other line has the counts.
        let site = LogSite::new();
        if endings.iter().any(Ending::is_bad) {
            log_on!(&site, Warn, "tee of agent {agent} has ended: {all}");
        } else {
            log_on!(&site, Info, "tee of agent {agent} has ended: {all}");
        }
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
