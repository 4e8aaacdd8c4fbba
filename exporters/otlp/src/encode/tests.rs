// SPDX-License-Identifier: Apache-2.0

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nixl_telemetry_sdk::Event;
use nixl_telemetry_sdk::metrics::{Buckets, Live, Tally};
use nixl_telemetry_testkit as testkit;
use serde_json::{Value, json};

use super::*;

/// An agent before and after a few events.
struct Sample {
    labels: Vec<(String, String)>,
    before: Snapshot,
    after: Snapshot,
}

const BEGAN_US: u64 = 1_764_000_000_000_001;
const ACCEPTED_US: u64 = BEGAN_US + 60_000_000;
const NOW_US: u64 = ACCEPTED_US + 60_000_000;

fn sample(agent: &str, before: &[Event<'_>], after: &[Event<'_>]) -> Sample {
    let buckets = Arc::new(Buckets::parse("10,100.5,1e9").unwrap());
    let (mut publisher, live) = Live::new(Arc::clone(&buckets), BEGAN_US);
    let mut tally = Tally::new(Arc::clone(&buckets));
    let snapshots = [before, after].map(|events| {
        let mut snapshot = Snapshot::new(Arc::clone(&buckets));
        events.iter().for_each(|event| tally.fold(event));
        publisher.publish(&mut tally, NOW_US);
        live.read(&mut snapshot);
        snapshot.account.last_success_us = 1_500_000;
        snapshot.account.queued = 3;
        snapshot
    });
    let [before, after] = snapshots;
    let labels = [("agent_name", agent), ("empty", ""), ("hostname", "vm")];
    Sample { labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), before, after }
}

fn event(kind: Kind, value: u64) -> Event<'static> {
    Event::new(kind, value)
}

fn busy() -> Sample {
    let before = [
        event(Kind::TX_BYTES, 1000),
        event(Kind::ERR_BACKEND, 1),
        event(Kind::XFER_TIME, 5),
        event(Kind::XFER_TIME, 0),
        Event::backend("old", 1),
    ];
    let after = [
        event(Kind::TX_BYTES, 1 << 63),
        event(Kind::RX_BYTES, 24),
        event(Kind::XFER_TIME, 11),
        event(Kind::XFER_TIME, 0),
        event(Kind::XFER_TIME, u64::from(u32::MAX)),
        Event::backend("new \"é\"", 7),
    ];
    sample("prefill-0 \"é\"", &before, &after)
}

impl Sample {
    fn series(&self) -> Series<'_> {
        let Self { labels, before, after } = self;
        Series { labels, now: after, accepted: before, began_us: BEGAN_US, accepted_us: ACCEPTED_US, now_us: NOW_US }
    }

    /// What a receiver of JSON sees of a metric.
    fn metric(&self, form: Form<'_>, name: &str) -> Value {
        let (body, _) = encode(Form { protocol: Protocol::Json, ..form }, &[self.series()]);
        let request: Value = serde_json::from_slice(&body).unwrap();
        let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["name"] == name).cloned().unwrap_or_default()
    }
}

const FORM: Form<'static> = Form {
    protocol: Protocol::Protobuf,
    temporality: Temporality::Cumulative,
    histograms: Histograms::Explicit,
    resource: &[],
};
const DELTA: Form<'static> = Form { temporality: Temporality::Delta, ..FORM };

/// Labels, besides those of the agent, and values.
fn numbers(metric: &Value) -> Vec<(String, Value)> {
    let points = metric.get("sum").or(metric.get("gauge")).map(|data| data["dataPoints"].as_array().unwrap().clone());
    let number = |point: &Value| {
        let attributes = point["attributes"].as_array().unwrap();
        let label = attributes.get(3).map(|label| label["value"]["stringValue"].as_str().unwrap().to_owned());
        let value = point.get("asInt").or(point.get("asDouble")).unwrap();
        (label.unwrap_or_default(), value.clone())
    };
    points.unwrap_or_default().iter().map(number).collect()
}

