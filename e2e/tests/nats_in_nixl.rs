// SPDX-License-Identifier: Apache-2.0

//! One nats plugin in a real NIXL: what a consumer in Python finds in the stream is what happened.

use std::path::Path;
use std::process::Command;

use nixl_telemetry_e2e::{Sandbox, Totals, add, preloaded, truth};
use nixl_telemetry_testkit::{self as testkit, NATS_PACKAGES, Nats};
use serde_json::Value;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// What the stream holds. No message has the number of another.
fn totals(server: &Nats) -> Totals {
    let script = testkit::workspace_root().join("exporters/nats/tests/consume.py");
    let python = testkit::python(&NATS_PACKAGES).unwrap();
    let output = Command::new(python).arg(script).args([&server.url(), "nixl.>", "NIXL"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut totals = Totals::new();
    let mut ends = std::collections::BTreeMap::<String, u64>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let header = |name: &str| message["headers"][name].as_str().unwrap();
        let (first, count): (u64, u64) =
            (header("Nixl-Sequence").parse().unwrap(), header("Nixl-Count").parse().unwrap());
        assert_eq!(ends.insert(header("Nixl-Origin").to_owned(), first + count).unwrap_or_default(), first, "{line}");
        let events = message["events"].as_array().unwrap();
        assert_eq!(events.len() as u64, count);
        for event in events {
            let text = |at: usize| event[at].as_str().unwrap();
            assert!(event[0].is_u64(), "{event}");
            add(&mut totals, text(1), text(2), event[5].as_u64().unwrap());
        }
    }
    totals
}

fn variables(url: &str, format: &'static str) -> [(&'static str, String); 7] {
    [
        ("NIXL_TELEMETRY_ENABLE", "y".into()),
        ("NIXL_TELEMETRY_EXPORTER", "nats".into()),
        ("NIXL_TELEMETRY_NATS_URL", url.into()),
        ("NIXL_TELEMETRY_NATS_JETSTREAM", "y".into()),
        ("NIXL_TELEMETRY_NATS_STREAM", "NIXL".into()),
        ("NIXL_TELEMETRY_NATS_FORMAT", format.into()),
        ("NIXL_TELEMETRY_NATS_SHUTDOWN_TIMEOUT", "20000".into()),
    ]
}

/// As a plugin of this release.
fn nats_has_what_happened(version: &str, format: &'static str) {
    let test = format!("nats in NIXL {version}");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let Some(server) = testkit::require(&test, Nats::start("jetstream {}")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("nats"));
    let variables = variables(&server.url(), format);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("queue NATS"), "{log}");
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
    assert_eq!(totals(&server), expected, "NIXL {version}");
}

#[test]
fn nixl_1_0_1() {
    nats_has_what_happened("1.0.1", "msgpack");
}

#[test]
fn nixl_1_5_1() {
    nats_has_what_happened("1.5.1", "jsonl");
}

/// With our collector in the process nothing is lost, although the agents are destroyed at once.
#[test]
fn preloaded_into_nixl_1_5_1() {
    let test = "nats preloaded";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let Some(server) = testkit::require(test, Nats::start("jetstream {}")) else { return };
    let output = preloaded(Path::new(DRIVER), &release, TRANSFERS, "nats")
        .envs(variables(&server.url(), "msgpack"))
        .output()
        .unwrap();
    let expected = truth(&output);
    assert_eq!(expected["initiator"]["agent_xfer_time"].0, TRANSFERS);
    assert_eq!(totals(&server), expected);
}
