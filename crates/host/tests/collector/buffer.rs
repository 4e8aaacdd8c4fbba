// SPDX-License-Identifier: Apache-2.0

//! The built-in BUFFER: events in a ring file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nixl_telemetry_event::{Generation, Kind};
use nixl_telemetry_host::Counts;
use nixl_telemetry_ring::{Batch, Mode, Reader};

use crate::common::{LONG, builder, check_settled, log_of};

/// Kinds and values in a ring file that nobody has taken out.
fn ring(reader: &mut Reader) -> Vec<(Kind, u64)> {
    let mut batch = Batch::new();
    reader.read(&mut batch).unwrap();
    batch.events().map(|event| (event.kind().unwrap(), event.value())).collect()
}

fn open(path: &Path, mode: Mode) -> Reader {
    Reader::open(path, mode).unwrap()
}

fn counted(counts: &Counts) -> (u64, u64) {
    check_settled(counts);
    (counts.exporters[0].exported, counts.exporters[0].failed)
}

#[test]
fn events_are_in_the_agents_file_of_the_release() {
    for generation in Generation::ALL {
        let folder = tempfile::tempdir().unwrap();
        let settings = [("NIXL_TELEMETRY_DIR", folder.path().to_str().unwrap())];
        let collector = builder(&settings).generation(generation).build().unwrap().unwrap();
        collector.recorder().memory_registered(u64::MAX);
        collector.recorder().memory_deregistered(7);
        assert_eq!(counted(&collector.close()), (2, 0));
        let path = folder.path().join("agent");
        let mut reader = open(&path, Mode::Peek);
        assert_eq!((reader.shape().layout, reader.shape().capacity), (generation.layout(), 4096));
        assert_eq!(reader.shape().version, generation.ring_version());
        assert_eq!(ring(&mut reader), [(Kind::MEMORY_REGISTERED, u64::MAX), (Kind::MEMORY_DEREGISTERED, 7)]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_is_refused_is_counted_and_told_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("NIXL_TELEMETRY_DIR", folder.path().to_str().unwrap()),
        ("NIXL_TELEMETRY_BUFFER_SIZE", "8"),
        ("NIXL_TELEMETRY_BUFFER_MODE", "640"),
        ("NIXL_TELEMETRY_RUN_INTERVAL", "0"),
    ];
    let collector = builder(&settings).build().unwrap().unwrap();
    let path = folder.path().join("agent");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let record = |values: std::ops::Range<u64>| {
        for value in values {
            collector.recorder().memory_registered(value);
            assert!(collector.flush(LONG));
        }
    };
    record(0..12);
    let mut consumer = open(&path, Mode::Consume);
    let values: Vec<_> = (0..7).map(|value| (Kind::MEMORY_REGISTERED, value)).collect();
    assert_eq!(ring(&mut consumer), values);
    assert!(consumer.commit().unwrap());
    record(12..14);
    let dropped = (Kind::TELEMETRY_EVENTS_DROPPED, 5);
    assert_eq!(ring(&mut consumer), [dropped, (Kind::MEMORY_REGISTERED, 12), (Kind::MEMORY_REGISTERED, 13)]);
    let counts = collector.close();
    assert_eq!(counted(&counts), (9, 5));
    assert_eq!(counts.drops(), [("BUFFER", "failed", 5)]);
}

#[test]
fn the_newest_are_kept_if_one_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("NIXL_TELEMETRY_DIR", folder.path().to_str().unwrap()),
        ("NIXL_TELEMETRY_BUFFER_SIZE", "0x10"),
        ("NIXL_TELEMETRY_BUFFER_KEEP", "newest"),
        ("NIXL_TELEMETRY_MEMORY_BUDGET", "1000000"),
    ];
    let collector = builder(&settings).build().unwrap().unwrap();
    for value in 0..1000 {
        collector.recorder().memory_registered(value);
        if value % 8 == 0 {
            assert!(collector.flush(LONG));
        }
    }
    assert_eq!(counted(&collector.close()), (1000, 0));
    let seen = ring(&mut open(&folder.path().join("agent"), Mode::Peek));
    let first = 1000 - seen.len() as u64;
    assert!(seen.len() >= 13, "{seen:?}");
    assert_eq!(seen, (first..1000).map(|value| (Kind::MEMORY_REGISTERED, value)).collect::<Vec<_>>());
}

