// SPDX-License-Identifier: Apache-2.0

//! `ExportMetricsServiceRequest` in protobuf. Numbers of fields are those of `opentelemetry/proto/metrics/v1/metrics.proto`,
//! in whose order they are written.

use nixl_telemetry_sdk::metrics::exponential::SCALE;

use super::wire::Message;
use super::{Data, Explicit, Exponential, Metric, Number, Point, SCOPE};

pub(super) fn encode(resource: &[(String, String)], metrics: &[Metric<'_>]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_metrics| {
        resource_metrics.message(1, |message| {
            attributes(message, 1, resource.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        });
        resource_metrics.message(2, |scope_metrics| {
            scope_metrics.message(1, |scope| {
                scope.text(1, SCOPE.0);
                scope.text(2, SCOPE.1);
            });
            metrics.iter().for_each(|metric| scope_metrics.message(2, |message| encode_metric(message, metric)));
        });
    });
    request.into_bytes()
}

fn encode_metric(message: &mut Message, metric: &Metric<'_>) {
    message.text(1, metric.name);
    message.text(2, metric.description);
    message.text(3, metric.unit);
    match &metric.data {
        Data::Gauge(points) => message.message(5, |gauge| each(gauge, points, number)),
        Data::Sum(aggregation, points) => message.message(7, |sum| {
            each(sum, points, number);
            sum.uint(2, *aggregation as u64);
            // Is monotonic.
            sum.uint(3, 1);
        }),
        Data::Explicit(aggregation, points) => message.message(9, |histogram| {
            each(histogram, points, explicit);
            histogram.uint(2, *aggregation as u64);
        }),
        Data::Exponential(aggregation, points) => message.message(10, |histogram| {
            each(histogram, points, exponential);
            histogram.uint(2, *aggregation as u64);
        }),
    }
}

fn each<'a, T>(message: &mut Message, points: &[Point<'a, T>], encode: fn(&mut Message, &Point<'a, T>)) {
    points.iter().for_each(|point| message.message(1, |message| encode(message, point)));
}

fn number(message: &mut Message, point: &Point<'_, Number>) {
    times(message, point);
    match point.value {
        Number::Double(value) => message.present_fixed(4, value.to_bits()),
        Number::Int(value) => message.present_fixed(6, value.cast_unsigned()),
    }
    attributes(message, 7, point.attributes());
}

fn explicit(message: &mut Message, point: &Point<'_, Explicit<'_>>) {
    let value = &point.value;
    times(message, point);
    message.fixed(4, value.count);
    message.present_fixed(5, value.sum.to_bits());
    message.packed_fixed(6, value.counts.iter().copied());
    message.packed_fixed(7, value.bounds.iter().map(|bound| bound.to_bits()));
    attributes(message, 9, point.attributes());
}

fn exponential(message: &mut Message, point: &Point<'_, Exponential>) {
    let value = &point.value;
    attributes(message, 1, point.attributes());
    times(message, point);
    message.fixed(4, value.count);
    message.present_fixed(5, value.sum.to_bits());
    message.sint(6, SCALE);
    message.fixed(7, value.zeros);
    message.message(8, |buckets| {
        buckets.sint(1, value.offset);
        buckets.packed_varints(2, &value.counts);
    });
}

/// All kinds of data points have these at the same numbers.
fn times<T>(message: &mut Message, point: &Point<'_, T>) {
    message.fixed(2, point.start_ns);
    message.fixed(3, point.time_ns);
}

fn attributes<'a>(message: &mut Message, field: u32, attributes: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in attributes {
        message.message(field, |pair| {
            pair.text(1, name);
            // The value is one of a kind, and there even if it is empty.
            pair.message(2, |any| any.present_text(1, value));
        });
    }
}
