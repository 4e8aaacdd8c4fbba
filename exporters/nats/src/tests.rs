// SPDX-License-Identifier: Apache-2.0

//! The exporter with real servers, and consumers in Python.

mod agent;
mod chaos;
mod faults;
mod limits;
mod logins;
mod pretended;
mod repeated;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_sdk::queue::QueueCounts;
use nixl_telemetry_sdk::testing::TestHost;
use nixl_telemetry_sdk::{Event, Exporter as _, Kind, markdown_table};
use nixl_telemetry_testkit::{self as testkit, NATS_PACKAGES, Nats as Server};
use serde_json::Value as Json;

use super::*;
use crate::jetstream::{COUNT, SEQUENCE};
use crate::protocol::END;

/// JetStream, and nothing else.
const JETSTREAM: &str = "jetstream {}";
/// Events go into a stream of this name.
const STORED: [(&str, &str); 2] = [("JETSTREAM", "true"), ("STREAM", "NIXL")];

type Host = TestHost<Queued<Nats>>;

/// Settings for a server: batches leave at once, and what fails is tried again soon.
fn common(url: &str) -> [(&str, &str); 5] {
    [
        ("URL", url),
        ("BATCH_TIMEOUT", "0"),
        ("RETRY_INITIAL_INTERVAL", "20"),
        ("RETRY_MAX_INTERVAL", "100"),
        ("SHUTDOWN_TIMEOUT", "20000"),
    ]
}

fn settings(url: &str, pairs: &[(&str, &str)]) -> Settings {
    let all = common(url).into_iter().chain(pairs.iter().copied());
    Settings::from_pairs(all.map(|(name, value)| (format!("NIXL_TELEMETRY_NATS_{name}"), value)))
}

fn open(url: &str, pairs: &[(&str, &str)]) -> Host {
    Host::open("a.b", &settings(url, pairs)).unwrap()
}

fn export(host: &mut Host, values: Range<u64>) {
    let events: Vec<_> =
        values.map(|value| Event::new(Kind::TX_BYTES, value).at(1_764_000_000_000_000 + value)).collect();
    host.export(&events);
}

fn counts(host: &Host) -> QueueCounts {
    host.exporter().expect("it has not panicked").counts()
}

/// Waits for what has to come.
fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn until_delivered(host: &Host, events: u64) {
    until("deliveries", || counts(host).delivered >= events);
}

/// Ends an agent of which everything is delivered.
fn close(host: Host) {
    let QueueCounts { exported, dropped, .. } = counts(&host);
    assert_eq!(dropped.total(), 0);
    assert_eq!(host.close().exported, exported);
}

/// Asks JetStream's API, as an operator's tool does.
fn api(url: &str, what: &str, payload: &Json) -> Json {
    let mut connection = connect(url, &STORED).unwrap();
    let reply = connection.request(&format!("$JS.API.{what}"), payload).unwrap();
    let answer: Json = serde_json::from_slice(&reply.payload).unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
    answer
}

/// Connects to a server, or says what is wrong with it.
fn connect(url: &str, pairs: &[(&str, &str)]) -> Result<Connection, String> {
    let config = Config::new(&settings(url, pairs)).unwrap();
    Connection::open(&config.servers.0[0], &config, "a test").map_err(|error| error.to_string())
}

/// What a consumer gets.
#[derive(Debug)]
struct Message {
    subject: String,
    headers: BTreeMap<String, String>,
    /// Time, agent, event, category, unit, value.
    events: Vec<Json>,
}

impl Message {
    fn parse(line: &str) -> Self {
        let json: Json = serde_json::from_str(line).unwrap();
        let headers = json["headers"].as_object().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        let events = json["events"].as_array().unwrap().clone();
        Self { subject: json["subject"].as_str().unwrap().to_owned(), headers, events }
    }

    fn number(&self, header: &str) -> u64 {
        self.headers[header].parse().unwrap()
    }

    /// The numbers of its events in their origin.
    fn numbers(&self) -> Range<u64> {
        let first = self.number(SEQUENCE);
        assert_eq!(self.number(COUNT), self.events.len() as u64);
        first..first + self.events.len() as u64
    }
}

/// The values of all events, in rising order. Numbers are unique in each origin.
fn values(messages: &[Message]) -> Vec<u64> {
    let mut numbers: Vec<_> = messages
        .iter()
        .flat_map(|message| message.numbers().map(|number| (message.headers[ORIGIN].clone(), number)))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "an event is there twice");
    let mut values: Vec<_> =
        messages.iter().flat_map(|message| &message.events).map(|event| event[5].as_u64().unwrap()).collect();
    values.sort_unstable();
    values
}

fn python() -> PathBuf {
    testkit::python(&NATS_PACKAGES).unwrap()
}

fn consume(arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/consume.py")).args(arguments);
    command
}

