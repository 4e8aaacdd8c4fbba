// SPDX-License-Identifier: Apache-2.0

//! A connection that is cut after so many bytes, on the way there or back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::*;

/// Passes bytes on, so many of them, then cuts the connection.
fn pass_on(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = left.min(buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..most]) else { break };
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        left -= read;
    }
    for side in [from, to] {
        let _ = side.shutdown(Shutdown::Both);
    }
}

/// Listens; of the connections that come, the first passes on so many bytes there and back, and the others all. Returns the port.
fn cut_first(server: u16, there: usize, back: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let limits = [(there, back)].into_iter().chain(std::iter::repeat((usize::MAX, usize::MAX)));
        // Two are enough: after the cut one, all goes well.
        for ((there, back), client) in limits.zip(listener.incoming()).take(2) {
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", server)).unwrap());
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass_on(from, to, there));
            thread::spawn(move || pass_on(server, client, back));
        }
    });
    port
}

#[test]
fn wherever_it_is_cut_every_event_is_there_once() {
    const EVENTS: u64 = 400;
    let Some(database) = Database::shared("cuts") else { return };
    // Whole batches are 21 KB there; back come the log-in, the agent's row, the kind's, and the end of a transaction.
    let there = (0..24_000).step_by(1997).map(|there| (there, usize::MAX));
    let back = (0..1300).step_by(97).map(|back| (usize::MAX, back));
    for (agents, (there, back)) in (1..).zip(there.chain(back)) {
        let port = cut_first(database.server.port(), there, back).to_string();
        let url = database.url().replace(&database.server.port().to_string(), &port);
        let mut host = database.open("a", &[("URL", &url), ("RETRY_INITIAL_INTERVAL", "1")]);
        host.export(&events(0..EVENTS));
        host.close();
        let [count, distinct, sum] = database.sums();
        let expected = sums_to(EVENTS).map(|sum| sum * agents);
        assert_eq!([count, distinct, sum], expected, "cut after {there} bytes there, {back} back");
    }
    let cut = "SELECT count(*) FROM nixl_events_agents WHERE next_sequence <> 400";
    assert_eq!(database.psql(cut), "0");
}
