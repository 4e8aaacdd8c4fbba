// SPDX-License-Identifier: Apache-2.0

//! Pushes what NIXL's agents did as metrics to whatever receives OTLP over HTTP: `NIXL_TELEMETRY_EXPORTER=otlp`.
//!
//! ```text
//! agents ──▶ Live ──▶ worker: Snapshot ─encode─▶ body ─transport─▶ receiver
//!            each        one for all    metrics      HTTP           │
//!                           ▲                                        │
//!                           └── accepted, later, refused ◀─response──┘
//! ```
//!
//! The agents' own threads only add numbers up. Everything else is the work of one thread of the process, which sends what
//! there is at the time. An export that fails loses nothing: the next tells of everything since the last that was accepted.

#![forbid(unsafe_code)]

mod encode;
mod fields;
mod pusher;
#[cfg(test)]
mod receiver;
mod resource;
mod response;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::sync::Arc;

use nixl_telemetry_sdk::metrics::{
    AGENT_LABEL, Aggregated, Buckets, HISTOGRAM_BUCKETS, LABELS, Labels, Live, MetricsExporter, Publisher, Tally,
};
use nixl_telemetry_sdk::{Agent, Describe, Error, Settings, export_plugin, now_us};

use crate::pusher::Membership;
use crate::settings::{Config, SETTINGS};

/// The exporter of one agent.
struct Otlp {
    buckets: Arc<Buckets>,
    /// Where its sums go; nowhere if it is disabled.
    push: Option<(Publisher, Membership)>,
}

impl MetricsExporter for Otlp {
    const SETTINGS: &'static [&'static dyn Describe] = SETTINGS;

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let buckets: Arc<Buckets> = settings.get(&HISTOGRAM_BUCKETS)?.value.into();
        let labels = labels(agent, settings)?;
        let Some(config) = Config::new(settings, agent.hostname())? else { return Ok(Self { buckets, push: None }) };
        let (publisher, live) = Live::new(Arc::clone(&buckets), now_us());
        let membership = Membership::join(config, agent, labels, live, Arc::clone(&buckets))?;
        Ok(Self { buckets, push: Some((publisher, membership)) })
    }

    fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets)
    }

    fn publish(&mut self, tally: &mut Tally) {
        match &mut self.push {
            Some((publisher, _)) => publisher.publish(tally, now_us()),
            None => tally.clear(),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        match &mut self.push {
            Some((publisher, membership)) => {
                publisher.finish();
                membership.leave()
            }
            None => Ok(()),
        }
    }
}

/// What tells the agent's data points from those of others.
fn labels(agent: &Agent, settings: &Settings) -> Result<Labels, Error> {
    let name = settings.get(&AGENT_LABEL)?.value.show(agent).map(|name| ("agent_name".to_owned(), name));
    let mut pairs = settings.get(&LABELS)?.value.resolve(settings)?;
    pairs.extend(name);
    pairs.push(("hostname".to_owned(), agent.hostname().to_owned()));
    Ok(Labels::sorted(pairs)?)
}

export_plugin!("otlp", Aggregated<Otlp>);
