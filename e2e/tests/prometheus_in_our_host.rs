// SPDX-License-Identifier: Apache-2.0

//! Our prometheus exporter behind our collector, scraped by a real Prometheus, which finds what the agents did, and has an
//! answer for every panel; and NIXL's own, of which it finds the same.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nixl_telemetry_e2e::{dashboards::panels, page::Page, prometheus::Prometheus, run_apart};
use nixl_telemetry_event::Status;
use nixl_telemetry_host::{Collector, Direction, Transfer};
use nixl_telemetry_loader::SearchPath;
use nixl_telemetry_settings::Settings;
use nixl_telemetry_testkit as testkit;
use tempfile::TempDir;

#[test]
fn over_http() {
    let test = "prometheus in our host, over HTTP";
    let Some(promtool) = testkit::require(test, testkit::prometheus("promtool")) else { return };
    scraped(test, &ours(), "", "scheme: http", &[("PROMTOOL", &promtool)]);
}

#[test]
fn nixls_own() {
    let test = "prometheus of NIXL 1.5.1 in our host, scraped";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let lacking = [("LACKING", Path::new("nixl_telemetry_exporter"))];
    scraped(test, &release.join(".nixl_cu12.mesonpy.libs/plugins"), "", "scheme: http", &lacking);
}

/// Where Prometheus keeps them, it asks for another format.
#[test]
fn with_native_histograms() {
    let native = [("NATIVE", Path::new("y"))];
    scraped("prometheus in our host, native histograms", &ours(), "", "scheme: http", &native);
}

#[test]
fn over_tls() {
    let folder = certificate();
    let refused = [("REFUSED", Path::new("scheme: http")), ("BECAUSE", Path::new(""))];
    scraped("prometheus in our host, over TLS", &ours(), &web_config(&folder, ""), &trust(&folder), &refused);
}

#[test]
fn with_a_password() {
    let folder = certificate();
    // The hash of `test`, at a low cost.
    let users = "basic_auth_users: { prometheus: '$2y$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a' }";
    let user =
        |password: &str| format!("{}, basic_auth: {{ username: prometheus, password: {password} }}", trust(&folder));
    let wrong = user("guess");
    let refused = [("REFUSED", Path::new(&wrong)), ("BECAUSE", Path::new("401"))];
    scraped("prometheus in our host, with a password", &ours(), &web_config(&folder, users), &user("test"), &refused);
}

/// The folder of our exporters.
fn ours() -> PathBuf {
    testkit::plugin("prometheus").parent().unwrap().to_owned()
}

/// A folder with a certificate for `localhost` and its key.
fn certificate() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("server.crt"), made.cert.pem()).unwrap();
    fs::write(folder.path().join("server.key"), made.signing_key.serialize_pem()).unwrap();
    folder
}

fn web_config(folder: &TempDir, users: &str) -> String {
    let path = folder.path().display();
    format!("tls_server_config: {{ cert_file: {path}/server.crt, key_file: {path}/server.key }}\n{users}\n")
}

/// What a scrape job needs to trust the certificate.
fn trust(folder: &TempDir) -> String {
    let path = folder.path().display();
    format!("scheme: https, tls_config: {{ ca_file: {path}/server.crt, server_name: localhost }}")
}

