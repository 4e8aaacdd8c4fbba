// SPDX-License-Identifier: Apache-2.0

//! Which call records what.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nixl_telemetry_event::{Kind, Status};
use nixl_telemetry_host::{Direction, Recorder, Transfer};
use rustix::time::{ClockId, clock_gettime};

use crate::common::{NEVER, check_settled, pairs, recording};

const WRITE: Transfer = Transfer { direction: Direction::Write, bytes: 4096, post_time_us: 3, transfer_time_us: 17 };
const READ: Transfer = Transfer { direction: Direction::Read, bytes: 8192, post_time_us: 5, transfer_time_us: 29 };

/// Asserts the kinds and values of everything exported after `record`, with an allowlist.
fn check(enabled: &str, record: impl FnOnce(&Recorder), expected: &[(u32, u64)]) {
    let (collector, sink) = recording(&[NEVER, ("NIXL_TELEMETRY_ENABLED_METRICS", enabled)]);
    record(&collector.recorder());
    let counts = collector.close();
    assert_eq!(pairs(&sink.events()), expected, "{enabled:?}");
    assert_eq!((counts.produced, counts.drops()), (expected.len() as u64, vec![]));
    check_settled(&counts);
}

#[test]
fn a_transfer_is_four_events_in_nixls_order() {
    check("", |recorder| recorder.transfer(WRITE), &[(7, 3), (6, 17), (0, 4096), (2, 1)]);
    check("", |recorder| recorder.transfer(READ), &[(7, 5), (6, 29), (1, 8192), (3, 1)]);
}

#[test]
fn single_events_and_a_transfer_keep_their_order() {
    let record = |recorder: &Recorder| {
        recorder.event(Kind::TX_BYTES, 1024);
        recorder.event(Kind::RX_BYTES, 512);
        recorder.event(Kind::TX_REQUESTS_NUM, 5);
        recorder.event(Kind::RX_REQUESTS_NUM, 3);
        recorder.error(Status::Backend);
        recorder.memory_registered(4096);
        recorder.memory_deregistered(2048);
        recorder.transfer(WRITE);
    };
    let singles = [(0, 1024), (1, 512), (2, 5), (3, 3), (10, 1), (4, 4096), (5, 2048)];
    check("", record, &[&singles[..], &[(7, 3), (6, 17), (0, 4096), (2, 1)]].concat());
}

#[test]
fn every_error_has_its_kind_and_other_statuses_have_none() {
    let record = |recorder: &Recorder| {
        recorder.error(Status::Success);
        recorder.error(Status::InProgress);
        Status::ERRORS.into_iter().for_each(|status| recorder.error(status));
    };
    check("", record, &(8..20).map(|kind| (kind, 1)).collect::<Vec<_>>());
}

#[test]
fn what_is_not_enabled_is_neither_exported_nor_counted() {
    let record = |recorder: &Recorder| {
        recorder.transfer(WRITE);
        recorder.transfer(READ);
        recorder.error(Status::NotFound);
        recorder.memory_registered(1);
        recorder.event(Kind::from_code(77), 2);
        recorder.backend("ucx_retries", 9);
    };
    check("agent_tx_bytes", record, &[(0, 4096)]);
    check("agent_err_*", record, &[(11, 1)]);
    check("agent_xfer_*,ucx_*", record, &[(7, 3), (6, 17), (7, 5), (6, 29), (u32::MAX, 9)]);
    check("agent_tx_bytes_total", record, &[]);
    check("agent_?x_bytes, agent_memory_registered", record, &[(0, 4096), (1, 8192), (4, 1)]);
}

#[test]
fn backend_events_keep_their_whole_name() {
    let name = "ucx_".repeat(100);
    let (collector, sink) = recording(&[NEVER]);
    collector.recorder().backend(&name, u64::MAX);
    collector.recorder().backend("agent_tx_bytes", 1);
    check_settled(&collector.close());
    let events = sink.events();
    assert_eq!((events[0].kind, &events[0].name, events[0].value), (None, &name, u64::MAX));
    // No kind, whatever it calls itself.
    assert_eq!((events[1].kind, events[1].name.as_str()), (None, "agent_tx_bytes"));
}

fn wall_us() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}

/// The times of a transfer and an event of a backend, with the time before, between and after recording them, and
/// after the flush.
fn times(timestamps: &str) -> ([u64; 5], [u64; 4]) {
    let (collector, sink) = recording(&[NEVER, ("NIXL_TELEMETRY_TIMESTAMPS", timestamps)]);
    let before = wall_us();
    collector.recorder().transfer(WRITE);
    let after = wall_us();
    collector.recorder().backend("b", 1);
    let end = wall_us();
    drop(collector);
    let times: Vec<u64> = sink.events().iter().map(|event| event.timestamp_us.unwrap()).collect();
    assert!(times[..4].iter().all(|time| *time == times[0]), "{times:?}");
    (times.try_into().unwrap(), [before, after, end, wall_us()])
}

