// SPDX-License-Identifier: Apache-2.0

//! One writer, ten readers that look and one that takes out, all at full speed on one file; and random steps against a
//! model.

mod support;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nixl_telemetry_event::{Event, Generation, Kind};
use nixl_telemetry_ring::{Batch, Keep, Mode, Options, Reader, Writer};
use proptest::prelude::*;

use crate::support::TheirWriter;

/// An event that shows whether its halves belong together.
fn event(number: u64) -> Event<'static> {
    Event::new(Kind::ALL[usize::try_from(number % 20).unwrap()], number)
}

/// The numbers in a batch, whole and in order.
fn numbers(batch: &Batch, last: &mut u64) -> u64 {
    for found in batch.events() {
        assert_eq!(found, event(found.value()), "torn");
        assert!(found.value() > *last, "{} after {last}", found.value());
        *last = found.value();
    }
    batch.len() as u64
}

/// What a reader has seen, and what it knows that it has not.
#[derive(Debug, Default)]
struct Seen {
    events: u64,
    lost: u64,
    or_more: bool,
}

/// Reads until all was written and there is nothing more.
fn read_all(mut reader: Reader, mode: Mode, written: &AtomicU64, total: u64) -> Seen {
    let (mut batch, mut seen, mut last) = (Batch::new(), Seen::default(), 0);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let is_over = written.load(Ordering::SeqCst) == total;
        reader.read(&mut batch).unwrap();
        seen.or_more |= batch.restarted();
        seen.events += numbers(&batch, &mut last);
        seen.lost += batch.lost().events;
        seen.or_more |= batch.lost().or_more;
        if mode == Mode::Consume {
            assert!(reader.commit().unwrap() && !batch.contended());
        }
        if is_over && batch.is_empty() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        if batch.is_empty() {
            thread::yield_now();
        }
    }
}

const EVENTS: u64 = 300_000;

/// `exactly`: whether those that look know how many they have missed.
fn all_see_what_they_should(capacity: u64, path: &Path, exactly: bool, mut push: impl FnMut(u64, u64) -> u64 + Send) {
    let written = AtomicU64::new(0);
    let (peekers, consumer) = thread::scope(|scope| {
        let start = |mode| {
            let (reader, written) = (Reader::open(path, mode).unwrap(), &written);
            scope.spawn(move || read_all(reader, mode, written, EVENTS))
        };
        let consumer = start(Mode::Consume);
        let peekers: Vec<_> = (0..10).map(|_| start(Mode::Peek)).collect();
        // Each event is offered until there is room: what the consumer sees is then all of them.
        let mut next = 1;
        while next <= EVENTS {
            let most = (EVENTS + 1 - next).min(capacity / 2);
            let pushed = push(next, next + most);
            next += pushed;
            written.store(next - 1, Ordering::SeqCst);
            if pushed == 0 {
                thread::yield_now();
            }
        }
        let peekers: Vec<_> = peekers.into_iter().map(|peeker| peeker.join().unwrap()).collect();
        (peekers, consumer.join().unwrap())
    });
    assert_eq!((consumer.events, consumer.lost), (EVENTS, 0));
    for Seen { events, lost, or_more } in peekers {
        let known = events + lost;
        assert!(if or_more { known <= EVENTS && !exactly } else { known == EVENTS }, "{events} {lost} {or_more}");
    }
}

#[test]
fn ten_look_and_one_takes_out_of_a_file_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    for capacity in [64, 4096] {
        let options = Options { capacity, ..Options::default() };
        let mut writer = Writer::create(folder.path(), "agent", options).unwrap();
        let path = writer.path().to_owned();
        all_see_what_they_should(capacity, &path, true, |from, to| {
            writer.push(&(from..to).map(event).collect::<Vec<_>>()).written
        });
    }
}

#[test]
fn ten_look_and_one_takes_out_of_a_file_of_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let writer = TheirWriter::open(&path, Generation::V1_5, 4096);
    all_see_what_they_should(4096, &path, false, |from, to| {
        (from..to).take_while(|&number| writer.push(&event(number))).count() as u64
    });
}

