// SPDX-License-Identifier: Apache-2.0

//! NIXL's own exporters, out of the wheels, held by this crate instead of NIXL.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use common::{in_process_of_its_own, nixl_plugins};
use nixl_telemetry_event::{Event, Kind, Layout};
use nixl_telemetry_loader::{CreateError, Exported, Form, Plugin, SearchPath};
use nixl_telemetry_testkit as testkit;

const AGENT: &str = "agent \"7\"";

/// What every release is fed.
fn events() -> Vec<Event<'static>> {
    [
        (Kind::XFER_POST_TIME, 7),
        (Kind::XFER_TIME, 120),
        (Kind::TX_BYTES, 4096),
        (Kind::TX_REQUESTS_NUM, 1),
        (Kind::XFER_POST_TIME, 9),
        (Kind::XFER_TIME, 30),
        (Kind::TX_BYTES, 24),
        (Kind::TX_REQUESTS_NUM, 1),
        (Kind::RX_BYTES, 77),
        (Kind::RX_REQUESTS_NUM, 1),
        (Kind::MEMORY_REGISTERED, 1 << 40),
        (Kind::MEMORY_REGISTERED, 512),
        (Kind::MEMORY_DEREGISTERED, 1024),
        (Kind::ERR_NOT_FOUND, 1),
        (Kind::ERR_NOT_FOUND, 1),
        (Kind::ERR_NO_TELEMETRY, 1),
        (Kind::TELEMETRY_EVENTS_DROPPED, 5),
        (Kind::from_code(1000), 3),
    ]
    .map(|(kind, value)| Event::new(kind, value).at(1_764_000_000_000_000))
    .to_vec()
}

/// Metrics of one release, by name; the label `category` where there is one.
type Metrics<'a> = &'a [(&'a str, &'a str, u64)];

const TRANSFER: &str = "NIXL_TELEMETRY_TRANSFER";
const MEMORY: &str = "NIXL_TELEMETRY_MEMORY";
const PERFORMANCE: &str = "NIXL_TELEMETRY_PERFORMANCE";

const REGISTERED: u64 = (1 << 40) + 512;

/// 0.9.0 to 1.0.1: times and memory are gauges.
const V0_9: Metrics<'_> = &[
    ("agent_tx_bytes", TRANSFER, 4120),
    ("agent_rx_bytes", TRANSFER, 77),
    ("agent_tx_requests_num", TRANSFER, 2),
    ("agent_rx_requests_num", TRANSFER, 1),
    ("agent_xfer_time", PERFORMANCE, 30),
    ("agent_xfer_post_time", PERFORMANCE, 9),
    ("agent_memory_registered", MEMORY, 512),
    ("agent_memory_deregistered", MEMORY, 1024),
];

/// 1.1.0 and 1.2.0; 1.3 without the category.
const V1_1: Metrics<'_> = &[
    ("agent_tx_bytes_total", TRANSFER, 4120),
    ("agent_rx_bytes_total", TRANSFER, 77),
    ("agent_tx_requests_num_total", TRANSFER, 2),
    ("agent_rx_requests_num_total", TRANSFER, 1),
    ("agent_xfer_time_total", PERFORMANCE, 150),
    ("agent_xfer_post_time_total", PERFORMANCE, 16),
    ("agent_memory_registered_total", MEMORY, REGISTERED),
    ("agent_memory_deregistered_total", MEMORY, 1024),
    ("agent_memory_registered", MEMORY, 512),
    ("agent_memory_deregistered", MEMORY, 1024),
];

/// 1.4 and 1.5, without errors and histograms.
const V1_4: Metrics<'_> = &[
    ("agent_tx_bytes_total", "", 4120),
    ("agent_tx_last_bytes", "", 24),
    ("agent_rx_bytes_total", "", 77),
    ("agent_rx_last_bytes", "", 77),
    ("agent_tx_requests_num_total", "", 2),
    ("agent_rx_requests_num_total", "", 1),
    ("agent_memory_registered_total", "", REGISTERED),
    ("agent_memory_registered_last_bytes", "", 512),
    ("agent_memory_deregistered_total", "", 1024),
    ("agent_memory_deregistered_last_bytes", "", 1024),
    ("agent_xfer_time_total", "", 150),
    ("agent_xfer_time", "", 30),
    ("agent_xfer_post_time_total", "", 16),
    ("agent_xfer_post_time", "", 9),
    ("agent_telemetry_events_dropped_total", "", 5),
];

/// The twelve series of `agent_errors_total`, 1.4 and 1.5.
const ERRORS: [(&str, u64); 12] = [
    ("not_posted", 0),
    ("invalid_param", 0),
    ("backend", 0),
    ("not_found", 2),
    ("mismatch", 0),
    ("not_allowed", 0),
    ("repost_active", 0),
    ("unknown", 0),
    ("not_supported", 0),
    ("remote_disconnect", 0),
    ("canceled", 0),
    ("no_telemetry", 1),
];

