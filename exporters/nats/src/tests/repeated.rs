// SPDX-License-Identifier: Apache-2.0

//! What comes again is in the stream once, though ids tell nothing: where messages begin and end has changed.

use serde_json::json;

use super::agent::Process;
use super::*;

/// They are killed one after another while they deliver, with messages and deliveries of other sizes each; the next delivers
/// what the one before has left in the spool.
#[test]
fn agents_that_are_killed_have_every_event_in_the_stream_once() {
    let Some(server) = server("killed agents", JETSTREAM) else { return };
    // Ids are of no use: they are forgotten at once.
    let config = json!({ "name": "NIXL", "subjects": ["nixl.>"], "duplicate_window": 100_000_000 });
    api(&server.url(), "STREAM.CREATE.NIXL", &config);
    let folder = tempfile::tempdir().unwrap();
    let common = [("JETSTREAM", "true"), ("SPOOL_DIR", folder.path().to_str().unwrap())];
    let mut exported = 0;
    for (batch, message) in [("900", "77"), ("5000", "100"), ("333", "50"), ("8192", "1000"), ("100", "7")] {
        let sizes = [("BATCH_SIZE", batch), ("MESSAGE_SIZE", message)];
        let mut agent = Process::start(&server.url(), &[common, sizes].concat());
        agent.export(exported..exported + 20_000);
        exported += 20_000;
        agent.until("some of it", |seen| seen.delivered > 3000);
        agent.kill();
    }
    let mut agent = Process::start(&server.url(), &common);
    agent.until("everything", |seen| seen.recovered > 0 && seen.spooled == 0);
    let log = agent.close();
    assert!(!log.contains("it is tried again"), "{log}");
    assert_eq!(values(&stored(&server.url(), "NIXL")), (0..exported).collect::<Vec<_>>());
}

/// Of a delivery, messages fail behind which others are stored; the next process has to find the gaps.
#[test]
fn gaps_of_a_killed_agent_are_filled() {
    let Some(server) = server("gaps", JETSTREAM) else { return };
    let config = |max_bytes: i64| json!({ "name": "NIXL", "subjects": ["nixl.>"], "duplicate_window": 100_000_000, "discard": "new", "max_bytes": max_bytes });
    api(&server.url(), "STREAM.CREATE.NIXL", &config(450_000));
    let folder = tempfile::tempdir().unwrap();
    let common = [("JETSTREAM", "true"), ("SPOOL_DIR", folder.path().to_str().unwrap())];
    // Messages of 500 events and, at the end, one of 60, for which there is room still.
    let sizes = [("MESSAGE_SIZE", "500"), ("BATCH_SIZE", "5060"), ("BATCH_TIMEOUT", "3600000")];
    let mut agent = Process::start(&server.url(), &[&common[..], &sizes].concat());
    agent.export(0..5060);
    agent.until_logged("maximum bytes exceeded");
    agent.kill();
    let numbers: Vec<_> = stored(&server.url(), "NIXL").iter().map(Message::numbers).collect();
    assert!(numbers.last().unwrap().end == 5060 && numbers.len() < 11, "{numbers:?}");
    api(&server.url(), "STREAM.UPDATE.NIXL", &config(-1));
    let mut agent = Process::start(&server.url(), &[&common[..], &[("MESSAGE_SIZE", "128")]].concat());
    agent.until("everything", |seen| seen.recovered == 5060 && seen.spooled == 0);
    agent.close();
    assert_eq!(values(&stored(&server.url(), "NIXL")), (0..5060).collect::<Vec<_>>());
}
