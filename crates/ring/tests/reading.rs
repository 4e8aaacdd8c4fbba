// SPDX-License-Identifier: Apache-2.0

//! What readers see of files that live.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nixl_telemetry_event::{Event, Generation, Kind};
use nixl_telemetry_ring::{Batch, Follower, Keep, Lost, Mode, Options, Polled, Reader, Writer};

use crate::support::TheirWriter;

const PEEK: Mode = Mode::Peek;

fn events(values: std::ops::Range<u64>) -> Vec<Event<'static>> {
    values.map(|value| Event::new(Kind::TX_BYTES, value).at(value)).collect()
}

fn values(batch: &Batch) -> Vec<u64> {
    batch.events().map(|event| event.value()).collect()
}

fn options(capacity: u64, keep: Keep) -> Options {
    Options { capacity, keep, ..Options::default() }
}

/// Reads once; the values, and what was lost before them.
fn read(reader: &mut Reader) -> (Vec<u64>, u64) {
    let mut batch = Batch::new();
    reader.read(&mut batch).unwrap();
    assert!(!batch.restarted());
    (values(&batch), batch.lost().events)
}

#[test]
fn what_is_written_is_read_by_everybody_and_taken_out_by_one() {
    let folder = tempfile::tempdir().unwrap();
    for generation in Generation::ALL {
        let mut writer =
            Writer::create(folder.path(), generation.as_str(), Options { generation, ..options(8, Keep::Oldest) })
                .unwrap();
        let mut peekers = [(); 3].map(|()| Reader::open(writer.path(), PEEK).unwrap());
        let mut consumer = Reader::open(writer.path(), Mode::Consume).unwrap();
        let pushed = writer.push(&events(0..10));
        assert_eq!((pushed.written, pushed.refused, pushed.unsupported), (7, 3, 0));
        for peeker in &mut peekers {
            assert_eq!(read(peeker), ((0..7).collect(), 0));
            assert_eq!(read(peeker), (vec![], 0));
        }
        for _ in 0..2 {
            assert_eq!(read(&mut consumer), ((0..7).collect(), 0), "until it is committed");
        }
        assert!(consumer.commit().unwrap());
        assert_eq!(read(&mut consumer), (vec![], 0));
        assert_eq!(writer.push(&events(10..14)).written, 4);
        for reader in peekers.iter_mut().chain([&mut consumer]) {
            assert_eq!(read(reader), ((10..14).collect(), 0));
        }
        // Who comes late sees what nobody has taken out.
        assert_eq!(read(&mut Reader::open(writer.path(), PEEK).unwrap()), ((10..14).collect(), 0));
    }
}

#[test]
fn the_timed_form_keeps_times_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer =
        Writer::create(folder.path(), "a", Options { generation: Generation::V0_9, ..Options::default() }).unwrap();
    let written = [Event::new(Kind::XFER_TIME, 5).at(1_764_000_000_000_000), Event::backend("ucx_rndv", 9).at(7)];
    assert_eq!(writer.push(&written).written, 2);
    let mut batch = Batch::new();
    Reader::open(writer.path(), PEEK).unwrap().read(&mut batch).unwrap();
    assert_eq!(batch.events().collect::<Vec<_>>(), written);

    let mut writer = Writer::create(folder.path(), "b", Options::default()).unwrap();
    assert_eq!(writer.push(&written), nixl_telemetry_ring::Pushed { written: 1, refused: 0, unsupported: 1 });
}

#[test]
fn the_newest_are_kept_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", options(16, Keep::Newest)).unwrap();
    let mut reader = Reader::open(writer.path(), PEEK).unwrap();
    assert_eq!(writer.push(&events(0..5)).written, 5);
    assert_eq!(read(&mut reader), ((0..5).collect(), 0));
    // Twice around: what is lost is known exactly.
    assert_eq!(writer.push(&events(5..45)).written, 40);
    let (seen, lost) = read(&mut reader);
    assert_eq!(lost + seen.len() as u64, 40);
    assert_eq!(seen, (45 - seen.len() as u64..45).collect::<Vec<_>>());
    assert!(seen.len() >= 13, "{}", seen.len());
    // One around exactly: the positions are where they were.
    assert_eq!(writer.push(&events(45..61)).written, 16);
    let (seen, lost) = read(&mut reader);
    assert_eq!(lost + seen.len() as u64, 16);
    assert_eq!(*seen.last().unwrap(), 60);
}

/// Each page that is written to for the first time changes the times of the file, on most file systems.
#[test]
fn how_much_of_a_large_ring_was_missed_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", options(4096, Keep::Newest)).unwrap();
    let mut reader = Reader::open(writer.path(), PEEK).unwrap();
    assert_eq!(writer.push(&events(0..10)).written, 10);
    assert_eq!(read(&mut reader), ((0..10).collect(), 0));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(writer.push(&events(10..50_000)).written, 49_990);
    let (values, lost) = read(&mut reader);
    assert_eq!((values.first(), values.len() as u64 + lost), (Some(&(10 + lost)), 49_990));
}

