// SPDX-License-Identifier: Apache-2.0

//! Snapshots as Prometheus reads them, in three formats.
//!
//! [`encode()`] writes all [`FAMILIES`] of any number of agents; an [`Encoder`] lets the one who serves add families of its
//! own. Both only write to a buffer, and allocate nothing but what it grows by.
//!
//! | | what is special |
//! |---|---|
//! | [`Format::Text`] | what NIXL's exporters serve, line by line, and what every monitoring system reads |
//! | [`Format::OpenMetrics`] | tells units, and when counting began |
//! | [`Format::Protobuf`] | has native histograms, beside the classic ones; numbers of counters and gauges are `f64`, and lose digits above 2<sup>53</sup>, as they do in Prometheus itself |
//!
//! ```
//! use std::sync::Arc;
//! use nixl_telemetry_metrics::encode::{Format, Series, encode};
//! use nixl_telemetry_metrics::{Buckets, Labels, Snapshot};
//!
//! let snapshot = Snapshot::new(Arc::new(Buckets::default()));
//! let labels = Labels::sorted([("agent_name".to_owned(), "prefill-0".to_owned())])?;
//! let mut out = Vec::new();
//! encode(Format::Text, &[Series { labels: &labels, snapshot: &snapshot }], &mut out);
//! assert!(String::from_utf8_lossy(&out).contains("\nagent_tx_bytes_total{agent_name=\"prefill-0\"} 0\n"));
//! # Ok::<(), nixl_telemetry_metrics::LabelsError>(())
//! ```

mod line;
mod number;
mod openmetrics;
mod protobuf;
mod text;

use nixl_telemetry_event::Kind;

use crate::{FAMILIES, Family, Histogram, Labels, Snapshot, Source, Type};

use self::{openmetrics::OpenMetrics, protobuf::Protobuf, text::Text};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0, as text. Two counters, `agent_xfer_time_total` and `agent_xfer_post_time_total`, are of type
    /// `unknown` there: without `_total`, as OpenMetrics names a counter's family, they would be what NIXL's gauges are.
    OpenMetrics,
    /// Messages `io.prometheus.client.MetricFamily`, each with its length before it. Counters and gauges are `f64`.
    Protobuf,
}

/// The metrics of an agent, and the labels that tell them from others'.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// The labels.
    pub labels: &'a Labels,
    /// The metrics.
    pub snapshot: &'a Snapshot,
}

/// Appends all metrics of these agents to `out`, as a whole document.
///
/// Labels have to differ between agents. Of no agents there are no families.
pub fn encode(format: Format, series: &[Series<'_>], out: &mut Vec<u8>) {
    let mut encoder = Encoder::new(format, out);
    encoder.families(series);
    encoder.finish();
}

/// A document of metrics in the making, for whoever has families to add that are no agent's.
///
/// Names of families have to differ, as in any document.
#[derive(Debug)]
pub struct Encoder<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
}

impl Format {
    /// All formats, the one that everybody understands first.
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// The media type, as the header `Content-Type` of HTTP has it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

impl<'a> Encoder<'a> {
    /// Begins a document at the end of `out`.
    pub fn new(format: Format, out: &'a mut Vec<u8>) -> Self {
        Self { format, out }
    }

