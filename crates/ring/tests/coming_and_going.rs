// SPDX-License-Identifier: Apache-2.0

//! What a watcher tells of files that come and go.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_ring::{Change, Follower, Mode, Options, Taken, Watcher, Writer};

/// Writes events of these values.
fn push(writer: &mut Writer, values: std::ops::Range<u64>) {
    let events: Vec<_> = values.map(|value| Event::new(Kind::TX_BYTES, value)).collect();
    assert_eq!(writer.push(&events).written, events.len() as u64);
}

/// Polls once, and tells what there was: `+a` for a file that came, `-a` for one that went, `a N` for an event.
fn poll(watcher: &mut Watcher, taken: Taken) -> (Vec<String>, bool) {
    let mut told = Vec::new();
    let visit = |follower: &Follower, change: Change<'_>| {
        let agent = follower.agent();
        match change {
            Change::Came => told.push(format!("+{agent}")),
            Change::Gone => told.push(format!("-{agent}")),
            Change::Events(batch) => told.extend(batch.events().map(|event| format!("{agent} {}", event.value()))),
            Change::Readable => told.push(format!("{agent} again")),
            Change::Unreadable(error) | Change::Foreign(error) => told.push(format!("{agent} {error}")),
        }
        Ok::<_, Infallible>(taken)
    };
    // Also those of names that do not fit: a directory is no agent.
    let Ok(is_new) = watcher.poll_agents(true, |agent| agent.len() == 1, visit);
    (told, is_new)
}

#[test]
fn a_directory_may_come_later_and_go_and_come_again() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("rings");
    let mut watcher = Watcher::new([directory.as_path()], Mode::Peek);
    let mut told = |expected: &[&str]| assert_eq!(poll(&mut watcher, Taken::Yes).0, expected);
    told(&[]);
    fs::create_dir(&directory).unwrap();
    told(&[]);
    let mut writer = Writer::create(&directory, "a", Options::default()).unwrap();
    push(&mut writer, 0..2);
    told(&["+a", "a 0", "a 1"]);
    push(&mut writer, 2..3);
    fs::remove_dir_all(&directory).unwrap();
    told(&["rings no such file or directory", "a 2", "-a"]);
    told(&[]);
    fs::create_dir(&directory).unwrap();
    push(&mut Writer::create(&directory, "b", Options::default()).unwrap(), 7..8);
    told(&["rings again", "+b", "b 7"]);
}

#[test]
fn a_ring_that_is_replaced_is_there_all_the_time() {
    let root = tempfile::tempdir().unwrap();
    let shapes = [64, 128].map(|capacity| Options { capacity, ..Options::default() });
    let make = |options| Writer::create(root.path(), "a", options).unwrap();
    let path = make(shapes[0]).path().to_owned();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(path.exists());
            }
        });
        for round in 1..200 {
            assert_eq!(make(shapes[round % 2]).path(), path);
        }
        is_over.store(true, Ordering::Relaxed);
        looking.join().unwrap();
    });
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "and nothing besides");
}

#[test]
fn events_that_are_not_taken_come_again() {
    let root = tempfile::tempdir().unwrap();
    let mut a = Writer::create(root.path(), "a", Options::default()).unwrap();
    let mut b = Writer::create(root.path(), "b", Options::default()).unwrap();
    let mut watcher = Watcher::new([root.path()], Mode::Consume);
    push(&mut a, 0..1);
    push(&mut b, 5..6);
    let told = |events: &[&str]| events.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    assert_eq!(poll(&mut watcher, Taken::NotYet), (told(&["+a", "a 0", "+b", "b 5"]), false));
    push(&mut a, 1..2);
    assert_eq!(poll(&mut watcher, Taken::NotYet), (told(&["a 0", "a 1", "b 5"]), false));
    assert_eq!((a.unread(), b.unread()), (2, 1));
    assert_eq!(poll(&mut watcher, Taken::Yes), (told(&["a 0", "a 1", "b 5"]), true));
    assert_eq!((a.unread(), b.unread()), (0, 0));
    assert_eq!(poll(&mut watcher, Taken::Yes), (vec![], false));
}

#[test]
fn nothing_written_before_a_file_goes_is_missed() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::new([root.path()], Mode::Peek);
    for round in 0..200 {
        let mut writer = Writer::create(root.path(), "a", Options::default()).unwrap();
        assert_eq!(poll(&mut watcher, Taken::Yes).0, ["+a"]);
        let mut told = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || leave(&mut writer, round));
            while told.last().is_none_or(|last| last != "-a") {
                told.extend(poll(&mut watcher, Taken::Yes).0);
            }
        });
        assert_eq!(told, ["a 1", "a 2", "-a"]);
    }

    fn leave(writer: &mut Writer, round: u64) {
        (0..round * 50).for_each(|_| std::hint::spin_loop());
        push(writer, 1..3);
        let path: &Path = writer.path();
        fs::remove_file(path).unwrap();
    }
}
