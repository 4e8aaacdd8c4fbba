// SPDX-License-Identifier: Apache-2.0

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Ledger, Operation, Place, Transfer, Truth};

/// What a run did, as the run itself knows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Names of the initiator and of the target.
    pub agents: [String; 2],
    /// What their telemetry has to show.
    pub truth: Ledger,
    /// Transfers from the initiator's memory.
    pub written: Flow,
    /// Transfers into the initiator's memory.
    pub read: Flow,
    /// Those of both that were to or from a file.
    pub file: Flow,
    /// From the first transfer to the end of the last, all threads together; without registration.
    pub wall: Duration,
    /// What telemetry has as post times, in microseconds; empty if telemetry is off.
    pub post_us: Distribution,
    /// What telemetry has as transfer times, in microseconds; empty if telemetry is off.
    pub xfer_us: Distribution,
    /// From creating a request until it was released, in nanoseconds, measured by the run.
    pub request_ns: Distribution,
    /// Transfers whose bytes were found at the destination; 0 if the workload does not verify.
    pub verified: u64,
    /// Transfers whose bytes were not.
    pub corrupt: u64,
    /// Whether the run was stopped before all transfers were done.
    pub stopped: bool,
}

/// Complete transfers and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Transfers.
    pub requests: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Values and how they are spread: exact count, sum, least and greatest, and percentiles to one part in a thousand.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    sum: u64,
    min: u64,
    max: u64,
}

/// What one thread found out.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) ledger: Ledger,
    pub(super) written: Flow,
    pub(super) read: Flow,
    pub(super) file: Flow,
    pub(super) post_us: Distribution,
    pub(super) xfer_us: Distribution,
    pub(super) request_ns: Distribution,
    pub(super) verified: u64,
    pub(super) corrupt: u64,
}

impl Report {
    pub(super) fn new(agents: [&str; 2], findings: Findings, wall: Duration, stopped: bool) -> Self {
        let Findings { ledger, written, read, file, post_us, xfer_us, request_ns, verified, corrupt } = findings;
        let agents = agents.map(str::to_owned);
        Self {
            agents,
            truth: ledger,
            written,
            read,
            file,
            wall,
            post_us,
            xfer_us,
            request_ns,
            verified,
            corrupt,
            stopped,
        }
    }

    /// What the initiator's telemetry has to show.
    pub fn initiator(&self) -> &Truth {
        &self.truth.initiator
    }

    /// What the target's telemetry has to show.
    pub fn target(&self) -> &Truth {
        &self.truth.target
    }

    /// Transfers per second.
    pub fn rate(&self) -> f64 {
        (self.written.requests + self.read.requests) as f64 / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Findings {
    pub(super) fn add(&mut self, transfer: &Transfer) {
        let flow = match transfer.operation {
            Operation::Write => &mut self.written,
            Operation::Read => &mut self.read,
        };
        let file = (transfer.place == Place::File).then_some(&mut self.file);
        for flow in [Some(flow), file].into_iter().flatten() {
            flow.merge(Flow { requests: 1, bytes: transfer.bytes });
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.ledger.initiator.merge(&other.ledger.initiator);
        self.ledger.target.merge(&other.ledger.target);
        self.written.merge(other.written);
        self.read.merge(other.read);
        self.file.merge(other.file);
        self.post_us.merge(&other.post_us);
        self.xfer_us.merge(&other.xfer_us);
        self.request_ns.merge(&other.request_ns);
        self.verified += other.verified;
        self.corrupt += other.corrupt;
    }
}

impl Flow {
    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
    }
}

impl Default for Distribution {
    fn default() -> Self {
        let histogram = Histogram::new(3).expect("three significant digits are allowed");
        Self { histogram, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Distribution {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The least, or `None` of none.
    pub fn min(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.min)
    }

    /// The greatest, or `None` of none.
    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.max)
    }

    /// The value that `percent` percent of the values do not exceed, or `None` of none.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        // The histogram answers with the end of a bucket, which may lie outside of what was seen.
        (self.count() > 0).then(|| self.histogram.value_at_percentile(percent).clamp(self.min, self.max))
    }

    pub(super) fn add(&mut self, value: u64) {
        self.histogram.record(value).expect("it resizes itself");
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("it resizes itself");
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.wall.as_secs_f64();
        for (what, flow) in [("written", self.written), ("read", self.read), ("of these to files", self.file)] {
            writeln!(f, "{what:<18} {:>10} transfers {:>16} bytes", flow.requests, flow.bytes)?;
        }
        writeln!(f, "{:<18} {seconds:>10.3} s {:>16.0} transfers/s", "in", self.rate())?;
        let spread = [("post time", "us", &self.post_us), ("transfer time", "us", &self.xfer_us)];
        for (what, unit, values) in spread.into_iter().chain([("whole request", "ns", &self.request_ns)]) {
            if let (Some(p50), Some(p99), Some(max)) = (values.percentile(50.0), values.percentile(99.0), values.max())
            {
                writeln!(f, "{what:<18} {p50:>10} {unit} median {p99:>10} {unit} p99 {max:>10} {unit} max")?;
            }
        }
        writeln!(f, "{:<18} {:>10} intact    {:>16} corrupt", "contents", self.verified, self.corrupt)?;
        for (name, truth) in self.agents.iter().zip([self.initiator(), self.target()]) {
            writeln!(f, "telemetry {name:?} has to show")?;
            for (kind, tally) in truth.iter().filter(|(_, tally)| tally.count > 0) {
                let sum = tally.sum.map_or_else(|| "?".to_owned(), |sum| sum.to_string());
                writeln!(f, "  {:<28} {:>10} events    {sum:>16} sum", kind.to_string(), tally.count)?;
            }
        }
        if self.stopped { writeln!(f, "stopped early") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_exact_where_it_says_so() {
        let empty = Distribution::default();
        assert_eq!(
            (empty.count(), empty.sum(), empty.min(), empty.max(), empty.percentile(50.0)),
            (0, 0, None, None, None)
        );

        let (mut low, mut high) = (Distribution::default(), Distribution::default());
        (1..=500).for_each(|value| low.add(value));
        (501..=999).for_each(|value| high.add(value));
        high.add(1_234_567_890_123);
        low.merge(&high);
        assert_eq!((low.count(), low.min(), low.max()), (1000, Some(1), Some(1_234_567_890_123)));
        assert_eq!(low.sum(), 999 * 1000 / 2 + 1_234_567_890_123);
        // Below 2048 the histogram has a bucket per value.
        assert_eq!((low.percentile(50.0), low.percentile(99.0)), (Some(500), Some(990)));
        assert_eq!(low.percentile(100.0), Some(1_234_567_890_123));
    }
}
