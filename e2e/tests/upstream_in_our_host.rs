// SPDX-License-Identifier: Apache-2.0

//! NIXL's own prometheus exporter behind our collector, beside our csv: both are told everything, and agree.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Duration,
};

use nixl_telemetry_e2e::run_apart;
use nixl_telemetry_event::Status;
use nixl_telemetry_host::{Collector, Direction, Transfer};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;

fn prometheus_and_csv(version: &str) {
    let test = format!("prometheus of NIXL {version} in our host");
    let Some(release) = testkit::require(&test, testkit::nixl_release(version)) else { return };
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago; nothing else in these tests takes one twice.
    let port = testkit::free_port();
    let plugins = release.join(".nixl_cu12.mesonpy.libs/plugins");
    run_apart(
        "collect",
        &[
            ("UPSTREAM_VERSION", Path::new(version)),
            ("UPSTREAM_PLUGINS", &plugins),
            ("OUR_PLUGINS", testkit::plugin("csv").parent().unwrap()),
            ("NIXL_TELEMETRY_PROMETHEUS_PORT", Path::new(&port.to_string())),
            ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", Path::new("y")),
            ("NIXL_TELEMETRY_CSV_FILE", &folder.path().join("events.csv")),
        ],
    );
}

#[test]
fn nixl_1_0_1() {
    prometheus_and_csv("1.0.1");
}

#[test]
fn nixl_1_3_2() {
    prometheus_and_csv("1.3.2");
}

#[test]
fn nixl_1_4_1() {
    prometheus_and_csv("1.4.1");
}

#[test]
fn nixl_1_5_1() {
    prometheus_and_csv("1.5.1");
}

/// The process with the collector in it: one for each release, since their libraries must not meet.
#[test]
#[ignore = "run by the tests above"]
fn collect() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let port: u16 = variable("NIXL_TELEMETRY_PROMETHEUS_PORT").parse().unwrap();
    let settings = Settings::from_process().with_override("NIXL_TELEMETRY_ENABLE", "y");
    let collector = Collector::builder("agentA")
        .settings(settings)
        .search_path(SearchPath::new([variable("UPSTREAM_PLUGINS"), variable("OUR_PLUGINS")]))
        .exporter("prometheus")
        .exporter("csv")
        .build()
        .unwrap()
        .expect("telemetry is on");
    let recorder = collector.recorder();
    for bytes in 1..=1000 {
        let direction = if bytes % 4 == 0 { Direction::Read } else { Direction::Write };
        recorder.transfer(Transfer { direction, bytes, post_time_us: 3, transfer_time_us: 40 });
        if bytes % 100 == 0 {
            // Stay below the buffer: here nothing is to be dropped.
            assert!(collector.flush(Duration::from_secs(60)));
        }
    }
    recorder.error(Status::NotFound);
    assert!(collector.flush(Duration::from_secs(60)));

    let metrics = scrape(port);
    let (tx, rx): (u64, u64) = ((1..=1000).filter(|n| n % 4 != 0).sum(), (1..=1000).filter(|n| n % 4 == 0).sum());
    let version = variable("UPSTREAM_VERSION");
    let suffix = if version == "1.0.1" { "" } else { "_total" };
    let mut expected = vec![
        (format!("agent_tx_bytes{suffix}"), tx),
        (format!("agent_rx_bytes{suffix}"), rx),
        (format!("agent_tx_requests_num{suffix}"), 750),
        (format!("agent_rx_requests_num{suffix}"), 250),
    ];
    if matches!(version.as_str(), "1.4.1" | "1.5.1") {
        expected.push(("agent_errors_total".into(), 1));
        expected.push(("agent_xfer_time_total".into(), 40_000));
    }
    for (metric, value) in expected {
        let series = metrics.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
        let sum: f64 = series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        assert_eq!(sum, value as f64, "{metric}:\n{metrics}");
    }

    let counts = collector.close();
    assert!(counts.is_balanced() && counts.drops().is_empty(), "{counts:?}");
    assert_eq!(counts.produced, 4001);
    for exporter in &counts.exporters {
        assert_eq!(exporter.exported, 4001, "{exporter:?}");
    }
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "closed with its last exporter");
    let rows = fs::read_to_string(Path::new(&variable("NIXL_TELEMETRY_CSV_FILE"))).unwrap();
    assert_eq!(rows.lines().count(), 1 + 4001);
    assert_eq!(rows.lines().filter(|row| row.ends_with(",4,agent_err_not_found,1")).count(), 1);
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    response
}
