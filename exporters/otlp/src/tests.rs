// SPDX-License-Identifier: Apache-2.0

use std::io::Read as _;

use flate2::read::GzDecoder;
use nixl_telemetry_sdk::testing::TestHost;
use nixl_telemetry_sdk::{Event, Kind, Total};

use super::*;
use crate::receiver::{Reaction, Receiver};

type Host = TestHost<Aggregated<Otlp>>;

fn settings(receiver: &Receiver, pairs: &[(&str, &str)]) -> Settings {
    let endpoint = format!("http://{}/base", receiver.address());
    let common = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("NIXL_TELEMETRY_OTLP_SHUTDOWN_TIMEOUT", "30000"),
    ];
    Settings::from_pairs(common.iter().chain(pairs).copied())
}

#[test]
fn what_agents_did_is_delivered_when_they_end() {
    let receiver = Receiver::start();
    let settings = settings(&receiver, &[("NIXL_TELEMETRY_LABELS", "rank=$RANK"), ("RANK", "3")]);
    let mut hosts = ["a", "b"].map(|agent| Host::open(agent, &settings).unwrap());
    for host in &mut hosts {
        let total = Total { kind: Kind::TX_BYTES, count: 2, sum: 50 };
        host.export_batch(&[Event::new(Kind::TX_BYTES, 7), Event::backend("retries", 1)], &[total], None);
        host.export(&[Event::new(Kind::ERR_BACKEND, 1)]);
    }
    for host in hosts {
        let counts = host.close();
        assert_eq!((counts.exported, counts.aggregated, counts.failed), (3, 2, 0));
    }
    let totals = receiver.totals();
    for agent in ["a", "b"] {
        assert_eq!(totals[&format!("agent_tx_bytes_total{{agent_name={agent},rank=3}}")], 57);
        assert_eq!(totals[&format!("agent_errors_total{{agent_name={agent},rank=3,status=backend}}")], 1);
        assert_eq!(totals[&format!("agent_backend_events_total{{agent_name={agent},rank=3,event=retries}}")], 1);
        assert_eq!(totals[&format!("nixl_telemetry_exporter_events_total{{agent_name={agent},rank=3}}")], 5);
    }
    // One export with both, when the first ended, and one with what was left.
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
fn exports_come_by_themselves() {
    let receiver = Receiver::start();
    let settings = settings(&receiver, &[("OTEL_METRIC_EXPORT_INTERVAL", "10")]);
    let mut host = Host::open("a", &settings).unwrap();
    for bytes in 1..=3 {
        host.export(&[Event::new(Kind::TX_BYTES, bytes)]);
        let seen = || receiver.totals().get("agent_tx_bytes_total{agent_name=a}").copied();
        while seen() != Some(i64::try_from(bytes * (bytes + 1) / 2).unwrap()) {
            std::thread::yield_now();
        }
    }
    host.close();
}

#[test]
fn a_request_has_what_was_set() {
    let receiver = Receiver::start();
    let settings = settings(
        &receiver,
        &[
            ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b,X-Scope-OrgID=7"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "vllm"),
            ("NIXL_TELEMETRY_AGENT_LABEL", "off"),
        ],
    );
    let mut host = Host::open("a", &settings).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 7)]);
    host.close();
    let request = receiver.requests().pop().unwrap();
    let head = request.head;
    assert!(head.starts_with("POST /base/v1/metrics HTTP/1.1\r\n"), "{head}");
    for header in [
        "api-key: a b\r\n",
        "x-scope-orgid: 7\r\n",
        "content-type: application/json\r\n",
        "content-encoding: gzip\r\n",
        concat!("user-agent: nixl-telemetry-otlp/", env!("CARGO_PKG_VERSION"), "\r\n"),
    ] {
        assert_eq!(head.matches(header).count(), 1, "{header} in {head}");
    }
    let mut text = String::new();
    GzDecoder::new(request.body.as_slice()).read_to_string(&mut text).unwrap();
    let export: serde_json::Value = serde_json::from_str(&text).unwrap();
    let resource = export["resourceMetrics"][0]["resource"]["attributes"].as_array().unwrap();
    assert!(resource.contains(&serde_json::json!({"key": "service.name", "value": {"stringValue": "vllm"}})));
    let scope = &export["resourceMetrics"][0]["scopeMetrics"][0];
    assert_eq!(scope["scope"]["name"], "nixl-telemetry");
    let labels = scope["metrics"][0]["sum"]["dataPoints"][0]["attributes"].as_array().unwrap();
    assert_eq!(labels.iter().map(|label| &label["key"]).collect::<Vec<_>>(), ["hostname"]);
}

#[test]
fn protobuf_is_what_is_sent_by_default() {
    let receiver = Receiver::start();
    let settings = settings(&receiver, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "")]);
    // A receiver that wants something else is told of once, and does not keep the agent.
    receiver.expect([Reaction::Answer(415, "", "")]);
    let mut host = Host::open("a", &settings).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 7)]);
    host.close();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.contains("content-type: application/x-protobuf\r\n"));
    let name = b"agent_tx_bytes_total";
    assert!(requests[0].body.windows(name.len()).any(|window| window == name));
}

#[test]
fn what_is_disabled_does_nothing() {
    let receiver = Receiver::start();
    let settings = settings(&receiver, &[("OTEL_SDK_DISABLED", "true")]);
    let mut host = Host::open("a", &settings).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 7)]);
    assert_eq!(host.close().exported, 1);
    assert!(receiver.requests().is_empty());
}

#[test]
fn what_cannot_be_is_named() {
    let receiver = Receiver::start();
    for (name, value, message) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\" (environment): expected http/protobuf",
        ),
        ("NIXL_TELEMETRY_LABELS", "x", "NIXL_TELEMETRY_LABELS is \"x\""),
        ("NIXL_TELEMETRY_OTLP_SHUTDOWN_TIMEOUT", "60001", "expected milliseconds from 0 to 60000"),
    ] {
        let error =
            Host::open("a", &settings(&receiver, &[(name, value)])).err().expect("it does not open").to_string();
        assert!(error.contains(message), "{error}");
    }
}
