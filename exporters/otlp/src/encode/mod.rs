// SPDX-License-Identifier: Apache-2.0

//! An export: the metrics of several agents at one moment, and how it becomes the body of a request.
//!
//! [`metrics`] says what is in it, from the one table of metrics there is, and leaves no choice to the two encodings.

mod json;
mod protobuf;

use nixl_telemetry_sdk::metrics::{FAMILIES, Family, Histogram, Snapshot, Source};
use nixl_telemetry_sdk::{Kind, Unit};

use crate::settings::{Histograms, Protocol, Temporality};

/// What all exports of a process have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) temporality: Temporality,
    pub(crate) histograms: Histograms,
    pub(crate) resource: &'a [(String, String)],
}

/// One agent in an export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series<'a> {
    pub(crate) labels: &'a [(String, String)],
    pub(crate) now: &'a Snapshot,
    /// What the receiver has accepted; what is new since is the delta.
    pub(crate) accepted: &'a Snapshot,
    /// When counting began, when the accepted snapshot was taken, and when this one was: microseconds since the Unix epoch.
    pub(crate) began_us: u64,
    pub(crate) accepted_us: u64,
    pub(crate) now_us: u64,
}

/// The body of a request, and how many data points it has.
pub(crate) fn encode(form: Form<'_>, series: &[Series<'_>]) -> (Vec<u8>, u64) {
    let metrics = metrics(form, series);
    let points = metrics.iter().map(|metric| metric.data.points() as u64).sum();
    let body = match form.protocol {
        Protocol::Protobuf => protobuf::encode(form.resource, &metrics),
        Protocol::Json => json::encode(form.resource, &metrics),
    };
    (body, points)
}

/// What an attribute of a resource says.
enum Said<'a> {
    Text(&'a str),
    Int(u32),
}

/// The attributes of a resource. They are text, as the environment's are, but for what the semantic conventions say is a
/// number, and is one.
fn resource(attributes: &[(String, String)]) -> impl Iterator<Item = (&str, Said<'_>)> {
    attributes.iter().map(|(name, value)| match value.parse() {
        Ok(number) if name == "process.pid" => (name.as_str(), Said::Int(number)),
        _ => (name.as_str(), Said::Text(value)),
    })
}

/// Name and version of the instrumentation scope.
const SCOPE: (&str, &str) = ("nixl-telemetry", env!("CARGO_PKG_VERSION"));

struct Metric<'a> {
    name: &'static str,
    description: &'static str,
    /// In UCUM; empty if it is not known.
    unit: &'static str,
    data: Data<'a>,
}

enum Data<'a> {
    Gauge(Vec<Point<'a, Number>>),
    Sum(Aggregation, Vec<Point<'a, Number>>),
    Explicit(Aggregation, Vec<Point<'a, Explicit<'a>>>),
    Exponential(Aggregation, Vec<Point<'a, Exponential>>),
}

/// OpenTelemetry's `AggregationTemporality`, as it is numbered.
#[derive(Clone, Copy, PartialEq)]
enum Aggregation {
    Delta = 1,
    Cumulative = 2,
}

struct Point<'a, T> {
    labels: &'a [(String, String)],
    /// One that the family adds.
    label: Option<(&'static str, &'a str)>,
    /// Nanoseconds since the Unix epoch. A gauge has no start.
    start_ns: u64,
    time_ns: u64,
    value: T,
}

#[derive(Debug, PartialEq)]
enum Number {
    Int(i64),
    Double(f64),
}

struct Explicit<'a> {
    count: u64,
    sum: f64,
    bounds: &'a [f64],
    counts: Vec<u64>,
}

/// At [`SCALE`](nixl_telemetry_sdk::metrics::exponential::SCALE).
struct Exponential {
    count: u64,
    sum: f64,
    zeros: u64,
    offset: i32,
    counts: Vec<u64>,
}

