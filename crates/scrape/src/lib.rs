// SPDX-License-Identifier: Apache-2.0

//! The HTTP server behind `/metrics`, for code that runs inside an inference process.
//!
//! One thread, no runtime: sockets that do not block, `poll`, and for each client its state and its deadline, so that
//! none can delay another, nor cost more than [`Limits`] says. While nobody is connected the thread sleeps. A port that
//! somebody else has is waited for. TLS and users are set as Prometheus' exporters set them, by a [`WebConfig`].
//!
//! | path | answer to GET and HEAD |
//! |---|---|
//! | `/metrics` | what the [`Service`] writes, in the [`Format`] the client prefers, compressed if it likes |
//! | `/-/healthy`, `/-/ready` | 200 |
//! | `/` | a page with a link |
//!
//! [`endpoint`] has what exporters share that are scraped: their settings, and what the server says of itself.
//!
//! ```
//! use std::{io::Write as _, net::SocketAddr};
//!
//! use nixl_telemetry_scrape::{Options, Refused, Request, Server, Service, Stats};
//!
//! struct Answer;
//!
//! impl Service for Answer {
//!     fn metrics(&mut self, _: &Request<'_>, stats: &Stats, body: &mut Vec<u8>) -> Result<(), Refused> {
//!         let _ = writeln!(body, "scrapes_total {}", stats.scrapes());
//!         Ok(())
//!     }
//! }
//!
//! let server = Server::start(Options::new([SocketAddr::from(([127, 0, 0, 1], 0))]), Answer)?;
//! println!("curl http://{}/metrics", server.addresses()[0]);
//! # Ok::<(), nixl_telemetry_scrape::StartError>(())
//! ```

#![forbid(unsafe_code)]

mod auth;
mod connection;
pub mod endpoint;
mod guarded;
mod listen;
mod negotiate;
mod options;
mod request;
mod response;
mod server;
mod service;
mod site;
mod stats;
mod tls;
mod transport;
mod web_config;

pub use listen::ListenError;
pub use nixl_telemetry_metrics::encode::Format;
pub use options::{Limits, Options};
pub use request::Request;
pub use server::{Server, StartError};
pub use service::{Refused, Role, Service};
pub use stats::{Latencies, Stats};
pub use web_config::{WebConfig, WebConfigError};
