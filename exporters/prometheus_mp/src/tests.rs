// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use nixl_telemetry_sdk::testing::TestHost;
use nixl_telemetry_sdk::{Event, Kind, markdown_table};
use nixl_telemetry_testkit as testkit;
use rustix::fs::{FlockOperation, flock};

use super::*;
use crate::store::tests::golden_stores;

type Host = TestHost<Aggregated<PrometheusMp>>;

/// What NIXL's exporter served of the golden stores.
const SERVED: &str = include_str!("../../../crates/metrics/tests/golden/nixl/prometheus_mp.txt");

/// A directory, and a port that was free a moment ago.
struct Run {
    folder: tempfile::TempDir,
    port: u16,
}

impl Run {
    fn new() -> Self {
        let port = testkit::free_port();
        Self { folder: tempfile::tempdir().unwrap(), port }
    }

    fn settings(&self) -> Settings {
        Settings::from_pairs([
            ("NIXL_TELEMETRY_MULTIPROC_DIR", self.folder.path().to_str().unwrap()),
            ("NIXL_TELEMETRY_PROMETHEUS_PORT", &self.port.to_string()),
            ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y"),
            ("LOCAL_RANK", "3"),
        ])
    }

    fn open(&self, agent: &str) -> Host {
        Host::open(agent, &self.settings()).unwrap()
    }

    /// The answer to `GET` of this target; `None` if nobody listens.
    fn get(&self, target: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        Some(response)
    }

    fn scrape(&self) -> String {
        let response = self.get("/metrics").expect("somebody listens");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response
    }
}

/// The value of the series whose line begins like this and has this label.
fn value(metrics: &str, name: &str, label: &str) -> Option<u64> {
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn until<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(done) = ready() {
            return done;
        }
        assert!(Instant::now() < deadline, "it does not come");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(PrometheusMp::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/prometheus_mp/README.md lacks this table:\n{table}");
}

#[test]
fn nixl_s_stores_are_shown_as_nixl_shows_them() {
    let run = Run::new();
    let mut alive = Vec::new();
    for store in golden_stores() {
        let copy = run.folder.path().join(store.file_name().unwrap());
        fs::copy(store, &copy).unwrap();
        let file = File::open(copy).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        alive.push(file);
    }
    let _host = run.open("ours");
    let metrics = run.scrape();
    // HELP and TYPE, and all series but those of the agent that is not in the golden directory, and of the servers.
    let agents = |text: &str| -> BTreeSet<String> {
        let is_of_agent = |line: &&str| line.contains("agent_") && !line.contains("agent_name=\"ours\"");
        text.lines().filter(is_of_agent).map(str::to_owned).collect()
    };
    let (seen, expected) = (agents(&metrics), agents(SERVED));
    let differences: Vec<_> = seen.symmetric_difference(&expected).collect();
    assert!(differences.is_empty() && expected.len() > 150, "{differences:#?}");
    // Of what only our exporter keeps, NIXL's agents have nothing.
    let own: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("nixl_telemetry_exporter_") && line.contains('{')).collect();
    assert!(own.len() > 3 && own.iter().all(|line| line.contains("agent_name=\"ours\"")), "{own:?}");
    for name in ["exposer_transferred_bytes_total", "exposer_scrapes_total", "exposer_request_latencies_count"] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{metrics}");
    }
}

#[test]
fn agents_of_a_process_share_a_server() {
    let run = Run::new();
    let mut hosts = ["a", "b"].map(|agent| run.open(agent));
    hosts[0].export(&[Event::new(Kind::TX_BYTES, 5), Event::new(Kind::XFER_TIME, 30)]);
    hosts[1].export(&[Event::new(Kind::TX_BYTES, 7)]);
    let metrics = run.scrape();
    for (agent, bytes) in [("a", 5), ("b", 7)] {
        let label = format!("agent_name=\"{agent}\",pid=\"{}\"", std::process::id());
        assert_eq!(value(&metrics, "agent_tx_bytes_total", &label), Some(bytes), "{metrics}");
        assert_eq!(
            metrics
                .matches(&format!("agent_tx_bytes_total{{hostname=\"{}\",{label}", hosts[0].agent().hostname()))
                .count(),
            1
        );
    }
    assert!(metrics.contains("local_rank=\"3\""));
    let [one, two] = hosts;
    let counts = one.close();
    assert_eq!((counts.taken, counts.exported), (2, 2));
    // What it did last stays for a while.
    assert_eq!(value(&run.scrape(), "agent_tx_bytes_total", "agent_name=\"a\""), Some(5));
    drop(two);
    assert!(run.get("/metrics").is_none(), "closed with its last agent");
}

