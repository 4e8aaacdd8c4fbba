// SPDX-License-Identifier: Apache-2.0

//! What is shown: the agents of this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nixl_telemetry_metrics::encode::{Encoder, Format, Series};
use nixl_telemetry_scrape::{Stats, endpoint};
use nixl_telemetry_sdk::metrics::{Buckets, Labels, LabelsError, Live, Snapshot};

/// The agents that are shown, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Page(Mutex<Vec<Arc<Shown>>>);

/// An agent that is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    labels: Labels,
    live: Arc<Live>,
    /// Made once, for all scrapes. Touched by nobody but who scrapes.
    snapshot: Mutex<Snapshot>,
}

impl Page {
    /// Shows an agent. If one with the same labels is shown already, they are told apart by a label `agent_instance`.
    pub(crate) fn add(
        &self,
        labels: Vec<(String, String)>,
        instance: u64,
        live: Arc<Live>,
        buckets: &Arc<Buckets>,
    ) -> Result<Arc<Shown>, LabelsError> {
        let mut agents = lock(&self.0);
        let mut wanted = Labels::sorted(labels.iter().cloned())?;
        if agents.iter().any(|agent| agent.labels == wanted) {
            let instance = ("agent_instance".to_owned(), instance.to_string());
            wanted = Labels::sorted(labels.into_iter().chain([instance]))?;
        }
        let shown = Arc::new(Shown { labels: wanted, live, snapshot: Mutex::new(Snapshot::new(Arc::clone(buckets))) });
        agents.push(Arc::clone(&shown));
        Ok(shown)
    }

    /// Shows an agent no longer.
    pub(crate) fn remove(&self, shown: &Arc<Shown>) {
        lock(&self.0).retain(|agent| !Arc::ptr_eq(agent, shown));
    }

    /// Writes all metrics, those of the server first, as NIXL's exporter does.
    pub(crate) fn write(&self, format: Format, stats: &Stats, body: &mut Vec<u8>) {
        // Agents may come and go meanwhile.
        let agents = lock(&self.0).clone();
        let mut snapshots: Vec<_> = agents.iter().map(|agent| lock(&agent.snapshot)).collect();
        for (agent, snapshot) in agents.iter().zip(&mut snapshots) {
            agent.live.read(snapshot);
        }
        let series: Vec<_> =
            agents.iter().zip(&snapshots).map(|(agent, snapshot)| Series { labels: &agent.labels, snapshot }).collect();
        let mut encoder = Encoder::new(format, body);
        endpoint::write_stats(stats, &mut encoder);
        encoder.families(&series);
        encoder.finish();
    }
}

/// Whoever panicked with the lock left a list that is whole, or a snapshot that is about to be filled anew.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