impl Data<'_> {
    fn points(&self) -> usize {
        match self {
            Self::Gauge(points) | Self::Sum(_, points) => points.len(),
            Self::Explicit(_, points) => points.len(),
            Self::Exponential(_, points) => points.len(),
        }
    }
}

impl<'a, T> Point<'a, T> {
    fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let labels = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        labels.chain(self.label)
    }
}

impl From<u64> for Number {
    /// An integer, if there is one so great.
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Double(value as f64), Self::Int)
    }
}

/// Every metric that has data points.
fn metrics<'a>(form: Form<'_>, series: &[Series<'a>]) -> Vec<Metric<'a>> {
    let metric = |family: &'static Family| {
        let aggregation = aggregation(form.temporality, family.source);
        let all = series.iter();
        let data = match family.source {
            Source::Gauge(kind) => Data::Gauge(all.map(|of| of.gauge(of.now.gauge(kind).into())).collect()),
            Source::AccountGauge(read) => Data::Gauge(all.map(|of| of.gauge(read(&of.now.account).into())).collect()),
            Source::AccountTime(read) => {
                Data::Gauge(all.map(|of| of.gauge(Number::Double(read(&of.now.account) as f64 / 1e6))).collect())
            }
            Source::Histogram(kind) if form.histograms == Histograms::Exponential => {
                Data::Exponential(aggregation, all.filter_map(|of| of.exponential(aggregation, kind)).collect())
            }
            Source::Histogram(kind) => {
                Data::Explicit(aggregation, all.filter_map(|of| of.explicit(aggregation, kind)).collect())
            }
            Source::Counter(_) | Source::Errors | Source::Named | Source::AccountCounter(_) => {
                let mut points = Vec::new();
                all.for_each(|of| of.sums(aggregation, family.source, &mut points));
                Data::Sum(aggregation, points)
            }
        };
        Metric { name: family.name, description: family.help, unit: unit(family), data }
    };
    FAMILIES.iter().map(metric).filter(|metric| metric.data.points() > 0).collect()
}

fn aggregation(temporality: Temporality, source: Source) -> Aggregation {
    match temporality {
        Temporality::Delta => Aggregation::Delta,
        // An instrument that is asked for its sum needs no memory to tell it: OpenTelemetry calls it asynchronous.
        Temporality::LowMemory if !matches!(source, Source::AccountCounter(_)) => Aggregation::Delta,
        Temporality::LowMemory | Temporality::Cumulative => Aggregation::Cumulative,
    }
}

/// The unit in UCUM; what is counted, in braces.
fn unit(family: &Family) -> &'static str {
    match family.source {
        Source::Counter(kind) | Source::Gauge(kind) | Source::Histogram(kind) => match kind.unit() {
            Some(Unit::Bytes) => "By",
            Some(Unit::Microseconds) => "us",
            Some(Unit::Requests) => "{request}",
            Some(Unit::Errors) => "{error}",
            Some(Unit::Events) => "{event}",
            None => "",
        },
        Source::Errors => "{error}",
        Source::Named => "",
        Source::AccountTime(_) => "s",
        Source::AccountCounter(_) | Source::AccountGauge(_) if family.name.contains("_batches") => "{batch}",
        Source::AccountCounter(_) | Source::AccountGauge(_) => "{event}",
    }
}

