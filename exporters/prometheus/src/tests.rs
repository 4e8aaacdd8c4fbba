// SPDX-License-Identifier: Apache-2.0

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_sdk::{Agent, Event, Exporter as _, Kind, markdown_table, testing::TestHost};
use nixl_telemetry_testkit as testkit;

use super::*;

type Host = TestHost<Aggregated<Prometheus>>;

/// The page is the process's, so that tests that serve one take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn settings(port: u16, pairs: &[(&str, &str)]) -> Settings {
    let own = [("NIXL_TELEMETRY_PROMETHEUS_PORT", port.to_string()), ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y".into())];
    let given = pairs.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Settings::from_pairs(own.into_iter().chain(given))
}

fn get(port: u16, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    write!(stream, "GET {target} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match what() {
            Some(found) => return found,
            None if Instant::now() > end => panic!("it does not happen"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The samples of a family, without those of the server.
fn samples<'a>(page: &'a str, family: &str) -> Vec<&'a str> {
    page.lines().filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'))).collect()
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(Aggregated::<Prometheus>::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/prometheus/README.md lacks this table:\n{table}");
}

#[test]
fn agents_share_a_page() {
    let _turn = TURN.lock().unwrap();
    let port = testkit::free_port();
    let hostname = Agent::new("any").hostname().to_owned();
    let settings = settings(port, &[("NIXL_TELEMETRY_LABELS", "rank=$RANK,zone=a"), ("RANK", "7")]);
    let mut first = Host::open("twin", &settings).unwrap();
    let mut second = Host::open("twin", &settings).unwrap();
    let instance = second.agent().instance();
    for bytes in [u64::MAX - 10, 7] {
        first.export(&[Event::new(Kind::TX_BYTES, bytes)]);
    }
    second.export(&[Event::new(Kind::TX_BYTES, 1), Event::new(Kind::ERR_NOT_FOUND, 1)]);

    let page = get(port, "/metrics").unwrap();
    assert_eq!(
        samples(&page, "agent_tx_bytes_total"),
        [
            format!(
                r#"agent_tx_bytes_total{{agent_name="twin",hostname="{hostname}",rank="7",zone="a"}} 18446744073709551612"#
            ),
            format!(
                r#"agent_tx_bytes_total{{agent_instance="{instance}",agent_name="twin",hostname="{hostname}",rank="7",zone="a"}} 1"#
            ),
        ]
    );
    let not_found: Vec<_> =
        samples(&page, "agent_errors_total").into_iter().filter(|line| line.contains("not_found")).collect();
    assert_eq!(not_found.len(), 2);
    assert!(not_found[1].ends_with(r#",rank="7",status="not_found",zone="a"} 1"#), "{}", not_found[1]);
    // What the exporter says of itself.
    let batches = samples(&page, "nixl_telemetry_exporter_batches_total");
    assert!(batches[0].ends_with("} 2") && batches[1].ends_with("} 1"), "{batches:?}");
    assert!(page.contains("\nexposer_scrapes_total 0\n"), "{page}");
    assert!(get(port, "/metrics").unwrap().contains("\nexposer_scrapes_total 1\n"));

    // Who goes takes its series along, and the last one the port.
    assert_eq!(first.close().exported, 2);
    let page = get(port, "/metrics").unwrap();
    assert_eq!(samples(&page, "agent_tx_bytes_total").len(), 1);
    assert_eq!(second.close().exported, 2);
    assert!(get(port, "/metrics").is_none(), "the port is closed");
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let _turn = TURN.lock().unwrap();
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let mut host = Host::open("patient", &settings(port, &[])).unwrap();
    host.export(&[Event::new(Kind::RX_BYTES, 5)]);
    drop(stranger);
    let page = wait_for(|| get(port, "/metrics").filter(|page| page.starts_with("HTTP/1.1 200")));
    assert!(samples(&page, "agent_rx_bytes_total")[0].ends_with("} 5"), "what came before is there: {page}");
}

#[test]
fn who_comes_while_the_last_one_goes_is_served_at_once() {
    let _turn = TURN.lock().unwrap();
    let settings = settings(testkit::free_port(), &[]);
    let port = settings.get(&endpoint::PORT).unwrap().value;
    let mut host = Host::open("a", &settings).unwrap();
    for round in 0..100 {
        let (next, _) = thread::scope(|scope| {
            let goes = scope.spawn(|| host.close());
            (Host::open("a", &settings).unwrap(), goes.join().unwrap())
        });
        host = next;
        assert!(get(port, "/metrics").is_some(), "round {round}");
    }
    host.close();
}

#[test]
fn names_can_be_left_out() {
    let _turn = TURN.lock().unwrap();
    let port = testkit::free_port();
    let hidden = settings(port, &[("NIXL_TELEMETRY_AGENT_LABEL", "off")]);
    let hosts = ["a", "b"].map(|name| Host::open(name, &hidden).unwrap());
    let page = get(port, "/metrics").unwrap();
    let [first, second] = samples(&page, "agent_rx_bytes_total")[..] else { panic!("{page}") };
    assert!(!page.contains("agent_name="));
    assert!(!first.contains("agent_instance=") && second.contains("agent_instance="), "{first} {second}");
    drop(hosts);
}

#[test]
fn a_query_is_refused() {
    let _turn = TURN.lock().unwrap();
    let port = testkit::free_port();
    let host = Host::open("a", &settings(port, &[])).unwrap();
    let answer = get(port, "/metrics?aggregate=node").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("unknown query aggregate=node: expected none"),
        "{answer}"
    );
    host.close();
}

#[test]
fn what_is_wrong_is_named() {
    let port = testkit::free_port();
    for (name, value, message) in [
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", "http", "NIXL_TELEMETRY_PROMETHEUS_PORT is \"http\""),
        ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "?", "NIXL_TELEMETRY_PROMETHEUS_LOCAL is \"?\""),
        (
            "NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG",
            "/nowhere",
            "NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG: cannot read the web configuration /nowhere: ",
        ),
        ("NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US", "5,4", "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US is \"5,4\""),
        ("NIXL_TELEMETRY_LABELS", "le=1", "NIXL_TELEMETRY_LABELS is \"le=1\""),
        ("NIXL_TELEMETRY_AGENT_LABEL", "maybe", "NIXL_TELEMETRY_AGENT_LABEL is \"maybe\""),
    ] {
        let pairs = settings(port, &[]).with_override(name, value);
        let error = Host::open("a", &pairs).err().expect("it does not open").to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(get(port, "/metrics").is_none());
}