/// Name and number of observations up to each bound; then sum and count, for 1.5.
const BOUNDS: [u64; 18] = [
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 10_000_000,
];

struct Release {
    version: &'static str,
    layout: Layout,
    hooks: bool,
    metrics: Metrics<'static>,
    categories: bool,
    errors: bool,
    histograms: bool,
}

/// Series as they are printed, with the value.
fn expected(release: &Release, host: &str) -> BTreeMap<String, u64> {
    let labels = |category: &str, rest: &str| {
        let category = if release.categories { format!("category=\"{category}\",") } else { String::new() };
        format!("{{agent_name=\"agent \\\"7\\\"\",{category}hostname=\"{host}\"{rest}}}")
    };
    let mut all = BTreeMap::new();
    for (name, category, value) in release.metrics {
        all.insert(format!("{name}{}", labels(category, "")), *value);
    }
    if release.errors {
        for (status, value) in ERRORS {
            all.insert(format!("agent_errors_total{}", labels("", &format!(",status=\"{status}\""))), value);
        }
    }
    if release.histograms {
        for (name, observed) in [("agent_xfer_time_us", [120, 30]), ("agent_xfer_post_time_us", [7, 9])] {
            let bounds = BOUNDS.iter().map(|bound| (bound.to_string(), *bound));
            for (text, bound) in bounds.chain([("+Inf".to_owned(), u64::MAX)]) {
                let count = observed.iter().filter(|time| **time <= bound).count() as u64;
                all.insert(format!("{name}_bucket{}", labels("", &format!(",le=\"{text}\""))), count);
            }
            all.insert(format!("{name}_count{}", labels("", "")), 2);
            all.insert(format!("{name}_sum{}", labels("", "")), observed.iter().sum());
        }
    }
    all
}

/// The series of agents in a scrape.
fn series(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| line.starts_with("agent_") || line.starts_with("ucx_"));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            // Values from 2^53 on would not be exact; ours are smaller.
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    text
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

/// Runs `body` with the plugin of this name, in a process whose Prometheus port is the one given to it.
fn with_plugin(test: &str, release: &str, exporter: &str, more: &[(&str, String)], body: impl FnOnce(Plugin, u16)) {
    let Some(plugins) = nixl_plugins(release) else { return };
    let port = testkit::free_port();
    let mut variables = vec![
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", port.to_string()),
        ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y".to_owned()),
        // Some settings file of this machine is none of ours.
        ("NIXL_CONFIG_FILE", "/dev/null".to_owned()),
    ];
    variables.extend_from_slice(more);
    in_process_of_its_own(test, &variables, || {
        let port = std::env::var("NIXL_TELEMETRY_PROMETHEUS_PORT").unwrap().parse().unwrap();
        body(Plugin::find(exporter, &SearchPath::new([plugins])).unwrap(), port);
    });
}

