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
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

pub use crate::{
    stream::Stream,
    tls::{Certificates, Tls, TlsError, Verify, certificates, roots},
};

/// A connection on which nothing was said for that long is looked after: what lies between forgets those that are silent.
const IDLE: Duration = Duration::from_secs(20);
/// So often then, until somebody answers.
const INTERVAL: Duration = Duration::from_secs(5);
/// So many times, after which the connection is lost.
const PROBES: u32 = 3;

/// Connects to the first address of a host that answers. What is written leaves at once. A connection whose other end is gone
/// without a word is found to be lost after 35 seconds, also if nothing is written (TCP's keep-alive).
///
/// The connection has `timeout` as the limit of each read and write, too, until somebody sets another.
///
/// # Errors
/// That of the last address, if none answers before the time is over, of which each address has its part. How long the names of
/// hosts are looked up is the system's affair.
pub fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let socket = connect_to_any(&addresses, timeout)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    sockopt::set_tcp_keepidle(&socket, IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, PROBES)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    Ok(socket)
}

/// Connects to the Unix socket at a path, with the same limits.
///
/// # Errors
/// If nobody listens there, or has no room for another before the time is over: [`io::ErrorKind::TimedOut`].
pub fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The limit of writes is that of connecting, too.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(timeout))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(socket.into()),
        Err(Errno::AGAIN) => Err(Errno::TIMEDOUT.into()),
        Err(error) => Err(error.into()),
    }
}

fn connect_to_any(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address has this name");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        // One that is silent leaves time for the others, and one that refuses leaves them its own.
        let part = until.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, part.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn whoever_listens_is_reached_and_who_does_not_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut socket = connect("localhost", port, Duration::from_secs(60)).unwrap();
        assert_eq!(socket.read_timeout().unwrap(), Some(Duration::from_secs(60)));
        assert!(socket.nodelay().unwrap());
        let is_looked_after = sockopt::socket_keepalive(&socket).unwrap();
        let idle = sockopt::tcp_keepidle(&socket).unwrap();
        assert_eq!((is_looked_after, idle), (true, Duration::from_secs(20)));
        let every = sockopt::tcp_keepintvl(&socket).unwrap() * sockopt::tcp_keepcnt(&socket).unwrap();
        assert_eq!(idle + every, Duration::from_secs(35));
        // It says nothing: a limit counts.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = socket.read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        drop(listener);
        let error = connect("127.0.0.1", port, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn one_address_that_is_silent_leaves_time_for_the_next() {
        let [silent, other] = ["127.0.0.1:0"; 2].map(|address| TcpListener::bind(address).unwrap());
        let [silent_at, other_at] = [&silent, &other].map(|listener| listener.local_addr().unwrap());
        // Who has no room left does not answer.
        rustix::net::listen(&silent, 0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(socket) = TcpStream::connect_timeout(&silent_at, Duration::from_millis(100)) {
            waiting.push(socket);
        }
        let socket = connect_to_any(&[silent_at, silent_at, other_at], Duration::from_millis(600)).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), other_at);
        let error = connect_to_any(&[silent_at, silent_at], Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(connect_to_any(&[], Duration::from_secs(1)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_unix_socket_is_reached_or_waited_for_so_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut socket = connect_unix(&path, Duration::from_millis(20)).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // It has room for no more than this one.
        rustix::net::listen(&listener, 0).unwrap();
        let error = connect_unix(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(listener);
        let error = connect_unix(&path, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
