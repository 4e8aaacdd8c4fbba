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