impl<'a> Series<'a> {
    fn gauge<T>(&self, value: T) -> Point<'a, T> {
        Point { labels: self.labels, label: None, start_ns: 0, time_ns: self.now_us * 1000, value }
    }

    fn counted<T>(&self, aggregation: Aggregation, label: Option<(&'static str, &'a str)>, value: T) -> Point<'a, T> {
        let start_us = if aggregation == Aggregation::Delta { self.accepted_us } else { self.began_us };
        Point { label, start_ns: start_us * 1000, ..self.gauge(value) }
    }

    /// What there is, or what is new of it.
    fn since(&self, aggregation: Aggregation, count: impl Fn(&Snapshot) -> u64) -> u64 {
        match aggregation {
            Aggregation::Cumulative => count(self.now),
            Aggregation::Delta => count(self.now).wrapping_sub(count(self.accepted)),
        }
    }

    /// Adds the points of a counter. In a delta, what has not changed is left out.
    fn sums(&self, aggregation: Aggregation, source: Source, points: &mut Vec<Point<'a, Number>>) {
        let mut sum = |label, count: &dyn Fn(&Snapshot) -> u64| {
            let value = self.since(aggregation, count);
            if value > 0 || aggregation == Aggregation::Cumulative {
                points.push(self.counted(aggregation, label, value.into()));
            }
        };
        match source {
            Source::Counter(kind) => sum(None, &|snapshot| snapshot.counter(kind)),
            Source::AccountCounter(read) => sum(None, &|snapshot| read(&snapshot.account)),
            Source::Errors => {
                for kind in Kind::ALL {
                    if let Some(status) = kind.status().and_then(|status| status.label()) {
                        sum(Some(("status", status)), &|snapshot| snapshot.counter(kind));
                    }
                }
            }
            Source::Named => {
                let now = self.now;
                for known in &now.named {
                    sum(Some(("event", &known.name)), &|snapshot| {
                        snapshot.named.iter().find(|named| named.name == known.name).map_or(0, |named| named.sum)
                    });
                }
            }
            Source::Gauge(_) | Source::Histogram(_) | Source::AccountGauge(_) | Source::AccountTime(_) => {}
        }
    }

    /// The histograms now, and accepted. `None` for a kind that has none.
    fn histograms(&self, kind: Kind) -> Option<(&'a Histogram, &'a Histogram)> {
        let (now, accepted) = (self.now, self.accepted);
        Some((now.histogram(kind)?, accepted.histogram(kind)?))
    }

    fn explicit(&self, aggregation: Aggregation, kind: Kind) -> Option<Point<'a, Explicit<'a>>> {
        let (now, accepted) = self.histograms(kind)?;
        let counts = new(aggregation, &now.classic, &accepted.classic);
        let value = Explicit {
            count: total(&counts),
            sum: self.sum_of_times(aggregation, kind),
            bounds: now.buckets.bounds(),
            counts,
        };
        (value.count > 0 || aggregation == Aggregation::Cumulative).then(|| self.counted(aggregation, None, value))
    }

    fn exponential(&self, aggregation: Aggregation, kind: Kind) -> Option<Point<'a, Exponential>> {
        let (now, accepted) = self.histograms(kind)?;
        let (now, accepted) = (now.exponential.as_ref()?, accepted.exponential.as_ref()?);
        let all = new(aggregation, &now.counts[..], &accepted.counts[..]);
        let zeros = new(aggregation, &[now.zeros], &[accepted.zeros])[0];
        let first = all.iter().position(|count| *count > 0).unwrap_or(0);
        let end = all.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        let counts = all[first..end].to_vec();
        // What is bucket 1 to us, the one after that which ends with 1, is bucket 0 to OpenTelemetry.
        let offset = if counts.is_empty() { 0 } else { i32::try_from(first).expect("few buckets") - 1 };
        let count = total(&counts).wrapping_add(zeros);
        let value = Exponential { count, sum: self.sum_of_times(aggregation, kind), zeros, offset, counts };
        (count > 0 || aggregation == Aggregation::Cumulative).then(|| self.counted(aggregation, None, value))
    }

    fn sum_of_times(&self, aggregation: Aggregation, kind: Kind) -> f64 {
        self.since(aggregation, |snapshot| snapshot.histogram(kind).map_or(0, |histogram| histogram.sum)) as f64
    }
}

fn new(aggregation: Aggregation, now: &[u64], accepted: &[u64]) -> Vec<u64> {
    match aggregation {
        Aggregation::Cumulative => now.to_vec(),
        Aggregation::Delta => now.iter().zip(accepted).map(|(now, accepted)| now.wrapping_sub(*accepted)).collect(),
    }
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
}

#[cfg(test)]
mod tests;
