// SPDX-License-Identifier: Apache-2.0

//! Connections of exporters to servers: TCP, and TLS over it.
//!
//! Blocking, with time limits, for the one thread an exporter has: no runtime, and no setting of the process is touched. A
//! protocol that begins in the clear and goes on in TLS (PostgreSQL, NATS) has both as one [`Stream`]:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use nixl_telemetry_dial::{Certificates, Stream, Tls, Verify, connect};
//!
//! let socket = connect("db.example", 5432, Duration::from_secs(10))?;
//! let tls = Tls::new(&Certificates::default(), Verify::Full)?;
//! let stream: Stream = tls.connect(socket, "db.example")?;
//! # drop(stream);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod stream;
mod tls;

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

pub use crate::{
    stream::Stream,
    tls::{Certificates, Tls, TlsError, Verify, certificates, roots},
};

/// Connects to the first address of a host that answers. What is written leaves at once.
///
/// The connection has `timeout` as the limit of each read and write, too, until somebody sets another.
///
/// # Errors
/// That of the last address, if none answers before the time is over; [`io::ErrorKind::TimedOut`] if there was no time for it.
/// How long the names of hosts are looked up is the system's affair.
pub fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address has this name");
    for address in (host, port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            last = io::ErrorKind::TimedOut.into();
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_listens_is_reached_and_who_does_not_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut socket = connect("localhost", port, Duration::from_millis(20)).unwrap();
        assert!(socket.nodelay().unwrap());
        // It says nothing: the limit counts.
        let error = socket.read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        drop(listener);
        let error = connect("127.0.0.1", port, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
