// SPDX-License-Identifier: Apache-2.0

//! The exporter otlp in a real NIXL: what receivers that know nothing of ours have counted is what happened.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    mem::MaybeUninit,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    ptr,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use nixl_telemetry_abi::raw::{self, CxxString, Offer, RichEvent};
use nixl_telemetry_e2e::{Sandbox, Totals, run_apart, truth};
use nixl_telemetry_event::Kind;
use nixl_telemetry_testkit as testkit;
use serde_json::Value;

const TRANSFERS: u64 = 300;
/// Long against NIXL's 100 ms: what is staged when an agent goes is lost, however busy the machine is.
const LINGER_MS: u64 = 1500;
const DRIVER: &str = env!("CARGO_BIN_EXE_nixl-telemetry-e2e-driver");

/// What a receiver has counted: by agent, then by metric, with its status if it has one.
type Counted = BTreeMap<String, BTreeMap<String, f64>>;

/// OpenTelemetry's messages, as Google's library reads them.
#[test]
fn opentelemetrys_messages_hold_what_happened() {
    let test = "otlp to OpenTelemetry's messages";
    let packages = ["opentelemetry-proto==1.45.2", "protobuf==7.36.2"];
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let Some(python) = testkit::require(test, testkit::python(&packages)) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("otlp"));
    for (protocol, temporality, histograms, compression) in [
        ("http/protobuf", "cumulative", "base2_exponential_bucket_histogram", "gzip"),
        ("http/protobuf", "delta", "explicit_bucket_histogram", "none"),
        ("http/json", "delta", "base2_exponential_bucket_histogram", "gzip"),
    ] {
        let mut receiver = PythonReceiver::start(&python);
        let endpoint = format!("http://127.0.0.1:{}", receiver.port);
        let expected = drive(
            &sandbox,
            &endpoint,
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality),
                ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", histograms),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
            ],
        );
        let exports = receiver.finish();
        assert!(exports.len() >= 3, "some come by themselves, and one from each agent at its end");
        let mut counted = Counted::new();
        exports.iter().for_each(|export| add(&mut counted, export));
        assert_same(&counted, &expected);
        let resource = exports[0]["resourceMetrics"][0]["resource"]["attributes"].to_string();
        assert!(resource.contains(r#"{"key":"service.name","value":{"stringValue":"e2e"}}"#), "{resource}");
    }
}

/// Rotel, a collector that is none of OpenTelemetry's own.
#[test]
fn rotel_shows_what_happened() {
    let test = "otlp to Rotel";
    let Some(release) = testkit::require(test, testkit::nixl_release("1.5.1")) else { return };
    let Some(python) = testkit::require(test, testkit::python(&["rotel==0.0.1a15"])) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("otlp"));
    for histograms in ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"] {
        let rotel = Rotel::start(&python);
        let endpoint = format!("http://127.0.0.1:{}", rotel.port);
        let variable = ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", histograms);
        let expected = drive(&sandbox, &endpoint, &[variable]);
        assert_same(&rotel.counted(&expected), &expected);
    }
}

/// Without anybody to receive, NIXL does its work, and the log says what became of the telemetry.
#[test]
fn nobody_has_to_listen() {
    let Some(release) = testkit::require("otlp to nobody", testkit::nixl_release("1.5.1")) else { return };
    let sandbox = Sandbox::new(&release);
    sandbox.add_plugin(&testkit::plugin("otlp"));
    let endpoint = format!("http://127.0.0.1:{}", testkit::free_port());
    let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables(&endpoint));
    let events: u64 = truth(&output).values().flat_map(BTreeMap::values).map(|(count, _)| count).sum();
    let log = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("exporter otlp")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains(&format!("{endpoint}/v1/metrics fails: Connection refused")), "{log}");
    let lost = format!("{events} events are lost: {endpoint}/v1/metrics has not accepted them");
    assert!(lines[1].contains(&lost), "{log}");
}

/// A forked child lets go of the agents of its parent without a word, and pushes what its own ones do.
#[test]
fn a_forked_child_pushes_its_own() {
    let test = "otlp in a forked child";
    let packages = ["opentelemetry-proto==1.45.2", "protobuf==7.36.2"];
    let Some(python) = testkit::require(test, testkit::python(&packages)) else { return };
    let mut receiver = PythonReceiver::start(&python);
    let endpoint = PathBuf::from(format!("http://127.0.0.1:{}", receiver.port));
    let plugin = testkit::plugin("otlp");
    let variables = [("OTLP_PLUGIN", plugin.as_path()), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)];
    run_apart("fork_and_push", &variables);
    let seen: Vec<(String, u64)> = receiver
        .finish()
        .iter()
        .map(|export| {
            let resource = &export["resourceMetrics"][0];
            let attributes = resource["resource"]["attributes"].as_array().unwrap();
            let instance = attributes.iter().find(|label| label["key"] == "service.instance.id").unwrap();
            let metric = &resource["scopeMetrics"][0]["metrics"][0];
            assert_eq!(metric["name"], "agent_tx_bytes_total");
            let bytes = metric["sum"]["dataPoints"][0]["asInt"].as_str().unwrap().parse().unwrap();
            (instance["value"].to_string(), bytes)
        })
        .collect();
    assert_eq!([seen[0].1, seen[1].1], [100, 11], "{seen:?}");
    assert!(seen.len() == 2 && seen[0].0 != seen[1].0, "{seen:?}");
}

