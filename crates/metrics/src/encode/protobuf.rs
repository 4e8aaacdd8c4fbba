// SPDX-License-Identifier: Apache-2.0

//! Messages `io.prometheus.client.MetricFamily`, as `prometheus/client_model` defines them, with native histograms.

use std::ops::Range;

use crate::{Exponential, Histogram, exponential, wire};

use super::{Head, Member, Shape, Summary, Value, Writer};

/// How near to zero a value is counted as one: 2<sup>-128</sup>, as client_golang has it. Values are integers, so any number
/// below 1 would do; where it is the same everywhere, histograms can be added up as they are.
const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);

/// The most empty buckets that are written out rather than left out, as client_golang does.
const BRIDGED: usize = 2;

pub(super) struct Protobuf<'a> {
    out: &'a mut Vec<u8>,
    length: wire::Length,
    shape: Shape,
}

impl<'a> Protobuf<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, head: &Head<'_>) -> Self {
        let length = wire::begin(out);
        wire::string(out, 1, head.name);
        wire::string(out, 2, head.help);
        let number = match head.shape {
            Shape::Counter => 0,
            Shape::Gauge => 1,
            Shape::Summary => 2,
            Shape::Histogram => 4,
        };
        wire::uint(out, 3, number);
        if let Some(unit) = head.unit {
            wire::string(out, 5, unit);
        }
        Self { out, length, shape: head.shape }
    }

    pub(super) fn end(self) {
        self.length.end(self.out);
    }

    /// Writes a series: its labels, and what `write` adds.
    fn metric(&mut self, member: &Member<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        wire::message(self.out, 4, |out| {
            let labels = member.labels.pairs().iter().map(|(name, value)| (name.as_str(), value.as_str()));
            for (name, value) in labels.chain(member.added) {
                wire::message(out, 1, |out| {
                    wire::string(out, 1, name);
                    wire::string(out, 2, value);
                });
            }
            write(out);
        });
    }
}

impl Writer for Protobuf<'_> {
    fn number(&mut self, member: &Member<'_>, value: Value) {
        let value = match value {
            Value::Number(value) => value as f64,
            Value::Moment(us) => us as f64 / 1e6,
        };
        if self.shape == Shape::Counter {
            self.metric(member, |out| {
                wire::message(out, 3, |out| {
                    wire::double(out, 1, value);
                    created(out, 3, member.created_us);
                });
            });
        } else {
            self.metric(member, |out| wire::message(out, 2, |out| wire::double(out, 1, value)));
        }
    }

    fn histogram(&mut self, member: &Member<'_>, histogram: &Histogram) {
        self.metric(member, |out| {
            wire::message(out, 7, |out| {
                wire::uint(out, 1, histogram.count());
                wire::double(out, 2, histogram.sum as f64);
                for (bound, count) in histogram.cumulative() {
                    wire::message(out, 3, |out| {
                        wire::uint(out, 1, count);
                        wire::double(out, 2, bound);
                    });
                }
                if let Some(exponential) = &histogram.exponential {
                    native(out, exponential);
                }
                created(out, 15, member.created_us);
            });
        });
    }

    fn summary(&mut self, member: &Member<'_>, summary: &Summary<'_>) {
        self.metric(member, |out| {
            wire::message(out, 4, |out| {
                wire::uint(out, 1, summary.count);
                wire::double(out, 2, summary.sum as f64);
                for (quantile, value) in summary.quantiles {
                    wire::message(out, 3, |out| {
                        wire::double(out, 1, *quantile);
                        wire::double(out, 2, *value as f64);
                    });
                }
                created(out, 4, member.created_us);
            });
        });
    }
}

/// Writes when counting began, if that is known: a `google.protobuf.Timestamp`.
fn created(out: &mut Vec<u8>, field: u32, us: u64) {
    if us > 0 {
        wire::message(out, field, |out| {
            wire::uint(out, 1, us / 1_000_000);
            wire::uint(out, 2, us % 1_000_000 * 1000);
        });
    }
}

/// Writes what makes a histogram a native one.
fn native(out: &mut Vec<u8>, Exponential { zeros, counts }: &Exponential) {
    wire::sint(out, 5, i64::from(exponential::SCALE));
    wire::double(out, 6, ZERO_THRESHOLD);
    wire::uint(out, 7, *zeros);
    let span = |out: &mut Vec<u8>, gap: usize, length: usize| {
        wire::message(out, 12, |out| {
            wire::sint(out, 1, gap as i64);
            wire::uint(out, 2, length as u64);
        });
    };
    let mut end = 0;
    for buckets in spans(&counts[..]) {
        span(out, buckets.start - end, buckets.len());
        end = buckets.end;
    }
    if end == 0 {
        // By an empty span a reader knows that an empty histogram is a native one as well.
        span(out, 0, 0);
    }
    let mut before = 0;
    for count in spans(&counts[..]).flat_map(|buckets| &counts[buckets]) {
        wire::sint(out, 13, count.wrapping_sub(before).cast_signed());
        before = *count;
    }
}

/// The runs of buckets that are written: each from one that is not empty to another, with no more than [`BRIDGED`] empty
/// ones in a row.
fn spans(counts: &[u64]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + counts[at..].iter().position(|count| *count > 0)?;
        let mut end = start + 1;
        while let Some(gap) = counts[end..].iter().take(BRIDGED + 1).position(|count| *count > 0) {
            end += gap + 1;
        }
        at = end;
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_of_two_are_bridged() {
        let found = |counts: &[u64]| spans(counts).map(|span| (span.start, span.end)).collect::<Vec<_>>();
        assert_eq!(found(&[0, 1, 0, 0, 1, 0, 0, 0, 2, 3, 0]), [(1, 5), (8, 10)]);
        assert_eq!(found(&[5]), [(0, 1)]);
        assert_eq!(found(&[0, 0]), []);
        assert_eq!(found(&[0, 0, 0, 0, 7]), [(4, 5)]);
    }

    #[test]
    fn the_zero_threshold_is_that_of_client_golang() {
        assert_eq!(ZERO_THRESHOLD, 2.938735877055719e-39);
    }
}
