// SPDX-License-Identifier: Apache-2.0

//! A Prometheus server of a test's own: on a port the system chose, with a configuration and data that go with it.
//!
//! ```no_run
//! use nixl_telemetry_e2e::prometheus::Prometheus;
//! use nixl_telemetry_testkit::{prometheus, require};
//!
//! let Some(binary) = require("my test", prometheus("prometheus")) else { return };
//! let config = "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:9']}]}]";
//! let server = Prometheus::start(&binary, config, &[]);
//! let samples = server.wait_for("up", |samples| !samples.is_empty());
//! assert_eq!((samples[0].label("job"), samples[0].value), ("a", 0.0));
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    _folder: TempDir,
}

/// One series of what a query returned, and its value now.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels, `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Something Prometheus scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub url: String,
    /// `up`, `down`, or `unknown` before the first scrape.
    pub health: String,
    /// What went wrong at the last scrape; empty if nothing did.
    pub error: String,
}

impl Prometheus {
    /// Starts a server with this configuration, in YAML, and with more flags, and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(program: &Path, config: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("the folder is writable");
        let mut process = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = listens_on(&line);
            add_line(&log, &line);
            address
        });
        let Some(address) = address else {
            let status = process.wait();
            panic!("{} ended with {status:?}:\n{}", program.display(), text(&log));
        };
        // Read on to the end, so that it never waits for somebody who reads.
        let kept = Arc::clone(&log);
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| add_line(&kept, &line)));
        let server = Self { process, address, log, _folder: folder };
        server.wait(|| (http_get(address, "/-/ready")?.0 == 200).then_some(()), || "it is not ready".to_owned());
        server
    }

    /// What an expression evaluates to now. A scalar has no labels.
    ///
    /// # Panics
    /// If the expression is none.
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let data = self.get(&format!("/api/v1/query?query={}", percent_encoded(expression)));
        if data["resultType"] == "scalar" {
            return vec![Sample { labels: BTreeMap::new(), value: number(&data["result"]) }];
        }
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}"));
        series
            .iter()
            .map(|series| Sample { labels: strings(&series["metric"]), value: number(&series["value"]) })
            .collect()
    }

    /// Asks again and again until what an expression evaluates to is as it should be, and returns it.
    ///
    /// # Panics
    /// If that does not happen within a minute.
    pub fn wait_for(&self, expression: &str, mut is_right: impl FnMut(&[Sample]) -> bool) -> Vec<Sample> {
        let right = || Some(self.query(expression)).filter(|samples| is_right(samples));
        self.wait(right, || format!("{expression} is {:#?}", self.query(expression)))
    }

    /// Asks again and again until an expression evaluates to anything finite: until whoever looks at it sees something.
    ///
    /// # Panics
    /// If that does not happen within a minute.
    pub fn wait_for_numbers(&self, expression: &str) {
        self.wait_for(expression, |samples| samples.iter().any(|sample| sample.value.is_finite()));
    }

    /// Asks again and again until something is so. The complaint is for the panic.
    ///
    /// # Panics
    /// If that does not happen within a minute.
    pub fn wait_until(&self, mut so: impl FnMut(&Self) -> bool, complaint: impl FnOnce(&Self) -> String) {
        self.wait(|| so(self).then_some(()), || complaint(self));
    }

    /// What it scrapes.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn targets(&self) -> Vec<Target> {
        let data = self.get("/api/v1/targets?state=active");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = |target: &Value| Target {
            url: text(&target["scrapeUrl"]),
            health: text(&target["health"]),
            error: text(&target["lastError"]),
        };
        data["activeTargets"].as_array().into_iter().flatten().map(target).collect()
    }

    /// All rules, recording and alerting, as the API's `rules` has them.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn rules(&self) -> Vec<Value> {
        let data = self.get("/api/v1/rules");
        let groups = data["groups"].as_array().into_iter().flatten();
        groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// The field `data` of what the API answers.
    fn get(&self, path: &str) -> Value {
        let (status, body) =
            http_get(self.address, path).unwrap_or_else(|| panic!("no answer to {path}:\n{}", text(&self.log)));
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert!(status == 200 && answer["status"] == "success", "{path}: {answer}");
        answer["data"].clone()
    }

    fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>, complaint: impl FnOnce() -> String) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = ready() {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "{}\n{:#?}\n{}", complaint(), self.targets(), text(&self.log));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data goes as well: there is nothing to be ended in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sample {
    /// The value of a label; empty if there is none, as in Prometheus.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The status and body of an answer to GET; `None` if there is none.
fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // Of HTTP/1.0 there are no chunks, and the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The address, if this is the line of the log that says it.
fn listens_on(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("Listening on\" address=")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn add_line(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.push_str(line);
    log.push('\n');
}

fn text(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn strings(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// The value of a pair of a time and a value, which is a string that may be `NaN` or `+Inf`.
fn number(pair: &Value) -> f64 {
    let text = pair[1].as_str().unwrap_or_else(|| panic!("no value in {pair}"));
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