#[test]
#[ignore = "run by a_forked_child_pushes_its_own"]
fn fork_and_push() {
    let path = std::env::var_os("OTLP_PLUGIN").expect("set by a_forked_child_pushes_its_own");
    // SAFETY: the plugin was built by this test and has no initialisers but its language's.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.expect("the plugin loads");
    let create = || {
        // SAFETY: the signatures are the interface's, the parameters live during the calls, and the library stays open.
        unsafe {
            let negotiate: Symbol<raw::NegotiateFn> = library.get(raw::NEGOTIATE_SYMBOL.as_bytes()).unwrap();
            let plugin = negotiate(&Offer { size: 8, rich_version: RichEvent::VERSION });
            let mut params = MaybeUninit::<raw::InitParams>::zeroed();
            CxxString::emplace(&raw mut (*params.as_mut_ptr()).agent_name, "agentA");
            let mut exporter = ptr::null_mut();
            (*plugin).create.unwrap()(&raw mut exporter, params.as_ptr());
            assert!(!exporter.is_null());
            exporter
        }
    };
    let export = |exporter: *mut raw::Exporter, value| {
        let event = RichEvent { kind: 0, category: 0, value, timestamp_us: 9, name: ptr::null(), name_len: 0 };
        // SAFETY: the exporter lives, and takes such events.
        assert_eq!(unsafe { ((*(*exporter).slots).export_event)(exporter, ptr::from_ref(&event).cast()) }, 0);
    };
    // SAFETY: what was created is deleted once in each process. The child calls nothing but the plugin, and leaves.
    unsafe {
        let delete = |exporter: *mut raw::Exporter| ((*(*exporter).slots).delete)(exporter);
        let exporter = create();
        export(exporter, 5);
        let child = libc::fork();
        if child == 0 {
            // Ends the child by a signal, which the parent sees, should it wait for a thread it does not have.
            libc::alarm(60);
            delete(exporter);
            let own = create();
            export(own, 100);
            delete(own);
            libc::_exit(7);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
        export(exporter, 6);
        delete(exporter);
    }
}

fn variables(endpoint: &str) -> [(&'static str, &str); 5] {
    [
        ("NIXL_TELEMETRY_ENABLE", "y"),
        ("NIXL_TELEMETRY_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_SERVICE_NAME", "e2e"),
    ]
}

/// Has two agents work, with more variables; returns what they did.
fn drive(sandbox: &Sandbox, endpoint: &str, more: &[(&str, &str)]) -> Totals {
    // A receiver on a busy machine may take its time.
    let patient = [("NIXL_TELEMETRY_OTLP_SHUTDOWN_TIMEOUT", "30000")];
    let variables = [&variables(endpoint), &patient[..], more].concat();
    let output = sandbox.drive(Path::new(DRIVER), TRANSFERS, LINGER_MS, &variables);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("exporter otlp"), "{log}");
    truth(&output)
}

/// Every count a receiver should have, and no other, is there.
fn assert_same(counted: &Counted, expected: &Totals) {
    let mut wanted = Counted::new();
    for (agent, events) in expected {
        let wanted = wanted.entry(agent.clone()).or_default();
        for (event, &(count, sum)) in events {
            let (count, sum) = (count as f64, sum as f64);
            let kind = Kind::from_name(event).expect("an event of NIXL 1.5");
            match kind.status().and_then(|status| status.label()) {
                Some(status) => wanted.insert(format!("agent_errors_total {status}"), sum),
                None => wanted.insert(format!("{event}_total"), sum),
            };
            if [Kind::XFER_TIME, Kind::XFER_POST_TIME].contains(&kind) {
                wanted.insert(format!("{event}_us count"), count);
                wanted.insert(format!("{event}_us sum"), sum);
            }
        }
        let all: u64 = events.values().map(|(count, _)| count).sum();
        wanted.insert("nixl_telemetry_exporter_events_total".into(), all as f64);
    }
    let mut counted = counted.clone();
    for metrics in counted.values_mut() {
        // How many batches they came in, nobody knows.
        metrics.retain(|metric, value| *value != 0.0 && metric != "nixl_telemetry_exporter_batches_total");
    }
    assert_eq!(counted, wanted);
}

/// Adds an export as a decoder of protobuf shows it in JSON.
fn add(counted: &mut Counted, export: &Value) {
    let metrics = &export["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    for metric in metrics.as_array().unwrap() {
        let Some(data) = ["sum", "histogram", "exponentialHistogram"].into_iter().find_map(|kind| metric.get(kind))
        else {
            continue;
        };
        let is_delta = data["aggregationTemporality"] == "AGGREGATION_TEMPORALITY_DELTA";
        for point in data["dataPoints"].as_array().unwrap() {
            let label = |name: &str| {
                let found = point["attributes"].as_array().unwrap().iter().find(|label| label["key"] == name);
                found.map(|label| label["value"]["stringValue"].as_str().unwrap().to_owned())
            };
            let name = metric["name"].as_str().unwrap();
            let values = match point.get("asInt") {
                Some(value) => match label("status") {
                    Some(status) => vec![(format!("{name} {status}"), value)],
                    None => vec![(name.to_owned(), value)],
                },
                None => vec![(format!("{name} count"), &point["count"]), (format!("{name} sum"), &point["sum"])],
            };
            let agent = counted.entry(label("agent_name").unwrap()).or_default();
            for (metric, value) in values {
                // Zero is left out by protobuf.
                let value = value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0.0);
                let total = agent.entry(metric).or_default();
                *total = if is_delta { *total + value } else { value };
            }
        }
    }
}