#[test]
fn a_counter_is_a_monotonic_sum() {
    let sample = busy();
    let metric = sample.metric(FORM, "agent_rx_bytes_total");
    assert_eq!(
        metric,
        json!({
            "name": "agent_rx_bytes_total",
            "description": "Number of bytes received by the agent",
            "unit": "By",
            "sum": {
                "aggregationTemporality": 2,
                "isMonotonic": true,
                "dataPoints": [{
                    "attributes": [
                        {"key": "agent_name", "value": {"stringValue": "prefill-0 \"é\""}},
                        {"key": "empty", "value": {"stringValue": ""}},
                        {"key": "hostname", "value": {"stringValue": "vm"}},
                    ],
                    "startTimeUnixNano": "1764000000000001000",
                    "timeUnixNano": "1764000120000001000",
                    "asInt": "24",
                }],
            },
        })
    );
    // What an integer has no room for.
    let total = sample.metric(FORM, "agent_tx_bytes_total");
    assert_eq!(numbers(&total), [("".into(), json!(9_223_372_036_854_776_808.0))]);
    let delta = sample.metric(DELTA, "agent_tx_bytes_total");
    assert_eq!(numbers(&delta), [("".into(), json!(9_223_372_036_854_775_808.0))]);
    assert_eq!(delta["sum"]["aggregationTemporality"], 1);
    assert_eq!(delta["sum"]["dataPoints"][0]["startTimeUnixNano"], "1764000060000001000");
}

#[test]
fn a_delta_has_only_what_is_new() {
    let sample = busy();
    let errors = numbers(&sample.metric(FORM, "agent_errors_total"));
    assert!(errors.len() > 5 && errors.iter().filter(|(_, count)| count != "0").count() == 1, "{errors:?}");
    assert!(errors.contains(&("backend".into(), json!("1"))), "{errors:?}");
    assert_eq!(sample.metric(DELTA, "agent_errors_total"), Value::Null);
    let named = |form| numbers(&sample.metric(form, "agent_backend_events_total"));
    assert_eq!(named(FORM), [("old".into(), json!("1")), ("new \"é\"".into(), json!("7"))]);
    assert_eq!(named(DELTA), [("new \"é\"".into(), json!("7"))]);
    let own = |form| numbers(&sample.metric(form, "nixl_telemetry_exporter_events_total"));
    assert_eq!((own(FORM), own(DELTA)), (vec![("".into(), json!("11"))], vec![("".into(), json!("6"))]));
    // What is asked for its sum needs no memory.
    let low = Form { temporality: Temporality::LowMemory, ..FORM };
    assert_eq!((own(low), named(low)), (own(FORM), named(DELTA)));
}

#[test]
fn gauges_are_as_they_are() {
    let sample = busy();
    for form in [FORM, DELTA] {
        for (name, unit, value) in [
            ("agent_rx_last_bytes", "By", json!("24")),
            ("agent_xfer_time", "us", json!("4294967295")),
            ("nixl_telemetry_exporter_queue_events", "{event}", json!("3")),
            ("nixl_telemetry_exporter_last_success_timestamp_seconds", "s", json!(1.5)),
        ] {
            let metric = sample.metric(form, name);
            assert_eq!((numbers(&metric), &metric["unit"]), (vec![("".into(), value)], &json!(unit)), "{name}");
            assert!(metric["gauge"]["dataPoints"][0].get("startTimeUnixNano").is_none(), "{metric}");
        }
    }
}