#[test]
fn events_carry_the_time_of_recording_and_a_group_has_one() {
    let (times, [before, after, end, _]) = times("precise");
    assert!((before..=after).contains(&times[0]) && (after..=end).contains(&times[4]), "{times:?}");
}

#[test]
fn a_coarse_time_is_never_of_the_future() {
    let (times, [before, after, end, _]) = times("coarse");
    // How old it is depends on when the system runs the thread that ticks; a minute is no bound of ours.
    let minute = 60_000_000;
    assert!((before - minute..=after).contains(&times[0]) && (times[0]..=end).contains(&times[4]), "{times:?}");
}

#[test]
fn a_coarse_time_of_a_thread_never_goes_back() {
    let (collector, sink) =
        recording(&[("NIXL_TELEMETRY_RUN_INTERVAL", "1"), ("NIXL_TELEMETRY_OVERFLOW", "block:60000")]);
    // Three that see to the clock when it is late, on fewer processors than it takes.
    thread::scope(|scope| {
        for thread in 0..3 {
            let recorder = collector.recorder();
            scope.spawn(move || (0..1_000_000).for_each(|_| recorder.event(Kind::TX_BYTES, thread)));
        }
    });
    drop(collector);
    let mut last_us = [0; 3];
    for event in sink.events() {
        let last_us = &mut last_us[usize::try_from(event.value).unwrap()];
        // A clock that was set meanwhile would spoil this; none is in a test.
        let time_us = event.timestamp_us.unwrap();
        assert!(time_us >= *last_us, "{time_us} after {last_us}");
        *last_us = time_us;
    }
}

#[test]
fn a_batch_has_one_time() {
    let (times, [_, _, end, closed]) = times("batch");
    assert!((end..=closed).contains(&times[0]) && times[0] == times[4], "{times:?}");
}

/// Lets at least this time pass.
fn spend(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {}
}

#[test]
fn a_transfer_in_flight_measures_both_times() {
    let monotonic_us = || {
        let now = clock_gettime(ClockId::Monotonic);
        u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap()
    };
    let (collector, sink) = recording(&[NEVER]);
    let before = monotonic_us();
    let mut transfer = collector.recorder().start(Direction::Read, 100, 7);
    let after = monotonic_us();
    spend(Duration::from_millis(2));
    transfer.posted();
    spend(Duration::from_millis(2));
    transfer.posted();
    let telemetry = transfer.complete();
    let end = monotonic_us();
    drop(collector);

    assert!((before..=after).contains(&telemetry.start_us), "{telemetry:?}");
    assert!(telemetry.post_us >= 2000 && telemetry.xfer_us >= telemetry.post_us + 2000, "{telemetry:?}");
    assert!(telemetry.start_us + telemetry.xfer_us <= end, "{telemetry:?}");
    assert_eq!((telemetry.bytes, telemetry.descriptors), (100, 7));
    let expected = [(7, telemetry.post_us), (6, telemetry.xfer_us), (1, 100), (3, 1)];
    assert_eq!(pairs(&sink.events()), expected);
}

#[test]
fn a_transfer_complete_at_its_post_has_one_time() {
    let (collector, sink) = recording(&[NEVER]);
    let transfer = collector.recorder().start(Direction::Write, 1, 1);
    spend(Duration::from_millis(1));
    let telemetry = transfer.complete();
    drop(collector);
    assert!(telemetry.post_us >= 1000);
    assert_eq!(telemetry.post_us, telemetry.xfer_us);
    assert_eq!(pairs(&sink.events())[..2], [(7, telemetry.post_us), (6, telemetry.post_us)]);
}

#[test]
fn a_transfer_that_fails_is_an_error_and_one_that_is_let_go_is_nothing() {
    check("", |recorder| recorder.start(Direction::Write, 1, 1).fail(Status::RemoteDisconnect), &[(17, 1)]);
    check("", |recorder| drop(recorder.start(Direction::Write, 1, 1)), &[]);
}

#[test]
fn the_record_of_a_transfer_knows_no_allowlist() {
    let record = |recorder: &Recorder| {
        let telemetry = recorder.start(Direction::Write, 5, 6).complete();
        assert_eq!((telemetry.bytes, telemetry.descriptors), (5, 6));
    };
    check("agent_rx_bytes", record, &[]);
}
