// SPDX-License-Identifier: Apache-2.0

//! One file, one initialised plugin, however many handles, paths and threads there are.

mod common;

use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::{fs, thread};

use common::Fixture;
use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_loader::Plugin;

/// `Counts` in `counting.cc`.
#[repr(C)]
struct Counts {
    init: AtomicU64,
    fini: AtomicU64,
    create: AtomicU64,
    delete: AtomicU64,
    events: AtomicU64,
    violations: AtomicU64,
}

fn counts(fixture: &Fixture) -> &'static Counts {
    // SAFETY: the structure is the fixture's, made of atomics, and the library is never unmapped.
    unsafe { &**fixture.open().get::<*const Counts>("counts").unwrap() }
}

fn numbers(counts: &Counts) -> [u64; 6] {
    let Counts { init, fini, create, delete, events, violations } = counts;
    [init, fini, create, delete, events, violations].map(|count| count.load(SeqCst))
}

#[test]
fn all_handles_share_one_plugin() {
    let fixture = Fixture::new("counting.cc", &[], "counting");
    let (link, other_name) = (fixture.directory.path().join("link.so"), fixture.directory.path().join("hard.so"));
    symlink(&fixture.path, &link).unwrap();
    fs::hard_link(&fixture.path, &other_name).unwrap();

    let first = Plugin::load(&fixture.path).unwrap();
    let handles = [first.clone(), Plugin::load(&link).unwrap(), Plugin::load(&other_name).unwrap()];
    let exporter = handles[1].create_exporter("a", 1).unwrap();
    let counts = counts(&fixture);
    assert_eq!(numbers(counts), [1, 0, 1, 0, 0, 0]);
    drop((first, handles));
    assert_eq!(numbers(counts), [1, 0, 1, 0, 0, 0], "the exporter holds the plugin");
    drop(exporter);
    assert_eq!(numbers(counts), [1, 1, 1, 1, 0, 0]);

    // What was finalised is initialised anew.
    let again = Plugin::load(&link).unwrap();
    assert_eq!(again.path(), fixture.path.canonicalize().unwrap());
    assert_eq!(numbers(counts), [2, 1, 1, 1, 0, 0]);
    drop(again);
    assert_eq!(numbers(counts), [2, 2, 1, 1, 0, 0]);
}

#[test]
fn a_file_replaced_on_disk_is_not_what_is_mapped() {
    let fixture = Fixture::new("recorder.cc", &["SLOTS=3", "TRAP"], "recorder");
    drop(Plugin::load(&fixture.path).unwrap());
    // The new file has the hooks, but the dynamic linker goes on using the old one, whose hooks would be fatal.
    let newer = Fixture::new("recorder.cc", &["SLOTS=5", "MARKER=5"], "recorder");
    fs::remove_file(&fixture.path).unwrap();
    fs::copy(&newer.path, &fixture.path).unwrap();
    let plugin = Plugin::load(&fixture.path).unwrap();
    let mut exporter = plugin.create_exporter("a", 1).unwrap();
    assert_eq!(exporter.export(&[]).failed, 0);
    drop((exporter, plugin));
    assert_eq!(fixture.recording(), ["init", "fini", "init", "create a 1", "delete", "fini"]);
}

#[test]
fn fifty_threads_at_once() {
    const THREADS: usize = 50;
    const EXPORTERS: u64 = 10;
    let fixture = Fixture::new("counting.cc", &[], "counting");
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                let plugin = Plugin::load(&fixture.path).unwrap();
                let exporters: Vec<_> = (0..EXPORTERS).map(|_| plugin.create_exporter("a", 1).unwrap()).collect();
                drop(plugin);
                // Nobody finalises before everybody loaded.
                barrier.wait();
                for mut exporter in exporters {
                    assert_eq!(exporter.export(&[Event::new(Kind::TX_BYTES, 1); 4]).accepted, 4);
                }
            });
        }
    });
    let exporters = THREADS as u64 * EXPORTERS;
    assert_eq!(numbers(counts(&fixture)), [1, 1, exporters, exporters, exporters * 4, 0]);
}

#[test]
fn loading_races_with_finalising() {
    const THREADS: u64 = 16;
    const ROUNDS: u64 = 200;
    let fixture = Fixture::new("counting.cc", &[], "counting");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let plugin = Plugin::load(&fixture.path).unwrap();
                    let mut exporter = plugin.create_exporter("a", 1).unwrap();
                    assert_eq!(exporter.export(&[Event::new(Kind::TX_BYTES, 1)]).accepted, 1);
                }
            });
        }
    });
    let [init, fini, create, delete, events, violations] = numbers(counts(&fixture));
    let rounds = THREADS * ROUNDS;
    assert_eq!((create, delete, events, violations), (rounds, rounds, rounds, 0));
    assert_eq!(init, fini);
    assert!((1..=rounds).contains(&init), "{init}");
}

#[test]
fn exporters_move_between_threads() {
    let fixture = Fixture::new("counting.cc", &[], "counting");
    let mut exporter = Plugin::load(&fixture.path).unwrap().create_exporter("a", 1).unwrap();
    let exporter = thread::spawn(move || {
        assert_eq!(exporter.export(&[Event::new(Kind::TX_BYTES, 1)]).accepted, 1);
        exporter
    });
    drop(exporter.join().unwrap());
    assert_eq!(numbers(counts(&fixture)), [1, 1, 1, 1, 1, 0]);
}
