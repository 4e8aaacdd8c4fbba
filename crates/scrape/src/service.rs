// SPDX-License-Identifier: Apache-2.0

//! What a server asks of whoever has something to show.

use std::net::SocketAddr;

use crate::{Format, ListenError, Request, Stats};

/// What a [`Server`](crate::Server) shows.
///
/// All methods are called on the server's thread, one at a time, but for those [`Server::start`](crate::Server::start)
/// calls in the thread of its caller. While one runs, nobody is served. A panic costs the request an answer of 500, and is
/// logged once; the server goes on.
pub trait Service: Send + 'static {
    /// Writes what `GET /metrics` answers, in the format of the request, into `body`. It comes empty, with the memory of
    /// the scrape before.
    ///
    /// # Errors
    /// If the request is one this service has no answer to, such as one with an unknown query.
    fn metrics(&mut self, request: &Request<'_>, stats: &Stats, body: &mut Vec<u8>) -> Result<(), Refused>;

    /// The formats this service can write. Of those a client wants equally, the first is taken; the first is also what
    /// clients get who want none of them.
    ///
    /// Defaults to all, the plain text first.
    fn formats(&self) -> &'static [Format] {
        &Format::ALL
    }

    /// Whether to serve now. Asked at the start; while nobody listens, every [`Options::retry`](crate::Options::retry);
    /// while somebody does, every [`Options::tick`](crate::Options::tick).
    ///
    /// Defaults to [`Role::Serve`].
    fn tick(&mut self) -> Role {
        Role::Serve
    }

    /// Connections are taken at these addresses, from now on. Told again only when that has changed.
    fn listening(&mut self, addresses: &[SocketAddr]) {
        let _ = addresses;
    }

    /// The first address cannot be listened at. It is tried again; told again only when the reason has changed, or when it
    /// has worked in between.
    fn not_listening(&mut self, error: &ListenError) {
        let _ = error;
    }
}

/// What a [`Service`] wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listen and answer.
    Serve,
    /// Leave the port to others: nobody listens, and connections end with the answer that is on its way.
    StandBy,
}

/// Why a [`Service`] does not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Refused {
    status: u16,
    message: String,
}

impl Refused {
    /// A refusal with a status of HTTP, from 400 to 599, and a line of text for the client. Any other status becomes 500.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Self { status, message: message.into() }
    }

    /// The client asked for what there is not (400).
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There is nothing to show at the moment (503).
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, message)
    }

    /// The status of HTTP.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_never_a_success() {
        for (status, expected) in [(400, 400), (503, 503), (599, 599), (200, 500), (302, 500), (600, 500), (0, 500)] {
            assert_eq!(Refused::new(status, "no").status(), expected);
        }
        assert_eq!(Refused::bad_request("unknown query").to_string(), "400: unknown query");
        assert_eq!(Refused::unavailable("later").status(), 503);
    }
}
