// SPDX-License-Identifier: Apache-2.0

//! One prometheus plugin, one file, in every release of NIXL: what it shows is what happened.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use nixl_telemetry_e2e::{
    Sandbox, Totals, add, nixl_command,
    page::{Page, as_metrics},
    prometheus::{Prometheus, Sample},
    truth,
};
use nixl_telemetry_testkit as testkit;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

#[test]
fn nixl_0_10_1() {
    the_page_shows_what_happened("0.10.1");
}

#[test]
fn nixl_1_0_1() {
    the_page_shows_what_happened("1.0.1");
}

#[test]
fn nixl_1_1_0() {
    the_page_shows_what_happened("1.1.0");
}

#[test]
fn nixl_1_2_0() {
    the_page_shows_what_happened("1.2.0");
}

#[test]
fn nixl_1_3_2() {
    the_page_shows_what_happened("1.3.2");
}

#[test]
fn nixl_1_4_1() {
    the_page_shows_what_happened("1.4.1");
}

#[test]
fn nixl_1_5_1() {
    the_page_shows_what_happened("1.5.1");
}

/// A release with our plugin in place of NIXL's own, which is called the same.
fn sandbox(test: &str, version: &str) -> Option<Sandbox> {
    let release = testkit::require(test, testkit::nixl_release(version))?;
    let sandbox = Sandbox::new(&release);
    sandbox.replace_plugin(&testkit::plugin("prometheus"));
    Some(sandbox)
}

/// Runs the driver, and looks at the page as long as there is one; returns the last.
fn drive(sandbox: &Sandbox, port: u16, variables: &[(&str, &str)]) -> (Output, Option<Page>) {
    watch(port, command(sandbox, port, variables))
}

fn command(sandbox: &Sandbox, port: u16, variables: &[(&str, &str)]) -> Command {
    let port_text = port.to_string();
    let base = [
        ("NIXL_TELEMETRY_ENABLE", "y"),
        ("NIXL_TELEMETRY_EXPORTER", "prometheus"),
        ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y"),
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", port_text.as_str()),
    ];
    sandbox.command(Path::new(DRIVER), TRANSFERS, LINGER_MS, &[&base, variables].concat())
}

fn watch(port: u16, mut command: Command) -> (Output, Option<Page>) {
    thread::scope(|scope| {
        let run = scope.spawn(move || command.output().expect("the driver runs"));
        let mut last = None;
        while !run.is_finished() {
            // Both agents: towards the end one of them is gone already.
            let both = |page: &Page| page.samples("agent_tx_bytes_total").len() == 2;
            last = Page::get(port).filter(both).or(last);
            thread::sleep(Duration::from_millis(20));
        }
        (run.join().expect("the driver runs"), last)
    })
}

fn the_page_shows_what_happened(version: &str) {
    let Some(sandbox) = sandbox(&format!("prometheus in NIXL {version}"), version) else { return };
    let (output, page) =
        drive(&sandbox, testkit::free_port(), &[("NIXL_TELEMETRY_LABELS", "rank=$RANK"), ("RANK", "5")]);
    let (expected, page) = (truth(&output), page.expect("there is a page"));
    assert_eq!(page.totals(), as_metrics(&expected), "NIXL {version}");
    // Every event was taken, and is accounted for.
    for (labels, value) in page.samples("nixl_telemetry_exporter_events_total") {
        let events: u64 = expected[labels["agent_name"]].values().map(|(count, _)| count).sum();
        assert_eq!(value.parse(), Ok(events), "{labels:?} of NIXL {version}");
        assert_eq!(labels["rank"], "5");
    }
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("exporter prometheus"), "{log}");
}

/// What a real Prometheus has of a real NIXL in the end is what happened, to the last byte.
#[test]
fn prometheus_has_what_happened() {
    let test = "a Prometheus that scrapes NIXL 1.5.1";
    let Some(sandbox) = sandbox(test, "1.5.1") else { return };
    let Some(program) = testkit::require(test, testkit::prometheus("prometheus")) else { return };
    let port = testkit::free_port();
    let server = Prometheus::start(
        &program,
        &format!(
            "global: {{ scrape_interval: 100ms }}\n\
             scrape_configs: [{{ job_name: nixl, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}]\n"
        ),
        &[],
    );
    // It takes a few seconds to begin, after which it finds nobody.
    server.wait_for("up", |samples| !samples.is_empty());
    let (output, _) = drive(&sandbox, port, &[]);
    let expected = as_metrics(&truth(&output));
    // The agents are gone, and with them the series: asked for is the last that was scraped.
    let last = |name: &str| server.query(&format!("last_over_time({name}[5m])"));
    let mut seen = 0;
    for (agent, metrics) in &expected {
        for (what, value) in metrics {
            let (name, status) = match (what.strip_suffix(", times"), what.strip_prefix("agent_err_")) {
                (Some(times), _) => (format!("{times}_us_count"), None),
                (_, Some(status)) => ("agent_errors_total".to_owned(), Some(status)),
                _ => (format!("{what}_total"), None),
            };
            let samples = last(&name);
            let is_it = |sample: &&Sample| {
                sample.label("agent_name") == agent && status.is_none_or(|status| sample.label("status") == status)
            };
            let [sample] = samples.iter().filter(is_it).collect::<Vec<_>>()[..] else { panic!("{name}: {samples:?}") };
            assert_eq!(sample.value, *value as f64, "{what} of {agent}");
            seen += 1;
        }
    }
    assert!(seen >= 13, "{expected:?}");
}

