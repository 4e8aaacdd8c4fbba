// SPDX-License-Identifier: Apache-2.0

//! A server that is killed again and again under load.

use std::thread;
use std::time::{Duration, Instant};

use super::victim::Victim;
use super::*;

/// Kills of the server; now and then the agent's process ends meanwhile.
const KILLS: u64 = 6;

#[test]
fn no_event_is_lost_and_none_is_there_twice() {
    let Some(database) = Database::own("chaos") else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("SPOOL_DIR", folder.path().to_str().unwrap()),
        ("BATCH_SIZE", "5000"),
        ("RETRY_INITIAL_INTERVAL", "5"),
        ("SHUTDOWN_TIMEOUT", "1"),
    ];
    let (mut exported, mut victim) = (0, Victim::start(&database, &settings));
    for kill in 0..KILLS {
        // As much as it delivers in that time, so that a batch is always under way.
        let until = Instant::now() + Duration::from_millis(100 + 70 * kill);
        while Instant::now() < until {
            victim.export(exported..exported + 2000);
            exported += 2000;
            thread::sleep(Duration::from_millis(2));
        }
        database.server.kill();
        if kill % 3 == 2 {
            // The next process finds what this one leaves.
            victim.end();
            victim = Victim::start(&database, &settings);
        }
        database.server.start_again();
    }
    victim.end();
    // What is in the spool is for the next.
    let host = database.open("heir", &[&settings[..3], &[("SHUTDOWN_TIMEOUT", "60000")]].concat());
    host.close();
    assert_eq!(database.sums(), sums_to(exported));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
