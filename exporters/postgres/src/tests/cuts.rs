// SPDX-License-Identifier: Apache-2.0

//! A connection that is cut after so many bytes, on the way there or back, or falls silent.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::victim::Victim;
use super::*;

/// Passes so many bytes on.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream, mut left: usize) {
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = left.min(buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..most]) else { break };
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        left -= read;
    }
}

/// What becomes of a connection.
struct Fate {
    there: usize,
    back: usize,
    /// After the bytes there, it falls silent until the other side of this is dropped; then it goes on, in place of being cut.
    silence: Option<Receiver<()>>,
}

/// Listens; the first connection that comes has this fate, and the second passes on all. Returns the port.
fn doom_first(server: u16, first: Fate) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let second = Fate { there: usize::MAX, back: usize::MAX, silence: None };
        for (Fate { there, back, silence }, client) in [first, second].into_iter().zip(listener.incoming()) {
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", server)).unwrap());
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                pass_on(&from, &to, there);
                if let Some(silence) = silence {
                    let _ = silence.recv();
                    pass_on(&from, &to, usize::MAX);
                }
                cut([from, to]);
            });
            thread::spawn(move || {
                pass_on(&server, &client, back);
                cut([server, client]);
            });
        }
    });
    port
}

fn cut(sides: [TcpStream; 2]) {
    for side in sides {
        let _ = side.shutdown(Shutdown::Both);
    }
}

impl Database {
    /// The URL with another port.
    fn url_through(&self, port: u16) -> String {
        self.url().replace(&self.server.port().to_string(), &port.to_string())
    }
}

#[test]
fn wherever_it_is_cut_every_event_is_there_once() {
    const EVENTS: u64 = 400;
    let Some(database) = Database::shared("cuts") else { return };
    // Whole batches are 21 KB there; back come the log-in, the agent's row, the kind's, and the end of a transaction.
    let there = (0..24_000).step_by(1997).map(|there| (there, usize::MAX));
    let back = (0..1300).step_by(97).map(|back| (usize::MAX, back));
    for (agents, (there, back)) in (1..).zip(there.chain(back)) {
        let url = database.url_through(doom_first(database.server.port(), Fate { there, back, silence: None }));
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

/// Whoever is cut off without a word in the midst of a batch holds nobody up, and comes too late. Nothing is told of.
#[test]
fn one_that_falls_silent_is_left_behind() {
    let Some(database) = Database::shared("silent") else { return };
    let (resume, silence): (Sender<()>, _) = channel();
    // In the midst of the second batch.
    let fate = Fate { there: 34_000, back: usize::MAX, silence: Some(silence) };
    let url = database.url_through(doom_first(database.server.port(), fate));
    let settings = [("URL", url.as_str()), ("TIMEOUT", "5000"), ("CONNECT_TIMEOUT", "5000")];
    let mut victim = Victim::start(&database, &settings);
    victim.export(0..400);
    database.has(400);
    victim.export(400..800);
    let processes = |count| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'silent'";
        wait_until(|| database.psql(sql) == count);
    };
    database.has(800);
    processes("2");
    drop(resume);
    processes("1");
    victim.export(800..900);
    let log = victim.end();
    assert_eq!(database.sums(), sums_to(900));
    assert!(log.iter().all(|line| !line.contains("it is tried again")), "{log:?}");
}