#[test]
fn readers_of_the_newest_see_nothing_torn_and_know_what_they_missed() {
    let folder = tempfile::tempdir().unwrap();
    for (capacity, generation) in [(16, Generation::V1_5), (1024, Generation::V1_5), (64, Generation::V0_9)] {
        let options = Options { capacity, generation, keep: Keep::Newest, ..Options::default() };
        let mut writer = Writer::create(folder.path(), "agent", options).unwrap();
        let path = writer.path().to_owned();
        let written = AtomicU64::new(0);
        thread::scope(|scope| {
            let peekers: Vec<_> = (0..3)
                .map(|_| {
                    let (reader, written) = (Reader::open(&path, Mode::Peek).unwrap(), &written);
                    scope.spawn(move || read_timed(reader, written))
                })
                .collect();
            for from in (1..=EVENTS).step_by(100) {
                let events: Vec<_> = (from..from + 100).map(|number| event(number).at(number)).collect();
                assert_eq!(writer.push(&events).written, 100);
                written.store(from + 99, Ordering::SeqCst);
            }
            for peeker in peekers {
                let seen = peeker.join().unwrap();
                assert_eq!((seen.events + seen.lost, seen.or_more), (EVENTS, false), "{capacity} {seen:?}");
            }
        });
    }
}

fn read_timed(mut reader: Reader, written: &AtomicU64) -> Seen {
    let (mut batch, mut seen, mut last) = (Batch::new(), Seen::default(), 0);
    loop {
        let is_over = written.load(Ordering::SeqCst) == EVENTS;
        reader.read(&mut batch).unwrap();
        assert!(!batch.restarted());
        for found in batch.events() {
            let number = found.value();
            assert_eq!(found.kind(), event(number).kind(), "torn");
            assert!(found.timestamp_us().is_none_or(|time| time == number), "torn");
            assert!(number > last, "{number} after {last}");
            last = number;
        }
        seen.events += batch.len() as u64;
        seen.lost += batch.lost().events;
        seen.or_more |= batch.lost().or_more;
        if is_over && batch.is_empty() {
            return seen;
        }
    }
}

/// What somebody does next.
#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Peek,
    Consume,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(0..12u64).prop_map(Step::Push), Just(Step::Peek), Just(Step::Consume)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A ring behaves as a queue of bounded length, for one who takes out; who looks sees all that is overwritten between
    /// two looks as lost, exactly.
    #[test]
    fn a_ring_is_a_bounded_queue(log in 1..5u32, ours: bool, steps in prop::collection::vec(step(), 1..80)) {
        let capacity = 1 << log;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let mut writer = ours.then(|| {
            Writer::at(path.clone(), Options { capacity, ..Options::default() }).unwrap()
        });
        let theirs = (!ours).then(|| TheirWriter::open(&path, Generation::V1_5, capacity));
        let mut consumer = Reader::open(&path, Mode::Consume).unwrap();
        let mut peeker = Reader::open(&path, Mode::Peek).unwrap();
        let (mut queue, mut next, mut accounted, mut batch) = (VecDeque::new(), 1, 0, Batch::new());
        for step in steps {
            match step {
                Step::Push(count) => {
                    let events: Vec<_> = (next..next + count).map(event).collect();
                    let written = match (&mut writer, &theirs) {
                        (Some(writer), _) => writer.push(&events).written,
                        (None, theirs) => {
                            let theirs = theirs.as_ref().unwrap();
                            events.iter().take_while(|event| theirs.push(event)).count() as u64
                        }
                    };
                    let room = capacity - 1 - queue.len() as u64;
                    prop_assert_eq!(written, count.min(room));
                    queue.extend(next..next + written);
                    next += written;
                }
                Step::Consume => {
                    consumer.read(&mut batch).unwrap();
                    let seen: Vec<_> = batch.events().map(|event| event.value()).collect();
                    prop_assert_eq!(seen, queue.drain(..).collect::<Vec<_>>());
                    prop_assert!(consumer.commit().unwrap());
                }
                Step::Peek => {
                    let (mut last, mut known, mut or_more) = (accounted, accounted, false);
                    // What was written last may be left for the next time.
                    for _ in 0..2 {
                        peeker.read(&mut batch).unwrap();
                        known += numbers(&batch, &mut last) + batch.lost().events;
                        or_more |= batch.lost().or_more || batch.restarted();
                    }
                    prop_assert_eq!(known.min(next - 1), known);
                    prop_assert!(known == next - 1 || or_more && !ours);
                    accounted = next - 1;
                }
            }
        }
    }
}
