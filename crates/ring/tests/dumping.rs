// SPDX-License-Identifier: Apache-2.0

//! Dumps hold what their ring held, whoever makes them, and leave it as it is.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use nixl_telemetry_event::{Event, Generation, Kind};
use nixl_telemetry_ring::{Batch, DumpName, Dumped, Header, Keep, Mode, Options, Place, Reader, Reason, Writer, dump};
use support::TheirWriter;

const OPTIONS: Options = Options { capacity: 64, generation: Generation::V0_9, keep: Keep::Newest, mode: 0o600 };

fn place(directory: &Path) -> Place<'_> {
    Place { directory, reason: Reason::Request, mode: 0o640 }
}

fn events(values: std::ops::Range<u64>) -> Vec<Event<'static>> {
    values.map(|value| Event::new(Kind::TX_BYTES, value).at(1_000_000 + value)).collect()
}

/// Values and times, all of which are there.
fn read(path: &Path) -> Vec<(u64, Option<u64>)> {
    let (mut batch, mut all) = (Batch::new(), Vec::new());
    let mut reader = Reader::open(path, Mode::Peek).unwrap();
    loop {
        reader.read(&mut batch).unwrap();
        assert!(!batch.lost().is_some() && !batch.restarted());
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.events().map(|event| (event.value(), event.timestamp_us())));
    }
}

fn timed(values: std::ops::Range<u64>) -> Vec<(u64, Option<u64>)> {
    values.map(|value| (value, Some(1_000_000 + value))).collect()
}

#[track_caller]
fn check(dumped: &Dumped, held: &[(u64, Option<u64>)]) {
    assert_eq!((dumped.events, dumped.lost.is_some()), (held.len() as u64, false));
    assert_eq!(read(&dumped.path), held);
    let bytes = fs::read(&dumped.path).unwrap();
    assert_eq!(bytes.len() as u64, dumped.size);
    let header = Header::decode(bytes.first_chunk().unwrap());
    assert_eq!((header.read_pos, header.write_pos), (0, dumped.events));
    assert_eq!(fs::metadata(&dumped.path).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn a_dump_has_what_the_ring_holds_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = folder.path().join("dumps");
    let mut writer = Writer::create(folder.path(), "a", OPTIONS).unwrap();
    let mut written = 0;
    // Empty, some, full, and round the corner again and again.
    for more in [0, 1, 2, 60, 1, 5, 64, 1000, 3] {
        assert_eq!(writer.push(&events(written..written + more)).written, more);
        written += more;
        let held = timed(written - writer.unread()..written);
        check(&writer.dump(&place(&dumps)).unwrap(), &held);
        check(&dump(writer.path(), &place(&dumps)).unwrap(), &held);
        assert_eq!(read(writer.path()), held, "the ring is as it was");
    }
    let names = DumpName::all(&dumps).unwrap();
    assert_eq!(names.len(), 18);
    assert!(names.iter().all(|name| name.recorder == "a" && name.reason == Reason::Request));
    assert_eq!(fs::metadata(dumps).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn the_newest_dump_has_the_last_name_whatever_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", Options::default()).unwrap();
    let dumps = folder.path().join("dumps");
    for value in 0..20 {
        let _ = writer.push(&events(value..value + 1));
        let made = writer.dump(&place(&dumps)).unwrap().path;
        let names = DumpName::all(&dumps).unwrap();
        assert_eq!(made.file_name().unwrap().to_str().unwrap(), names.last().unwrap().to_string());
        if let [oldest, _, _] = &names[..] {
            fs::remove_file(dumps.join(oldest.to_string())).unwrap();
        }
    }
    // One that a clock which was wrong has dated is no measure.
    fs::write(dumps.join("a.29991231T235959.999Z.request.ring"), "").unwrap();
    let made = writer.dump(&place(&dumps)).unwrap().path;
    let years = DumpName::parse(made.file_name().unwrap().to_str().unwrap()).unwrap().time;
    assert!(years.starts_with("20"), "{years}");
}

#[test]
fn a_dump_is_no_larger_than_it_must_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", OPTIONS).unwrap();
    for (count, slots) in [(0, 2), (1, 2), (1, 4), (1, 4), (1, 8)] {
        assert_eq!(writer.push(&events(0..count)).written, count);
        assert_eq!(writer.dump(&place(folder.path())).unwrap().size, 40 + slots * 56);
    }
}

#[test]
fn rings_of_every_release_are_dumped_without_what_was_consumed() {
    let folder = tempfile::tempdir().unwrap();
    for (generation, size) in
        [(Generation::V0_9, 56), (Generation::V1_1, 48), (Generation::V1_2, 16), (Generation::V1_5, 16)]
    {
        let path = folder.path().join(format!("ring-{generation}"));
        let writer = TheirWriter::open(&path, generation, 16);
        events(0..15).iter().for_each(|event| assert!(writer.push(event)));
        assert_eq!(writer.pop(10), 10);
        events(15..22).iter().for_each(|event| assert!(writer.push(event)));
        let dumped = dump(&path, &place(folder.path())).unwrap();
        assert_eq!((dumped.events, dumped.size), (12, 40 + 16 * size));
        assert_eq!(read(&dumped.path).iter().map(|(value, _)| *value).collect::<Vec<_>>(), Vec::from_iter(10..22));
        let shape = |path: &Path| Reader::open(path, Mode::Peek).unwrap().shape();
        assert_eq!(shape(&dumped.path), shape(&path));
    }
}

#[test]
fn what_a_writer_takes_over_is_shown_first() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = folder.path().join("dumps");
    let create = |options: Options, events_left: &[u64]| {
        let mut left = Vec::new();
        let mut save = |found: &nixl_telemetry_ring::Left<'_>| {
            assert_eq!(found.path(), folder.path().join("a"));
            left.push(found.dump(&place(&dumps)).unwrap());
        };
        let writer = Writer::create_saving(folder.path(), "a", options, &mut save).unwrap();
        assert_eq!(left.iter().map(|dumped| dumped.events).collect::<Vec<_>>(), events_left);
        for dumped in &left {
            check(dumped, &timed(0..dumped.events));
        }
        assert_eq!(writer.unread(), 0);
        writer
    };
    let mut writer = create(OPTIONS, &[]);
    assert_eq!(writer.push(&events(0..5)).written, 5);
    // Alive: the next one of its name has a file of its own, and nobody's is saved.
    let second = create(OPTIONS, &[]);
    assert_eq!(second.path(), folder.path().join("a.2"));
    drop((writer, second));
    // In the same file.
    let mut writer = create(OPTIONS, &[5]);
    assert_eq!(writer.push(&events(0..7)).written, 7);
    drop(writer);
    // In a file of another size, and of another release.
    let mut writer = create(Options { capacity: 128, ..OPTIONS }, &[7]);
    assert_eq!(writer.push(&events(0..100)).written, 100);
    drop(writer);
    drop(create(Options { generation: Generation::V1_5, ..OPTIONS }, &[100]));
    // Empty.
    drop(create(OPTIONS, &[]));
    assert_eq!(DumpName::all(&dumps).unwrap().len(), 3);
}

