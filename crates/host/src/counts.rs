// SPDX-License-Identifier: Apache-2.0

/// What became of every event of one collector.
///
/// For each exporter and at every moment:
///
/// ```text
/// produced + reports = exported + failed + unsupported + unavailable + shutdown_timeout + pending   of the exporter
///                    + queue_full + closed + shutdown_timeout                                       of the collector
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events the program recorded, of kinds that are enabled.
    pub produced: u64,
    /// Events of kind `agent_telemetry_events_dropped` that the collector added itself.
    pub reports: u64,
    /// Events in the buffer, on their way to every exporter.
    pub waiting: u64,
    /// Drops: the buffer had no room.
    pub queue_full: u64,
    /// Drops: recorded after the collector was closed.
    pub closed: u64,
    /// Drops: still in the buffer when the time for the last flush was over.
    pub shutdown_timeout: u64,
    /// One for each exporter, in the order they are fed.
    pub exporters: Vec<ExporterCounts>,
}

/// What became of the events that left the buffer, for one exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExporterCounts {
    /// The name of the exporter.
    pub name: String,
    /// Events it took.
    pub exported: u64,
    /// Drops: events it refused, failed at, or panicked over.
    pub failed: u64,
    /// Drops: events its binary form cannot hold, such as backend events where only numbers fit.
    pub unsupported: u64,
    /// Drops: there was no such exporter, or none any more.
    pub unavailable: u64,
    /// Drops: it had not taken or refused them when the time for the last flush was over.
    pub shutdown_timeout: u64,
    /// Events neither taken nor dropped yet, those waiting in the buffer included.
    pub pending: u64,
    /// Why it is unavailable, if it is.
    pub problem: Option<String>,
}

impl Counts {
    /// The exporter of this name; the first, if there are several.
    pub fn exporter(&self, name: &str) -> Option<&ExporterCounts> {
        self.exporters.iter().find(|exporter| exporter.name == name)
    }

    /// Every drop count above zero as place, reason and number of events. The place is `staging`, where an event is
    /// lost to every exporter, or the name of an exporter.
    pub fn drops(&self) -> Vec<(&str, &'static str, u64)> {
        let staging = [
            ("staging", "queue_full", self.queue_full),
            ("staging", "closed", self.closed),
            ("staging", "shutdown_timeout", self.shutdown_timeout),
        ];
        let exporters = self.exporters.iter().flat_map(|exporter| {
            let name = exporter.name.as_str();
            [
                (name, "failed", exporter.failed),
                (name, "unsupported", exporter.unsupported),
                (name, "unavailable", exporter.unavailable),
                (name, "shutdown_timeout", exporter.shutdown_timeout),
            ]
        });
        staging.into_iter().chain(exporters).filter(|(_, _, events)| *events > 0).collect()
    }

    /// Whether the law above holds. It always does; tests ask.
    pub fn is_balanced(&self) -> bool {
        let staging = self.queue_full + self.closed + self.shutdown_timeout;
        self.exporters
            .iter()
            .all(|exporter| self.produced + self.reports == staging + exporter.settled() + exporter.pending)
    }
}

impl ExporterCounts {
    /// Events whose fate is known.
    pub(crate) fn settled(&self) -> u64 {
        self.exported + self.failed + self.unsupported + self.unavailable + self.shutdown_timeout
    }
}