#[test]
fn being_overtaken_while_somebody_consumes_is_not_taken_for_a_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", options(8, Keep::Oldest)).unwrap();
    let (mut batch, mut looker) = (Batch::new(), Reader::open(writer.path(), PEEK).unwrap());
    let mut consumer = Reader::open(writer.path(), Mode::Consume).unwrap();
    let mut written = 0;
    for rounds in 1..20 {
        // The first is read, and then others until the first's slot has been written several times.
        for _ in 0..rounds {
            assert_eq!(writer.push(&events(written..written + 5)).written, 5);
            written += 5;
            // The file's times have ticks of their own, and are to change.
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert_eq!(read(&mut consumer).0, (written - 5..written).collect::<Vec<_>>());
            assert!(consumer.commit().unwrap());
        }
        assert_eq!(writer.push(&events(written..written + 2)).written, 2);
        written += 2;
        looker.read(&mut batch).unwrap();
        assert!(!batch.restarted(), "{rounds}");
        let new = 5 * rounds + 2;
        assert_eq!(batch.len() as u64 + batch.lost().events, new, "{rounds}");
        assert!(!batch.lost().or_more);
        assert_eq!(values(&batch), (written - batch.len() as u64..written).collect::<Vec<_>>());
        assert_eq!(read(&mut consumer).0.len(), 2);
        assert!(consumer.commit().unwrap());
    }
}

#[test]
fn whoever_is_overrun_sees_events_in_order_and_knows_what_is_missing() {
    const EVENTS: u64 = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", options(4096, Keep::Newest)).unwrap();
    let mut reader = Reader::open(writer.path(), PEEK).unwrap();
    assert_eq!(writer.push(&events(0..10)).written, 10);
    assert_eq!(read(&mut reader), ((0..10).collect(), 0));
    let (mut seen, mut lost) = ((0..10).collect::<Vec<_>>(), Lost::default());
    let mut batch = Batch::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for from in (10..EVENTS).step_by(10) {
                assert_eq!(writer.push(&events(from..from + 10)).written, 10);
            }
        });
        while seen.last() != Some(&(EVENTS - 1)) {
            reader.read(&mut batch).unwrap();
            seen.extend(values(&batch));
            lost.add(batch.lost());
        }
    });
    assert!(seen.is_sorted_by(|a, b| a < b));
    let known = seen.len() as u64 + lost.events;
    assert!(known == EVENTS || (known < EVENTS && lost.or_more), "{known} {lost:?}");
}

#[test]
fn being_overtaken_in_a_file_of_theirs_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let writer = TheirWriter::open(&path, Generation::V1_5, 8);
    let mut reader = Reader::open(&path, PEEK).unwrap();
    let push = |values| events(values).iter().filter(|event| writer.push(event)).count();
    assert_eq!(push(0..4), 4);
    assert_eq!(read(&mut reader), ((0..4).collect(), 0));
    // Around once: eight more, of which the consumer has taken all but three.
    for value in 4..12 {
        writer.pop(1);
        assert_eq!(push(value..value + 1), 1);
    }
    writer.pop(1);
    let mut batch = Batch::new();
    reader.read(&mut batch).unwrap();
    assert_eq!(values(&batch), [9, 10, 11]);
    assert_eq!(batch.lost(), Lost { events: 5, or_more: true });
    // Less than once around is seen whole, even if others have taken it.
    assert_eq!(push(12..15), 3);
    writer.pop(8);
    assert_eq!(read(&mut reader), (vec![12, 13, 14], 0));
    assert_eq!(read(&mut reader), (vec![], 0));
}

#[test]
fn a_file_begun_anew_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for (before, taken, after) in [(3, 0, 2), (3, 3, 2), (3, 0, 6), (6, 6, 3), (6, 2, 6), (5, 0, 5)] {
        let writer = TheirWriter::open(&path, Generation::V1_5, 8);
        let mut reader = Reader::open(&path, PEEK).unwrap();
        for event in events(0..before) {
            assert!(writer.push(&event));
        }
        assert_eq!(read(&mut reader).0.len() as u64, before);
        writer.pop(taken);
        // The clock that times of files come from has ticks of up to ten milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let writer = TheirWriter::open(&path, Generation::V1_5, 8);
        for event in events(100..100 + after) {
            assert!(writer.push(&event));
        }
        let mut batch = Batch::new();
        reader.read(&mut batch).unwrap();
        assert_eq!(values(&batch), (100..100 + after).collect::<Vec<_>>(), "{before} {taken} {after}");
        assert!(batch.restarted());
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn who_takes_events_out_tells_a_beginning_from_another_who_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let writer = TheirWriter::open(&path, Generation::V1_5, 8);
    let mut consumer = Reader::open(&path, Mode::Consume).unwrap();
    let mut batch = Batch::new();
    let mut read = |values: std::ops::Range<u64>, writer: &TheirWriter| {
        assert!(events(values.clone()).iter().all(|event| writer.push(event)));
        consumer.read(&mut batch).unwrap();
        assert!(consumer.commit().unwrap());
        (crate::values(&batch), batch.restarted(), batch.contended())
    };
    assert_eq!(read(0..3, &writer), ((0..3).collect(), false, false));
    assert_eq!(read(3..5, &writer), ((3..5).collect(), false, false));
    assert!(events(5..7).iter().all(|event| writer.push(event)));
    assert_eq!(writer.pop(1), 1);
    assert_eq!(read(7..9, &writer), ((6..9).collect(), false, true));
    let writer = TheirWriter::open(&path, Generation::V1_5, 8);
    assert_eq!(read(9..10, &writer), (vec![9], true, false));
}

