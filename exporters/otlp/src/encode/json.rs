// SPDX-License-Identifier: Apache-2.0

//! The same in JSON, as OTLP maps it: names in camel case, integers of 64 bits as text, enumerations as numbers.

use nixl_telemetry_sdk::metrics::exponential::SCALE;
use serde_json::{Value, json};

use super::{Data, Explicit, Exponential, Metric, Number, Point, SCOPE, Said};

pub(super) fn encode(resource: &[(String, String)], metrics: &[Metric<'_>]) -> Vec<u8> {
    let resource: Value = super::resource(resource).map(|(name, said)| attribute(name, said)).collect();
    let metrics: Vec<Value> = metrics.iter().map(encode_metric).collect();
    let scope = json!({"name": SCOPE.0, "version": SCOPE.1});
    let request = json!({"resourceMetrics": [{
        "resource": {"attributes": resource},
        "scopeMetrics": [{"scope": scope, "metrics": metrics}],
    }]});
    request.to_string().into_bytes()
}

fn encode_metric(metric: &Metric<'_>) -> Value {
    let (name, data) = match &metric.data {
        Data::Gauge(points) => ("gauge", json!({"dataPoints": each(points, number)})),
        Data::Sum(aggregation, points) => (
            "sum",
            json!({
                "dataPoints": each(points, number),
                "aggregationTemporality": *aggregation as u32,
                "isMonotonic": true,
            }),
        ),
        Data::Explicit(aggregation, points) => {
            ("histogram", json!({"dataPoints": each(points, explicit), "aggregationTemporality": *aggregation as u32}))
        }
        Data::Exponential(aggregation, points) => (
            "exponentialHistogram",
            json!({"dataPoints": each(points, exponential), "aggregationTemporality": *aggregation as u32}),
        ),
    };
    json!({"name": metric.name, "description": metric.description, "unit": metric.unit, name: data})
}

fn each<'a, T>(points: &[Point<'a, T>], encode: fn(&T) -> Value) -> Vec<Value> {
    let point = |point: &Point<'a, T>| {
        let mut value = encode(&point.value);
        value["attributes"] = point.attributes().map(|(name, value)| attribute(name, Said::Text(value))).collect();
        if point.start_ns > 0 {
            value["startTimeUnixNano"] = text(point.start_ns);
        }
        value["timeUnixNano"] = text(point.time_ns);
        value
    };
    points.iter().map(point).collect()
}

fn number(value: &Number) -> Value {
    match value {
        Number::Int(value) => json!({"asInt": value.to_string()}),
        Number::Double(value) => json!({"asDouble": value}),
    }
}

fn explicit(value: &Explicit<'_>) -> Value {
    let counts: Vec<Value> = value.counts.iter().copied().map(text).collect();
    json!({"count": text(value.count), "sum": value.sum, "bucketCounts": counts, "explicitBounds": value.bounds})
}

fn exponential(value: &Exponential) -> Value {
    let counts: Vec<Value> = value.counts.iter().copied().map(text).collect();
    json!({
        "count": text(value.count),
        "sum": value.sum,
        "scale": SCALE,
        "zeroCount": text(value.zeros),
        "positive": {"offset": value.offset, "bucketCounts": counts},
    })
}

fn text(number: u64) -> Value {
    number.to_string().into()
}

fn attribute(name: &str, said: Said<'_>) -> Value {
    let value = match said {
        Said::Text(value) => json!({"stringValue": value}),
        Said::Int(value) => json!({"intValue": value.to_string()}),
    };
    json!({"key": name, "value": value})
}
