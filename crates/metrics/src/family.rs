// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_event::Kind;

use crate::Account;

/// A metric: a name, what it means, and which number of a [`Snapshot`](crate::Snapshot) it shows.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name as Prometheus has it, `_total` included.
    pub name: &'static str,
    /// What it means, in one line: its HELP. Of an agent's own metrics it is NIXL's, to the letter.
    pub help: &'static str,
    /// The unit, if the name says it: then it ends with this word (before `_total`).
    pub unit: Option<&'static str>,
    /// What it shows.
    pub source: Source,
}

/// What a [`Family`] shows of a snapshot.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The sum of the values of a kind: [`Snapshot::counter`](crate::Snapshot::counter).
    Counter(Kind),
    /// The sums of all kinds that count errors, each with its label `status`.
    Errors,
    /// The sums of events that have only a name, each with its label `event`.
    Named,
    /// The last value of a kind: [`Snapshot::gauge`](crate::Snapshot::gauge).
    Gauge(Kind),
    /// The distribution of the values of a kind: [`Snapshot::histogram`](crate::Snapshot::histogram).
    Histogram(Kind),
    /// A count the exporter keeps of its own work.
    AccountCounter(fn(&Account) -> u64),
    /// A number, now, of the exporter's own work.
    AccountGauge(fn(&Account) -> u64),
    /// A moment of the exporter's own work, in microseconds since the Unix epoch, shown in seconds; 0 for never.
    AccountTime(fn(&Account) -> u64),
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows, but for restarts.
    Counter,
    /// Any value.
    Gauge,
    /// Counts in buckets, a sum and a count.
    Histogram,
}

impl Family {
    /// The type.
    pub const fn kind(&self) -> Type {
        match self.source {
            Source::Counter(_) | Source::Errors | Source::Named | Source::AccountCounter(_) => Type::Counter,
            Source::Gauge(_) | Source::AccountGauge(_) | Source::AccountTime(_) => Type::Gauge,
            Source::Histogram(_) => Type::Histogram,
        }
    }

    /// Whether it tells of the agent, under the name NIXL 1.5 has for it; otherwise of the exporter.
    pub const fn is_of_agent(&self) -> bool {
        matches!(self.source, Source::Counter(_) | Source::Errors | Source::Gauge(_) | Source::Histogram(_))
    }
}

const fn family(name: &'static str, help: &'static str, unit: Option<&'static str>, source: Source) -> Family {
    Family { name, help, unit, source }
}

/// Every metric of an agent, in the order in which they are shown: those of NIXL 1.5, then what its exporters lack.
pub static FAMILIES: [Family; 25] = {
    use Source::*;
    const BYTES: Option<&str> = Some("bytes");
    [
        family("agent_tx_bytes_total", "Number of bytes sent by the agent", BYTES, Counter(Kind::TX_BYTES)),
        family("agent_rx_bytes_total", "Number of bytes received by the agent", BYTES, Counter(Kind::RX_BYTES)),
        family(
            "agent_tx_requests_num_total",
            "Number of requests sent by the agent",
            None,
            Counter(Kind::TX_REQUESTS_NUM),
        ),
        family(
            "agent_rx_requests_num_total",
            "Number of requests received by the agent",
            None,
            Counter(Kind::RX_REQUESTS_NUM),
        ),
        family("agent_memory_registered_total", "Cumulative memory registered", None, Counter(Kind::MEMORY_REGISTERED)),
        family(
            "agent_memory_deregistered_total",
            "Cumulative memory deregistered",
            None,
            Counter(Kind::MEMORY_DEREGISTERED),
        ),
        family(
            "agent_xfer_time_total",
            "Cumulative sum of transfer time from start to completion",
            None,
            Counter(Kind::XFER_TIME),
        ),
        family(
            "agent_xfer_post_time_total",
            "Cumulative sum of time from start to posting to the back-end",
            None,
            Counter(Kind::XFER_POST_TIME),
        ),
        family(
            "agent_telemetry_events_dropped_total",
            "Cumulative telemetry events dropped at the producer-side staging queue",
            None,
            Counter(Kind::TELEMETRY_EVENTS_DROPPED),
        ),
        family("agent_errors_total", "Cumulative error count by status", None, Errors),
        family("agent_tx_last_bytes", "Bytes sent by the last request", BYTES, Gauge(Kind::TX_BYTES)),
        family("agent_rx_last_bytes", "Bytes received by the last request", BYTES, Gauge(Kind::RX_BYTES)),
        family(
            "agent_memory_registered_last_bytes",
            "Memory registered by the last operation",
            BYTES,
            Gauge(Kind::MEMORY_REGISTERED),
        ),
        family(
            "agent_memory_deregistered_last_bytes",
            "Memory deregistered by the last operation",
            BYTES,
            Gauge(Kind::MEMORY_DEREGISTERED),
        ),
        family("agent_xfer_time", "Transfer time of the last request", None, Gauge(Kind::XFER_TIME)),
        family("agent_xfer_post_time", "Post time of the last request", None, Gauge(Kind::XFER_POST_TIME)),
        family(
            "agent_xfer_time_us",
            "Distribution of transfer time from start to completion, in microseconds",
            Some("us"),
            Histogram(Kind::XFER_TIME),
        ),
        family(
            "agent_xfer_post_time_us",
            "Distribution of time from start to posting to the back-end, in microseconds",
            Some("us"),
            Histogram(Kind::XFER_POST_TIME),
        ),
        family(
            "agent_backend_events_total",
            "Sum of the values of events that a backend reported, by their name",
            None,
            Named,
        ),
        family(
            "nixl_telemetry_exporter_events_total",
            "Events the exporter took from the agent, one by one or counted together",
            None,
            AccountCounter(|account| account.events.wrapping_add(account.aggregated)),
        ),
        family(
            "nixl_telemetry_exporter_events_dropped_total",
            "Events the exporter left out of every metric, because they have a name beyond those it has room for",
            None,
            AccountCounter(|account| account.dropped),
        ),
        family(
            "nixl_telemetry_exporter_events_failed_total",
            "Events the exporter took and could not deliver",
            None,
            AccountCounter(|account| account.failed),
        ),
        family(
            "nixl_telemetry_exporter_queue_events",
            "Events the exporter has taken and not delivered yet",
            None,
            AccountGauge(|account| account.queued),
        ),
        family(
            "nixl_telemetry_exporter_batches_total",
            "Batches of events the exporter took from the agent",
            None,
            AccountCounter(|account| account.batches),
        ),
        family(
            "nixl_telemetry_exporter_last_success_timestamp_seconds",
            "When the exporter last delivered, in seconds since the Unix epoch; 0 if it never has",
            Some("seconds"),
            AccountTime(|account| account.last_success_us),
        ),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_type_and_unit() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in &FAMILIES {
            let base = family.name.strip_suffix("_total");
            assert_eq!(base.is_some(), family.kind() == Type::Counter, "{}", family.name);
            if let Some(unit) = family.unit {
                assert!(base.unwrap_or(family.name).ends_with(&format!("_{unit}")), "{}", family.name);
            }
        }
    }

    #[test]
    fn every_kind_is_shown() {
        let shows = |kind: Kind| {
            FAMILIES.iter().any(|family| match family.source {
                Source::Counter(shown) => shown == kind,
                Source::Errors => kind.status().is_some(),
                _ => false,
            })
        };
        assert!(Kind::ALL.into_iter().all(shows));
    }
}
