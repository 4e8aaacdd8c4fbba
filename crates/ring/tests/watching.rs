// SPDX-License-Identifier: Apache-2.0

//! Directories, as files come and go in them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_ring::{Change, HEADER_SIZE, Header, Mode, Options, Watcher, Writer};

#[test]
fn agents_that_are_not_wanted_keep_their_events() {
    let directory = tempfile::tempdir().unwrap();
    let mut writers = ["decode-0", "prefill-0", "prefill-1"].map(|agent| {
        let mut writer = Writer::create(directory.path(), agent, Options::default()).unwrap();
        assert_eq!(writer.push(&[Event::new(Kind::TX_BYTES, 1); 3]).written, 3);
        writer
    });
    // Nothing anybody could read: it is not even opened.
    fs::write(directory.path().join("other"), "").unwrap();

    let mut watcher = Watcher::new([directory.path()], Mode::Consume);
    let mut poll = || {
        let mut seen = BTreeMap::new();
        let result: Result<_, Infallible> = watcher.poll_agents(
            true,
            |agent| agent.starts_with("prefill"),
            |follower, change| {
                match change {
                    Change::Events(batch) => *seen.entry(follower.agent().to_owned()).or_insert(0) += batch.len(),
                    Change::Came => {}
                    change => panic!("{}: {change:?}", follower.agent()),
                }
                Ok(())
            },
        );
        assert_eq!(result, Ok(!seen.is_empty()));
        seen.into_iter().map(|(agent, events)| format!("{agent} {events}")).collect::<Vec<_>>()
    };
    assert_eq!(poll(), ["prefill-0 3", "prefill-1 3"]);
    assert_eq!(writers[2].push(&[Event::new(Kind::TX_BYTES, 1)]).written, 1);
    assert_eq!(poll(), ["prefill-1 1"]);
    assert_eq!(poll(), [""; 0]);

    let unread = writers.each_ref().map(|writer| {
        let mut bytes = [0; HEADER_SIZE];
        File::open(writer.path()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        Header::decode(&bytes).unread()
    });
    assert_eq!(unread, [3, 0, 0]);
}
