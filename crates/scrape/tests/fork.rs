// SPDX-License-Identifier: Apache-2.0

//! A process that forks: the child has a server without its thread. A program of its own, so that no other test's thread
//! holds a lock at that moment.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use nixl_telemetry_scrape::{Options, Refused, Request, Server, Service, Stats};

struct Empty;

impl Service for Empty {
    fn metrics(&mut self, _: &Request<'_>, _: &Stats, _: &mut Vec<u8>) -> Result<(), Refused> {
        Ok(())
    }
}

#[test]
fn a_child_has_no_server_and_does_not_keep_the_parents_from_anything() {
    let server = Server::start(Options::new([SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]), Empty).unwrap();
    let address = server.addresses()[0];
    // SAFETY: the child calls nothing but the server, and leaves without anything of the test's.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // Ends the child by a signal, which the parent sees, should it wait for a thread it does not have.
        // SAFETY: takes a number.
        unsafe { libc::alarm(10) };
        let is_gone = !server.is_listening();
        drop(server);
        // SAFETY: as above; does not return.
        unsafe { libc::_exit(if is_gone { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a place for the status of a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");

    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    // A child that lives on holds the sockets as well, but not the port.
    // SAFETY: as above.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes a number, and waits for the signal that follows, or the parent's.
        unsafe { libc::alarm(10) };
        // SAFETY: as above.
        unsafe { libc::pause() };
    }
    drop(server);
    assert!(TcpListener::bind(address).is_ok());
    // SAFETY: takes numbers, of a child of this process that has not been waited for.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
}