/// In 1.4.1 NIXL's own exporter takes the agent down if the port is taken.
#[test]
fn a_port_that_is_taken_costs_nothing() {
    for version in ["1.4.1", "1.5.1"] {
        let Some(sandbox) = sandbox(&format!("a port that is taken in NIXL {version}"), version) else { return };
        let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let log_path = folder.path().join("log");
        let log = || fs::read_to_string(&log_path).unwrap();
        let mut command = command(&sandbox, port, &[]);
        command.stderr(File::create(&log_path).unwrap());
        let (output, page) = thread::scope(|scope| {
            // It goes when it was in the way, while the agents are at work, or idle afterwards.
            scope.spawn(|| {
                stranger.set_nonblocking(true).unwrap();
                while !log().contains("exporter prometheus: ") {
                    // Whoever comes hears nothing.
                    drop(stranger.accept());
                    thread::sleep(Duration::from_millis(1));
                }
                drop(stranger);
            });
            watch(port, command)
        });
        let (expected, page) = (truth(&output), page.expect("there is a page in the end"));
        assert_eq!(page.totals(), as_metrics(&expected), "NIXL {version}");
        let log = log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains("exporter prometheus: ")).collect();
        let [taken, served] = said[..] else { panic!("{log}") };
        assert!(taken.contains(&format!("127.0.0.1:{port}")), "{taken}");
        assert!(
            served.contains(&format!("serves http://127.0.0.1:{port}/metrics")) && served.ends_with("now"),
            "{served}"
        );
    }
}

/// What is wrong costs the metrics, and is named; with `fail` it costs the agent.
#[test]
fn a_bad_setting_costs_no_agent() {
    let Some(sandbox) = sandbox("prometheus with bad settings in NIXL 1.5.1", "1.5.1") else { return };
    let wrong = ("NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US", "10,5");
    let (output, page) = drive(&sandbox, testkit::free_port(), &[wrong]);
    assert!(!truth(&output).is_empty() && page.is_none());
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US is \"10,5\" (environment): expected rising numbers"),
        "{log}"
    );
    let (output, _) = drive(&sandbox, testkit::free_port(), &[wrong, ("NIXL_TELEMETRY_ON_ERROR", "fail")]);
    assert!(!output.status.success());
}

/// 0.9.0 has no C API: its Python binding registers memory, and what it registered is on the page.
#[test]
fn nixl_0_9_0_registers_through_python() {
    let Some(sandbox) = sandbox("prometheus in NIXL 0.9.0", "0.9.0") else { return };
    let stubs = sandbox.path().parent().unwrap().join("stubs");
    let port = testkit::free_port();
    let mut agent = nixl_command(Path::new("python3"))
        .arg(testkit::workspace_root().join("e2e/python_agent.py"))
        .args(["--name", "agentA", "--register", "4096", "--register", "70000", "--linger", "1.5"])
        .env("PYTHONPATH", format!("{}:{}", sandbox.path().display(), stubs.display()))
        .env("NIXL_TELEMETRY_ENABLE", "y")
        .env("NIXL_TELEMETRY_EXPORTER", "prometheus")
        .env("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "y")
        .env("NIXL_TELEMETRY_PROMETHEUS_PORT", port.to_string())
        .spawn()
        .unwrap();
    let mut last = None;
    let status = loop {
        last = Page::get(port).or(last);
        match agent.try_wait().unwrap() {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success());
    let mut expected = Totals::new();
    for bytes in [4096, 70000] {
        add(&mut expected, "agentA", "agent_memory_registered", bytes);
        add(&mut expected, "agentA", "agent_memory_deregistered", bytes);
    }
    assert_eq!(last.expect("there is a page").totals(), as_metrics(&expected));
}
