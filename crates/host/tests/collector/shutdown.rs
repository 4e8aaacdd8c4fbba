// SPDX-License-Identifier: Apache-2.0

//! The end drains, within a bound.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Event, Kind};
use nixl_telemetry_host::{Exported, Nop, RecordingSink, Sink};

use crate::common::{LONG, NEVER, Stuck, builder, check_settled, log_of, pairs, recording, wait_until};

/// Longer than a shutdown with a timeout of 50 ms may take, and shorter than anything that hangs here.
const SLACK: Duration = Duration::from_secs(20);

#[test]
fn closing_exports_everything_without_waiting_for_the_interval() {
    let (collector, sink) = recording(&[("NIXL_TELEMETRY_RUN_INTERVAL", "100000")]);
    let recorder = collector.recorder();
    (0..50).for_each(|_| recorder.event(Kind::ERR_BACKEND, 1));
    let start = Instant::now();
    let counts = collector.close();
    assert!(start.elapsed() < Duration::from_secs(60));
    check_settled(&counts);
    assert_eq!(counts.drops(), []);
    assert_eq!(pairs(&sink.events()), [(10, 1); 50]);
}

#[test]
fn dropping_exports_everything_too() {
    let (collector, sink) = recording(&[NEVER]);
    collector.recorder().memory_deregistered(9);
    drop(collector);
    assert_eq!(pairs(&sink.events()), [(5, 9)]);
}

#[test]
fn what_is_recorded_afterwards_is_a_counted_drop() {
    let (collector, sink) = recording(&[NEVER]);
    let recorder = collector.recorder();
    recorder.memory_registered(1);
    assert_eq!(collector.close().closed, 0);
    recorder.memory_registered(2);
    recorder.start(nixl_telemetry_host::Direction::Read, 1, 1).complete();
    let counts = recorder.counts();
    assert_eq!((counts.produced, counts.closed), (6, 5));
    assert_eq!(counts.drops(), [("staging", "closed", 5)]);
    check_settled(&counts);
    assert_eq!(sink.events().len(), 1);
}

#[test]
fn drops_before_the_end_are_reported_at_the_end() {
    let (collector, sink) = recording(&[NEVER, ("NIXL_TELEMETRY_BUFFER_SIZE", "1")]);
    let recorder = collector.recorder();
    // Of the flush between them it depends how many are dropped.
    (0..100).for_each(|value| recorder.memory_registered(value));
    let counts = collector.close();
    check_settled(&counts);
    let events = sink.events();
    let is_report = |event: &&nixl_telemetry_host::RecordedEvent| event.kind == Some(Kind::TELEMETRY_EVENTS_DROPPED);
    assert_eq!(events.iter().filter(is_report).map(|event| event.value).sum::<u64>(), counts.queue_full);
    assert_eq!(events.iter().filter(|event| !is_report(event)).count() as u64 + counts.queue_full, 100);
}

#[test]
fn a_sink_that_hangs_cannot_hold_up_the_end() {
    let kept = RecordingSink::new();
    let late = RecordingSink::new();
    let (stuck, stick) = Stuck::new();
    let variables = [("NIXL_TELEMETRY_RUN_INTERVAL", "0"), ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "50")];
    let builder = builder(&variables)
        .sink("before", Box::new(kept.clone()))
        .sink("stuck", Box::new(stuck))
        .sink("after", Box::new(late.clone()));
    let collector = builder.build().unwrap().unwrap();
    let recorder = collector.recorder();
    recorder.memory_registered(1);
    assert_eq!(stick.entered.recv_timeout(LONG), Ok(1));
    recorder.memory_registered(2);
    recorder.memory_registered(3);

    let start = Instant::now();
    let counts = collector.close();
    assert!(start.elapsed() < SLACK);
    check_settled(&counts);
    assert_eq!((counts.produced, counts.shutdown_timeout), (3, 2));
    let expected =
        [("staging", "shutdown_timeout", 2), ("stuck", "shutdown_timeout", 1), ("after", "shutdown_timeout", 1)];
    assert_eq!(counts.drops(), expected);
    assert_eq!(counts.exporter("before").unwrap().exported, 1);

    // Whatever it does when it comes back changes no account, and nobody else is fed: its end is the next that happens.
    stick.go_on.send(()).unwrap();
    wait_until("the thread destroys its sinks", || stick.go_on.send(()).is_err());
    assert_eq!(recorder.counts(), counts);
    assert_eq!((kept.events().len(), late.events().len()), (1, 0));
}

