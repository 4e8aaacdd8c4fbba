// SPDX-License-Identifier: Apache-2.0

//! Publishes NIXL telemetry events on NATS, or stores them in JetStream: `NIXL_TELEMETRY_EXPORTER=nats`.
//!
//! ```text
//! queue ──Delivery──▶ Nats: messages of consecutive events ──▶ server ──▶ who listens
//!                                     ▲                           │
//!                                     └── pong, acknowledgements ─┘
//! ```
//!
//! # Nothing twice
//!
//! A JetStream server remembers ids of messages for minutes. That is not enough for what comes again: an outage lasts longer,
//! and where one delivery of a queue ends and the next begins may have changed. So before anything is repeated the stream itself
//! is asked what it has of the origin. Messages are acknowledged in any order, and one may fail where a later one does not; each
//! one therefore says up to where everything was stored when its delivery began (`Nixl-Settled`), and behind which
//! message of the stream the rest has to be (`Nixl-After`). Ids cover what was under way on a connection that broke.

#![forbid(unsafe_code)]

mod connection;
mod credentials;
mod error;
mod jetstream;
mod message;
mod protocol;
mod servers;
mod session;
mod settings;
mod subject;
#[cfg(test)]
mod tests;

use nixl_telemetry_sdk::queue::{Delivery, Failed, OriginId, Queued, Sink};
use nixl_telemetry_sdk::{Agent, Describe, Error as OpenError, Settings, export_plugin};

use crate::connection::Connection;
use crate::error::Error;
use crate::jetstream::ORIGIN;
use crate::message::Payload;
use crate::protocol::Headers;
use crate::servers::Servers;
use crate::session::{Refused, Session};
use crate::settings::{Config, SETTINGS};
use crate::subject::token;

/// Longer subjects do not fit into what a server takes for one line, 4096 bytes by default.
const MAX_SUBJECT: usize = 3000;

/// The exporter of one agent.
struct Nats {
    config: Config,
    /// The name of the connection, for those who watch a server.
    name: String,
    /// Those that are set, and what they tell of.
    servers: Servers,
    /// Where in that list to begin.
    next_server: usize,
    session: Option<Session>,
    source: Option<Source>,
}

/// What is the same for all messages of an origin.
struct Source {
    origin: OriginId,
    subject: String,
    headers: Headers,
    payload: Payload,
}

impl Sink for Nats {
    const NAME: &'static str = "NATS";
    const SETTINGS: &'static [&'static dyn Describe] = SETTINGS;
    const BATCH_SIZE: &'static str = "32768";

    fn open(agent: &Agent, settings: &Settings) -> Result<Self, OpenError> {
        let config = Config::new(settings)?;
        // It is part of a line, which is not to become too long.
        let start: String = token(agent.name()).chars().take(100).collect();
        Ok(Self {
            name: format!("nixl-telemetry {start}@{}", agent.hostname()),
            servers: config.servers.clone(),
            next_server: 0,
            session: None,
            source: None,
            config,
        })
    }

    fn deliver(&mut self, batch: &Delivery<'_>) -> Result<(), Failed> {
        let mut source = match self.source.take() {
            Some(source) if source.origin == batch.origin() => source,
            _ => Source::new(&self.config, batch.agent(), batch.origin()),
        };
        let (size, start) = (source.subject.len(), source.subject.chars().take(100).collect::<String>());
        if size > MAX_SUBJECT {
            return Err(Failed::refused(format!(
                "the subject {start}… has {size} bytes: expected {MAX_SUBJECT} at most"
            )));
        }
        let was_connected = self.session.is_some();
        let mut result = self.attempt(&mut source, batch, batch.is_repeated());
        if result.as_ref().is_err_and(|error| was_connected && error.is_end()) {
            // It may have ended while there was nothing to do, and another server may do.
            result = self.attempt(&mut source, batch, true);
        }
        self.source = Some(source);
        match result? {
            None => Ok(()),
            Some(Refused { events, because }) => Err(Failed::refused_in_part(because, events)),
        }
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

impl Nats {
    /// Publishes a delivery over the connection there is, or another.
    fn attempt(
        &mut self,
        source: &mut Source,
        batch: &Delivery<'_>,
        is_repeated: bool,
    ) -> Result<Option<Refused>, Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect()?,
        };
        let published = session.publish(&self.config, source, batch, is_repeated);
        let server = session.connection.server();
        self.servers.0.truncate(self.config.servers.0.len());
        self.servers.learn(server, session.connection.info().others.iter().map(String::as_str));
        let result = match published {
            Ok(None) => Ok(None),
            Ok(Some(refused)) => Ok(Some(Refused { because: refused.because.at(server), ..refused })),
            Err(error) => Err(error.at(server)),
        };
        if result.is_err() || session.connection.info().is_leaving {
            session.close();
            self.next_server += 1;
        } else {
            self.session = Some(session);
        }
        result
    }

    /// Connects to the first server that takes this side.
    fn connect(&mut self) -> Result<Session, Error> {
        let (count, mut problems) = (self.servers.0.len(), Vec::new());
        for at in self.next_server..self.next_server + count {
            let server = &self.servers.0[at % count];
            match Connection::open(server, &self.config, &self.name) {
                Ok(connection) => {
                    self.next_server = at % count;
                    return Ok(Session::new(connection));
                }
                Err(error) => problems.push(error.at(server).to_string()),
            }
        }
        Err(Error::Unreachable(problems.join("; ")))
    }
}

impl Source {
    fn new(config: &Config, agent: &Agent, origin: OriginId) -> Self {
        let payload = Payload::new(config.format, agent, origin);
        let headers = Headers::new()
            .with("Content-Type", payload.content_type())
            .with("Nixl-Agent", token(agent.name()))
            .with("Nixl-Hostname", token(agent.hostname()))
            .with("Nixl-Pid", agent.pid())
            .with(ORIGIN, origin);
        Self { origin, subject: config.subject.resolve(agent, origin), headers, payload }
    }
}

export_plugin!("nats", Queued<Nats>);