/// `e2e/otlp_receiver.py`.
struct PythonReceiver {
    child: Child,
    /// Reads what it writes, lest it wait for that.
    exports: Option<JoinHandle<Vec<Value>>>,
    port: u16,
}

impl PythonReceiver {
    fn start(python: &Path) -> Self {
        let mut child = Command::new(python)
            .arg(testkit::workspace_root().join("e2e/otlp_receiver.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("a line").unwrap().parse().unwrap();
        let exports = thread::spawn(move || lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect());
        Self { child, exports: Some(exports), port }
    }

    /// Ends it; returns what it has received.
    fn finish(&mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        self.exports.take().expect("it ends once").join().unwrap()
    }
}

impl Drop for PythonReceiver {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A collector that writes what it receives into a file.
struct Rotel {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Rotel {
    fn start(python: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [http, grpc] = [(); 2].map(|()| testkit::free_port());
        // Where the package has it.
        let find = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
        let found = Command::new(python).args(["-c", find]).output().unwrap();
        let program = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        let child = Command::new(program)
            .arg("start")
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--exporter", "blackhole", "--debug-log", "metrics", "--debug-log-verbosity", "detailed"])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .stdout(File::create(folder.path().join("output")).unwrap())
            .spawn()
            .unwrap();
        let rotel = Self { child, folder, port: http };
        wait_for("Rotel listens", || TcpStream::connect(("127.0.0.1", http)).is_ok());
        rotel
    }

    /// What it has shown last of each metric, as soon as it has shown all these events.
    fn counted(&self, expected: &Totals) -> Counted {
        let mut counted = Counted::new();
        wait_for("Rotel shows the last export", || {
            counted = shown(&fs::read_to_string(self.folder.path().join("output")).unwrap());
            expected.iter().all(|(agent, events)| {
                let all: u64 = events.values().map(|(count, _)| count).sum();
                let metrics = counted.get(agent);
                metrics.and_then(|metrics| metrics.get("nixl_telemetry_exporter_events_total")) == Some(&(all as f64))
            })
        });
        counted
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads Rotel's debug log: lines such as `-> Name: x`, `-> agent_name: Str(a)` and `Value: 7`.
fn shown(log: &str) -> Counted {
    let mut counted = Counted::new();
    let (mut name, mut is_sum, mut agent, mut status) = (String::new(), false, String::new(), String::new());
    for line in log.lines() {
        let line = line.trim().trim_start_matches("-> ");
        let Some((key, value)) = line.split_once(": ") else { continue };
        let text = value.trim_start_matches("Str(").trim_end_matches(')');
        match key {
            "Name" => (name, is_sum, status) = (value.to_owned(), false, String::new()),
            "DataType" => is_sum = value == "Sum",
            "agent_name" => agent = text.to_owned(),
            "status" => status = text.to_owned(),
            "Value" if is_sum => {
                let metric = if status.is_empty() { name.clone() } else { format!("{name} {status}") };
                counted.entry(agent.clone()).or_default().insert(metric, value.parse().unwrap());
            }
            "Count" | "Sum" => {
                let metric = format!("{name} {}", key.to_lowercase());
                counted.entry(agent.clone()).or_default().insert(metric, value.parse().unwrap());
            }
            _ => {}
        }
    }
    counted
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}
