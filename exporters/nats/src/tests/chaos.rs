// SPDX-License-Identifier: Apache-2.0

//! Servers that are killed again and again, at moments chosen by chance.

use std::hash::{BuildHasher as _, RandomState};

use super::agent::Process;
use super::*;

/// A time by chance, up to so many milliseconds.
fn some_time(most: u64) -> Duration {
    Duration::from_millis(RandomState::new().hash_one(0) % most)
}

/// With these settings, while events come all the time.
fn kill_servers(pairs: &[(&str, &str)]) {
    let Some(mut server) = server("chaos", JETSTREAM) else { return };
    // Outages last longer than ids of messages are known.
    let config = serde_json::json!({ "name": "NIXL", "subjects": ["nixl.>"], "duplicate_window": 100_000_000 });
    api(&server.url(), "STREAM.CREATE.NIXL", &config);
    let sizes = [("JETSTREAM", "true"), ("MESSAGE_SIZE", "100"), ("BATCH_SIZE", "3000")];
    let mut agent = Process::start(&server.url(), &[&sizes[..], pairs].concat());
    let mut exported = 0;
    let mut export = |agent: &mut Process, time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            agent.export(exported..exported + 500);
            exported += 500;
            thread::sleep(Duration::from_millis(4));
        }
        exported
    };
    for _ in 0..6 {
        export(&mut agent, some_time(500));
        server.kill();
        export(&mut agent, some_time(300));
        server.restart();
    }
    let exported = export(&mut agent, some_time(10));
    let seen = agent.until("everything", |seen| seen.delivered == exported);
    assert_eq!((seen.exported, seen.spooled, seen.dropped), (exported, 0, 0));
    agent.close();
    assert_eq!(values(&stored(&server.url(), "NIXL")), (0..exported).collect::<Vec<_>>());
}

#[test]
fn a_server_that_is_killed_again_and_again_has_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    kill_servers(&[("SPOOL_DIR", folder.path().to_str().unwrap())]);
}

#[test]
fn without_an_origin_in_the_subject_too_if_nobody_else_publishes_on_it() {
    kill_servers(&[("SUBJECT", "nixl.{agent}")]);
}
