// SPDX-License-Identifier: Apache-2.0

//! Queues against a sink that does what it is told, and writes down what it is given.

mod model;
mod spool;

use std::time::Duration;

use nixl_telemetry_event::{BatchId, Event, Kind};
use proptest::prelude::*;

use model::{Reaction, Rig, events};

use crate::queue::{Dropped, QueueCounts};

/// A queue that waits for nothing.
const FAST: [(&str, &str); 3] = [("BATCH_TIMEOUT", "0"), ("RETRY_INITIAL_INTERVAL", "1"), ("RETRY_MAX_INTERVAL", "1")];

fn all(settings: &[(&'static str, &'static str)]) -> Vec<(&'static str, String)> {
    FAST.iter().chain(settings).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

#[test]
fn what_is_exported_is_delivered_with_names_times_and_numbers() {
    let mut rig = Rig::open(&all(&[]));
    let given = [
        Event::new(Kind::TX_BYTES, 1).at(10),
        Event::backend("ucx_a", 2).at(20),
        Event::new(Kind::from_code(88), 3).at(30),
        Event::backend("ucx_b", 4).at(40),
    ];
    rig.export(&given).unwrap();
    rig.export(&given[..1]).unwrap();
    rig.until(|counts| counts.delivered == 5);
    let seen = rig.sink.seen();
    let events: Vec<_> = seen.iter().flat_map(|seen| seen.events.clone()).collect();
    assert_eq!(events, given.iter().chain(&given[..1]).map(model::plain).collect::<Vec<_>>());
    assert_eq!(seen.iter().map(|seen| seen.events.len() as u64).sum::<u64>(), 5);
    assert!(seen.iter().all(|seen| seen.agent == rig.agent.name() && !seen.is_repeated));
    assert_eq!((seen[0].sequence, seen[0].origin), (0, seen[seen.len() - 1].origin));
    rig.close().unwrap();
}

#[test]
fn batches_are_of_a_size_and_not_older_than_a_time() {
    // An hour: only size makes a batch due, and the end.
    let mut rig = Rig::open(&all(&[("BATCH_SIZE", "10"), ("BATCH_TIMEOUT", "3600000")]));
    for _ in 0..3 {
        rig.export(&events(3)).unwrap();
    }
    assert_eq!(rig.counts().waiting, 9);
    rig.export(&events(25)).unwrap();
    rig.until(|counts| counts.waiting < 10);
    let sizes: Vec<_> = rig.sink.seen().iter().map(|seen| seen.events.len()).collect();
    assert_eq!(sizes, [9, 10, 10]);
    rig.close().unwrap();
    let sizes: Vec<_> = rig.sink.seen().iter().map(|seen| seen.events.len()).collect();
    assert_eq!(sizes, [9, 10, 10, 5]);
    // A moment: nothing else makes this one due.
    let mut rig = Rig::open(&all(&[("BATCH_TIMEOUT", "1")]));
    rig.export(&events(1)).unwrap();
    rig.until(|counts| counts.delivered == 1);
}

#[test]
fn what_fails_comes_again_as_it_was() {
    let mut rig = Rig::open(&all(&[]));
    rig.sink.then([Reaction::Retry, Reaction::Retry]);
    rig.export(&events(7)).unwrap();
    rig.until(|counts| counts.delivered == 7);
    let seen: Vec<_> =
        rig.sink.seen().iter().map(|seen| (seen.sequence, seen.events.len(), seen.is_repeated)).collect();
    assert_eq!(seen, [(0, 7, false), (0, 7, true), (0, 7, true)]);
    rig.close().unwrap();
}

#[test]
fn what_the_host_exports_again_is_said_to_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let spool = ("SPOOL_DIR", folder.path().to_str().unwrap().to_owned());
    for settings in [all(&[]), all(&[]).into_iter().chain([spool]).collect()] {
        let mut rig = Rig::open(&settings);
        for id in [BatchId::new(1, 1), BatchId::new(1, 2).repeated()] {
            rig.export_batch(&events(2), Some(id)).unwrap();
            rig.until(|counts| counts.waiting + counts.spooled == 0);
        }
        let seen: Vec<_> = rig.sink.seen().iter().map(|seen| (seen.sequence, seen.is_repeated)).collect();
        assert_eq!(seen, [(0, false), (2, true)]);
        rig.close().unwrap();
    }
}

#[test]
fn what_is_refused_does_not_come_again() {
    let mut rig = Rig::open(&all(&[]));
    rig.sink.then([Reaction::Refuse]);
    rig.export(&events(7)).unwrap();
    rig.until(|counts| counts.dropped.refused == 7);
    rig.export(&events(1)).unwrap();
    rig.until(|counts| counts.delivered == 1);
    rig.sink.then([Reaction::RefuseOne]);
    rig.export(&events(7)).unwrap();
    rig.until(|counts| counts.delivered == 7 && counts.dropped.refused == 8);
    assert_eq!(rig.close().unwrap_err().to_string(), "8 events are lost: 8 refused");
}

