// SPDX-License-Identifier: Apache-2.0

//! Shows the NIXL telemetry of all processes of a node at one Prometheus endpoint:
//! `NIXL_TELEMETRY_EXPORTER=prometheus_mp`.
//!
//! ```text
//! agent ──▶ store ─┐
//! agent ──▶ store ─┼─▶ ranks ──▶ /metrics      of the process that is elected
//! agent ──▶ store ─┘   reads
//!    each its own file in NIXL_TELEMETRY_MULTIPROC_DIR
//! ```
//!
//! It stands in for NIXL 1.5's exporter of the same name, and works together with it: stores, election and what is
//! shown are the same, so that processes with either may share a directory.

#![forbid(unsafe_code)]

mod directory;
mod election;
mod lock;
mod node;
mod ranks;
mod server;
mod service;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nixl_telemetry_scrape::{Server, endpoint};
use nixl_telemetry_sdk::metrics::{AGENT_LABEL, Buckets, HISTOGRAM_BUCKETS, LABELS, Tally};
use nixl_telemetry_sdk::{
    Agent, Aggregated, Describe, Error, MetricsExporter, Setting, Settings, error, export_plugin,
};

use crate::store::{Identity, MOST_BOUNDS, MOST_LABEL_BYTES, Moment, Writer, label_bytes};

static DIR: Setting<PathBuf> = Setting::required(
    "NIXL_TELEMETRY_MULTIPROC_DIR",
    "Directory that all processes of a run share, made with its parents if it is not there; on a file system of this \
     machine.",
)
.check("a directory", |directory| !directory.as_os_str().is_empty());
static RANK_ENV: Setting<String> = Setting::new(
    "NIXL_TELEMETRY_RANK_ENV",
    "LOCAL_RANK",
    "Variable, or key of NIXL's file, with the rank of a process, shown as local_rank; without a name or a value there \
     is no such label.",
);
static STALE_TTL: Setting<u64> = Setting::new(
    "NIXL_TELEMETRY_MP_STALE_TTL",
    "30",
    "How long after its last event a process that is gone is still shown.",
)
.unit("s");

/// The exporter of one agent: its store, and a share in the server of its process.
struct PrometheusMp {
    writer: Writer,
    buckets: Arc<Buckets>,
    /// `None` if this process cannot have one; then others serve.
    _server: Option<Arc<Server>>,
}

impl MetricsExporter for PrometheusMp {
    const SETTINGS: &'static [&'static dyn Describe] = &[
        &DIR,
        &endpoint::PORT,
        &endpoint::LOCAL,
        &endpoint::WEB_CONFIG,
        &RANK_ENV,
        &STALE_TTL,
        &HISTOGRAM_BUCKETS,
        &LABELS,
        &AGENT_LABEL,
    ];

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, Error> {
        let buckets = buckets(settings)?;
        let identity = Identity {
            agent: settings.get(&AGENT_LABEL)?.value.show(agent).unwrap_or_default(),
            hostname: agent.hostname().to_owned(),
            pid: agent.pid(),
            instance: agent.instance(),
            rank: rank(settings)?,
            labels: labels(settings)?,
            buckets: Arc::clone(&buckets),
            created_us: Moment::now().unix_us,
        };
        let options = endpoint::options(settings)?;
        let stale = Duration::from_secs(settings.get(&STALE_TTL)?.value);

        let directory = settings.get(&DIR)?.value;
        let named = |error| format!("{}: {}: {error}", DIR.name(), directory.display());
        let directory = directory::prepare(&directory).map_err(named)?;
        let writer = Writer::create(&directory, identity).map_err(named)?;
        let server = server::serve(directory, stale, options);
        let server = server.inspect_err(|error| error!("exporter prometheus_mp: {error}; others have to serve"));
        Ok(Self { writer, buckets, _server: server.ok() })
    }

    fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.buckets)
    }

    fn publish(&mut self, tally: &mut Tally) {
        self.writer.publish(tally, Moment::now());
    }
}

fn buckets(settings: &Settings) -> Result<Arc<Buckets>, Error> {
    let buckets: Arc<Buckets> = settings.get(&HISTOGRAM_BUCKETS)?.value.into();
    match buckets.bounds().len() {
        0..=MOST_BOUNDS => Ok(buckets),
        count => Err(format!("{} has {count} bounds: expected at most {MOST_BOUNDS}", HISTOGRAM_BUCKETS.name()).into()),
    }
}

fn labels(settings: &Settings) -> Result<Vec<(String, String)>, Error> {
    let labels = settings.get(&LABELS)?.value.resolve(settings)?;
    match label_bytes(&labels) {
        0..=MOST_LABEL_BYTES => Ok(labels),
        bytes => Err(format!("{} takes {bytes} bytes: expected at most {MOST_LABEL_BYTES}", LABELS.name()).into()),
    }
}

fn rank(settings: &Settings) -> Result<String, Error> {
    let name = settings.get(&RANK_ENV)?.value;
    let rank = if name.is_empty() { None } else { settings.find_named::<String>(&name)? };
    Ok(rank.map_or_else(String::new, |found| found.value))
}

export_plugin!("prometheus_mp", Aggregated<PrometheusMp>);

#[cfg(test)]
mod tests;
