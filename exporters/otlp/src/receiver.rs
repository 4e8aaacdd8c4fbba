// SPDX-License-Identifier: Apache-2.0

//! A receiver for tests: it answers as it is told, and adds up what it has accepted.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// What happens to a connection; without any, requests are accepted.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Takes the request, and answers with this status, these headers and this body.
    Answer(u16, &'static str, &'static str),
    /// Takes the request, and says nothing.
    Hang,
    /// Closes the connection in the middle of the request.
    Reset,
    /// Answers with something that is not HTTP.
    Nonsense,
}

/// A request that was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// With names of headers in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Sums by metric and labels: `agent_tx_bytes_total{agent_name=a}`.
pub(crate) type Totals = BTreeMap<String, i64>;

pub(crate) struct Receiver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    script: Mutex<VecDeque<Reaction>>,
    requests: Mutex<Vec<Request>>,
    totals: Mutex<Totals>,
    is_over: AtomicBool,
}

trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap(), None)
    }

    pub(crate) fn listen(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            tls,
            script: Mutex::default(),
            requests: Mutex::default(),
            totals: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || for_thread.serve(&listener));
        Self { shared, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What will happen to the next connections.
    pub(crate) fn expect(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.script.lock().unwrap().extend(reactions);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// What it has, of what is JSON.
    pub(crate) fn totals(&self) -> Totals {
        self.shared.totals.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.shared.address);
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || thread::panicking(), "the receiver is sound");
        }
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        let mut hanging: Vec<Box<dyn Connection>> = Vec::new();
        for stream in listener.incoming() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let stream = stream.unwrap();
            let mut connection: Box<dyn Connection> = match &self.tls {
                Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(tls)).unwrap(), stream)),
                None => Box::new(stream),
            };
            let reaction = self.script.lock().unwrap().pop_front().unwrap_or(Reaction::Answer(200, "", ""));
            if matches!(reaction, Reaction::Reset) {
                // What was not read makes it a reset.
                let _ = connection.read_exact(&mut [0; 10]);
                continue;
            }
            // A client that does not trust us, or has gone, sends none.
            let Some(request) = read(&mut connection) else { continue };
            self.requests.lock().unwrap().push(request.clone());
            match reaction {
                Reaction::Answer(status, headers, body) => {
                    if (200..300).contains(&status)
                        && let Ok(export) = serde_json::from_slice(&request.body)
                    {
                        add(&mut self.totals.lock().unwrap(), &export);
                    }
                    let length = body.len();
                    let answer = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
                    let _ = connection.write_all(answer.as_bytes());
                    let _ = connection.flush();
                }
                Reaction::Nonsense => drop(connection.write_all(b"\0\x01nonsense\r\n\r\n")),
                Reaction::Hang => hanging.push(connection),
                Reaction::Reset => unreachable!("done above"),
            }
        }
    }
}

fn read(connection: &mut impl Read) -> Option<Request> {
    let mut reader = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            line = format!("{}:{value}", name.to_ascii_lowercase());
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}

/// Adds the sums and the counts of histograms, whatever their temporality.
fn add(totals: &mut Totals, export: &Value) {
    let metrics = export["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().cloned().unwrap_or_default();
    for metric in metrics {
        for kind in ["sum", "histogram", "exponentialHistogram"] {
            let data = &metric[kind];
            for point in data["dataPoints"].as_array().into_iter().flatten() {
                let labels: Vec<String> = point["attributes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|label| label["key"] != "hostname")
                    .map(|label| format!("{}={}", label["key"], label["value"]["stringValue"]).replace('"', ""))
                    .collect();
                let name = format!("{}{{{}}}", metric["name"].as_str().unwrap(), labels.join(","));
                let value: i64 = point.get("asInt").or(point.get("count")).unwrap().as_str().unwrap().parse().unwrap();
                let total = totals.entry(name).or_default();
                *total = if data["aggregationTemporality"] == 1 { *total + value } else { value };
            }
        }
    }
}