/// Runs agents in a process of their own, with the exporter of this folder and this web configuration, and scrapes them with
/// a job that says this. A second job may be `REFUSED`, `BECAUSE` of an error that says so.
fn scraped(test: &str, plugins: &Path, web_config: &str, job: &str, variables: &[(&str, &Path)]) {
    let Some(program) = testkit::require(test, testkit::prometheus("prometheus")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web.yml");
    fs::write(&web, web_config).unwrap();
    let port = testkit::free_port().to_string();
    let own = [
        ("PROMETHEUS", program.as_path()),
        ("JOB", Path::new(job)),
        ("PLUGINS", plugins),
        ("NIXL_TELEMETRY_PROMETHEUS_PORT", Path::new(&port)),
        ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", Path::new("y")),
        ("NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG", &web),
    ];
    run_apart("agents", &[&own, variables].concat());
}

/// The process with the agents in it.
#[test]
#[ignore = "run by the tests above"]
fn agents() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let port: u16 = variable("NIXL_TELEMETRY_PROMETHEUS_PORT").parse().unwrap();
    let agent = |name: &str| {
        Collector::builder(name)
            .settings(Settings::from_process().with_override("NIXL_TELEMETRY_ENABLE", "y"))
            .search_path(SearchPath::new([variable("PLUGINS")]))
            .exporter("prometheus")
            .build()
            .unwrap()
            .expect("telemetry is on")
    };
    let (writer, reader) = (agent("writer"), agent("reader"));
    let (refused, native) = (std::env::var("REFUSED").ok(), std::env::var_os("NATIVE"));
    let job = |name: &str, how: &str| {
        format!("- {{ job_name: {name}, {how}, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}\n")
    };
    let jobs = job("nixl", &variable("JOB")) + &refused.as_ref().map(|how| job("refused", how)).unwrap_or_default();
    let flags: Vec<_> = native.iter().map(|_| "--enable-feature=native-histograms").collect();
    let rules = testkit::workspace_root().join("deploy/prometheus/rules.yml");
    let rules = rules.display();
    let config = format!(
        "global: {{ scrape_interval: 200ms, evaluation_interval: 200ms }}\nrule_files: ['{rules}']\nscrape_configs:\n{jobs}"
    );
    let server = Prometheus::start(Path::new(&variable("PROMETHEUS")), &config, flags.as_slice());
    // All is there from the beginning, and zero, or what happens before the first scrape would be in no rate.
    server.wait_for("agent_tx_bytes_total", |samples| {
        samples.len() == 2 && samples.iter().all(|sample| sample.value == 0.0 && sample.label("job") == "nixl")
    });

    // Exact, as far as Prometheus can tell numbers apart.
    let mut bytes = 1 << 52;
    writer.recorder().transfer(sent(bytes));
    for round in 1..=3 {
        for _ in 0..1000 {
            writer.recorder().transfer(sent(1));
        }
        assert!(writer.flush(Duration::from_secs(60)));
        bytes += 1000;
        wait_for(&server, "agent_tx_bytes_total", [("writer", bytes), ("reader", 0)]);
        wait_for(&server, "agent_tx_requests_num_total", [("writer", round * 1000 + 1), ("reader", 0)]);
    }
    let read = Transfer { direction: Direction::Read, bytes: 7, post_time_us: 2, transfer_time_us: 9_000_000 };
    reader.recorder().transfer(read);
    reader.recorder().error(Status::NotFound);
    assert!(reader.flush(Duration::from_secs(60)));
    wait_for(&server, "agent_rx_bytes_total", [("reader", 7), ("writer", 0)]);
    wait_for(&server, "agent_errors_total{status=\"not_found\"}", [("reader", 1), ("writer", 0)]);
    if native.is_some() {
        native_histograms(&server);
    } else {
        classic_histograms(&server);
        nothing_is_empty(&server);
    }

    if let Ok(promtool) = std::env::var("PROMTOOL") {
        assert_eq!(
            check_metrics(&promtool, port),
            [
                // They are NIXL's names.
                "agent_xfer_post_time_us metric names should not contain abbreviated units",
                "agent_xfer_time_us metric names should not contain abbreviated units",
            ]
        );
    }
    if refused.is_some() {
        server.wait_for("up{job=\"refused\"}", |samples| samples.len() == 1 && samples[0].value == 0.0);
        let because = variable("BECAUSE");
        server.wait_until(
            |server| {
                let down: Vec<_> = server.targets().into_iter().filter(|target| target.health == "down").collect();
                down.len() == 1 && down[0].error.contains(&because)
            },
            |_| format!("one is down: {because}"),
        );
    }

    drop((writer, reader));
    server.wait_for("up", |samples| samples.iter().all(|sample| sample.value == 0.0));
}

/// Waits until the values of both agents are these, the greater one first.
fn wait_for(server: &Prometheus, expression: &str, expected: [(&str, u64); 2]) {
    let expected = expected.map(|(agent, value)| (agent.to_owned(), value as f64));
    server.wait_for(&format!("sort_desc({expression})"), |samples| {
        let found = samples.iter().map(|sample| (sample.label("agent_name").to_owned(), sample.value));
        found.eq(expected.iter().cloned())
    });
}

fn classic_histograms(server: &Prometheus) {
    wait_for(server, "agent_xfer_time_us_count", [("writer", 3001), ("reader", 1)]);
    wait_for(server, "agent_xfer_time_us_sum", [("reader", 9_000_000), ("writer", 120_040)]);
    wait_for(server, "agent_xfer_time_us_bucket{le=\"+Inf\"}", [("writer", 3001), ("reader", 1)]);
    // Bounds are numbers with a point in OpenMetrics, which Prometheus asks for.
    wait_for(server, r#"agent_xfer_time_us_bucket{le=~"50(\\.0)?"}"#, [("writer", 3001), ("reader", 0)]);
}

fn native_histograms(server: &Prometheus) {
    wait_for(server, "histogram_count(agent_xfer_time_us)", [("writer", 3001), ("reader", 1)]);
    wait_for(server, "histogram_sum(agent_xfer_time_us)", [("reader", 9_000_000), ("writer", 120_040)]);
    for quantile in ["0.01", "0.5", "0.99"] {
        // All took 40 us; no bound had to be set for that.
        let expression = format!("histogram_quantile({quantile}, agent_xfer_time_us{{agent_name='writer'}})");
        server.wait_for(&expression, |found| found.len() == 1 && (37.0..43.0).contains(&found[0].value));
    }
}

/// Every panel and every recording rule has an answer.
fn nothing_is_empty(server: &Prometheus) {
    // What a backend reports has no place in NIXL 1.5.
    let mut lacking = vec!["agent_backend_events".to_owned()];
    lacking.extend(std::env::var("LACKING"));
    let is_there = |expression: &String| !lacking.iter().any(|metric| expression.contains(metric));
    let records = server.rules().into_iter().filter(|rule| rule["type"] == "recording");
    let records = records.map(|rule| rule["name"].as_str().expect("a name").to_owned());
    for expression in records.chain(panels("nixl-overview")).filter(is_there) {
        server.wait_for_numbers(&expression);
    }
}

fn sent(bytes: u64) -> Transfer {
    Transfer { direction: Direction::Write, bytes, post_time_us: 3, transfer_time_us: 40 }
}

/// What promtool has against the metrics that are served.
fn check_metrics(promtool: &str, port: u16) -> Vec<String> {
    let page = Page::get(port).expect("a page");
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(page.text().as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let mut said: Vec<_> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    said.sort();
    said
}