#[test]
fn attempts_end_when_time_is_over_or_none_is_wanted() {
    for never in [("RETRY_ENABLED", "false"), ("RETRY_MAX_ELAPSED_TIME", "1")] {
        let mut rig = Rig::open(&all(&[never, ("RETRY_INITIAL_INTERVAL", "10")]));
        rig.sink.always(Reaction::Retry);
        rig.export(&events(3)).unwrap();
        rig.until(|counts| counts.dropped.given_up == 3);
        rig.sink.always(Reaction::Accept);
        rig.export(&events(4)).unwrap();
        rig.until(|counts| counts.delivered == 4);
    }
}

#[test]
fn who_says_when_is_not_asked_earlier() {
    let mut rig = Rig::open(&all(&[]));
    rig.sink.then([Reaction::RetryAfter(Duration::from_millis(50))]);
    rig.export(&events(1)).unwrap();
    rig.until(|counts| counts.delivered == 1);
    let seen = rig.sink.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(50));
}

#[test]
fn a_sink_that_hangs_holds_up_nobody_and_memory_stays_bounded() {
    for (overflow, newest_goes) in [("drop_newest", true), ("drop_oldest", false), ("block:1", true)] {
        let mut rig = Rig::open(&all(&[("QUEUE_OVERFLOW", overflow), ("QUEUE_BYTES", "100000")]));
        rig.sink.always(Reaction::Hang);
        rig.export(&events(1000)).unwrap();
        rig.sink.until(|seen| seen.len() == 1);
        let results: Vec<_> = (0..20).map(|_| rig.export(&events(1000)).map_err(|error| error.to_string())).collect();
        // 24 bytes an event, and one batch is with the sink.
        let QueueCounts { waiting, dropped, exported, .. } = rig.counts();
        assert_eq!((exported, waiting, dropped.total()), (21_000, 4000, 17_000));
        if newest_goes {
            assert_eq!(dropped.full, 17_000);
            let full = "its queue is full: the sink is too slow, or down".to_owned();
            assert_eq!(results[3..], vec![Err(full); 17]);
        } else {
            assert_eq!(dropped.displaced, 17_000);
            assert_eq!(results, vec![Ok(()); 20]);
        }
        rig.sink.release();
        rig.until(|counts| counts.delivered == 4000);
        let last = rig.sink.seen().last().unwrap().sequence;
        assert_eq!(last, if newest_goes { 1000 } else { 18_000 });
        assert!(rig.close().is_err());
    }
}

#[test]
fn a_bound_on_events_counts_too() {
    let mut rig = Rig::open(&all(&[("QUEUE_SIZE", "10")]));
    rig.sink.always(Reaction::Hang);
    rig.export(&events(6)).unwrap();
    rig.export(&events(5)).unwrap_err();
    rig.export(&events(4)).unwrap();
    rig.export(&events(1)).unwrap_err();
    let QueueCounts { waiting, dropped, .. } = rig.counts();
    assert_eq!((waiting, dropped.full), (10, 6));
    rig.sink.release();
    rig.until(|counts| counts.delivered == 10);
}

#[test]
fn what_has_half_of_the_room_waits_for_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    for bound in [
        &[("QUEUE_SIZE", "10")][..],
        &[("QUEUE_BYTES", "500")],
        &[("SPOOL_MAX_BYTES", "8200"), ("SPOOL_DIR", directory)],
    ] {
        let mut settings: Vec<_> = bound.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        settings.push(("BATCH_TIMEOUT", "3600000".to_owned()));
        let mut rig = Rig::open(&settings);
        for _ in 0..200 {
            rig.export(&events(6)).unwrap();
            rig.until(|counts| counts.waiting <= 4 && counts.spooled <= 400);
        }
        assert!(rig.counts().delivered >= 800);
        rig.close().unwrap();
    }
}

