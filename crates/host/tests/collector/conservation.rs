// SPDX-License-Identifier: Apache-2.0

//! Every event is accounted for, however many threads record.

use std::collections::BTreeMap;
use std::thread;

use nixl_telemetry_event::Kind;
use nixl_telemetry_host::{Direction, RecordedEvent, Recorder, Transfer};

use crate::common::{check_settled, pairs, recording};

const THREADS: u64 = 4;
const EACH: u64 = 2000;

/// Runs `record` with the numbers 0 to `THREADS * EACH`, on all threads at once.
fn record_all(recorder: &Recorder, record: impl Fn(&Recorder, u64) + Sync) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let record = &record;
            scope.spawn(move || (0..EACH).for_each(|number| record(recorder, thread * EACH + number)));
        }
    });
}

/// A transfer whose every value tells its number.
fn transfer(number: u64) -> Transfer {
    let direction = if number.is_multiple_of(2) { Direction::Write } else { Direction::Read };
    Transfer { direction, bytes: number, post_time_us: number, transfer_time_us: number }
}

/// The sum of what the drop events say, and the other events.
fn without_reports(events: Vec<RecordedEvent>) -> (u64, Vec<RecordedEvent>) {
    let (reports, others): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| event.kind == Some(Kind::TELEMETRY_EVENTS_DROPPED));
    (reports.iter().map(|report| report.value).sum(), others)
}

#[test]
fn transfers_are_whole_and_those_that_find_no_room_are_counted() {
    let variables = [("NIXL_TELEMETRY_BUFFER_SIZE", "64"), ("NIXL_TELEMETRY_RUN_INTERVAL", "1")];
    let (collector, sink) = recording(&variables);
    record_all(&collector.recorder(), |recorder, number| recorder.transfer(transfer(number)));
    let counts = collector.close();
    check_settled(&counts);

    let produced = 4 * THREADS * EACH;
    let (reported, events) = without_reports(sink.events());
    assert_eq!(counts.produced, produced);
    assert_eq!(counts.queue_full % 4, 0);
    assert_eq!(reported, counts.queue_full);
    assert_eq!(events.len() as u64 + reported, produced);
    let kept = counts.exporter("kept").unwrap();
    assert_eq!(kept.exported, events.len() as u64 + kept.reports);
    for group in events.chunks(4) {
        let number = group[0].value;
        let kinds = if number.is_multiple_of(2) { (0, 2) } else { (1, 3) };
        assert_eq!(pairs(group), [(7, number), (6, number), (kinds.0, number), (kinds.1, 1)]);
    }
}

#[test]
fn with_room_for_all_every_value_arrives_once() {
    let size = (4 * THREADS * EACH).to_string();
    let (collector, sink) = recording(&[("NIXL_TELEMETRY_BUFFER_SIZE", &size), ("NIXL_TELEMETRY_RUN_INTERVAL", "1")]);
    record_all(&collector.recorder(), |recorder, number| match number % 3 {
        0 => recorder.transfer(transfer(number)),
        1 => recorder.event(Kind::MEMORY_REGISTERED, number),
        _ => recorder.backend("mine", number),
    });
    let counts = collector.close();
    check_settled(&counts);
    assert_eq!(counts.drops(), []);

    let mut expected = BTreeMap::new();
    for number in 0..THREADS * EACH {
        match number % 3 {
            0 => {
                let (bytes, requests) = if number.is_multiple_of(2) { (0, 2) } else { (1, 3) };
                for event in [(7, number), (6, number), (bytes, number), (requests, 1)] {
                    *expected.entry(event).or_insert(0) += 1;
                }
            }
            1 => *expected.entry((4, number)).or_insert(0) += 1,
            _ => *expected.entry((u32::MAX, number)).or_insert(0) += 1,
        }
    }
    let mut arrived = BTreeMap::new();
    for event in pairs(&sink.events()) {
        *arrived.entry(event).or_insert(0) += 1;
    }
    assert_eq!(arrived, expected);
}

#[test]
fn collectors_that_come_and_go_lose_nothing() {
    for round in 0..50 {
        let (collector, sink) = recording(&[("NIXL_TELEMETRY_RUN_INTERVAL", "1")]);
        let recorder = collector.recorder();
        (0..100).for_each(|number| recorder.transfer(transfer(number)));
        check_settled(&collector.close());
        assert_eq!(sink.events().len(), 400, "round {round}");
    }
}

#[test]
fn counts_balance_at_any_moment() {
    let variables = [("NIXL_TELEMETRY_BUFFER_SIZE", "16"), ("NIXL_TELEMETRY_RUN_INTERVAL", "0")];
    let (collector, _sink) = recording(&variables);
    thread::scope(|scope| {
        let recording =
            scope.spawn(|| record_all(&collector.recorder(), |recorder, number| recorder.transfer(transfer(number))));
        while !recording.is_finished() {
            let counts = collector.counts();
            assert!(counts.is_balanced(), "{counts:?}");
        }
    });
    check_settled(&collector.close());
}
