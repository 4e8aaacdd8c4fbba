// SPDX-License-Identifier: Apache-2.0

//! What `deploy/` has for Prometheus and Grafana, in a real Prometheus: rules and dashboards ask for what there is.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
};

use nixl_telemetry_e2e::{
    dashboards::{annotations, panels},
    prometheus::Prometheus,
};
use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_metrics::encode::{Format, Series, encode};
use nixl_telemetry_metrics::{Buckets, Labels, Live, Publisher, Snapshot, Tally};
use nixl_telemetry_testkit::{self as testkit, workspace_root};
use serde_json::Value;

fn deploy(path: &str) -> PathBuf {
    workspace_root().join("deploy").join(path)
}

/// Runs promtool where the rules are.
fn promtool(arguments: &[&str]) {
    let test = format!("promtool {}", arguments.join(" "));
    let Some(program) = testkit::require(&test, testkit::prometheus("promtool")) else { return };
    let output = Command::new(program).args(arguments).current_dir(deploy("prometheus")).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("SUCCESS"), "{test}:\n{said}");
}

#[test]
fn the_configuration_is_one() {
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn the_rules_have_no_fault() {
    promtool(&["check", "rules", "rules.yml"]);
}

#[test]
fn the_rules_do_what_their_tests_say() {
    promtool(&["test", "rules", "tests.yml"]);
}

/// An alert that no test names could be one that never fires; one that nobody explains is read at night.
#[test]
fn each_rule_has_a_test_and_each_alert_an_explanation() {
    let read = |path: &str| fs::read_to_string(deploy(path)).unwrap();
    let (rules, tests, explained) = (read("prometheus/rules.yml"), read("prometheus/tests.yml"), read("README.md"));
    let named = |what: &'static str| -> BTreeSet<_> {
        rules.lines().filter_map(|line| line.trim().strip_prefix(what)).map(str::to_owned).collect()
    };
    let (alerts, records) = (named("- alert: "), named("- record: "));
    assert_eq!((alerts.len(), records.len()), (9, 13));
    for alert in alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\", alertstate=\"firing\"")), "{alert}");
        assert!(explained.contains(&format!("\n| `{alert}` | ")), "{alert}");
    }
    for record in records {
        assert!(tests.contains(&record), "{record}");
    }
}

#[test]
fn no_panel_and_no_rule_is_empty_of_text() {
    no_panel_and_no_rule_is_empty(Format::Text);
}

/// In which the bounds of buckets are written otherwise.
#[test]
fn no_panel_and_no_rule_is_empty_of_openmetrics() {
    no_panel_and_no_rule_is_empty(Format::OpenMetrics);
}

/// Everything that can be asked for has an answer, where there is traffic and everything goes wrong that can.
fn no_panel_and_no_rule_is_empty(format: Format) {
    let test = format!("rules and dashboards of {format:?}");
    let Some(program) = testkit::require(&test, testkit::prometheus("prometheus")) else { return };
    let mut agents = [Agent::new("prefill-0", "0"), Agent::new("prefill-1", "1"), Agent::new("stuck", "2")];
    let busy = serve(format, move || {
        let [first, second, stuck] = &mut agents;
        first.work(1);
        second.work(3);
        stuck.fail();
        page(format, &agents)
    });
    let server = Prometheus::start(&program, &configuration(&[busy, serve_once()]), &[]);

    // All but the one that needs minutes to see that traffic has stopped, which promtool tests.
    let expected: BTreeSet<_> = alerts(&server).map(|alert| text(&alert, "name")).collect();
    let active = |server: &Prometheus| -> BTreeSet<_> {
        alerts(server).filter(|alert| text(alert, "state") != "inactive").map(|alert| text(&alert, "name")).collect()
    };
    // Asked once: a late scrape is enough to end one for a moment.
    let mut seen = BTreeSet::new();
    server.wait_until(
        |server| {
            seen = active(server);
            seen.len() + 1 == expected.len()
        },
        |server| format!("of {expected:?} only {:?}", active(server)),
    );
    assert_eq!(expected.difference(&seen).collect::<Vec<_>>(), ["NixlTrafficStopped"]);
    for alert in alerts(&server) {
        assert_eq!(alert["health"], "ok", "{alert}");
        for instance in alert["alerts"].as_array().unwrap() {
            let said = instance["annotations"].as_object().unwrap();
            assert_eq!(said.keys().collect::<Vec<_>>(), ["description", "summary"]);
            for said in said.values().map(|said| said.as_str().unwrap()) {
                let whole = ["<", "NaN", "  "].iter().all(|hole| !said.contains(hole));
                assert!(whole, "{}: {said}", alert["name"]);
            }
        }
    }
    let records = server.rules().into_iter().filter(|rule| rule["type"] == "recording").map(|rule| text(&rule, "name"));
    let mut asked = 0;
    let dashboards = ["nixl-overview", "nixl-ranks"];
    let shown = dashboards.into_iter().flat_map(|name| [panels(name), annotations(name)].concat());
    for expression in records.chain(shown) {
        server.wait_for_numbers(&expression);
        asked += 1;
    }
    assert!(asked > 60, "only {asked} expressions were tried");
}

