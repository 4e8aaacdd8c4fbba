// SPDX-License-Identifier: Apache-2.0

//! A connection to a server: logged in, with a subject for replies, one thing at a time.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::mem;
use std::time::{Duration, Instant};

use nixl_telemetry_dial::{Stream, Tls, Verify, connect};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::protocol::{END, Headers, Op, begin, parse};
use crate::servers::Server;
use crate::settings::Config;

/// A connection that is logged in. After an error there is no more to be done with it.
pub(crate) struct Connection {
    stream: Stream,
    /// What was received; up to `start` it is dealt with.
    received: Vec<u8>,
    start: usize,
    /// What is to be sent.
    out: Vec<u8>,
    server: Server,
    info: Info,
    /// Subjects of replies: this, and a number.
    inbox: String,
    /// How many replies were asked for.
    asked: u64,
    patience: Duration,
}

/// What a server says of itself.
#[derive(Debug, Default)]
pub(crate) struct Info {
    pub(crate) max_payload: usize,
    /// Where other servers of the cluster are.
    pub(crate) others: Vec<String>,
    /// It is about to leave, and asks to go elsewhere.
    pub(crate) is_leaving: bool,
    tls_required: bool,
    tls_available: bool,
    has_headers: bool,
    nonce: String,
}

/// What concerns a publisher.
pub(crate) enum Heard {
    Pong,
    Reply(Reply),
}

/// What was published on one of this connection's subjects.
pub(crate) struct Reply {
    /// To what it is the reply.
    pub(crate) number: u64,
    /// Set if it is the server's word on what nobody took: 503.
    pub(crate) status: Option<u16>,
    pub(crate) payload: Vec<u8>,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// What is wrong with the server, or this side in its eyes.
    pub(crate) fn open(server: &Server, config: &Config, name: &str) -> Result<Self, Error> {
        let patience = config.connect_timeout;
        let socket = connect(&server.host, server.port, patience).map_err(Error::Io)?;
        let inbox = format!("_INBOX.{:016x}", RandomState::new().hash_one(name));
        let mut this = Self {
            stream: socket.into(),
            received: Vec::new(),
            start: 0,
            out: Vec::new(),
            server: server.clone(),
            info: Info::default(),
            inbox,
            asked: 0,
            patience,
        };
        this.wait_for_info()?;
        if server.tls || this.info.tls_required {
            this = this.secured(config)?;
        }
        if !this.info.has_headers {
            return Err(Error::NoHeaders);
        }
        this.log_in(config, name)?;
        this.patience = config.ack_timeout;
        this.stream.set_timeout(this.patience).map_err(Error::Io)?;
        Ok(this)
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// Sends a message, whose payload has several parts.
    pub(crate) fn publish(&mut self, subject: &str, headers: &Headers, payload: &[&[u8]]) -> Result<(), Error> {
        self.write(subject, None, headers, payload)
    }

    /// Sends a message that asks for a reply; returns the number that the reply will have.
    pub(crate) fn ask(&mut self, subject: &str, headers: &Headers, payload: &[&[u8]]) -> Result<u64, Error> {
        self.asked += 1;
        let reply = format!("{}.{}", self.inbox, self.asked);
        self.write(subject, Some(&reply), headers, payload)?;
        Ok(self.asked)
    }

    /// Sends a message, and waits for the reply to it.
    pub(crate) fn request(&mut self, subject: &str, payload: &Value) -> Result<Reply, Error> {
        let number = self.ask(subject, &Headers::new(), &[payload.to_string().as_bytes()])?;
        loop {
            match self.next()? {
                Heard::Reply(reply) if reply.number == number => return Ok(reply),
                _ => {}
            }
        }
    }

    /// Waits until the server has dealt with everything that was sent.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.out.extend_from_slice(b"PING\r\n");
        while !matches!(self.next()?, Heard::Pong) {}
        Ok(())
    }

    /// Waits for what comes next.
    pub(crate) fn next(&mut self) -> Result<Heard, Error> {
        self.send()?;
        let until = Instant::now() + self.patience;
        loop {
            let Some((op, size)) = parse(&self.received[self.start..])? else {
                self.receive(until)?;
                continue;
            };
            let heard = match op {
                Op::Pong => Some(Heard::Pong),
                Op::Message(message) => {
                    let rest = message.subject.strip_prefix(&self.inbox).and_then(|rest| rest.strip_prefix('.'));
                    let number = rest.and_then(|rest| rest.parse().ok());
                    let (status, payload) = (message.status(), message.payload.to_owned());
                    number.map(|number| Heard::Reply(Reply { number, status, payload }))
                }
                Op::Ping => {
                    self.out.extend_from_slice(b"PONG\r\n");
                    None
                }
                Op::Info(json) => {
                    self.info = Info::parse(json);
                    None
                }
                Op::Error(said) => return Err(Error::Server(said.to_owned())),
                Op::Ok => None,
            };
            self.start += size;
            if let Some(heard) = heard {
                return Ok(heard);
            }
            self.send()?;
        }
    }

    /// Takes leave.
    pub(crate) fn close(self) {
        self.stream.close();
    }

