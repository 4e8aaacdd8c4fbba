// SPDX-License-Identifier: Apache-2.0

//! `ExportMetricsServiceRequest` in protobuf. Numbers of fields are those of `opentelemetry/proto/metrics/v1/metrics.proto`,
//! in whose order they are written; what is zero or empty is left out, unless it says something that it is there.

use nixl_telemetry_metrics::wire;
use nixl_telemetry_sdk::metrics::exponential::SCALE;

use super::{Aggregation, Data, Explicit, Exponential, Metric, Number, Point, SCOPE, Said};

pub(super) fn encode(resource: &[(String, String)], metrics: &[Metric<'_>]) -> Vec<u8> {
    let mut request = Vec::new();
    wire::message(&mut request, 1, |resource_metrics| {
        wire::message(resource_metrics, 1, |message| {
            super::resource(resource).for_each(|(name, said)| attribute(message, 1, name, said));
        });
        wire::message(resource_metrics, 2, |scope_metrics| {
            wire::message(scope_metrics, 1, |scope| {
                wire::string(scope, 1, SCOPE.0);
                wire::string(scope, 2, SCOPE.1);
            });
            metrics.iter().for_each(|metric| wire::message(scope_metrics, 2, |message| encode_metric(message, metric)));
        });
    });
    request
}

fn encode_metric(message: &mut Vec<u8>, metric: &Metric<'_>) {
    wire::string(message, 1, metric.name);
    wire::string(message, 2, metric.description);
    if !metric.unit.is_empty() {
        wire::string(message, 3, metric.unit);
    }
    match &metric.data {
        Data::Gauge(points) => wire::message(message, 5, |gauge| each(gauge, points, number)),
        Data::Sum(aggregation, points) => wire::message(message, 7, |sum| {
            each(sum, points, number);
            temporality(sum, *aggregation);
            // Is monotonic.
            wire::uint(sum, 3, 1);
        }),
        Data::Explicit(aggregation, points) => wire::message(message, 9, |histogram| {
            each(histogram, points, explicit);
            temporality(histogram, *aggregation);
        }),
        Data::Exponential(aggregation, points) => wire::message(message, 10, |histogram| {
            each(histogram, points, exponential);
            temporality(histogram, *aggregation);
        }),
    }
}

fn temporality(message: &mut Vec<u8>, aggregation: Aggregation) {
    wire::uint(message, 2, aggregation as u64);
}

fn each<'a, T>(message: &mut Vec<u8>, points: &[Point<'a, T>], encode: fn(&mut Vec<u8>, &Point<'a, T>)) {
    points.iter().for_each(|point| wire::message(message, 1, |message| encode(message, point)));
}

fn number(message: &mut Vec<u8>, point: &Point<'_, Number>) {
    times(message, point);
    match point.value {
        Number::Double(value) => wire::double(message, 4, value),
        Number::Int(value) => wire::fixed64(message, 6, value.cast_unsigned()),
    }
    labels(message, 7, point);
}

fn explicit(message: &mut Vec<u8>, point: &Point<'_, Explicit<'_>>) {
    let value = &point.value;
    times(message, point);
    fixed64(message, 4, value.count);
    wire::double(message, 5, value.sum);
    packed(message, 6, &value.counts, |out, count| out.extend_from_slice(&count.to_le_bytes()));
    packed(message, 7, value.bounds, |out, bound| out.extend_from_slice(&bound.to_le_bytes()));
    labels(message, 9, point);
}

fn exponential(message: &mut Vec<u8>, point: &Point<'_, Exponential>) {
    let value = &point.value;
    labels(message, 1, point);
    times(message, point);
    fixed64(message, 4, value.count);
    wire::double(message, 5, value.sum);
    wire::sint(message, 6, SCALE.into());
    fixed64(message, 7, value.zeros);
    wire::message(message, 8, |buckets| {
        if value.offset != 0 {
            wire::sint(buckets, 1, value.offset.into());
        }
        packed(buckets, 2, &value.counts, wire::varint);
    });
}

/// All kinds of data points have these at the same numbers.
fn times<T>(message: &mut Vec<u8>, point: &Point<'_, T>) {
    fixed64(message, 2, point.start_ns);
    fixed64(message, 3, point.time_ns);
}

fn fixed64(message: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        wire::fixed64(message, field, value);
    }
}

fn packed<T: Copy>(message: &mut Vec<u8>, field: u32, values: &[T], write: fn(&mut Vec<u8>, T)) {
    if !values.is_empty() {
        wire::message(message, field, |out| values.iter().for_each(|value| write(out, *value)));
    }
}

fn labels<T>(message: &mut Vec<u8>, field: u32, point: &Point<'_, T>) {
    point.attributes().for_each(|(name, value)| attribute(message, field, name, Said::Text(value)));
}

fn attribute(message: &mut Vec<u8>, field: u32, name: &str, said: Said<'_>) {
    wire::message(message, field, |pair| {
        wire::string(pair, 1, name);
        // One of several kinds of values, which is there even if it is empty or zero.
        wire::message(pair, 2, |any| match said {
            Said::Text(value) => wire::string(any, 1, value),
            Said::Int(value) => wire::uint(any, 3, value.into()),
        });
    });
}
