// SPDX-License-Identifier: Apache-2.0

//! Shows NIXL telemetry as Prometheus metrics over HTTP: `NIXL_TELEMETRY_EXPORTER=prometheus`.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::SystemTime;

use nixl_telemetry_sdk::metrics::{Aggregated, Buckets, HISTOGRAM_BUCKETS, Live, MetricsExporter, Publisher, Tally};
use nixl_telemetry_sdk::{Agent, Describe, Error, Settings, export_plugin};

/// The exporter of one agent.
struct Prometheus {
    buckets: Arc<Buckets>,
    publisher: Publisher,
}

impl MetricsExporter for Prometheus {
    const SETTINGS: &'static [&'static dyn Describe] = &[&HISTOGRAM_BUCKETS];

    fn open(_agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let buckets: Arc<Buckets> = settings.get(&HISTOGRAM_BUCKETS)?.value.into();
        let (publisher, _live) = Live::new(Arc::clone(&buckets), now_us());
        Ok(Self { buckets, publisher })
    }

    fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets)
    }

    fn publish(&mut self, tally: &mut Tally) {
        self.publisher.publish(tally, now_us());
    }
}

fn now_us() -> u64 {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

export_plugin!("prometheus", Aggregated<Prometheus>);