#[test]
fn a_node_is_the_sum_of_its_ranks() {
    let run = Run::new();
    let mut hosts = ["a", "b"].map(|agent| run.open(agent));
    for host in &mut hosts {
        host.export(&[
            Event::new(Kind::TX_BYTES, 5),
            Event::new(Kind::XFER_TIME, 30),
            Event::new(Kind::ERR_BACKEND, 1),
        ]);
    }
    let metrics = run.get("/metrics?aggregate=node").unwrap();
    let host = format!("hostname=\"{}\"", hosts[0].agent().hostname());
    for line in [
        format!("agent_tx_bytes_total{{{host}}} 10"),
        format!("agent_errors_total{{{host},status=\"backend\"}} 2"),
        format!("agent_xfer_time_us_count{{{host}}} 2"),
        format!("agent_xfer_time_us_bucket{{{host},le=\"50\"}} 2"),
        format!("nixl_telemetry_exporter_events_total{{{host}}} 6"),
    ] {
        assert!(metrics.lines().any(|seen| seen == line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains(" gauge") && !metrics.contains("pid="), "{metrics}");
    for query in ["aggregate=rank", "x", "aggregate=node&y=1"] {
        let refused = run.get(&format!("/metrics?{query}")).unwrap();
        assert!(
            refused.starts_with("HTTP/1.1 400") && refused.contains("expected aggregate=node, or nothing"),
            "{refused}"
        );
    }
}

#[test]
fn a_port_that_a_stranger_has_is_waited_for() {
    let mut run = Run::new();
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    run.port = stranger.local_addr().unwrap().port();
    let mut host = run.open("a");
    host.export(&[Event::new(Kind::TX_BYTES, 5)]);
    // The election is given up each time.
    let lock = run.folder.path().join(format!("nixl-owner.127.0.0.1:{}.lock", run.port));
    until(|| flock(File::open(&lock).unwrap(), FlockOperation::NonBlockingLockShared).is_ok().then_some(()));
    drop(stranger);
    let metrics = until(|| run.get("/metrics"));
    assert_eq!(value(&metrics, "agent_tx_bytes_total", "agent_name=\"a\""), Some(5));
}

#[test]
fn who_stands_by_takes_over_by_itself() {
    let run = Run::new();
    // As another process would hold it.
    let mut other = election::Election::new(run.folder.path(), ([127, 0, 0, 1], run.port).into());
    assert!(other.stand());
    let mut host = run.open("a");
    host.export(&[Event::new(Kind::TX_BYTES, 5)]);
    assert!(run.get("/metrics").is_none());
    drop(other);
    let metrics = until(|| run.get("/metrics"));
    assert_eq!(value(&metrics, "agent_tx_bytes_total", "agent_name=\"a\""), Some(5));
}

#[test]
fn a_directory_that_has_gone_is_no_scrape() {
    let run = Run::new();
    let mut host = run.open("a");
    fs::remove_dir_all(run.folder.path()).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 5)]);
    let response = run.get("/metrics").unwrap();
    assert!(response.starts_with("HTTP/1.1 503") && response.contains("No such file or directory"), "{response}");
    fs::create_dir(run.folder.path()).unwrap();
    host.export(&[Event::new(Kind::TX_BYTES, 6)]);
    assert_eq!(value(&run.scrape(), "agent_tx_bytes_total", "agent_name=\"a\""), Some(11));
}

#[test]
fn labels_are_as_they_are_set() {
    let run = Run::new();
    let settings = run
        .settings()
        .with_override("NIXL_TELEMETRY_LABELS", "pod=$POD")
        .with_override("POD", "a\"b")
        .with_override("NIXL_TELEMETRY_AGENT_LABEL", "off")
        .with_override("NIXL_TELEMETRY_RANK_ENV", "");
    let host = Host::open("a", &settings).unwrap();
    let labels = format!(
        r#"agent_tx_bytes_total{{hostname="{}",pid="{}",agent_instance="{}",pod="a\"b"}} 0"#,
        host.agent().hostname(),
        std::process::id(),
        host.agent().instance(),
    );
    let metrics = run.scrape();
    assert!(metrics.lines().any(|line| line == labels), "{labels} is not in {metrics}");
}

#[test]
fn a_rank_may_come_from_nixl_s_file() {
    let run = Run::new();
    let settings = run.settings().with_override("NIXL_TELEMETRY_RANK_ENV", "MY_RANK").with_toml("MY_RANK = \"9\"");
    let _host = Host::open("a", &settings).unwrap();
    assert_eq!(value(&run.scrape(), "agent_tx_bytes_total", "local_rank=\"9\""), Some(0));
    let error = Host::open("a", &settings.with_toml("MY_RANK = 9")).err().unwrap().to_string();
    assert!(error.contains("MY_RANK"), "{error}");
}

#[test]
fn bad_settings_are_named() {
    let run = Run::new();
    let file = run.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let many: Vec<String> = (1..=33).map(|bound| bound.to_string()).collect();
    let long = format!("a={}", "x".repeat(1022));
    for (name, value, message) in [
        ("NIXL_TELEMETRY_MULTIPROC_DIR", "", "NIXL_TELEMETRY_MULTIPROC_DIR is \"\" (override): expected a directory"),
        ("NIXL_TELEMETRY_MULTIPROC_DIR", file.to_str().unwrap(), "file: File exists"),
        ("NIXL_TELEMETRY_MULTIPROC_DIR", "/proc/none", "NIXL_TELEMETRY_MULTIPROC_DIR: /proc/none: "),
        (
            "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US",
            &many.join(","),
            "NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US has 33 bounds: expected at most 32",
        ),
        ("NIXL_TELEMETRY_LABELS", &long, "NIXL_TELEMETRY_LABELS takes 1025 bytes: expected at most 1024"),
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", "65536", "NIXL_TELEMETRY_PROMETHEUS_PORT is \"65536\""),
        ("NIXL_TELEMETRY_MP_STALE_TTL", "-1", "NIXL_TELEMETRY_MP_STALE_TTL is \"-1\""),
        ("NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG", "/nonexistent", "NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG: "),
    ] {
        let settings = run.settings().with_override(name, value);
        let error = Host::open("a", &settings).err().expect("it does not open").to_string();
        assert!(error.contains(message), "{error}");
    }
    let error = Host::open("a", &Settings::empty()).err().unwrap().to_string();
    assert!(error.contains("NIXL_TELEMETRY_MULTIPROC_DIR is not set"), "{error}");
    let stores = |folder: &Path| fs::read_dir(folder).unwrap().count() - 1;
    assert_eq!(stores(run.folder.path()), 0, "what does not open leaves nothing behind");
}