#[test]
fn a_writer_of_ours_begins_anew_in_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let mut writer = Writer::create(folder.path(), "a", options(8, Keep::Oldest)).unwrap();
    let path = writer.path().to_owned();
    let first = inode(&path);
    let mut follower = Follower::new(&path, PEEK);
    let mut batch = Batch::new();
    let _ = writer.push(&events(0..5));
    assert!(matches!(follower.poll(&mut batch), Polled::Events));
    assert!(matches!(follower.poll(&mut batch), Polled::Quiet));
    drop(writer);
    std::thread::sleep(std::time::Duration::from_millis(20));

    let mut writer = Writer::create(folder.path(), "a", options(8, Keep::Oldest)).unwrap();
    assert_eq!(inode(&path), first);
    let _ = writer.push(&events(100..106));
    assert!(matches!(follower.poll(&mut batch), Polled::Events));
    assert_eq!((values(&batch), batch.restarted()), ((100..106).collect(), true));
    drop(writer);

    // Another size is another file, and whoever has the old one mapped keeps it.
    let mut writer = Writer::create(folder.path(), "a", options(4, Keep::Oldest)).unwrap();
    assert_ne!(inode(&path), first);
    let _ = writer.push(&events(200..202));
    assert!(matches!(follower.poll(&mut batch), Polled::Events));
    assert_eq!((values(&batch), batch.restarted()), (vec![200, 201], true));

    fs::remove_file(&path).unwrap();
    assert!(matches!(follower.poll(&mut batch), Polled::Gone));
    let _ = writer.push(&events(202..203));
    assert!(matches!(follower.poll(&mut batch), Polled::Events), "its writer goes on without a name");
    assert!(!writer.check().unwrap(), "and gets its file back");
    let _ = writer.push(&events(300..301));
    assert!(matches!(follower.poll(&mut batch), Polled::Events));
    assert_eq!(values(&batch), [300]);
    assert!(writer.check().unwrap());
}

/// However long a reader looks away it takes the one for the other by no chance.
#[test]
fn numbers_begin_far_from_those_before() {
    let folder = tempfile::tempdir().unwrap();
    // In the padding of a slot of 1.5.
    let number = |path: &Path, slot: usize| {
        let bytes = fs::read(path).unwrap();
        u32::from_le_bytes(bytes[40 + 16 * slot + 4..][..4].try_into().unwrap())
    };
    let mut last = None;
    for _ in 0..30 {
        let mut writer = Writer::create(folder.path(), "a", options(8, Keep::Oldest)).unwrap();
        assert_eq!(writer.push(&events(0..5)).written, 5);
        let (first, newest) = (number(writer.path(), 0), number(writer.path(), 4));
        assert_eq!((first % 8, newest - first), (0, 4));
        if let Some(last) = last.replace(newest) {
            let distance = first.wrapping_sub(last);
            assert!((1 << 31..7 << 29).contains(&distance), "{distance}");
        }
    }
}

#[test]
fn what_could_not_be_read_for_a_while_was_begun_anew_nevertheless() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", options(8, Keep::Oldest)).unwrap();
    let path = writer.path().to_owned();
    let mut follower = Follower::new(&path, PEEK);
    let mut batch = Batch::new();
    let _ = writer.push(&events(0..5));
    assert!(matches!(follower.poll(&mut batch), Polled::Events));
    assert!(!batch.restarted());
    drop(writer);
    // The next writer has begun, and come no further.
    fs::write(&path, [0; 40]).unwrap();
    for _ in 0..2 {
        assert!(matches!(follower.poll(&mut batch), Polled::Unreadable(_)));
    }
    fs::remove_file(&path).unwrap();
    let other = folder.path().join("other");
    let mut writer = Writer::at(other.clone(), options(8, Keep::Oldest)).unwrap();
    let _ = writer.push(&events(5..6));
    fs::rename(other, &path).unwrap();
    assert!(matches!(follower.poll(&mut batch), Polled::Events));
    assert_eq!((values(&batch), batch.restarted()), (vec![5], true));
    assert!(matches!(follower.poll(&mut batch), Polled::Quiet));
}

#[test]
fn every_writer_of_a_name_has_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let create = || Writer::create(folder.path(), "rank 0/1", Options::default()).unwrap();
    let writers = [(); 3].map(|()| create());
    let names = writers.each_ref().map(|writer| writer.path().file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(names, ["rank%200%2F1", "rank%200%2F1.2", "rank%200%2F1.3"]);
    drop(writers);
    assert_eq!(create().path().file_name().unwrap(), "rank%200%2F1");
}