#[test]
fn histograms_have_the_buckets_that_are_asked_for() {
    let sample = busy();
    let point = |form, kind: &str, name| {
        let metric = sample.metric(form, name);
        metric.get(kind).map(|data| data["dataPoints"][0].clone()).unwrap_or_default()
    };
    let explicit = point(FORM, "histogram", "agent_xfer_time_us");
    assert_eq!(explicit["explicitBounds"], json!([10.0, 100.5, 1e9]));
    assert_eq!(explicit["bucketCounts"], json!(["3", "1", "0", "1"]));
    assert_eq!((&explicit["count"], &explicit["sum"]), (&json!("5"), &json!(4_294_967_311.0)));
    let new = point(DELTA, "histogram", "agent_xfer_time_us");
    assert_eq!(new["bucketCounts"], json!(["1", "1", "0", "1"]));
    assert_eq!((&new["count"], &new["sum"]), (&json!("3"), &json!(4_294_967_306.0)));

    let base2 = Form { histograms: Histograms::Exponential, ..FORM };
    let all = point(base2, "exponentialHistogram", "agent_xfer_time_us");
    assert_eq!((&all["scale"], &all["zeroCount"], &all["count"]), (&json!(3), &json!("2"), &json!("5")));
    // 5 lies in (2^(18/8), 2^(19/8)], bucket 18 of OpenTelemetry's; 11 in 27, and 2^32 - 1 in the one that ends with 2^32.
    let counts = all["positive"]["bucketCounts"].as_array().unwrap();
    assert_eq!((&all["positive"]["offset"], counts.len()), (&json!(18), 255 - 18 + 1));
    assert_eq!([0, 27 - 18, 255 - 18].map(|at| counts[at].as_str().unwrap()), ["1"; 3]);
    let new = point(Form { temporality: Temporality::Delta, ..base2 }, "exponentialHistogram", "agent_xfer_time_us");
    assert_eq!((&new["zeroCount"], &new["count"], &new["positive"]["offset"]), (&json!("1"), &json!("3"), &json!(27)));
    // Nothing is something, but no news.
    for (form, kind) in [(FORM, "histogram"), (base2, "exponentialHistogram")] {
        assert_eq!(point(form, kind, "agent_xfer_post_time_us")["count"], json!("0"));
        let delta = Form { temporality: Temporality::Delta, ..form };
        assert_eq!(point(delta, kind, "agent_xfer_post_time_us"), Value::Null);
    }
}

/// Protobuf's own library, with OpenTelemetry's messages, reads what we write, would write the same, and finds the same in
/// JSON.
#[test]
fn opentelemetry_reads_both_encodings() {
    let packages = ["opentelemetry-proto==1.45.2", "protobuf==7.36.2"];
    let Some(python) = testkit::require("OTLP as OpenTelemetry reads it", testkit::python(&packages)) else { return };
    let (busy, idle) = (busy(), sample("idle", &[], &[]));
    let series = [busy.series(), idle.series()];
    let resource = [("process.pid", "4711"), ("service.name", "é"), ("x", &"7".repeat(300))];
    let resource = resource.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut forms = Vec::new();
    for temporality in [Temporality::Cumulative, Temporality::Delta, Temporality::LowMemory] {
        for histograms in [Histograms::Explicit, Histograms::Exponential] {
            forms.push(Form { temporality, histograms, resource: &resource, ..FORM });
        }
    }
    let mut lines = String::new();
    let mut expected = Vec::new();
    for form in forms {
        let (binary, points) = encode(form, &series);
        let (text, same) = encode(Form { protocol: Protocol::Json, ..form }, &series);
        assert_eq!(points, same);
        expected.push(points);
        let digits: String = binary.iter().map(|byte| format!("{byte:02x}")).collect();
        lines += &format!("{digits}\n{}\n", String::from_utf8(text).unwrap());
    }
    let mut decoder = Command::new(python)
        .arg(testkit::workspace_root().join("exporters/otlp/tests/decode.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = decoder.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = decoder.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let decoded: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let points = |request: &Value| {
        let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        let data = ["sum", "gauge", "histogram", "exponentialHistogram"];
        let count = |metric: &Value| {
            data.iter()
                .filter_map(|kind| metric.get(kind))
                .map(|data| data["dataPoints"].as_array().unwrap().len() as u64)
                .sum::<u64>()
        };
        metrics.iter().map(count).sum::<u64>()
    };
    assert_eq!(decoded.iter().map(points).collect::<Vec<_>>(), expected);
    let attributes = &decoded[0]["resourceMetrics"][0]["resource"]["attributes"];
    assert_eq!(attributes[0], json!({"key": "process.pid", "value": {"intValue": "4711"}}));
    assert_eq!(attributes[2], json!({"key": "x", "value": {"stringValue": "7".repeat(300)}}));
    let metrics = &decoded[0]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    assert_eq!(metrics[0]["name"], "agent_tx_bytes_total");
    assert_eq!(metrics[0]["sum"]["dataPoints"][0]["asDouble"], json!(9_223_372_036_854_776_808.0));
    assert_eq!(metrics[1]["sum"]["dataPoints"][0]["asInt"], "24");
}