    fn wait_for_info(&mut self) -> Result<(), Error> {
        let until = Instant::now() + self.patience;
        loop {
            match parse(&self.received)? {
                None => self.receive(until)?,
                Some((Op::Info(json), size)) => {
                    self.info = Info::parse(json);
                    self.start = size;
                    return Ok(());
                }
                Some((Op::Error(said), _)) => return Err(Error::Server(said.to_owned())),
                Some(_) => return Err(Error::Strange("no INFO at first".into())),
            }
        }
    }

    /// The same in TLS.
    fn secured(self, config: &Config) -> Result<Self, Error> {
        if !self.info.tls_required && !self.info.tls_available {
            return Err(Error::NoTls);
        }
        let Stream::Plain(socket) = self.stream else { return Ok(self) };
        let tls = Tls::new(&config.certificates, Verify::Full)?;
        let stream = tls.connect(socket, &self.server.certified).map_err(Error::Handshake)?;
        // Whatever came in the clear behind INFO is nobody's word.
        Ok(Self { stream, received: Vec::new(), start: 0, ..self })
    }

    fn log_in(&mut self, config: &Config, name: &str) -> Result<(), Error> {
        let mut connect = Map::new();
        let is_tls = matches!(self.stream, Stream::Tls(_));
        for (field, value) in [
            ("verbose", json!(false)),
            ("pedantic", json!(false)),
            ("echo", json!(false)),
            ("tls_required", json!(is_tls)),
            ("name", json!(name)),
            ("lang", json!("rust")),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("protocol", json!(1)),
            ("headers", json!(true)),
            ("no_responders", json!(true)),
        ] {
            connect.insert(field.into(), value);
        }
        let login = self.server.login.as_ref().or(config.login.as_ref());
        if let Some(login) = login {
            login.add_to(&mut connect, &self.info.nonce)?;
        }
        let shown = login.map_or("nobody in particular".into(), ToString::to_string);
        self.out.extend_from_slice(format!("CONNECT {}\r\n", Value::Object(connect)).as_bytes());
        if config.jetstream.is_some() {
            self.out.extend_from_slice(format!("SUB {}.* 1\r\n", self.inbox).as_bytes());
        }
        self.flush().map_err(|error| match error {
            Error::Server(said) if said.starts_with("Auth") || said.starts_with("User Auth") => {
                Error::Refused { login: shown, said }
            }
            error => error,
        })?;
        // Behind its first PONG a server says what this account is allowed, which may be less than others are.
        self.flush()
    }

    /// Writes a message but for its end, which leaves with what comes next.
    fn write(&mut self, subject: &str, reply: Option<&str>, headers: &Headers, payload: &[&[u8]]) -> Result<(), Error> {
        begin(&mut self.out, subject, reply, headers, payload.iter().map(|part| part.len()).sum());
        let out = mem::take(&mut self.out);
        let sent = iter::once(&*out).chain(payload.iter().copied()).try_for_each(|part| self.stream.write_all(part));
        self.out = out;
        self.out.clear();
        self.out.extend_from_slice(END);
        sent.map_err(|error| self.cannot_write(error))
    }

    /// Writes what waits for that.
    fn send(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.stream.write_all(&self.out).and_then(|()| self.stream.flush());
        self.out.clear();
        sent.map_err(|error| self.cannot_write(error))
    }

    fn cannot_write(&mut self, error: io::Error) -> Error {
        if is_timeout(&error) {
            return Error::Stuck(self.patience);
        }
        // Who closes a connection mostly says why, before.
        self.last_words().unwrap_or(Error::Io(error))
    }

    fn last_words(&mut self) -> Option<Error> {
        let until = Instant::now() + self.patience.min(Duration::from_millis(100));
        loop {
            match parse(&self.received[self.start..]) {
                Ok(Some((Op::Error(said), _))) => return Some(Error::Server(said.to_owned())),
                Ok(Some((_, size))) => self.start += size,
                Ok(None) => self.receive(until).ok()?,
                Err(_) => return None,
            }
        }
    }

    fn receive(&mut self, until: Instant) -> Result<(), Error> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Silent(self.patience));
        }
        self.stream.set_read_timeout(left).map_err(Error::Io)?;
        self.received.drain(..self.start);
        self.start = 0;
        let len = self.received.len();
        self.received.resize(len + 65536, 0);
        let read = self.stream.read(&mut self.received[len..]);
        self.received.truncate(len + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Error::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if is_timeout(&error) => Err(Error::Silent(self.patience)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Closed),
            Err(error) => Err(Error::Io(error)),
        }
    }
}

impl Info {
    /// What is not there is as if it were not the case.
    fn parse(json: &[u8]) -> Self {
        let info: Value = serde_json::from_slice(json).unwrap_or_default();
        let is = |name: &str| info[name].as_bool().unwrap_or_default();
        let others = info["connect_urls"].as_array().into_iter().flatten();
        Self {
            max_payload: info["max_payload"].as_u64().and_then(|max| max.try_into().ok()).unwrap_or(1 << 20),
            others: others.filter_map(|url| url.as_str().map(str::to_owned)).collect(),
            is_leaving: is("ldm"),
            tls_required: is("tls_required"),
            tls_available: is("tls_available"),
            has_headers: is("headers"),
            nonce: info["nonce"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
