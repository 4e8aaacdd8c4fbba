// SPDX-License-Identifier: Apache-2.0

//! Shows the NIXL telemetry of a process as Prometheus metrics over HTTP: `NIXL_TELEMETRY_EXPORTER=prometheus`.
//!
//! It stands in for NIXL's exporter of the same name: same variables, same address, same metrics. All agents of a process
//! are shown by one server, which ends with the last of them. Events are added up as they come; a scrape looks at the sums
//! without being in their way.

#![forbid(unsafe_code)]

mod page;
mod server;

use std::sync::Arc;

use nixl_telemetry_scrape::endpoint;
use nixl_telemetry_sdk::metrics::{AGENT_LABEL, Buckets, HISTOGRAM_BUCKETS, LABELS, Live, Publisher, Tally};
use nixl_telemetry_sdk::{Agent, Aggregated, Describe, Error, MetricsExporter, Settings, export_plugin, now_us};

use crate::server::Place;

/// The exporter of one agent: its sums, and its place on the page that the process serves.
struct Prometheus {
    buckets: Arc<Buckets>,
    publisher: Publisher,
    _place: Place,
}

impl MetricsExporter for Prometheus {
    const SETTINGS: &'static [&'static dyn Describe] =
        &[&endpoint::PORT, &endpoint::LOCAL, &endpoint::WEB_CONFIG, &HISTOGRAM_BUCKETS, &LABELS, &AGENT_LABEL];

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let buckets: Arc<Buckets> = settings.get(&HISTOGRAM_BUCKETS)?.value.into();
        let mut labels = vec![("hostname".to_owned(), agent.hostname().to_owned())];
        labels.extend(settings.get(&AGENT_LABEL)?.value.show(agent).map(|name| ("agent_name".to_owned(), name)));
        labels.extend(settings.get(&LABELS)?.value.resolve(settings)?);
        let options = endpoint::options(settings)?;

        let (publisher, live) = Live::new(Arc::clone(&buckets), now_us());
        let place = Place::take(options, labels, agent.instance(), live, &buckets)?;
        Ok(Self { buckets, publisher, _place: place })
    }

    fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets)
    }

    fn publish(&mut self, tally: &mut Tally) {
        self.publisher.publish(tally, now_us());
    }
}

export_plugin!("prometheus", Aggregated<Prometheus>);

#[cfg(test)]
mod tests;