#[test]
fn a_writer_goes_on_while_others_dump() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { capacity: 1024, ..OPTIONS };
    let mut writer = Writer::create(folder.path(), "a", options).unwrap();
    let (path, is_over) = (writer.path().to_owned(), Arc::new(AtomicBool::new(false)));
    let writing = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut next = 0;
            while !is_over.load(Relaxed) {
                assert_eq!(writer.push(&events(next..next + 100)).written, 100);
                next += 100;
            }
        }
    });
    let mut copied = 0;
    while copied < 100_000 {
        let dumped = dump(&path, &place(folder.path())).unwrap();
        let held = read(&dumped.path);
        assert_eq!(held.len() as u64, dumped.events);
        if let Some(&(first, _)) = held.first() {
            let expected = timed(first..first + dumped.events);
            let gap = held.iter().zip(&expected).position(|(held, expected)| held != expected);
            assert_eq!(
                gap.map(|at| &held[at.saturating_sub(1)..=at]),
                None,
                "{gap:?} of {}, {:?}",
                held.len(),
                dumped.lost
            );
        }
        copied += dumped.events;
        fs::remove_file(dumped.path).unwrap();
    }
    is_over.store(true, Relaxed);
    writing.join().unwrap();
}

#[test]
fn what_cannot_be_dumped_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), "a", OPTIONS).unwrap();
    assert_eq!(writer.push(&events(0..40)).written, 40);
    let fails = |directory: &Path, message: &str| {
        assert_eq!(writer.dump(&place(directory)).unwrap_err().to_string(), message);
        assert_eq!(dump(writer.path(), &place(directory)).unwrap_err().to_string(), message);
    };
    fails(&folder.path().join("x/y"), "the dump cannot be written: no such file or directory");
    fails(&folder.path().join("a"), "the dump cannot be written: not a directory");
    let absent = dump(&folder.path().join("b"), &place(folder.path())).unwrap_err();
    assert_eq!(absent.to_string(), "no such file or directory");
    fs::File::options().write(true).open(writer.path()).unwrap().set_len(1000).unwrap();
    let shrunk = writer.dump(&place(folder.path())).unwrap_err();
    assert_eq!(shrunk.to_string(), "shrank while it was read");
    // Nothing of these is there.
    assert_eq!(DumpName::all(folder.path()).unwrap(), []);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