/// What is in a stream.
fn stored(url: &str, stream: &str) -> Vec<Message> {
    let output = consume(&[url, ">", stream]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(Message::parse).collect()
}

/// Somebody who listens.
struct Listener {
    child: Child,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Listener {
    fn start(url: &str, subject: &str) -> Self {
        let mut child = consume(&[url, subject]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let heard = Arc::<Mutex<Vec<Message>>>::default();
        let this = Self { child, heard: Arc::clone(&heard) };
        thread::spawn(move || lines.for_each(|line| heard.lock().unwrap().push(Message::parse(&line.unwrap()))));
        this
    }

    fn has_heard(&self) -> usize {
        self.heard.lock().unwrap().iter().map(|message| message.events.len()).sum()
    }

    /// Waits for so many events.
    fn hear(&self, events: usize) -> Vec<Message> {
        until("what is published", || self.has_heard() >= events);
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).unwrap();
    }
}

/// A server, or `None` if there can be none.
fn server(test: &str, config: &str) -> Option<Server> {
    testkit::require(&format!("nats: {test}"), Server::start(config))
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let table = markdown_table(Queued::<Nats>::SETTINGS);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "exporters/nats/README.md lacks this table:\n{table}");
}

#[test]
fn who_listens_gets_what_happened_in_both_formats() {
    let Some(server) = server("who listens", "") else { return };
    for format in ["jsonl", "msgpack"] {
        let listener = Listener::start(&server.url(), "x.>");
        let pairs = [("SUBJECT", "x.{agent}.{pid}.{hostname}"), ("FORMAT", format), ("MESSAGE_SIZE", "2")];
        let mut host = Host::open("a.b *>\r\n é\"", &settings(&server.url(), &pairs)).unwrap();
        host.export(&[
            Event::new(Kind::TX_BYTES, u64::MAX).at(5),
            Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 1).at(6),
            Event::backend("ucx\n\"1", 2).at(7),
            Event::new(Kind::from_code(77), 3).at(8),
            Event::backend("ucx\n\"1", 4).at(1_764_000_000_000_000),
        ]);
        let messages = listener.hear(5);
        close(host);
        let name = "a.b *>\r\n é\"";
        let expected: Json = serde_json::json!([
            [5, name, "agent_tx_bytes", "TRANSFER", "bytes", u64::MAX],
            [6, name, "agent_telemetry_events_dropped", null, "events", 1],
            [7, name, "ucx\n\"1", "BACKEND", null, 2],
            [8, name, "unknown_event_77", null, null, 3],
            [1_764_000_000_000_000_u64, name, "ucx\n\"1", "BACKEND", null, 4],
        ]);
        let events: Vec<_> = messages.iter().flat_map(|message| message.events.clone()).collect();
        assert_eq!(Json::Array(events), expected, "{format}");
        assert_eq!(messages.iter().map(|message| message.numbers().start).collect::<Vec<_>>(), [0, 2, 4]);
        let agent = Agent::new("");
        for message in messages {
            let escaped = "a%2Eb%20%2A%3E%0D%0A%20%C3%A9%22";
            let (pid, hostname) = (agent.pid(), token(agent.hostname()));
            assert_eq!(message.subject, format!("x.{escaped}.{pid}.{hostname}"));
            let wanted = [("Nixl-Agent", escaped), ("Nixl-Hostname", &hostname), ("Nixl-Pid", &pid.to_string())];
            assert!(wanted.iter().all(|(name, value)| message.headers[*name] == *value), "{:?}", message.headers);
        }
    }
}

#[test]
fn a_stream_is_made_and_has_what_happened() {
    let Some(server) = server("a stream", JETSTREAM) else { return };
    for format in ["jsonl", "msgpack"] {
        let mut host = open(&server.url(), &[&STORED[..], &[("FORMAT", format), ("MESSAGE_SIZE", "100")]].concat());
        for batch in 0..10 {
            export(&mut host, batch * 777..(batch + 1) * 777);
        }
        until_delivered(&host, 7770);
        close(host);
    }
    let messages = stored(&server.url(), "NIXL");
    let all = (0..7770).flat_map(|value| [value, value]);
    assert_eq!(values(&messages), all.collect::<Vec<_>>());
    for message in &messages {
        let (numbers, headers) = (message.numbers(), &message.headers);
        assert!(numbers.start / 100 == (numbers.end - 1) / 100, "{numbers:?}");
        assert_eq!(message.subject, format!("nixl.telemetry.a%2Eb.{}", headers[ORIGIN]));
        assert_eq!(headers["Nats-Msg-Id"], format!("{}-{}-{}", headers[ORIGIN], numbers.start, message.events.len()));
    }
}

#[test]
fn the_readmes_consumer_counts_what_happened() {
    let Some(server) = server("the README's consumer", JETSTREAM) else { return };
    let script = server.folder().join("consumer.py");
    let readme = include_str!("../README.md");
    let code = readme.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the README has it");
    std::fs::write(&script, code).unwrap();
    for format in ["jsonl", "msgpack"] {
        let mut host = open(&server.url(), &[&STORED[..], &[("FORMAT", format)]].concat());
        export(&mut host, 0..5000);
        host.export(&[Event::new(Kind::ERR_BACKEND, 1)]);
        until_delivered(&host, 5001);
        close(host);
    }
    let output = Command::new(python()).arg(script).arg(server.url()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = "a%2Eb agent_err_backend: 2 events, sum 2\na%2Eb agent_tx_bytes: 10000 events, sum 24995000\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
