// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nixl_telemetry_settings::Settings;

use crate::shared::Shared;
use crate::{Builder, Counts, Error, Producer, Recorder};

/// The telemetry of one agent: a buffer for each thread that records, a thread that empties them, and the exporters that thread feeds.
///
/// Dropping it does what [`close`](Self::close) does. So does the exit of the process, if it comes first; but not `_exit`,
/// for which there is [`drain_before_exit`](crate::drain_before_exit).
pub struct Collector {
    shared: Arc<Shared>,
}

impl Collector {
    /// The collector these settings ask for, or `None` if they leave telemetry off.
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn create(agent: &str, settings: &Settings) -> Result<Option<Self>, Error> {
        Self::builder(agent).settings(settings.clone()).build()
    }

    /// A collector to be, for programs that have more to say than settings do.
    pub fn builder(agent: impl Into<String>) -> Builder {
        Builder::new(agent.into())
    }

    /// The name of the agent.
    pub fn agent(&self) -> &str {
        &self.shared.agent
    }

    /// Takes events for this collector, from any thread.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.shared))
    }

    /// A ring for one place that records, at the lowest cost there is; `None` if there is no room for one more. Then a
    /// [`recorder`](Self::recorder) goes on recording, into a ring that is shared.
    pub fn producer(&self) -> Option<Producer> {
        Producer::new(self.shared.here()?)
    }

    /// What became of the events so far.
    pub fn counts(&self) -> Counts {
        self.shared.here().map(|shared| shared.counts()).unwrap_or_default()
    }

    /// Flushes now, and waits until every exporter has seen what was recorded before the call. False if that took
    /// longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.here().is_some_and(|shared| {
            let pass = shared.staging.urge();
            shared.ledger.wait_completed(pass, timeout)
        })
    }

    /// Stops recording, exports what was recorded, and destroys the exporters.
    ///
    /// Should that take longer than [`SHUTDOWN_TIMEOUT`](crate::settings::SHUTDOWN_TIMEOUT), say because an exporter
    /// hangs, the rest is dropped and counted, one WARN line tells of it, and the flush thread is left behind. An
    /// exporter may still get to take the batch it was busy with; it counts as dropped. What is in a journal stays there.
    pub fn close(self) -> Counts {
        self.shut_down();
        self.counts()
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn shut_down(&self) {
        if let Some(shared) = self.shared.here_already() {
            shared.shut_down();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("agent", &self.shared.agent).finish_non_exhaustive()
    }
}
