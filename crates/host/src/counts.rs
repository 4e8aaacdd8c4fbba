// SPDX-License-Identifier: Apache-2.0

/// What became of every event of one collector.
///
/// For each exporter and at every moment:
///
/// ```text
/// produced + reports = exported + exported_before + aggregated + failed + unsupported + unavailable + shutdown_timeout
///                    + pending
///                    + (queue_full - totals) + closed + shutdown_timeout of the collector
/// ```
///
/// where `reports` and `totals` are the exporter's own: one that takes totals is told of what had no room by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events the program recorded, of kinds that are enabled.
    pub produced: u64,
    /// Events in the buffer, on their way to every exporter.
    pub waiting: u64,
    /// Events that had no room in the buffer and were not kept one by one.
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
    /// Events of kind `agent_telemetry_events_dropped` that the collector added for it.
    pub reports: u64,
    /// Of the events that had no room, those that it is told of by exact totals; 0 if it does not take them.
    pub totals: u64,
    /// Events it took.
    pub exported: u64,
    /// Events it has taken from a process that has died since; see [`Abandoned`](crate::Abandoned).
    pub exported_before: u64,
    /// Events it took as part of totals.
    pub aggregated: u64,
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

    /// Every drop count above zero as place, reason and number of events. The place is the name of an exporter, or
    /// `staging`, where an event is lost to every exporter, but that those which take totals know it as part of them.
    pub fn drops(&self) -> Vec<(&str, &'static str, u64)> {
        let untold = match self.exporters.iter().map(|exporter| exporter.totals).min() {
            // More was told than is known of only where a journal was damaged.
            Some(told) => self.queue_full.saturating_sub(told),
            None => self.queue_full,
        };
        let staging = [
            ("staging", "queue_full", untold),
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
        self.exporters.iter().all(|exporter| {
            let staging = self.queue_full.saturating_sub(exporter.totals) + self.closed + self.shutdown_timeout;
            self.produced + exporter.reports == staging + exporter.settled() + exporter.pending
        })
    }
}

impl ExporterCounts {
    /// Events whose fate is known.
    pub(crate) fn settled(&self) -> u64 {
        let taken = self.exported + self.exported_before + self.aggregated;
        taken + self.failed + self.unsupported + self.unavailable + self.shutdown_timeout
    }
}