/// Feeds the release's `prometheus`, reads every number of the scrape, and sees the port close.
fn prometheus(test: &str, release: &Release) {
    with_plugin(test, release.version, "prometheus", &[], |plugin, port| {
        assert_eq!((plugin.form(), plugin.has_batch_hooks()), (Form::Layout(release.layout), release.hooks));
        assert_eq!(plugin.api_version(), if release.layout == Layout::L56 { 1 } else { 2 });
        assert_eq!((plugin.declared_name(), plugin.version()), ("prometheus".to_owned(), "1.0.0".to_owned()));

        let mut exporter = plugin.create_exporter(AGENT, 4096).unwrap();
        let events = events();
        let (first, second) = events.split_at(5);
        for batch in [first, &[], second] {
            let exported = exporter.export(batch);
            assert_eq!(exported, Exported { accepted: batch.len() as u64, ..Exported::default() });
        }
        assert_eq!(series(&scrape(port)), expected(release, &hostname()));

        drop(exporter);
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

macro_rules! prometheus {
    ($($test:ident: $version:literal, $layout:ident, $metrics:ident $(, $feature:ident)*;)*) => {$(
        #[test]
        fn $test() {
            #[allow(unused_mut)]
            let mut release = Release {
                version: $version,
                layout: Layout::$layout,
                metrics: $metrics,
                hooks: false,
                categories: false,
                errors: false,
                histograms: false,
            };
            $(release.$feature = true;)*
            prometheus(stringify!($test), &release);
        }
    )*};
}

prometheus! {
    prometheus_of_0_9_0: "0.9.0", L56, V0_9, categories;
    prometheus_of_0_10_1: "0.10.1", L56, V0_9, categories;
    prometheus_of_1_0_1: "1.0.1", L56, V0_9, categories;
    prometheus_of_1_1_0: "1.1.0", L48, V1_1, categories;
    prometheus_of_1_2_0: "1.2.0", L16c, V1_1, categories;
    prometheus_of_1_3_2: "1.3.2", L16, V1_1;
    prometheus_of_1_4_1: "1.4.1", L16, V1_4, errors;
    prometheus_of_1_5_1: "1.5.1", L16, V1_4, errors, histograms, hooks;
}

#[test]
fn events_of_backends_reach_1_0_1() {
    with_plugin("events_of_backends_reach_1_0_1", "1.0.1", "prometheus", &[], |plugin, port| {
        let mut exporter = plugin.create_exporter("a", 64).unwrap();
        assert_eq!(exporter.export(&[Event::backend("ucx_rndv", 3), Event::backend("ucx_rndv", 4)]).accepted, 2);
        let name =
            format!("ucx_rndv{{agent_name=\"a\",category=\"NIXL_TELEMETRY_BACKEND\",hostname=\"{}\"}}", hostname());
        assert_eq!(series(&scrape(port)).get(&name), Some(&7));
    });
}

#[test]
fn events_of_backends_are_left_out_of_1_5_1() {
    with_plugin("events_of_backends_are_left_out_of_1_5_1", "1.5.1", "prometheus", &[], |plugin, _| {
        let mut exporter = plugin.create_exporter("a", 64).unwrap();
        let exported = exporter.export(&[Event::backend("ucx_rndv", 3), Event::new(Kind::TX_BYTES, 1)]);
        assert_eq!(exported, Exported { accepted: 1, unsupported: 1, ..Exported::default() });
    });
}

/// Two exporters of one plugin share the server; a third of the same name is refused.
#[test]
fn two_agents_in_1_5_1() {
    with_plugin("two_agents_in_1_5_1", "1.5.1", "prometheus", &[], |plugin, port| {
        let mut first = plugin.create_exporter("first", 64).unwrap();
        let mut second = plugin.create_exporter("second", 64).unwrap();
        assert_eq!(plugin.create_exporter("first", 64).unwrap_err(), CreateError::Null);
        assert_eq!(first.export(&[Event::new(Kind::TX_BYTES, 1)]).accepted, 1);
        assert_eq!(second.export(&[Event::new(Kind::TX_BYTES, 2)]).accepted, 1);
        let tx_bytes = |port| {
            let all = series(&scrape(port)).into_iter();
            let mut values: Vec<_> =
                all.filter(|(name, _)| name.starts_with("agent_tx_bytes_total")).map(|(_, value)| value).collect();
            values.sort_unstable();
            values
        };
        assert_eq!(tx_bytes(port), [1, 2]);
        drop(first);
        assert_eq!(tx_bytes(port), [2]);
    });
}

fn create_with_port_taken(plugin: &Plugin, port: u16) -> CreateError {
    let _taken = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    plugin.create_exporter("a", 64).unwrap_err()
}

#[test]
fn a_port_that_is_taken_is_bind_failed_in_1_5_1() {
    with_plugin("a_port_that_is_taken_is_bind_failed_in_1_5_1", "1.5.1", "prometheus", &[], |plugin, port| {
        match create_with_port_taken(&plugin, port) {
            CreateError::BindFailed(what) => assert!(what.contains(&port.to_string()), "{what}"),
            other => panic!("{other}"),
        }
        // The port is free again, and the plugin works.
        assert_eq!(plugin.create_exporter("a", 64).unwrap().export(&[]), Exported::default());
    });
}

#[test]
fn a_port_that_is_taken_is_null_in_1_4_1() {
    with_plugin("a_port_that_is_taken_is_null_in_1_4_1", "1.4.1", "prometheus", &[], |plugin, port| {
        assert_eq!(create_with_port_taken(&plugin, port), CreateError::Null);
    });
}

#[test]
fn prometheus_mp_of_1_5_1() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().to_owned();
    let settings = [("NIXL_TELEMETRY_MULTIPROC_DIR", path.display().to_string())];
    with_plugin("prometheus_mp_of_1_5_1", "1.5.1", "prometheus_mp", &settings, |plugin, port| {
        assert_eq!((plugin.form(), plugin.has_batch_hooks()), (Form::Layout(Layout::L16), true));
        let mut exporter = plugin.create_exporter("a", 64).unwrap();
        let events = [Event::new(Kind::TX_BYTES, 40), Event::new(Kind::TX_BYTES, 2)];
        assert_eq!(exporter.export(&events), Exported { accepted: 2, ..Exported::default() });
        let all = series(&scrape(port)).into_iter();
        let tx_bytes: Vec<_> =
            all.filter(|(name, _)| name.starts_with("agent_tx_bytes_total{")).map(|(_, value)| value).collect();
        assert_eq!(tx_bytes, [42]);
    });
}