#[test]
fn who_may_wait_gets_the_room_that_comes() {
    let mut rig = Rig::open(&all(&[("QUEUE_OVERFLOW", "block:60000"), ("QUEUE_SIZE", "10")]));
    rig.sink.always(Reaction::Hang);
    rig.export(&events(10)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    let sink = rig.sink.clone();
    let released = std::thread::spawn(move || sink.release());
    rig.export(&events(10)).unwrap();
    released.join().unwrap();
    rig.close().unwrap();
    assert_eq!(rig.counts().delivered, 20);
}

#[test]
fn the_end_waits_out_no_pause() {
    let mut rig = Rig::open(&all(&[("RETRY_INITIAL_INTERVAL", "3600000"), ("RETRY_MAX_ELAPSED_TIME", "0")]));
    rig.sink.then([Reaction::Retry]);
    rig.export(&events(5)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    rig.sink.until_idle();
    rig.close().unwrap();
    assert_eq!(rig.counts().delivered, 5);
    assert!(rig.sink.is_closed());
}

#[test]
fn a_sink_that_hangs_is_left_behind() {
    let mut rig = Rig::open(&all(&[("SHUTDOWN_TIMEOUT", "1")]));
    rig.sink.always(Reaction::Hang);
    rig.export(&events(5)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    rig.export(&events(6)).unwrap();
    assert_eq!(rig.close().unwrap_err().to_string(), "11 events are lost: 11 at the end");
    let counts = rig.counts();
    rig.sink.release();
    rig.sink.until_closed();
    assert_eq!((rig.counts(), rig.sink.accepted().len()), (counts, 5), "what comes late changes nothing");
}

#[test]
fn after_a_panic_everything_is_counted() {
    let mut rig = Rig::open(&all(&[]));
    rig.sink.then([Reaction::Hang, Reaction::Panic]);
    rig.export(&events(1)).unwrap();
    rig.sink.until(|seen| seen.len() == 1);
    rig.export(&events(2)).unwrap();
    rig.sink.release();
    rig.until(|counts| counts.dropped.panicked == 2);
    let error = loop {
        // It is told as soon as it is known.
        if let Err(error) = rig.export(&events(4)) {
            break error;
        }
    };
    assert_eq!(error.to_string(), "its sink has panicked");
    let QueueCounts { exported, delivered, dropped, .. } = rig.counts();
    assert_eq!((delivered, dropped.panicked), (1, exported - 1));
    rig.close().unwrap_err();
    assert!(!rig.sink.is_closed());
}

#[test]
fn reasons_are_told() {
    let dropped = Dropped { refused: 12, shutdown: 3, ..Dropped::default() };
    assert_eq!((dropped.to_string(), dropped.total()), ("12 refused, 3 at the end".to_owned(), 15));
}

#[derive(Clone, Debug)]
enum Step {
    Export(usize),
    React(Reaction),
    Release,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let reaction = prop_oneof![
        4 => Just(Reaction::Accept),
        3 => Just(Reaction::Retry),
        2 => Just(Reaction::Refuse),
        1 => Just(Reaction::RefuseOne),
        2 => Just(Reaction::Hang),
        1 => Just(Reaction::Panic),
    ];
    prop_oneof![
        6 => (1_usize..60).prop_map(Step::Export),
        4 => reaction.prop_map(Step::React),
        1 => Just(Step::Release),
        1 => Just(Step::Settle),
    ]
}

fn overflow() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("drop_newest"), Just("drop_oldest"), Just("block:1")]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Whatever the sink does, every event is somewhere, and what was accepted was accepted once.
    #[test]
    fn no_event_is_lost_without_a_reason(
        steps in proptest::collection::vec(step(), 1..60),
        (overflow, batch_size, queue_size) in (overflow(), 1_usize..80, 60_usize..300),
        spool_bytes in proptest::option::of(4000_u64..60_000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = all(&[("SHUTDOWN_TIMEOUT", "5")]);
        settings.extend([
            ("QUEUE_OVERFLOW", overflow.to_owned()),
            ("BATCH_SIZE", batch_size.to_string()),
            ("QUEUE_SIZE", queue_size.to_string()),
        ]);
        if let Some(bytes) = spool_bytes {
            let directory = folder.path().to_str().unwrap().to_owned();
            settings.extend([("SPOOL_DIR", directory), ("SPOOL_MAX_BYTES", bytes.to_string())]);
        }
        let mut rig = Rig::open(&settings);
        for step in steps {
            match step {
                Step::Export(count) => drop(rig.export(&events(count))),
                Step::React(reaction) => rig.sink.then([reaction]),
                Step::Release => rig.sink.release(),
                Step::Settle => std::thread::yield_now(),
            }
            rig.check()?;
            prop_assert!(rig.counts().waiting <= queue_size as u64);
        }
        drop(rig.close());
        rig.check()?;
        let counts = rig.counts();
        prop_assert_eq!(counts.waiting, 0);
        // A sink that hangs until now is left behind, and does no harm when it comes back.
        rig.sink.release();
        rig.until_over();
        rig.check()?;
        let accepted = rig.sink.accepted();
        prop_assert!(accepted.is_sorted_by(|a, b| a < b), "{:?}", accepted);
        let QueueCounts { delivered, dropped, .. } = rig.counts();
        // What a sink that was left behind took late had been given up with the end.
        let taken = accepted.len() as u64;
        prop_assert!((delivered..=delivered + dropped.shutdown).contains(&taken), "{} of {:?}", taken, counts);
        if spool_bytes.is_some() {
            // What stays is what the next process gets.
            let left = rig.counts().spooled;
            drop(rig);
            let next = Rig::open(&settings);
            next.until(|counts| counts.delivered == left);
            prop_assert_eq!(next.counts().recovered, left);
        }
    }
}