#[test]
fn agents_of_one_name_have_a_file_each() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("NIXL_TELEMETRY_DIR", folder.path().to_str().unwrap())];
    let collectors = [1, 2].map(|value| {
        let collector = builder(&settings).build().unwrap().unwrap();
        collector.recorder().memory_registered(value);
        collector
    });
    for collector in collectors {
        assert_eq!(counted(&collector.close()), (1, 0));
    }
    for (name, value) in [("agent", 1), ("agent.2", 2)] {
        assert_eq!(ring(&mut open(&folder.path().join(name), Mode::Peek)), [(Kind::MEMORY_REGISTERED, value)]);
    }
}

#[test]
fn a_file_that_others_remove_or_cut_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let settings = [("NIXL_TELEMETRY_DIR", folder.path().to_str().unwrap())];
    let collector = builder(&settings).build().unwrap().unwrap();
    let record = |value| {
        collector.recorder().memory_registered(value);
        assert!(collector.flush(LONG));
    };
    record(1);
    fs::remove_file(&path).unwrap();
    record(2);
    assert_eq!(ring(&mut open(&path, Mode::Peek)), [(Kind::MEMORY_REGISTERED, 2)]);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    record(3);
    assert_eq!(ring(&mut open(&path, Mode::Peek)), [(Kind::MEMORY_REGISTERED, 3)]);
    assert_eq!(counted(&collector.close()), (3, 0));
}

/// Asserts what is said of a file that cannot be made, and that it is left as it is.
fn check_left_alone(name: &str, make: impl Fn(&Path), message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    make(&path);
    let settings = [("NIXL_TELEMETRY_DIR", folder.path().to_str().unwrap()), ("NIXL_TELEMETRY_ON_ERROR", "fail")];
    let before = fs::symlink_metadata(&path).map(|metadata| (metadata.len(), metadata.modified().unwrap())).ok();
    let error = builder(&settings).build().unwrap_err().to_string();
    assert!(error.ends_with(&format!("/agent: {message}")), "{error}");
    let after = fs::symlink_metadata(&path).map(|metadata| (metadata.len(), metadata.modified().unwrap())).ok();
    assert_eq!(before, after);
}

#[test]
fn what_is_no_ring_of_ours_is_left_alone() {
    check_left_alone("agent", |path| fs::create_dir(path).unwrap(), "is a directory: expected a ring file, or none");
    check_left_alone(
        "agent",
        |path| std::os::unix::fs::symlink("/etc/hostname", path).unwrap(),
        "is a symbolic link: expected a ring file, or none",
    );
    check_left_alone(
        "agent",
        |path| fs::write(path, "a,b\n").unwrap(),
        "is there already and has 4 bytes: expected a ring of at least 40; it is left as it is",
    );
    check_left_alone(
        "agent",
        |path| fs::write(path, [b'x'; 100]).unwrap(),
        "is there already and has version 2021161080: expected a ring of version 1 to 4; it is left as it is",
    );
}

#[test]
fn a_number_of_slots_that_is_no_power_of_two_is_rounded_up_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rings = folder.path().to_str().unwrap();
    let settings = [("NIXL_TELEMETRY_DIR", rings), ("NIXL_TELEMETRY_BUFFER_SIZE", "5000")];
    let error = builder(&[&settings[..], &[("NIXL_TELEMETRY_ON_ERROR", "fail")]].concat()).build().unwrap_err();
    let problem = "NIXL_TELEMETRY_BUFFER_SIZE is 5000 (environment): expected a power of two from 2 on";
    assert!(error.to_string().ends_with(problem), "{error}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left behind");

    let test = "buffer::a_number_of_slots_that_is_no_power_of_two_is_rounded_up_or_refused";
    let variables = [&settings[..], &[("NIXL_TELEMETRY_ENABLE", "y")]].concat();
    let log = log_of(test, &variables, || {
        let collector = nixl_telemetry_host::Collector::builder("agent").build().unwrap().unwrap();
        check_settled(&collector.close());
    });
    if let Some(log) = log {
        assert_eq!(log, [format!("E buffer.rs agent agent: {problem}; the ring file has 8192 slots")]);
        assert_eq!(open(&folder.path().join("agent"), Mode::Peek).shape().capacity, 8192);
    }
}
