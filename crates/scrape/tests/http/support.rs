// SPDX-License-Identifier: Apache-2.0

//! A service, and a client that shows every byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use nixl_telemetry_scrape::{Format, ListenError, Options, Refused, Request, Role, Server, Service, Stats};
use rustls::{ClientConnection, StreamOwned};

/// What hangs is a failure, not a wait for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Shows what the query asks for: `size=N`, that many bytes; `panic`; `status=N`, a refusal. Otherwise the format.
#[derive(Clone)]
pub(crate) struct Show {
    role: Arc<Mutex<Role>>,
    asked: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Show {
    pub(crate) fn new(role: Role) -> Self {
        Self { role: Arc::new(Mutex::new(role)), asked: Arc::default(), told: Arc::default() }
    }

    pub(crate) fn set_role(&self, role: Role) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
    }

    /// How often the server has asked whether to serve.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// What the server has told of listening, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, text: String) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Service for Show {
    fn metrics(&mut self, request: &Request<'_>, _: &Stats, body: &mut Vec<u8>) -> Result<(), Refused> {
        assert!(body.is_empty(), "left over from another scrape");
        for (name, value) in request.parameters() {
            match (name, value.parse()) {
                ("size", Ok(size)) => body.extend((0..size).map(|index: usize| b"0123456789abcdef\n"[index % 17])),
                ("status", Ok(status)) => {
                    return Err(Refused::new(u16::try_from(status).unwrap(), "as asked for"));
                }
                ("panic", _) => panic!("on purpose"),
                _ => return Err(Refused::bad_request(format!("unknown parameter {name}"))),
            }
        }
        if request.query().is_empty() {
            body.extend_from_slice(match request.format() {
                Format::Text => b"text\n",
                Format::OpenMetrics => b"openmetrics\n",
                Format::Protobuf => b"protobuf",
            });
        }
        Ok(())
    }

    fn tick(&mut self) -> Role {
        self.asked.fetch_add(1, SeqCst);
        *self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listening(&mut self, addresses: &[SocketAddr]) {
        self.note(format!("listening at {}", addresses.len()));
    }

    fn not_listening(&mut self, error: &ListenError) {
        self.note(format!("not listening, taken: {}", error.is_taken()));
    }
}

/// A port of this machine that the system chooses.
pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The defaults, at a port the system chooses.
pub(crate) fn options() -> Options {
    Options::new([anywhere()])
}

pub(crate) fn serve(options: Options) -> (Server, SocketAddr) {
    let server = Server::start(options, Show::new(Role::Serve)).unwrap();
    let address = server.addresses()[0];
    (server, address)
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A connection to a server.
pub(crate) struct Client<S> {
    stream: S,
    /// What was read beyond the answers that were asked for.
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client<TcpStream> {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl Client<StreamOwned<ClientConnection, TcpStream>> {
    pub(crate) fn session(&self) -> &ClientConnection {
        &self.stream.conn
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends what the server may not want to hear to the end.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.answer()
    }

    /// Reads an answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.answer_head();
        let length = answer.header("content-length").unwrap().parse().unwrap();
        while self.read.len() < length {
            assert_ne!(self.read_more(), 0, "the body is cut off");
        }
        answer.body = self.read.drain(..length).collect();
        answer
    }

    /// Reads an answer without its body.
    pub(crate) fn answer_head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            assert_ne!(self.read_more(), 0, "no answer but {:?}", String::from_utf8_lossy(&self.read));
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Answer { status, headers: lines.map(header).collect(), body: Vec::new() }
    }

    /// Everything until the server closes the connection, in whatever way.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read_more() > 0 {}
        std::mem::take(&mut self.read)
    }

    fn read_more(&mut self) -> usize {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                length
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server neither answers nor closes the connection")
            }
            // Reset, or cut off.
            Err(_) => 0,
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(key, _)| key == name);
        let (_, value) = named.next()?;
        assert!(named.next().is_none(), "{name} twice");
        Some(value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