fn alerts(server: &Prometheus) -> impl Iterator<Item = Value> {
    server.rules().into_iter().filter(|rule| rule["type"] == "alerting")
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

/// A configuration with our rules, that looks often.
fn configuration(targets: &[SocketAddr]) -> String {
    format!(
        "global: {{ scrape_interval: 200ms, evaluation_interval: 200ms }}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n\
         - job_name: nixl-prometheus\n\
         \x20 static_configs: [{{ targets: {:?} }}]\n",
        deploy("prometheus/rules.yml").display(),
        targets.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
    )
}

/// An agent, and what its exporter makes of its events.
struct Agent {
    labels: Labels,
    tally: Tally,
    publisher: Publisher,
    snapshot: Snapshot,
}

impl Agent {
    fn new(name: &str, rank: &str) -> Self {
        let pairs = [("agent_name", name), ("hostname", "node-0"), ("local_rank", rank), ("pid", rank)];
        let buckets = Arc::new(Buckets::default());
        let (publisher, _) = Live::new(Arc::clone(&buckets), 0);
        Self {
            labels: Labels::sorted(pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap(),
            tally: Tally::new(Arc::clone(&buckets)),
            publisher,
            snapshot: Snapshot::new(buckets),
        }
    }

    /// Transfers, some of them slow, and one of each thing that can go wrong.
    fn work(&mut self, bytes: u64) {
        for kind in Kind::ALL {
            self.tally.fold(&Event::new(kind, 1));
        }
        self.tally.fold(&Event::backend("ucx_retries", 2));
        for time in (0..100).map(|n| if n % 2 == 0 { 200_000 } else { 50 }) {
            self.tally.fold(&Event::new(Kind::TX_BYTES, bytes));
            self.tally.fold(&Event::new(Kind::TX_REQUESTS_NUM, 1));
            self.tally.fold(&Event::new(Kind::XFER_TIME, time));
            self.tally.fold(&Event::new(Kind::XFER_POST_TIME, 7));
        }
        self.publish();
        // As of an exporter that delivers, and cannot.
        self.snapshot.account.failed = self.snapshot.account.batches;
        self.snapshot.account.queued = 5;
    }

    /// Nothing but errors.
    fn fail(&mut self) {
        self.tally.fold(&Event::new(Kind::ERR_NOT_FOUND, 1));
        self.publish();
    }

    fn publish(&mut self) {
        const LONG_AGO_US: u64 = 1_000_000;
        self.publisher.publish(&mut self.tally, LONG_AGO_US);
        self.publisher.live().read(&mut self.snapshot);
    }
}

/// The metrics of all agents, as an exporter serves them.
fn page(format: Format, agents: &[Agent]) -> Vec<u8> {
    let series: Vec<_> = agents.iter().map(|Agent { labels, snapshot, .. }| Series { labels, snapshot }).collect();
    let mut page = Vec::new();
    encode(format, &series, &mut page);
    page
}

/// Serves a page, made anew for each request, to whoever asks, as long as the test runs.
fn serve(format: Format, mut page: impl FnMut() -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        loop {
            answer(&listener, format, &page());
        }
    });
    address
}

/// Serves a page once, and is gone.
fn serve_once() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || answer(&listener, Format::Text, b""));
    address
}

/// Answers one connection. Prometheus may have given up waiting.
fn answer(listener: &TcpListener, format: Format, page: &[u8]) {
    let (mut stream, _) = listener.accept().unwrap();
    let request = BufReader::new(&stream).lines().map_while(Result::ok);
    request.take_while(|line| !line.is_empty()).for_each(drop);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        format.content_type(),
        page.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), page].concat());
}
