// SPDX-License-Identifier: Apache-2.0

//! Clients that take their time, or everything they can get.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use nixl_telemetry_scrape::{Limits, Options, Server};

use crate::support::{Client, options, serve, wait_until};

fn limited(limits: Limits) -> Options {
    Options { limits, ..options() }
}

#[test]
fn a_thousand_silent_clients_keep_nobody_out() {
    // Nobody is too late, however long it takes to connect.
    let (server, address) = serve(limited(Limits { head: Duration::from_secs(600), ..Limits::default() }));
    let silent: Vec<_> = (0..1000).map(|_| Client::connect(address)).collect();
    for _ in 0..3 {
        assert_eq!(Client::connect(address).get("/metrics").text(), "text\n");
    }
    // All but the 64 that fit, one of which may have made room for whoever was served.
    wait_until("all have come", || server.stats().rejected_connections() >= 1000 - 64);
    assert!(server.stats().rejected_connections() <= 1003 - 64);
    drop(silent);
    assert_eq!(Client::connect(address).get("/metrics").text(), "text\n");
}

#[test]
fn one_who_is_being_answered_is_not_sent_away() {
    let (server, address) = serve(limited(Limits { connections: 2, ..Limits::default() }));
    let mut busy = [Client::connect(address), Client::connect(address)];
    for client in &mut busy {
        client.get("/metrics");
        client.send("GET /metrics HTTP/1.1\r\n");
    }
    let refused = Client::connect(address).answer();
    assert_eq!((refused.status, refused.text()), (503, "Too many connections.\n"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(server.stats().rejected_connections(), 1);
    for client in &mut busy {
        client.send("Host: a\r\n\r\n");
        assert_eq!(client.answer().text(), "text\n");
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    client.send("GET /metrics HTTP/1.1\r\n");
    while client.try_send("X: y\r\n") && server.stats().bad_requests() == 0 {}
    assert_eq!(client.answer().status, 431);
    client.rest();
}

#[test]
fn one_byte_at_a_time_is_a_request_as_well() {
    let (_server, address) = serve(options());
    let mut client = Client::connect(address);
    for _ in 0..2 {
        for byte in "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n\r\n".bytes() {
            client.send([byte]);
        }
        assert_eq!(client.answer().text(), "text\n");
    }
}

#[test]
fn one_who_does_not_finish_is_told_so() {
    let (server, address) = serve(limited(Limits { head: Duration::from_secs(2), ..Limits::default() }));
    let mut slow = Client::connect(address);
    slow.send("GET /metrics HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(slow.answer().status, 408);
    assert!(slow.rest().is_empty());

    let mut later = Client::connect(address);
    assert_eq!(later.get("/metrics").status, 200);
    later.send("GET");
    assert_eq!(later.answer().status, 408);

    let mut ahead = Client::connect(address);
    ahead.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET");
    assert_eq!((ahead.answer().status, ahead.answer().status), (200, 408));
    assert_eq!(server.stats().bad_requests(), 3);

    // There is nothing to say to one who has said nothing.
    assert!(Client::connect(address).rest().is_empty());
    assert_eq!(server.stats().bad_requests(), 3);
}

#[test]
fn one_who_wants_nothing_more_is_let_go() {
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let (_server, address) = serve(limited(limits));
    let mut client = Client::connect(address);
    assert_eq!(client.get("/metrics").status, 200);
    assert!(client.rest().is_empty());
}

/// More than sockets hold.
const LARGE: usize = 64 << 20;

/// One who asks for a lot and reads nothing.
fn deaf(server: &Server, address: SocketAddr) -> Client<TcpStream> {
    let mut client = Client::connect(address);
    client.send(format!("GET /metrics?size={LARGE} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wait_until("asked", || server.stats().scrapes() == 1);
    client
}

#[test]
fn one_who_does_not_read_delays_nobody() {
    let (server, address) = serve(options());
    let mut deaf = deaf(&server, address);
    let mut other = Client::connect(address);
    for scrapes in 2..10 {
        assert_eq!(other.get("/metrics").text(), "text\n");
        assert_eq!(server.stats().scrapes(), scrapes);
    }
    assert_eq!(deaf.answer().body.len(), LARGE);
}

#[test]
fn one_who_does_not_read_is_given_up() {
    let (short, long) = (Duration::from_millis(50), Duration::MAX);
    for (stall, answer) in [(short, long), (long, short)] {
        let (server, address) = serve(limited(Limits { connections: 1, stall, answer, ..Limits::default() }));
        let mut deaf = deaf(&server, address);
        wait_until("there is room", || {
            let mut other = Client::connect(address);
            other.try_send("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            other.rest().starts_with(b"HTTP/1.1 200 ")
        });
        assert!(deaf.rest().len() < LARGE);
        assert_eq!(server.stats().body_bytes(), 5);
    }
}

#[test]
fn one_who_reads_gets_everything() {
    const SIZE: usize = 32 << 20;
    let (server, address) = serve(options());
    let mut client = Client::connect(address);
    let answer = client.get(&format!("/metrics?size={SIZE}"));
    assert_eq!(answer.body.len(), SIZE);
    assert!(answer.body.chunks(17).all(|line| b"0123456789abcdef\n".starts_with(line)));
    wait_until("counted", || server.stats().body_bytes() == SIZE as u64);
}

#[test]
fn limits_may_be_none() {
    let long = Duration::MAX;
    let limits = Limits { head: long, idle: long, stall: long, answer: long, ..Limits::default() };
    let (_server, address) = serve(Options { limits, retry: long, tick: Some(long), ..options() });
    let mut client = Client::connect(address);
    assert_eq!((client.get("/metrics").status, client.get("/metrics").status), (200, 200));

    let limits = Limits { connections: 0, head_bytes: 0, headers: 0, ..Limits::default() };
    let (_server, address) = serve(limited(limits));
    assert_eq!(Client::connect(address).answer().status, 503);
}
