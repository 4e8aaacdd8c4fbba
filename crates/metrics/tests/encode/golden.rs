// SPDX-License-Identifier: Apache-2.0

//! Documents against what NIXL's own exporters served, and against files that show what ours are like.

use std::{env, fs, path::Path};

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_metrics::encode::{Encoder, Format, Series, encode};
use nixl_telemetry_metrics::{Buckets, FAMILIES, Labels, Snapshot, Type};

use crate::{read_protobuf, read_text, samples};

const EVENTS: &str = include_str!("../golden/nixl/events.txt");

/// What NIXL 1.5.1 was fed.
fn events() -> Snapshot {
    let events = EVENTS.lines().map(|line| {
        let (kind, value) = line.split_once(' ').unwrap();
        Event::new(Kind::from_code(kind.parse().unwrap()), value.parse().unwrap())
    });
    samples::snapshot(Buckets::default(), events)
}

/// Line by line within each family, in any order: of `agent_errors_total` NIXL's is by chance.
fn assert_served_by_nixl(ours: &[u8], nixl: &str) {
    let (mut ours, nixl) = (read_text::families(ours), read_text::families(nixl.as_bytes()));
    ours.retain(|name, _| FAMILIES.iter().any(|family| family.name == name && family.is_of_agent()));
    assert_eq!(nixl.len(), FAMILIES.iter().filter(|family| family.is_of_agent()).count());
    assert_eq!(ours, nixl);
}

#[test]
fn nixls_prometheus_serves_the_same() {
    let labels = Labels::sorted(samples::pairs([("hostname", "vm"), ("agent_name", "agentA")])).unwrap();
    let mut out = Vec::new();
    encode(Format::Text, &[Series { labels: &labels, snapshot: &events() }], &mut out);
    assert_served_by_nixl(&out, include_str!("../golden/nixl/prometheus.txt"));
}

#[test]
fn nixls_prometheus_mp_serves_the_same() {
    let labels = [("agentA", "30214", "3"), ("agentB", "30215", "5")].map(|(agent, pid, rank)| {
        let pairs =
            [("hostname", "vm"), ("agent_name", agent), ("pid", pid), ("agent_instance", "0"), ("local_rank", rank)];
        Labels::in_order(samples::pairs(pairs)).unwrap()
    });
    let snapshot = events();
    let mut out = Vec::new();
    encode(Format::Text, &labels.each_ref().map(|labels| Series { labels, snapshot: &snapshot }), &mut out);
    assert_served_by_nixl(&out, include_str!("../golden/nixl/prometheus_mp.txt"));
}

/// With `NIXL_TELEMETRY_UPDATE_GOLDEN` set, the file becomes what is written.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("NIXL_TELEMETRY_UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (number, (ours, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(ours, expected, "line {} of {name}", number + 1);
    }
    assert_eq!(text, golden, "{name}");
}

#[test]
fn text() {
    assert_golden("text.txt", std::str::from_utf8(&samples::document(Format::Text)).unwrap());
}

#[test]
fn open_metrics() {
    assert_golden("openmetrics.txt", std::str::from_utf8(&samples::document(Format::OpenMetrics)).unwrap());
}

#[test]
fn protobuf() {
    assert_golden(
        "protobuf.txt",
        &read_protobuf::print(&read_protobuf::families(&samples::document(Format::Protobuf))),
    );
}

#[test]
fn no_agents_no_families() {
    for (format, expected) in [(Format::Text, ""), (Format::OpenMetrics, "# EOF\n"), (Format::Protobuf, "")] {
        let mut out = Vec::new();
        encode(format, &[], &mut out);
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn agents_that_say_nothing_about_a_family_are_not_in_it() {
    let labels = ["a", "b"].map(|agent| Labels::sorted(samples::pairs([("agent_name", agent)])).unwrap());
    let (mut known, mut other) = (events(), events());
    (known.created_us, other.created_us) = (1, 0);
    let series = [Series { labels: &labels[0], snapshot: &known }, Series { labels: &labels[1], snapshot: &other }];
    let mut out = Vec::new();
    let mut encoder = Encoder::new(Format::Text, &mut out);
    encoder.families_where(&series, |family, snapshot| match family.kind() {
        Type::Counter => true,
        Type::Gauge => false,
        Type::Histogram => snapshot.created_us > 0,
    });
    encoder.finish();
    let families = read_text::families(&out);
    let lines = |name: &str| families.get(name).map(|lines| lines.iter().filter(|line| !line.starts_with('#')).count());
    assert_eq!(lines("agent_tx_bytes_total"), Some(2));
    assert_eq!(lines("agent_xfer_time"), None);
    assert_eq!(lines("agent_xfer_time_us"), Some(2 + 19), "of one agent");
}
