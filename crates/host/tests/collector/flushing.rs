// SPDX-License-Identifier: Apache-2.0

//! When batches leave, and what is in them.

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nixl_telemetry_host::{Direction, Exported, Transfer};

use crate::common::{Does, LONG, NEVER, Stuck, builder, check_settled, pairs, recording, wait_until};

const TRANSFER: Transfer = Transfer { direction: Direction::Write, bytes: 1, post_time_us: 2, transfer_time_us: 3 };

#[test]
fn intervals_of_any_length_begin_and_end_cleanly() {
    for interval in ["0", "1", "10000", "18446744073709551615"] {
        let (collector, sink) = recording(&[("NIXL_TELEMETRY_RUN_INTERVAL", interval)]);
        collector.recorder().memory_registered(7);
        check_settled(&collector.close());
        assert_eq!(pairs(&sink.events()), [(4, 7)], "interval {interval}");
    }
}

#[test]
fn the_interval_ends_by_itself() {
    for interval in ["0", "20"] {
        let (collector, sink) = recording(&[("NIXL_TELEMETRY_RUN_INTERVAL", interval)]);
        for value in 0..3 {
            collector.recorder().memory_registered(value);
            wait_until("the event is exported", || sink.events().len() as u64 == value + 1);
        }
        assert_eq!(sink.batches().len(), 3);
    }
}

#[test]
fn a_buffer_half_full_does_not_wait() {
    let (collector, sink) = recording(&[NEVER, ("NIXL_TELEMETRY_BUFFER_SIZE", "8")]);
    let recorder = collector.recorder();
    (0..4).for_each(|value| recorder.memory_registered(value));
    wait_until("the batch is exported", || sink.events().len() == 4);
}

#[test]
fn what_is_recorded_within_an_interval_is_one_batch() {
    let (collector, sink) = recording(&[NEVER]);
    let recorder = collector.recorder();
    (0..1000).for_each(|value| recorder.memory_registered(value));
    assert!(collector.flush(LONG));
    assert_eq!(sink.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1000]);
    let counts = collector.counts();
    check_settled(&counts);
    assert_eq!(counts.exporter("kept").unwrap().exported, 1000);
}

#[test]
fn a_flush_of_nothing_is_done_at_once() {
    let (collector, sink) = recording(&[NEVER]);
    assert!(collector.flush(Duration::ZERO));
    collector.recorder().memory_registered(1);
    assert!(collector.flush(LONG));
    assert!(collector.flush(Duration::ZERO));
    drop(collector);
    assert_eq!(sink.batches().len(), 1);
}

#[test]
fn a_flush_waits_for_a_batch_on_its_way_and_gives_up_in_time() {
    let (stuck, stick) = Stuck::new();
    let collector = builder(&[("NIXL_TELEMETRY_RUN_INTERVAL", "0")]).sink("stuck", Box::new(stuck)).build();
    let collector = collector.unwrap().unwrap();
    collector.recorder().memory_registered(1);
    assert_eq!(stick.entered.recv_timeout(LONG), Ok(1));
    assert!(!collector.flush(Duration::from_millis(10)));
    assert_eq!(collector.counts().exporter("stuck").unwrap().pending, 1);
    stick.go_on.send(()).unwrap();
    assert!(collector.flush(LONG));
    check_settled(&collector.counts());
}

/// Fills the buffer of a collector whose sink is stuck, then one more transfer and two single events than fit.
/// Asserts the events exported afterwards.
fn check_overflow(enabled: &[(&str, &str)], expected: &[(u32, u64)], reports: u64) {
    let (stuck, stick) = Stuck::new();
    let kept = nixl_telemetry_host::RecordingSink::new();
    let variables = [&[("NIXL_TELEMETRY_RUN_INTERVAL", "0"), ("NIXL_TELEMETRY_BUFFER_SIZE", "4")], enabled].concat();
    let collector = builder(&variables).sink("kept", Box::new(kept.clone())).sink("stuck", Box::new(stuck)).build();
    let collector = collector.unwrap().unwrap();
    let recorder = collector.recorder();
    recorder.memory_registered(0);
    assert_eq!(stick.entered.recv_timeout(LONG), Ok(1));
    (1..=3).for_each(|value| recorder.memory_registered(value));
    recorder.transfer(TRANSFER);
    recorder.memory_registered(4);
    recorder.memory_registered(5);
    recorder.memory_registered(6);
    drop(stick);
    assert!(collector.flush(LONG));
    recorder.memory_registered(7);
    let counts = collector.close();
    assert_eq!(pairs(&kept.events()), expected);
    assert_eq!((counts.produced, counts.queue_full, counts.exporters[0].reports), (12, 6, reports));
    assert_eq!(counts.drops(), [("staging", "queue_full", 6)]);
    check_settled(&counts);
}

#[test]
fn drops_are_reported_once_at_the_end_of_the_batch() {
    check_overflow(&[], &[(4, 0), (4, 1), (4, 2), (4, 3), (4, 4), (20, 6), (4, 7)], 1);
}

#[test]
fn drops_are_not_reported_where_that_is_not_enabled() {
    let enabled = [("NIXL_TELEMETRY_ENABLED_METRICS", "agent_[!t]*,agent_tx_*")];
    check_overflow(&enabled, &[(4, 0), (4, 1), (4, 2), (4, 3), (4, 4), (4, 7)], 0);
}

#[test]
fn a_group_larger_than_the_buffer_is_dropped_and_reported() {
    let (collector, sink) = recording(&[NEVER, ("NIXL_TELEMETRY_BUFFER_SIZE", "3")]);
    collector.recorder().transfer(TRANSFER);
    assert!(collector.flush(LONG));
    assert_eq!(pairs(&sink.events()), [(20, 4)]);
    // With three of its events enabled it fits.
    let enabled = ("NIXL_TELEMETRY_ENABLED_METRICS", "agent_xfer_*,agent_tx_bytes");
    let (collector, sink) = recording(&[NEVER, ("NIXL_TELEMETRY_BUFFER_SIZE", "3"), enabled]);
    collector.recorder().transfer(TRANSFER);
    check_settled(&collector.close());
    assert_eq!(pairs(&sink.events()), [(7, 2), (6, 3), (0, 1)]);
}

#[test]
fn an_idle_collector_does_not_wake_up() {
    let (send, thread) = mpsc::channel();
    let sink = Does(move |batch: &[nixl_telemetry_event::Event<'_>]| {
        // "<process>/task/<thread>"
        send.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
        Exported::all(batch)
    });
    let built = builder(&[("NIXL_TELEMETRY_RUN_INTERVAL", "1")]).sink("sink", Box::new(sink)).build();
    let collector = built.unwrap().unwrap();
    collector.recorder().memory_registered(1);
    let folder = std::path::Path::new("/proc").join(thread.recv_timeout(LONG).unwrap());
    assert_eq!(fs::read_to_string(folder.join("comm")).unwrap(), "nixl-tlm-flush\n");

    let wake_ups = || {
        let status = fs::read_to_string(folder.join("status")).unwrap();
        let switches = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        switches.to_owned()
    };
    // Once it has gone to sleep.
    wait_until("the thread sleeps for many intervals", || {
        let before = wake_ups();
        thread::sleep(Duration::from_millis(100));
        before == wake_ups()
    });
    assert!(thread.try_recv().is_err());
}