/// A sink whose end hangs until the other side of the channel is dropped.
struct StuckAtItsEnd(Receiver<()>);

impl Sink for StuckAtItsEnd {
    fn export(&mut self, batch: &[Event<'_>]) -> Exported {
        Exported::all(batch)
    }
}

impl Drop for StuckAtItsEnd {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}

#[test]
fn neither_can_a_sink_that_hangs_when_it_is_destroyed() {
    let (_keep, stuck) = mpsc::channel();
    let variables = [NEVER, ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "50")];
    let collector = builder(&variables).sink("stuck", Box::new(StuckAtItsEnd(stuck))).build().unwrap().unwrap();
    collector.recorder().memory_registered(1);
    assert!(collector.flush(LONG));
    let start = Instant::now();
    let counts = collector.close();
    assert!(start.elapsed() < SLACK);
    check_settled(&counts);
    assert_eq!((counts.exporter("stuck").unwrap().exported, counts.drops()), (1, vec![]));
}

#[test]
fn a_timeout_of_zero_does_not_wait_for_anybody() {
    let (stuck, stick) = Stuck::new();
    let variables = [("NIXL_TELEMETRY_RUN_INTERVAL", "0"), ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "0")];
    let collector = builder(&variables).sink("stuck", Box::new(stuck)).build().unwrap().unwrap();
    collector.recorder().memory_registered(1);
    assert_eq!(stick.entered.recv_timeout(LONG), Ok(1));
    let counts = collector.close();
    check_settled(&counts);
    assert_eq!(counts.drops(), [("stuck", "shutdown_timeout", 1)]);
}

#[test]
fn one_line_tells_of_what_is_left_behind() {
    let log = log_of("shutdown::one_line_tells_of_what_is_left_behind", &[], || {
        let (stuck, stick) = Stuck::new();
        let variables = [("NIXL_TELEMETRY_RUN_INTERVAL", "0"), ("NIXL_TELEMETRY_SHUTDOWN_TIMEOUT", "50")];
        let collector = builder(&variables).sink("fine", Box::new(Nop)).sink("stuck", Box::new(stuck)).build();
        let collector = collector.unwrap().unwrap();
        collector.recorder().memory_registered(1);
        assert_eq!(stick.entered.recv_timeout(LONG), Ok(1));
        collector.recorder().memory_registered(2);
        drop(collector);
    });
    if let Some(log) = log {
        let line = "agent agent: exporter stuck did not finish within 50 ms: left behind, 2 events are dropped";
        assert_eq!(log, [format!("W shared.rs {line}")]);
    }
}

#[test]
fn sinks_are_destroyed_before_close_returns_and_on_the_thread_that_fed_them() {
    struct Tells(mpsc::Sender<thread::ThreadId>);
    impl Sink for Tells {
        fn export(&mut self, batch: &[Event<'_>]) -> Exported {
            self.0.send(thread::current().id()).unwrap();
            Exported::all(batch)
        }
    }
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }
    let (send, threads) = mpsc::channel();
    let collector = builder(&[NEVER]).sink("tells", Box::new(Tells(send))).build().unwrap().unwrap();
    collector.recorder().memory_registered(1);
    collector.close();
    let threads: Vec<_> = threads.try_iter().collect();
    assert_eq!(threads.len(), 2);
    assert_eq!(threads[0], threads[1]);
    assert_ne!(threads[0], thread::current().id());
}
