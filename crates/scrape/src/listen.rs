// SPDX-License-Identifier: Apache-2.0

//! The sockets a server listens on.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Shutdown, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt},
};

/// Connections the system takes before they are accepted.
const BACKLOG: i32 = 128;

/// The longest time between two attempts at a further address.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// Whether somebody else listens there.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the system said.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}

/// The sockets of all addresses, open or not.
#[derive(Debug)]
pub(crate) struct Listeners {
    first: Slot,
    further: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    address: SocketAddr,
    socket: Option<TcpListener>,
    /// When a further address is tried next; `None` if it is pointless.
    next_try: Option<Instant>,
    pause: Duration,
    is_reported: bool,
}

impl Listeners {
    /// Listens nowhere yet. `None` if there are no addresses.
    pub(crate) fn new(addresses: &[SocketAddr]) -> Option<Self> {
        let slot = |&address| Slot { address, socket: None, next_try: None, pause: Duration::ZERO, is_reported: false };
        let (first, further) = addresses.split_first()?;
        Some(Self { first: slot(first), further: further.iter().map(slot).collect() })
    }

    /// Whether the first address is listened at, and so whoever wants to be served can be.
    pub(crate) fn is_open(&self) -> bool {
        self.first.socket.is_some()
    }

    /// Tries what is not open: the first address always, further ones once the first is open, when it is their time. Those
    /// are tried after `pause`, then ever less often.
    pub(crate) fn open(&mut self, pause: Duration) -> Result<(), ListenError> {
        if self.first.socket.is_none() {
            self.first.socket = Some(listen_at(self.first.address)?);
            for slot in &mut self.further {
                slot.next_try = Some(Instant::now());
                slot.pause = pause;
            }
        }
        self.further.iter_mut().for_each(Slot::try_quietly);
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.first.close();
        self.further.iter_mut().for_each(Slot::close);
    }

    /// When a further address is to be tried.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.further.iter().filter_map(|slot| slot.next_try).min()
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = &TcpListener> {
        std::iter::once(&self.first).chain(&self.further).filter_map(|slot| slot.socket.as_ref())
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.close();
    }
}

impl Slot {
    fn close(&mut self) {
        self.next_try = None;
        if let Some(socket) = self.socket.take() {
            // For all who hold it: a child this process has forked may, and would keep the port without a thread to serve it.
            let _ = rustix::net::shutdown(&socket, Shutdown::Both);
        }
    }

    fn try_quietly(&mut self) {
        let now = Instant::now();
        if self.next_try.is_none_or(|time| time > now) {
            return;
        }
        self.next_try = None;
        match listen_at(self.address) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => {
                if !std::mem::replace(&mut self.is_reported, true) {
                    nixl_telemetry_log::info!("scrape: {error}; it goes without");
                }
                // A system without IPv6 will not learn it; the address of an interface may come, a port be freed.
                if error.source.raw_os_error() != Some(Errno::AFNOSUPPORT.raw_os_error()) {
                    self.next_try = Some(now + self.pause);
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

fn listen_at(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let attempt = || -> io::Result<TcpListener> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // Connections of a process before that are not quite gone do not count; somebody who listens does.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            // So that a port of IPv4 and of IPv6 are two things, whatever the system's default is.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    attempt().map_err(|source| ListenError { address, source })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_taken_port_is_told_and_then_had() {
        let other = TcpListener::bind(loopback(0)).unwrap();
        let address = other.local_addr().unwrap();
        let mut listeners = Listeners::new(&[address]).unwrap();
        let error = listeners.open(Duration::ZERO).unwrap_err();
        assert!(error.is_taken() && !listeners.is_open());
        assert_eq!(error.address(), address);
        assert!(error.to_string().starts_with(&format!("cannot listen at {address}: ")), "{error}");
        assert!(error.source().is_some());

        drop(other);
        listeners.open(Duration::ZERO).unwrap();
        assert_eq!(listeners.addresses(), [address]);
        listeners.close();
        assert!(TcpListener::bind(address).is_ok());
    }

    #[test]
    fn an_address_of_another_machine_is_not_taken() {
        let error = listen_at(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err();
        assert!(!error.is_taken());
        assert_eq!(error.io_error().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn further_addresses_come_later_and_are_no_condition() {
        let other = TcpListener::bind(loopback(0)).unwrap();
        let taken = other.local_addr().unwrap();
        let mut listeners = Listeners::new(&[loopback(0), taken]).unwrap();
        listeners.open(Duration::from_millis(1)).unwrap();
        assert_eq!(listeners.addresses().len(), 1);
        assert!(listeners.next_try().is_some());

        drop(other);
        while listeners.next_try().is_some() {
            listeners.open(Duration::from_millis(1)).unwrap();
        }
        assert_eq!(listeners.addresses()[1], taken);
        assert!(Listeners::new(&[]).is_none());
    }
}
