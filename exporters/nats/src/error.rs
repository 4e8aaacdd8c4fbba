// SPDX-License-Identifier: Apache-2.0

use std::io;
use std::time::Duration;

use nixl_telemetry_dial::TlsError;

use crate::credentials::Unusable;
use crate::protocol::Malformed;
use crate::servers::Server;

/// Why events are not published. All of it may heal, unless it is the event that is too large.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What is wrong with each server.
    #[error("{0}")]
    Unreachable(String),
    #[error("{server}: {error}")]
    At { server: String, error: Box<Self> },
    #[error(transparent)]
    Io(io::Error),
    /// It is there, and says nothing.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("takes no more bytes within {} ms", .0.as_millis())]
    Stuck(Duration),
    #[error("closed the connection")]
    Closed,
    /// `-ERR`.
    #[error("says {0:?}")]
    Server(String),
    #[error("says {said:?} to {login}")]
    Refused { login: String, said: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("offers no TLS: expected it, since its URL begins with tls://")]
    NoTls,
    #[error("TLS: {0}")]
    Handshake(io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Login(#[from] Unusable),
    #[error("is older than NATS 2.2: expected one with headers")]
    NoHeaders,
    #[error(
        "event {event:?} takes {size} bytes: expected no more than {limit} in a message, which the server or the stream \
         allows"
    )]
    TooLarge { event: String, size: usize, limit: usize },
    /// The account has no JetStream, or the server.
    #[error("JetStream does not answer: expected it to be enabled for this account")]
    NoJetStream,
    #[error("no stream takes the subject {subject}: expected one that does, or NIXL_TELEMETRY_NATS_STREAM to be set")]
    NoStream { subject: String },
    #[error("stream {stream} takes the subjects {subjects}: expected {subject} to be among them")]
    OtherSubjects { stream: String, subjects: String, subject: String },
    #[error("stream {stream}: {description} ({code})")]
    Stream { stream: String, description: String, code: u64 },
    #[error("JetStream says what is not understood: {0}")]
    Strange(String),
}

impl Error {
    /// The same, with the server's name.
    pub(crate) fn at(self, server: &Server) -> Self {
        Self::At { server: server.to_string(), error: Box::new(self) }
    }

    /// Whether another connection may do: this one has come to its end, as it does when a server restarts.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::At { error, .. } => error.is_end(),
            Self::Io(_) | Self::Closed => true,
            Self::Server(said) => !said.starts_with("Permissions Violation"),
            _ => false,
        }
    }
}
