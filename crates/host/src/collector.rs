// SPDX-License-Identifier: Apache-2.0

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, mem, process};

use nixl_telemetry_log::warn;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_thread::Thread;

use crate::flusher::Flusher;
use crate::outlet::Outlet;
use crate::recorder::Shared;
use crate::{Builder, Counts, Error, Recorder};

/// The telemetry of one agent: a buffer for each thread that records, a thread that empties them, and the exporters that thread feeds.
///
/// Dropping it does what [`close`](Self::close) does.
pub struct Collector {
    shared: Arc<Shared>,
    /// `None` once the collector is shut down.
    thread: Option<Thread<()>>,
    shutdown_timeout: Duration,
    /// The process that has the thread. After a fork, the child does not.
    process: u32,
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

    /// What became of the events so far.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.counts(&self.shared.staging)
    }

    /// Flushes now, and waits until every exporter has seen what was recorded before the call. False if that took
    /// longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        if self.is_elsewhere() {
            return false;
        }
        let pass = self.shared.staging.urge();
        self.shared.ledger.wait_completed(pass, timeout)
    }

    /// Stops recording, exports what was recorded, and destroys the exporters.
    ///
    /// Should that take longer than [`SHUTDOWN_TIMEOUT`](crate::settings::SHUTDOWN_TIMEOUT), say because an exporter
    /// hangs, the rest is dropped and counted, one WARN line tells of it, and the flush thread is left behind. An
    /// exporter may still get to take the batch it was busy with; it counts as dropped.
    pub fn close(mut self) -> Counts {
        self.shut_down();
        if self.is_elsewhere() { Counts::default() } else { self.counts() }
    }

    pub(crate) fn start(shared: Shared, outlets: Vec<Outlet>, shutdown_timeout: Duration) -> Result<Self, Error> {
        let shared = Arc::new(shared);
        let thread = Flusher::new(Arc::clone(&shared), outlets).start().map_err(Error::Thread)?;
        Ok(Self { shared, thread: Some(thread), shutdown_timeout, process: process::id() })
    }

    fn shut_down(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.is_elsewhere() {
            // There is no such thread here, and a lock it held at the fork stays locked.
            mem::forget(thread);
            return;
        }
        let Shared { agent, staging, ledger, .. } = &*self.shared;
        staging.close();
        match ledger.wait_finished(staging, self.shutdown_timeout) {
            // The flush thread catches the panics of exporters, and has no others.
            Ok(()) => drop(thread.join()),
            Err(abandoned) => warn!(
                "agent {agent}: exporter {} did not finish within {} ms: left behind, {} events are dropped",
                abandoned.exporter,
                self.shutdown_timeout.as_millis(),
                abandoned.events,
            ),
        }
    }

    /// Whether this is a forked child.
    fn is_elsewhere(&self) -> bool {
        self.process != process::id()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordingSink;

    #[test]
    fn the_child_of_a_fork_leaves_the_thread_of_its_parent_alone() {
        let sink = RecordingSink::new();
        let settings =
            Settings::from_pairs([("NIXL_TELEMETRY_ENABLE", "1"), ("NIXL_TELEMETRY_RUN_INTERVAL", "0xffffffff")]);
        let builder = Collector::builder("agent").settings(settings).sink("kept", Box::new(sink.clone()));
        let mut collector = builder.build().unwrap().unwrap();
        let recorder = collector.recorder();
        recorder.memory_registered(1);
        // What the child sees.
        collector.process += 1;
        assert!(!collector.flush(Duration::MAX));
        assert_eq!(collector.close(), Counts::default());
        // Not even told that it is over.
        recorder.memory_registered(2);
        assert_eq!((recorder.counts().waiting, recorder.counts().closed), (2, 0));
        assert!(sink.events().is_empty());
    }
}