    /// Writes all [`FAMILIES`] of these agents, whose labels have to differ. A family of which there is no series is left out.
    pub fn families(&mut self, series: &[Series<'_>]) {
        self.families_where(series, |_, _| true);
    }

    /// Writes [`families`](Self::families), each of the agents for which `says` holds: a snapshot that was put together
    /// from elsewhere need not know every number.
    pub fn families_where(&mut self, series: &[Series<'_>], says: impl Fn(&Family, &Snapshot) -> bool) {
        for family in &FAMILIES {
            let is_shown = |snapshot: &Snapshot| has_any(family.source, snapshot) && says(family, snapshot);
            if series.iter().any(|series| is_shown(series.snapshot)) {
                let head = Head { name: family.name, help: family.help, unit: family.unit, shape: shape(family) };
                self.family(&head, |writer| {
                    for Series { labels, snapshot } in series.iter().filter(|series| is_shown(series.snapshot)) {
                        write_series(writer, family.source, labels, snapshot);
                    }
                });
            }
        }
    }

    /// Writes a counter of its own family. Its name ends with `_total`, after the unit if there is one.
    pub fn counter(&mut self, name: &str, help: &str, unit: Option<&str>, labels: &Labels, value: u64) {
        let head = Head { name, help, unit, shape: Shape::Counter };
        self.family(&head, |writer| writer.number(&Member::alone(labels), Value::Number(value)));
    }

    /// Writes a gauge of its own family. Its name ends with the unit, if there is one.
    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<&str>, labels: &Labels, value: u64) {
        let head = Head { name, help, unit, shape: Shape::Gauge };
        self.family(&head, |writer| writer.number(&Member::alone(labels), Value::Number(value)));
    }

    /// Writes a summary of its own family: values that fractions of all others are not above, in rising order, with the
    /// sum of all and their number.
    pub fn summary(&mut self, name: &str, help: &str, labels: &Labels, quantiles: &[(f64, u64)], sum: u64, count: u64) {
        let head = Head { name, help, unit: None, shape: Shape::Summary };
        let summary = Summary { quantiles, sum, count };
        self.family(&head, |writer| writer.summary(&Member::alone(labels), &summary));
    }

    /// Ends the document.
    pub fn finish(self) {
        if self.format == Format::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }

    fn family(&mut self, head: &Head<'_>, write: impl FnOnce(&mut dyn Writer)) {
        match self.format {
            Format::Text => write(&mut Text::new(self.out, head)),
            Format::OpenMetrics => write(&mut OpenMetrics::new(self.out, head)),
            Format::Protobuf => {
                let mut family = Protobuf::new(self.out, head);
                write(&mut family);
                family.end();
            }
        }
    }
}

/// A format, in the middle of a family.
trait Writer {
    fn number(&mut self, member: &Member<'_>, value: Value);
    fn histogram(&mut self, member: &Member<'_>, histogram: &Histogram);
    fn summary(&mut self, member: &Member<'_>, summary: &Summary<'_>);
}

/// What a family says of itself before its series.
struct Head<'a> {
    name: &'a str,
    help: &'a str,
    unit: Option<&'a str>,
    shape: Shape,
}

/// What [`Type`] says, and what only those who serve have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// Which series of a family it is.
struct Member<'a> {
    labels: &'a Labels,
    /// The label that the family adds.
    added: Option<(&'a str, &'a str)>,
    /// When counting began; 0 if it is not known.
    created_us: u64,
}

enum Value {
    Number(u64),
    /// Microseconds, to be shown in seconds.
    Moment(u64),
}

struct Summary<'a> {
    quantiles: &'a [(f64, u64)],
    sum: u64,
    count: u64,
}

impl<'a> Member<'a> {
    /// A series of whoever serves.
    const fn alone(labels: &'a Labels) -> Self {
        Self { labels, added: None, created_us: 0 }
    }
}

impl Shape {
    /// The word for it in the text formats.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

const fn shape(family: &Family) -> Shape {
    match family.kind() {
        Type::Counter => Shape::Counter,
        Type::Gauge => Shape::Gauge,
        Type::Histogram => Shape::Histogram,
    }
}

/// Whether a family has a series of this agent. What NIXL knows is there from the beginning; names come with their events.
fn has_any(source: Source, snapshot: &Snapshot) -> bool {
    !matches!(source, Source::Named) || !snapshot.named.is_empty()
}

fn write_series(writer: &mut dyn Writer, source: Source, labels: &Labels, snapshot: &Snapshot) {
    let member = |added| Member { labels, added, created_us: snapshot.created_us };
    let account = &snapshot.account;
    match source {
        Source::Counter(kind) => writer.number(&member(None), Value::Number(snapshot.counter(kind))),
        Source::Gauge(kind) => writer.number(&member(None), Value::Number(snapshot.gauge(kind))),
        Source::Errors => {
            for (kind, status) in errors() {
                writer.number(&member(Some(("status", status))), Value::Number(snapshot.counter(kind)));
            }
        }
        Source::Named => {
            for named in &snapshot.named {
                writer.number(&member(Some(("event", &named.name))), Value::Number(named.sum));
            }
        }
        Source::Histogram(kind) => {
            if let Some(histogram) = snapshot.histogram(kind) {
                writer.histogram(&member(None), histogram);
            }
        }
        Source::AccountCounter(number) | Source::AccountGauge(number) => {
            writer.number(&member(None), Value::Number(number(account)));
        }
        Source::AccountTime(moment) => writer.number(&member(None), Value::Moment(moment(account))),
    }
}

/// The kinds that count errors, and what the label `status` says of each.
fn errors() -> impl Iterator<Item = (Kind, &'static str)> {
    Kind::ALL.into_iter().filter_map(|kind| Some((kind, kind.name()?.strip_prefix("agent_err_")?)))
}
