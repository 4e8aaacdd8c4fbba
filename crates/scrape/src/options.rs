// SPDX-License-Identifier: Apache-2.0

//! What may be set about a server.

use std::{net::SocketAddr, time::Duration};

use crate::WebConfig;

/// A year is for ever, and a time that can be calculated with.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where and how a [`Server`](crate::Server) serves.
#[derive(Debug)]
pub struct Options {
    /// Where to listen. The first address has to work for anybody to be served; further ones are tried quietly. Port 0 is
    /// one the system chooses, for each address another.
    pub addresses: Vec<SocketAddr>,
    /// The time from one attempt to listen to the next, while the service stands by or the first address is taken.
    /// Defaults to 250 ms.
    pub retry: Duration,
    /// How often a service that serves is asked whether to go on. `None`, the default, is never: without connections the
    /// thread sleeps then.
    pub tick: Option<Duration>,
    /// What a client may cost.
    pub limits: Limits,
    /// TLS, users and headers. Defaults to none of them.
    pub web: WebConfig,
}

impl Options {
    /// The defaults, at these addresses.
    pub fn new(addresses: impl Into<Vec<SocketAddr>>) -> Self {
        Self {
            addresses: addresses.into(),
            retry: Duration::from_millis(250),
            tick: None,
            limits: Limits::default(),
            web: WebConfig::default(),
        }
    }

    /// The same, with times that can be added to now.
    pub(crate) fn bounded(mut self) -> Self {
        let limits = &mut self.limits;
        let times = [&mut self.retry, &mut limits.head, &mut limits.idle, &mut limits.stall, &mut limits.answer];
        for time in times.into_iter().chain(&mut self.tick) {
            *time = (*time).min(FOR_EVER);
        }
        self
    }
}

/// What clients may cost a [`Server`](crate::Server).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time. One more takes the place of the one that has been idle longest; if none is idle it is
    /// answered 503. Defaults to 64.
    pub connections: usize,
    /// Bytes of a request's head; a longer one is answered 431. Defaults to 8 KiB.
    pub head_bytes: usize,
    /// Headers of a request; more are answered 431. Defaults to 64.
    pub headers: usize,
    /// The time a client may take for the handshake and the head of its first request, or for the head of a later one,
    /// counted from its first byte. Then it is answered 408. Defaults to 5 s.
    pub head: Duration,
    /// The time a connection may wait for its next request. Defaults to 60 s.
    pub idle: Duration,
    /// The time in which a client has to take at least some of its answer. Defaults to 10 s.
    pub stall: Duration,
    /// The time in which a client has to take all of its answer. Defaults to 30 s.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 8 * 1024,
            headers: 64,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(10),
            answer: Duration::from_secs(30),
        }
    }
}
